//! The ground that the tests of this room stand on: the built program, a root file system, a spec, a fake runtime.

use super::super::*;
use crate::paths::{ExecRoot, PluginExec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use oci_spec::runtime::Spec;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

/// Waiting for something that happens in milliseconds, when it does not.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
pub(super) fn dockplugd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args(["build", "--quiet", "--bin", "dockplugd", "--message-format=json", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(build.status.success());
        build
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
            .expect("cargo names the program")
    })
}

/// One container's place: a root file system with busybox, removed with whatever runs in it.
pub(super) struct Ground {
    pub(super) dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Ground {
    pub(super) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().to_owned();
        let rootfs = dir.join("rootfs");
        for name in ["bin", "proc", "dev", "tmp"] {
            std::fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("apt-get install busybox-static");
        Self { dir, temporary: Some(temporary) }
    }

    pub(super) fn existing(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), temporary: None }
    }

    pub(super) fn id(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
    }

    pub(super) fn exec(&self) -> PluginExec {
        self.exec_root().plugin("p")
    }

    pub(super) fn exec_root(&self) -> ExecRoot {
        ExecRoot::new(self.dir.join("exec"))
    }

    /// A runtime that does what a test says: a shell script that sees the command line.
    pub(super) fn script(&self, name: &str, script: &str) -> Arc<dyn Runtime> {
        let path = self.dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Arc::new(RuntimeProgram::find(path.to_str().unwrap(), std::ffi::OsStr::new("")).unwrap())
    }

    pub(super) fn desk(&self) -> record::Desk {
        record::Desk::new(self.exec().monitor())
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn launcher(&self) -> Launcher {
        testing::launcher(dockplugd(), &self.dir.join("runtime"))
    }

    pub(super) fn spec(&self, args: &[&str], namespaces: &[&str]) -> Spec {
        spec(&self.dir.join("rootfs"), &self.id(), args, namespaces)
    }

    pub(super) async fn start_spec(&self, spec: &Spec) -> Result<Process> {
        self.launcher().start(Start { id: self.id(), exec: self.exec(), log: self.log(), spec }).await
    }

    pub(super) async fn start(&self, script: &str) -> Process {
        self.start_spec(&self.spec(&["/bin/busybox", "sh", "-c", script], OWN_PIDS)).await.unwrap()
    }

    /// Waits until the container has written a line that ends so.
    pub(super) fn wrote(&self, end: &str) {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        changes.add_watch(&self.log(), AddWatchFlags::IN_MODIFY).unwrap();
        while !tail(&self.log(), 100).iter().any(|line| line.log.trim_end().ends_with(end)) {
            let mut fds = [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
            let count = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
            assert_eq!(count, 1, "{end:?} was never written: {:?}", tail(&self.log(), 100));
            changes.read_events().unwrap();
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.dir.join("runtime").join(self.id()).exists()
    }

    pub(super) fn monitor_pid(&self) -> i32 {
        std::fs::read_to_string(self.desk().lock()).unwrap().parse().unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.is_known() && self.temporary.is_some() {
            testing::delete(dockplugd(), &self.dir.join("runtime"), &self.id(), &self.exec());
        }
    }
}

pub(super) const OWN_PIDS: &[&str] = &["pid", "mount", "ipc", "uts"];
pub(super) const HOST_PIDS: &[&str] = &["mount", "ipc", "uts"];

fn spec(rootfs: &Path, id: &str, args: &[&str], namespaces: &[&str]) -> Spec {
    let namespaces: Vec<_> = namespaces.iter().map(|kind| serde_json::json!({ "type": kind })).collect();
    serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": rootfs },
        "process": {
            "terminal": false, "cwd": "/", "args": args, "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": {
            "cgroupsPath": format!("/dockplug-test-{id}"), "namespaces": namespaces,
            "resources": { "memory": { "limit": 64 << 20 } },
        },
    }))
    .unwrap()
}

/// A launcher with such a runtime.
pub(super) fn fake_runtime(ground: &Ground, script: &str, deadlines: record::Deadlines) -> Launcher {
    let fake = ground.script("fake", script);
    Launcher::new(dockplugd().to_owned(), fake, ground.dir.join("runtime")).with_deadlines(deadlines)
}
