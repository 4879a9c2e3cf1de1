//! The profile that holds unless another is chosen: a table, and what of it a plugin gets.
//!
//! What is in no row fails with EPERM. The rows are what Docker's own profile for containers allows (moby's
//! `seccomp/default_linux.go`), which programs have been written against for years, and a few more, marked as ours:
//! dockerd gives its plugins no profile at all, so what a volume plugin reasonably does must go on working.

use nix::libc;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::Subject;

/// What a forbidden call answers.
const FORBIDDEN: i32 = libc::EPERM;
/// What `clone3` answers, whose flags a filter cannot read: C libraries go on with `clone` then.
const UNKNOWN: i32 = libc::ENOSYS;
/// The flags of `clone` that make a namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Those of `unshare`, which has one more (`CLONE_NEWTIME`).
const UNSHARED_NAMESPACES: u64 = NEW_NAMESPACES | 0x80;
/// Address families that reach the kernel's cryptography and the machine below this one.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
const _: () = assert!(AF_VSOCK == AF_ALG + 2, "the rules for socket name the one family between the two");

/// One row.
struct Row {
    /// All of them must hold.
    when: &'static [When],
    answer: Answer,
    /// All of them must hold; none for any arguments.
    arguments: &'static [Argument],
    /// The calls, apart by white space.
    calls: &'static str,
}

#[derive(Clone, Copy)]
enum When {
    With(Capability),
    Without(Capability),
    /// On kernels of this version or later.
    Since(u32, u32),
    /// On machines of one of these architectures.
    On(&'static [&'static str]),
    NotOn(&'static [&'static str]),
}

#[derive(Clone, Copy)]
enum Answer {
    Allow,
    Fail(i32),
}

/// Which argument, and how it compares to what.
struct Argument(usize, Compare);

enum Compare {
    Equals(u64),
    Below(u64),
    Above(u64),
    /// Has none of these bits.
    Lacks(u64),
}

const ADMIN: Capability = Capability::SysAdmin;
const S390: &[&str] = &["s390x"];
const X86: &[&str] = &["x86_64", "x86"];
const ARM: &[&str] = &["aarch64", "arm"];

const fn always(calls: &'static str) -> Row {
    Row { when: &[], answer: Answer::Allow, arguments: &[], calls }
}

const fn when(when: &'static [When], calls: &'static str) -> Row {
    Row { when, answer: Answer::Allow, arguments: &[], calls }
}

const fn only(when: &'static [When], calls: &'static str, arguments: &'static [Argument]) -> Row {
    Row { when, answer: Answer::Allow, arguments, calls }
}

