//! dockplugd in front of a real podman, which has an image `box` (see `podman.rs`) and knows nothing of volumes.

use std::fs;

use tempfile::TempDir;

use super::cli::Docker;
use super::daemon::Daemon;
use super::podman::{Podman, Service};

/// Flags that a container needs on any machine.
pub(crate) const RUN: [&str; 4] = ["--network", "none", "--security-opt", "seccomp=unconfined"];

/// dockplugd in front of podman, which has an image `box`.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) podman: Podman,
    service: Option<Service>,
    address: String,
    _place: TempDir,
}

impl World {
    /// Both of them, with what dockplugd is; `None` where the tests are of another daemon.
    pub(crate) fn new() -> Option<Self> {
        let place = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
        let podman = Podman::new(place.path(), &[]);
        let service = podman.serve();
        let address = format!("unix://{}", service.socket().display());
        let daemon = Daemon::ours_with(&["--engine", &address])?;
        Some(Self { daemon, podman, service: Some(service), address, _place: place })
    }

    /// The engine's socket, as `unix://PATH`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// The engine's process, while it runs.
    pub(crate) fn engine_pid(&self) -> i32 {
        self.service.as_ref().expect("the engine runs").pid()
    }

    /// Kills the engine. Its containers go on.
    pub(crate) fn kill_engine(&mut self) {
        drop(self.service.take());
    }

    /// Starts the engine again, on the same socket, and waits until it answers.
    pub(crate) fn start_engine(&mut self) {
        self.service = Some(self.podman.serve());
    }

    /// The CLI, before dockplugd.
    pub(crate) fn docker(&self) -> Docker {
        self.daemon.docker()
    }

    /// `docker run` of a shell command, with these flags.
    pub(crate) fn run(&self, flags: &[&str], script: &str) -> String {
        self.docker().ok(&command("run", flags, script))
    }

    /// What podman itself says of volumes.
    pub(crate) fn volumes_of_podman(&self) -> String {
        self.podman.ok(&["volume", "ls", "-q"])
    }

    /// How many volumes are mounted for users.
    pub(crate) fn staged(&self) -> usize {
        let roots = ["mounts", "containers"]
            .map(|name| format!(" {}/", self.daemon.exec_root().join(name).display()));
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        roots.iter().map(|root| table.matches(root).count()).sum()
    }
}

/// `docker VERB` of a shell command in a new container, with these flags.
pub(crate) fn command<'a>(verb: &'a str, flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut arguments = vec![verb];
    arguments.extend(RUN);
    arguments.extend(flags);
    arguments.extend(["box", "/bin/busybox", "sh", "-c", script]);
    arguments
}
