//! What the built-in profile lets through, what a file can say, and what it cannot.

use std::collections::HashSet;

use nix::libc;
use oci_spec::runtime::{Arch, Capability, LinuxSeccompAction, LinuxSeccompOperator, LinuxSyscall};
use serde_json::{Value, json};

use super::builtin;
use super::file::{self, Fault};
use super::*;

const KERNEL: (u32, u32) = (6, 1);

fn capabilities(names: &[Capability]) -> Capabilities {
    names.iter().copied().collect()
}

fn subject<'a>(capabilities: &'a Capabilities, architecture: &'a str) -> Subject<'a> {
    Subject { capabilities, kernel: KERNEL, architecture }
}

/// What a call with these arguments answers: `None` when it is let through, else the errno.
fn judge(filter: &LinuxSeccomp, call: &str, arguments: &[u64]) -> Option<u32> {
    let holds = |rule: &LinuxSyscall| {
        rule.args().iter().flatten().all(|arg| {
            let got = arguments[arg.index()];
            match arg.op() {
                LinuxSeccompOperator::ScmpCmpEq => got == arg.value(),
                LinuxSeccompOperator::ScmpCmpLt => got < arg.value(),
                LinuxSeccompOperator::ScmpCmpGt => got > arg.value(),
                LinuxSeccompOperator::ScmpCmpMaskedEq => Some(got & arg.value()) == arg.value_two(),
                other => panic!("{other}"),
            }
        })
    };
    let rules = filter.syscalls().iter().flatten();
    let mut rules = rules.filter(|rule| rule.names().iter().any(|name| name == call) && holds(rule));
    let Some(first) = rules.next() else { return filter.default_errno_ret() };
    assert!(rules.all(|rule| rule.action() == first.action()), "{call} has two answers");
    match first.action() {
        LinuxSeccompAction::ScmpActAllow => None,
        LinuxSeccompAction::ScmpActErrno => first.errno_ret(),
        other => panic!("{other}"),
    }
}