/// The table.
static ROWS: &[Row] = &[
    // Files: by name, by descriptor, their contents, their attributes.
    always(
        "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchown32
        fchownat fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents getdents64 lchown lchown32 link
        linkat lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink
        readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat truncate
        truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes listmount statmount",
    ),
    always(
        "_llseek cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64
        fdatasync flock fsync ftruncate ftruncate64 ioctl lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev
        pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev
        io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit fanotify_mark
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch",
    ),
    always(
        "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
        lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    ),
    // Waiting for descriptors.
    always(
        "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
        eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4",
    ),
    // Memory.
    always(
        "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
        mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    ),
    // Processes, threads and what they wait for.
    always(
        "execve execveat exit exit_group fork vfork wait4 waitid waitpid futex futex_requeue futex_time64 futex_wait
        futex_waitv futex_wake get_robust_list set_robust_list get_thread_area set_thread_area set_tid_address rseq
        gettid getpid getppid getpgid getpgrp getsid setpgid setsid pidfd_open pidfd_send_signal process_mrelease prctl
        restart_syscall seccomp landlock_add_rule landlock_create_ruleset landlock_restrict_self uretprobe",
    ),
    always(
        "kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill tkill",
    ),
    // Who it is, and what it may use.
    always(
        "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
        getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
        setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32",
    ),
    always(
        "getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max
        sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        setpriority setrlimit sysinfo times ugetrlimit uname getrandom",
    ),
    // Time.
    always(
        "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
        timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    // Sockets, and talk between processes.
    always(
        "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
        recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair ipc mq_getsetattr mq_notify
        mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv
        msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    ),
    only(&[When::Without(ADMIN)], "socket", &[Argument(0, Compare::Below(AF_ALG))]),
    only(&[When::Without(ADMIN)], "socket", &[Argument(0, Compare::Equals(AF_ALG + 1))]),
    only(&[When::Without(ADMIN)], "socket", &[Argument(0, Compare::Above(AF_VSOCK))]),
    // Ours: cryptsetup needs AF_ALG, and who may administer the system can load any filter away.
    when(&[When::With(ADMIN)], "socket"),
    // PER_LINUX and PER_LINUX32, with and without UNAME26, and the question which one it is.
    only(&[], "personality", &[Argument(0, Compare::Equals(0))]),
    only(&[], "personality", &[Argument(0, Compare::Equals(0x8))]),
    only(&[], "personality", &[Argument(0, Compare::Equals(0x2_0000))]),
    only(&[], "personality", &[Argument(0, Compare::Equals(0x2_0008))]),
    only(&[], "personality", &[Argument(0, Compare::Equals(0xffff_ffff))]),
    // Before that version a tracer could lead its tracee past the filter.
    when(&[When::Since(4, 8)], "process_vm_readv process_vm_writev ptrace"),
    // Of one architecture.
    when(
        &[When::On(ARM)],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    when(&[When::On(X86)], "arch_prctl modify_ldt"),
    when(&[When::On(S390)], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    when(&[When::On(&["riscv64"])], "riscv_flush_icache riscv_hwprobe"),
    when(&[When::On(&["powerpc64"])], "sync_file_range2 swapcontext"),
    // New processes share the namespaces of the old ones, unless it may administer the system.
    only(
        &[When::Without(ADMIN), When::NotOn(S390)],
        "clone",
        &[Argument(0, Compare::Lacks(NEW_NAMESPACES))],
    ),
    only(&[When::Without(ADMIN), When::On(S390)], "clone", &[Argument(1, Compare::Lacks(NEW_NAMESPACES))]),
    Row { when: &[When::Without(ADMIN)], answer: Answer::Fail(UNKNOWN), arguments: &[], calls: "clone3" },
    // Ours: a thread may have a working directory and descriptors of its own, as file servers want it.
    only(&[When::Without(ADMIN)], "unshare", &[Argument(0, Compare::Lacks(UNSHARED_NAMESPACES))]),
    // What a capability opens, for the kernel asks for the same one.
    when(
        &[When::With(ADMIN)],
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare",
    ),
    // Ours: mount.ceph, rbd and ecryptfs hand their keys to the kernel; stores have rings and swap; some change roots.
    when(
        &[When::With(ADMIN)],
        "add_key io_uring_enter io_uring_register io_uring_setup keyctl open_tree_attr pivot_root request_key swapoff
        swapon userfaultfd",
    ),
    when(&[When::With(Capability::DacReadSearch)], "open_by_handle_at"),
    when(&[When::With(Capability::SysBoot)], "reboot"),
    when(&[When::With(Capability::SysChroot)], "chroot"),
    when(&[When::With(Capability::SysModule)], "delete_module finit_module init_module"),
    when(&[When::With(Capability::SysPacct)], "acct"),
    when(
        &[When::With(Capability::SysPtrace)],
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    when(&[When::With(Capability::SysRawio)], "ioperm iopl"),
    when(&[When::With(Capability::SysTime)], "clock_settime clock_settime64 settimeofday stime"),
    when(&[When::With(Capability::SysTtyConfig)], "vhangup"),
    // The last two are ours: they belong to the others.
    when(
        &[When::With(Capability::SysNice)],
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    ),
    when(&[When::With(Capability::Syslog)], "syslog"),
    when(&[When::With(Capability::Bpf)], "bpf"),
    when(&[When::With(Capability::Perfmon)], "perf_event_open"),
];

/// The architectures whose calls are filtered by the same rows: the machine's, and those it runs besides. `None` leaves
/// it to the runtime, which takes the machine's alone.
pub(super) fn architectures(machine: &str) -> Option<Vec<Arch>> {
    match machine {
        "x86_64" => Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]),
        "aarch64" => Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]),
        "s390x" => Some(vec![Arch::ScmpArchS390x, Arch::ScmpArchS390]),
        "riscv64" => Some(vec![Arch::ScmpArchRiscv64]),
        _ => None,
    }
}

/// What the runtime is told.
///
/// # Errors
/// None that this table can cause.
pub(super) fn filter(subject: &Subject<'_>) -> Result<LinuxSeccomp, OciSpecError> {
    let rows = ROWS.iter().filter(|row| row.when.iter().all(|when| when.holds(subject)));
    let seccomp = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(FORBIDDEN.unsigned_abs())
        .syscalls(rows.map(Row::rule).collect::<Result<Vec<_>, _>>()?);
    match architectures(subject.architecture) {
        Some(architectures) => seccomp.architectures(architectures).build(),
        None => seccomp.build(),
    }
}

impl When {
    fn holds(self, subject: &Subject<'_>) -> bool {
        match self {
            Self::With(capability) => subject.capabilities.contains(&capability),
            Self::Without(capability) => !subject.capabilities.contains(&capability),
            Self::Since(major, minor) => subject.kernel >= (major, minor),
            Self::On(machines) => machines.contains(&subject.architecture),
            Self::NotOn(machines) => !machines.contains(&subject.architecture),
        }
    }
}

impl Row {
    fn rule(&self) -> Result<LinuxSyscall, OciSpecError> {
        let names = self.calls.split_ascii_whitespace().map(str::to_owned);
        let rule = LinuxSyscallBuilder::default().names(names.collect::<Vec<_>>());
        let rule = match self.answer {
            Answer::Allow => rule.action(LinuxSeccompAction::ScmpActAllow),
            Answer::Fail(errno) => {
                rule.action(LinuxSeccompAction::ScmpActErrno).errno_ret(errno.unsigned_abs())
            }
        };
        if self.arguments.is_empty() {
            return rule.build();
        }
        rule.args(self.arguments.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?).build()
    }
}

impl Argument {
    fn condition(&self) -> Result<LinuxSeccompArg, OciSpecError> {
        let condition = LinuxSeccompArgBuilder::default().index(self.0);
        match self.1 {
            Compare::Equals(value) => condition.value(value).op(LinuxSeccompOperator::ScmpCmpEq),
            Compare::Below(value) => condition.value(value).op(LinuxSeccompOperator::ScmpCmpLt),
            Compare::Above(value) => condition.value(value).op(LinuxSeccompOperator::ScmpCmpGt),
            Compare::Lacks(bits) => {
                condition.value(bits).value_two(0_u64).op(LinuxSeccompOperator::ScmpCmpMaskedEq)
            }
        }
        .build()
    }
}
