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
    _service: Service,
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
        Some(Self { daemon, podman, _service: service, _place: place })
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