fn builtin(names: &[Capability], architecture: &str) -> LinuxSeccomp {
    builtin::filter(&subject(&capabilities(names), architecture)).unwrap()
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

#[test]
fn a_capability_opens_the_calls_that_it_is_for() {
    let table: [(&str, &[Capability]); 22] = [
        ("mount", &[Capability::SysAdmin]),
        ("umount2", &[Capability::SysAdmin]),
        ("setns", &[Capability::SysAdmin]),
        ("fsopen", &[Capability::SysAdmin]),
        ("add_key", &[Capability::SysAdmin]),
        ("keyctl", &[Capability::SysAdmin]),
        ("pivot_root", &[Capability::SysAdmin]),
        ("io_uring_setup", &[Capability::SysAdmin]),
        ("bpf", &[Capability::SysAdmin, Capability::Bpf]),
        ("perf_event_open", &[Capability::SysAdmin, Capability::Perfmon]),
        ("syslog", &[Capability::SysAdmin, Capability::Syslog]),
        ("open_by_handle_at", &[Capability::DacReadSearch]),
        ("reboot", &[Capability::SysBoot]),
        ("chroot", &[Capability::SysChroot]),
        ("finit_module", &[Capability::SysModule]),
        ("acct", &[Capability::SysPacct]),
        ("kcmp", &[Capability::SysPtrace]),
        ("ioperm", &[Capability::SysRawio]),
        ("clock_settime", &[Capability::SysTime]),
        ("vhangup", &[Capability::SysTtyConfig]),
        ("mbind", &[Capability::SysNice]),
        ("kexec_load", &[]),
    ];
    let every: HashSet<_> = table.iter().flat_map(|(_, opened_by)| opened_by.iter().copied()).collect();
    for (call, opened_by) in table {
        assert_eq!(judge(&builtin(&[], "x86_64"), call, &[]), Some(errno(libc::EPERM)), "{call}");
        for capability in &every {
            let expected = if opened_by.contains(capability) { None } else { Some(errno(libc::EPERM)) };
            assert_eq!(judge(&builtin(&[*capability], "x86_64"), call, &[]), expected, "{call} {capability}");
        }
    }
}

#[test]
fn what_programs_live_on_is_always_let_through() {
    for architecture in ["x86_64", "aarch64", "s390x", "riscv64", "sparc64"] {
        let filter = builtin(&[], architecture);
        for call in [
            "read",
            "openat2",
            "execve",
            "futex",
            "epoll_wait",
            "connect",
            "mknod",
            "ptrace",
            "landlock_add_rule",
        ] {
            assert_eq!(judge(&filter, call, &[]), None, "{call} {architecture}");
        }
    }
}

#[test]
fn arguments_decide_where_a_call_does_two_things() {
    const THREAD: u64 = 0x3d_0f00;
    let flag = |flag: i32| u64::from(flag.unsigned_abs());
    let (plain, admin) = (builtin(&[], "x86_64"), builtin(&[Capability::SysAdmin], "x86_64"));
    let eperm = Some(errno(libc::EPERM));
    let table = [
        ("personality", 0, None, None),
        ("personality", 0x8, None, None),
        ("personality", 0x2_0000, None, None),
        ("personality", 0x2_0008, None, None),
        ("personality", 0xffff_ffff, None, None),
        // ADDR_NO_RANDOMIZE
        ("personality", 0x4_0000, eperm, eperm),
        ("socket", flag(libc::AF_UNIX), None, None),
        ("socket", flag(libc::AF_INET6), None, None),
        ("socket", flag(libc::AF_ALG), eperm, None),
        ("socket", flag(libc::AF_NFC), None, None),
        ("socket", flag(libc::AF_VSOCK), eperm, None),
        ("socket", flag(libc::AF_XDP), None, None),
        ("clone", flag(libc::SIGCHLD), None, None),
        ("clone", THREAD, None, None),
        ("clone", flag(libc::CLONE_NEWUSER), eperm, None),
        ("clone", THREAD | flag(libc::CLONE_NEWNS), eperm, None),
        ("unshare", flag(libc::CLONE_FS | libc::CLONE_FILES), None, None),
        ("unshare", flag(libc::CLONE_NEWUSER), eperm, None),
        ("unshare", flag(libc::CLONE_FS | libc::CLONE_NEWNET), eperm, None),
        // CLONE_NEWTIME
        ("unshare", 0x80, eperm, None),
        ("clone3", 0, Some(errno(libc::ENOSYS)), None),
    ];
    for (call, argument, without, with) in table {
        assert_eq!(judge(&plain, call, &[argument]), without, "{call} {argument:#x}");
        assert_eq!(judge(&admin, call, &[argument]), with, "{call} {argument:#x} with CAP_SYS_ADMIN");
    }
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    for namespace in namespaces {
        for call in ["clone", "unshare"] {
            assert_eq!(judge(&plain, call, &[flag(namespace)]), eperm, "{call} {namespace:#x}");
        }
        // There the stack comes first.
        let other = builtin(&[], "s390x");
        assert_eq!(judge(&other, "clone", &[flag(namespace), 0]), None, "{namespace:#x}");
        assert_eq!(judge(&other, "clone", &[0, flag(namespace)]), eperm, "{namespace:#x}");
    }
}

#[test]
fn an_old_kernel_lets_nobody_trace_without_the_capability() {
    for (kernel, expected) in [
        ((4, 7), Some(errno(libc::EPERM))),
        ((4, 8), None),
        ((5, 0), None),
        ((0, 0), Some(errno(libc::EPERM))),
    ] {
        let none = Capabilities::new();
        let subject = Subject { kernel, ..subject(&none, "x86_64") };
        let filter = builtin::filter(&subject).unwrap();
        assert_eq!(judge(&filter, "ptrace", &[]), expected, "{kernel:?}");
        let tracer = capabilities(&[Capability::SysPtrace]);
        let filter = builtin::filter(&Subject { capabilities: &tracer, ..subject }).unwrap();
        assert_eq!(judge(&filter, "ptrace", &[]), None, "{kernel:?}");
    }
}

#[test]
fn a_machine_filters_what_else_it_runs_and_has_calls_of_its_own() {
    let table = [
        ("x86_64", Some(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])), "arch_prctl"),
        ("aarch64", Some(json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])), "cacheflush"),
        ("s390x", Some(json!(["SCMP_ARCH_S390X", "SCMP_ARCH_S390"])), "s390_runtime_instr"),
        ("riscv64", Some(json!(["SCMP_ARCH_RISCV64"])), "riscv_hwprobe"),
        ("powerpc64", None, "swapcontext"),
    ];
    for (machine, expected, own) in &table {
        let filter = builtin(&[], machine);
        let shown = serde_json::to_value(&filter).unwrap();
        assert_eq!(shown.get("architectures"), expected.as_ref(), "{machine}");
        for (_, _, call) in &table {
            let expected = if call == own { None } else { Some(errno(libc::EPERM)) };
            assert_eq!(judge(&filter, call, &[]), expected, "{call} {machine}");
        }
    }
}

