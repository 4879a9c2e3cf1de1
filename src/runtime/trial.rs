//! The container that shows whether a runtime works here: a program of a dozen bytes, confined as plugins are.
//!
//! It asks for what runtimes fail at: all namespaces, the pseudo file systems with cgroups among them, a cgroup of its
//! own with rules for devices and a limit of processes. That it ran is told by an exit status that nothing else
//! gives. It knows neither plugins nor which runtime is tried.

use super::launcher::{Launcher, Start};
use super::program::Runtime;
use super::{Error, Result};
use crate::paths::{ExecRoot, PluginExec};
use oci_spec::runtime::Spec;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The exit status of the program.
const STATUS: u8 = 42;
/// How long a container of a dozen bytes may take to end.
const DEADLINE: Duration = Duration::from_secs(30);
/// The parent of its cgroup.
const CGROUPS: &str = "/dockplug";
/// Its name in its root.
const PROGRAM: &str = "trial";
/// Where an ELF file's program is loaded, and where its instructions begin: after the two headers.
const LOADED_AT: u64 = 0x40_0000;
const HEADERS_BYTES: u16 = 64 + 56;

/// Where trials are made.
#[derive(Debug, Clone)]
pub(super) struct Trial(ExecRoot);

impl Trial {
    pub(super) fn new(root: ExecRoot) -> Self {
        Self(root)
    }

    /// Runs the tiny container. On a kind of machine that the program was not written for, nothing is tried.
    ///
    /// # Errors
    /// Why it did not run.
    pub(super) async fn run(&self, launcher: &Launcher, runtime: &dyn Runtime) -> Result<()> {
        let Some(program) = program() else { return Ok(()) };
        self.sweep(launcher).await;
        // The machine's other daemons try runtimes too, and each ends what is in its own cgroup.
        let id = format!("trial-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let exec = self.0.trial(&id);
        let root = exec.path().join("root");
        let made = fs::create_dir_all(&root).and_then(|()| {
            let path = root.join(PROGRAM);
            fs::write(&path, program)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))
        });
        made.map_err(Error::io("write a trial container to", &root))?;
        let outcome = Self::run_in(launcher, runtime, &id, &exec, &root).await;
        remove(launcher, &id, &exec).await;
        // Stays while a trial is in it that could not be removed.
        let _ = fs::remove_dir(self.0.trials());
        outcome
    }

    async fn run_in(
        launcher: &Launcher,
        runtime: &dyn Runtime,
        id: &str,
        exec: &PluginExec,
        root: &Path,
    ) -> Result<()> {
        let spec = spec(id, root).map_err(|source| Error::Json { path: root.to_owned(), source })?;
        let start =
            Start { id: id.to_owned(), exec: exec.clone(), log: exec.path().join("log"), spec: &spec };
        let process = launcher.start_with(runtime, start).await?;
        let exit = tokio::time::timeout(DEADLINE, process.wait()).await;
        match exit {
            Ok(exit) if exit.code == i32::from(STATUS) => Ok(()),
            Ok(exit) => Err(Error::Trial { got: format!("it ended with {}", exit.code) }),
            Err(_) => {
                process.kill()?;
                process.wait().await;
                Err(Error::Trial { got: format!("it ran longer than {} s", DEADLINE.as_secs()) })
            }
        }
    }

    /// Removes what trials left that were cut short.
    async fn sweep(&self, launcher: &Launcher) {
        let Ok(old) = fs::read_dir(self.0.trials()) else { return };
        for entry in old.flatten() {
            if let Some(id) = entry.file_name().to_str() {
                remove(launcher, id, &self.0.trial(id)).await;
            }
        }
    }
}

/// Removes a trial, unless it is still running: the next start does, then.
async fn remove(launcher: &Launcher, id: &str, exec: &PluginExec) {
    let removed = launcher
        .forget(id, exec)
        .await
        .and_then(|()| fs::remove_dir_all(exec.path()).map_err(Error::io("remove", exec.path())));
    if let Err(error) = removed {
        tracing::debug!(error = crate::error::chain(&error), "a trial of a runtime is left");
    }
}

/// What is run, and how it is confined.
fn spec(id: &str, root: &Path) -> serde_json::Result<Spec> {
    let kinds = ["mount", "pid", "ipc", "network", "uts"];
    let namespaces: Vec<_> = kinds.iter().map(|kind| serde_json::json!({ "type": kind })).collect();
    serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": root },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": [PathBuf::from("/").join(PROGRAM)],
            "env": ["PATH=/"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] },
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": Path::new(CGROUPS).join(id),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 16 } },
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }))
}

/// `exit(STATUS)` in the machine's language.
fn instructions() -> Option<(u16, Vec<u8>)> {
    match std::env::consts::ARCH {
        // mov edi, STATUS; mov eax, 60; syscall
        "x86_64" => Some((62, vec![0xbf, STATUS, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])),
        // mov x0, STATUS; mov x8, 93; svc 0
        "aarch64" => {
            let words = [0xd280_0000 | u32::from(STATUS) << 5, 0xd280_0008 | 93 << 5, 0xd400_0001];
            Some((183, words.iter().flat_map(|word| word.to_le_bytes()).collect()))
        }
        _ => None,
    }
}

/// The program as a static ELF file (elf(5)): one header, one segment, the instructions.
fn program() -> Option<Vec<u8>> {
    let (machine, instructions) = instructions()?;
    let bytes = u64::from(HEADERS_BYTES) + u64::try_from(instructions.len()).ok()?;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, the machine, the version.
    file.extend([2_u16, machine].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    // The entry, the program header's place, no section headers, no flags.
    file.extend([LOADED_AT + u64::from(HEADERS_BYTES), 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    // The sizes of both headers, one of the second, no sections.
    file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
    // PT_LOAD, readable and executable; the whole file, at its address, by pages.
    file.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([0, LOADED_AT, LOADED_AT, bytes, bytes, 0x1_0000].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(instructions);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_ends_with_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROGRAM);
        fs::write(&path, program().unwrap()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let status = std::process::Command::new(&path).status().unwrap();
        assert_eq!(status.code(), Some(i32::from(STATUS)));
    }
}
