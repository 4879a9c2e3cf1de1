//! A kernel with project quotas, which few machines have: a test runs itself again in one, user-mode Linux, as a process.
//!
//! That kernel has this machine's files as its own, and cannot change them. It has one disk, in a file of the test's own
//! directory, where temporary directories are made; so a daemon there has all it has on that disk. When the test has
//! ended, so has the kernel, and nothing is mounted on this machine.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::Signal;

use super::{patiently, process};

/// What the test finds its disk by, in the kernel.
const DISK: &str = "COMPAT_DISK";
/// Which programs are tested is chosen outside.
const CHOICES: [&str; 3] = ["COMPAT_DAEMON", "COMPAT_RUNTIME", "DOCKPLUGD"];
/// The least that mkfs.xfs takes. Only what is written takes space.
const DISK_BYTES: u64 = 512 << 20;

/// A file system that can have project quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Xfs,
    Ext4,
}

impl FileSystem {
    fn name(self) -> &'static str {
        if self == Self::Xfs { "xfs" } else { "ext4" }
    }

    /// The option of mount(8) that turns project quotas on.
    fn quotas(self) -> &'static str {
        if self == Self::Xfs { "pquota" } else { "prjquota" }
    }

    fn make(self, image: &Path) {
        File::create(image).unwrap().set_len(DISK_BYTES).unwrap();
        let (program, arguments) = match self {
            Self::Xfs => ("mkfs.xfs", ["-q"].as_slice()),
            Self::Ext4 => ("mkfs.ext4", ["-q", "-O", "quota,project", "-E", "quotatype=prjquota"].as_slice()),
        };
        let made = Command::new(process::program(program)).args(arguments).arg(image).output().unwrap();
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

/// The disk of a test that runs in the kernel.
#[derive(Debug)]
pub(crate) struct Disk {
    file_system: FileSystem,
    pub(crate) place: PathBuf,
}

impl Disk {
    /// Mounts it in another way: with `noquota`, say. Nothing may use it now.
    pub(crate) fn mount_again(&self, option: &str) {
        umount(&self.place).unwrap();
        self.mount(option);
    }

    /// As it is at first.
    pub(crate) fn mount_with_quotas(&self) {
        self.mount_again(self.file_system.quotas());
    }

    fn mount(&self, option: &str) {
        let (device, kind) = (Some("/dev/ubda"), Some(self.file_system.name()));
        mount(device, &self.place, kind, MsFlags::empty(), Some(option)).unwrap();
    }
}

/// Runs the body of a test in a kernel with project quotas on the test's disk. `test` is the test's own name, as
/// `module::name`.
///
/// # Panics
/// When the test fails in there, with all that the kernel has said; or the kernel does not end.
pub(crate) fn inside(file_system: FileSystem, test: &str, body: impl FnOnce(&Disk)) {
    if let Some(place) = env::var_os(DISK) {
        let disk = Disk { file_system, place: place.into() };
        disk.mount(file_system.quotas());
        return body(&disk);
    }
    let directory = tempfile::Builder::new().prefix("compat").tempdir().unwrap();
    let place = directory.path();
    fs::create_dir(place.join("disk")).unwrap();
    file_system.make(&place.join("image"));
    let init = place.join("init");
    fs::write(&init, first_process(place, test)).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let console = place.join("console");
    let mut machine = Machine::start(place, &init, &console);
    let ended = patiently(|| machine.0.try_wait().unwrap());
    drop(machine);
    let said = String::from_utf8_lossy(&fs::read(&console).unwrap()).into_owned();
    let passed = said.contains("test result: ok. 1 passed");
    let left = process::mentioning(&place.display().to_string());
    assert!(left.is_empty(), "processes of the kernel are left: {left:?}\n{said}");
    assert!(ended.is_some() && passed, "in the kernel, which ended with {ended:?}:\n{said}");
}

/// What the kernel runs first: a script that makes what a daemon expects to be there, and runs the test.
fn first_process(place: &Path, test: &str) -> String {
    let (place, program) = (place.display(), env::current_exe().unwrap());
    let modules = process::program("linux.uml").with_file_name("../lib/uml/modules");
    let chosen = CHOICES.iter().filter_map(|name| Some(format!(" {name}='{}'", env::var(name).ok()?)));
    format!(
        r"#!/bin/sh
export PATH='{path}' TMPDIR='{place}/disk' {DISK}='{place}/disk'{chosen}
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs cgroups /sys/fs/cgroup
for one in cpu cpuacct blkio devices freezer pids; do
    mkdir /sys/fs/cgroup/$one
    mount -t cgroup -o $one $one /sys/fs/cgroup/$one
done
ip link set lo up
# The quotas of ext4.
for one in quota_tree quota_v2; do busybox insmod '{modules}'/*/kernel/fs/quota/$one.ko; done
'{program}' --exact {test} --nocapture
exec busybox poweroff -f
",
        path = process::search_path(),
        chosen = chosen.collect::<String>(),
        modules = modules.display(),
        program = program.display(),
    )
}

/// The running kernel. It consists of several processes, all of which end with this.
struct Machine(Child);

impl Machine {
    fn start(place: &Path, init: &Path, console: &Path) -> Self {
        let console = File::create(console).unwrap();
        let mut command = Command::new(process::program("linux.uml"));
        command.args(["mem=1G", "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1"]);
        command.arg(format!("ubd0={}", place.join("image").display()));
        command.arg(format!("init={}", init.display()));
        // Otherwise in the home of who runs it, and its memory wherever there is room.
        command.arg(format!("uml_dir={}/", place.display())).env("TMPDIR", place);
        command.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        Self(command.spawn().unwrap_or_else(|e| panic!("starting linux.uml: {e}")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let root = i32::try_from(self.0.id()).unwrap();
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let family = process::family(root);
            for pid in &family {
                process::send(*pid, Signal::SIGKILL);
            }
            let _ = self.0.wait();
            patiently(|| family.iter().all(|pid| !process::lives(*pid)).then_some(()));
        }
    }
}