#[test]
fn the_runtime_is_told_in_its_own_words() {
    let shown = serde_json::to_value(builtin(&[], "x86_64")).unwrap();
    assert_eq!((&shown["defaultAction"], &shown["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(1)));
    let rules = shown["syscalls"].as_array().unwrap();
    let of =
        |call: &str| -> Vec<&Value> { rules.iter().filter(|rule| rule["names"] == json!([call])).collect() };
    assert_eq!(
        of("clone"),
        [&json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]})]
    );
    assert_eq!(of("clone3"), [&json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})]);
    let args: Vec<_> = of("socket").iter().map(|rule| rule["args"][0].clone()).collect();
    assert_eq!(
        args,
        [
            json!({"index": 0, "value": 38, "op": "SCMP_CMP_LT"}),
            json!({"index": 0, "value": 39, "op": "SCMP_CMP_EQ"}),
            json!({"index": 0, "value": 40, "op": "SCMP_CMP_GT"})
        ]
    );
}

/// What a profile of a file says to a plugin with these capabilities, on this machine.
fn own(profile: &Value, names: &[Capability], architecture: &str, kernel: (u32, u32)) -> Value {
    let profile = file::Profile::parse(profile.to_string().as_bytes()).unwrap();
    let capabilities = capabilities(names);
    let subject = Subject { capabilities: &capabilities, kernel, architecture };
    serde_json::to_value(profile.filter(&subject)).unwrap()
}

#[test]
fn a_file_is_read_as_dockerd_reads_it() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "c", "includes": {}},
            {"name": "old", "action": "SCMP_ACT_LOG", "args": null},
            {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
             "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["admin"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["both"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["plain"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}},
            {"names": ["pc"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["phone"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
            {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
            {"names": ["ancient"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}},
        ],
    });
    let names = |filter: &Value| -> String {
        let rules = filter["syscalls"].as_array().unwrap();
        rules.iter().map(|rule| rule["names"][0].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let pc = own(&profile, &[], "x86_64", (5, 10));
    assert_eq!(names(&pc), "read old x plain pc new");
    assert_eq!(pc["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
    assert_eq!((&pc["defaultErrnoRet"], &pc["flags"]), (&json!(13), &json!(["SECCOMP_FILTER_FLAG_LOG"])));
    assert_eq!(
        pc["syscalls"][2],
        json!({"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
               "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]})
    );
    assert_eq!(pc["syscalls"][0], json!({"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}));
    let phone = own(&profile, &[Capability::SysAdmin], "aarch64", (5, 9));
    assert_eq!(names(&phone), "read old x admin phone ancient");
    assert_eq!(phone["architectures"], json!(["SCMP_ARCH_AARCH64"]));
    let both = own(&profile, &[Capability::SysAdmin, Capability::Bpf], "s390x", (6, 0));
    assert_eq!(names(&both), "read old x admin both phone new");
    assert_eq!(both.get("architectures"), None);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}, rule]});
    let allow = |more: Value| {
        let mut rule = json!({"names": ["x"], "action": "SCMP_ACT_ALLOW"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let table = [
        (json!({}), "missing field `defaultAction`"),
        (
            json!({"defaultAction": "ALLOW"}),
            "defaultAction: got \"ALLOW\", expected an action like SCMP_ACT_ALLOW",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}), "unknown field `sycalls`"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]}),
            "architectures[0]: got \"x\", expected an",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_ARM", "subArchitectures": ["?"]}]}),
            "archMap[0].subArchitectures[0]: got \"?\"",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"],
                   "archMap": [{"architecture": "SCMP_ARCH_ARM"}]}),
            "both architectures and archMap are given",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["x"]}), "flags[0]: got \"x\", expected a flag"),
        (rule(json!({"names": ["x"]})), "syscalls[1]: missing field `action`"),
        (rule(json!({"names": ["x"], "action": "x"})), "syscalls[1].action: got \"x\""),
        (rule(allow(json!({"name": "y"}))), "both syscalls[1].name and syscalls[1].names are given"),
        (rule(allow(json!({"inclues": {}}))), "syscalls[1]: unknown field `inclues`"),
        (
            rule(allow(json!({"args": [{"index": 0, "value": 1, "op": "EQ"}]}))),
            "syscalls[1].args[0].op: got \"EQ\"",
        ),
        (
            rule(allow(json!({"args": [{"index": 0, "value": -1, "op": "EQ"}]}))),
            "syscalls[1]: invalid value: integer `-1`",
        ),
        (
            rule(allow(json!({"includes": {"caps": ["SYS_ADMIN"]}}))),
            "syscalls[1].includes.caps[0]: got \"SYS_ADMIN\"",
        ),
        (
            rule(allow(json!({"excludes": {"minKernel": "4"}}))),
            "syscalls[1].excludes.minKernel: got \"4\", expected the",
        ),
        (rule(allow(json!({"excludes": {"kernel": "4.8"}}))), "syscalls[1]: unknown field `kernel`"),
    ];
    for (profile, expected) in table {
        let fault: Fault = file::Profile::parse(profile.to_string().as_bytes()).unwrap_err();
        let fault = fault.to_string();
        assert!(fault.starts_with(expected), "{profile}: got {fault:?}, expected {expected:?}");
    }
}

#[test]
fn a_profile_is_loaded_when_the_kernel_can_use_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("profile.json");
    let chosen = SeccompProfile::File(path.clone());
    let told = |has_seccomp| Profile::load(&chosen, has_seccomp).map_err(|error| crate::error::chain(&error));
    assert!(told(true).unwrap_err().contains("cannot read the seccomp profile"));
    std::fs::write(&path, "{").unwrap();
    let error = told(true).unwrap_err();
    assert!(error.starts_with(&format!("the seccomp profile {}: EOF while", path.display())), "{error}");
    std::fs::write(&path, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let profile = told(true).unwrap();
    assert_eq!(profile.label(), path.display().to_string());
    let capabilities = Capabilities::new();
    let filter = profile.filter(&subject(&capabilities, "x86_64")).unwrap().unwrap();
    assert_eq!(filter.default_action(), LinuxSeccompAction::ScmpActAllow);
    assert!(told(false).unwrap_err().contains("this kernel has no seccomp"));
    std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(told(true).unwrap_err().ends_with("more than 1048576 bytes"));

    assert_eq!(Profile::load(&SeccompProfile::Builtin, true).unwrap(), Profile::Builtin);
    assert_eq!(Profile::load(&SeccompProfile::Builtin, false).unwrap(), Profile::Unconfined);
    assert_eq!(Profile::load(&SeccompProfile::Unconfined, true).unwrap(), Profile::Unconfined);
    assert_eq!(Profile::Unconfined.filter(&subject(&capabilities, "x86_64")).unwrap(), None);
    assert_eq!(
        (Profile::Builtin.label(), Profile::Unconfined.label()),
        ("builtin".to_owned(), "unconfined".to_owned())
    );
}

/// The names that libseccomp has for what the table has.
#[test]
fn architectures_are_those_of_the_table() {
    assert_eq!(builtin::architectures("aarch64"), Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]));
    assert_eq!(builtin::architectures("pdp11"), None);
}
