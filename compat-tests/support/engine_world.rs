//! dockplugd in front of a real engine, which has an image `box` (see `podman.rs`) and knows nothing of volumes.
//!
//! `COMPAT_ENGINE=dockerd` puts dockplugd in front of a real dockerd in place of podman, for every test that asks for a
//! [`World`]. What one engine does otherwise than the other asks [`Engine::is_podman`].

use std::env;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::cli::{Docker, Said};
use super::daemon::{Daemon, Program};
use super::http::Http;
use super::podman::{self, Podman, Service};

/// Flags that a container needs on any machine.
pub(crate) const RUN: [&str; 4] = ["--network", "none", "--security-opt", "seccomp=unconfined"];

/// The real engine, to be asked without dockplugd between.
pub(crate) enum Engine {
    Podman { podman: Podman, service: Option<Service>, socket: PathBuf },
    Dockerd(Daemon),
}

/// dockplugd in front of an engine.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) engine: Engine,
    place: TempDir,
}

impl Engine {
    /// Starts the one the suite runs with.
    fn start(place: &TempDir) -> Self {
        match env::var("COMPAT_ENGINE").as_deref() {
            Err(_) | Ok("" | "podman") => {
                let podman = Podman::new(place.path(), &[]);
                let service = podman.serve();
                let socket = service.socket().to_owned();
                Self::Podman { podman, service: Some(service), socket }
            }
            Ok("dockerd") => {
                let dockerd = Daemon::start_as(Program::Dockerd, &["--live-restore"]);
                let target = format!("/images/create?fromSrc=-&repo={}", podman::IMAGE);
                let answer = dockerd.http().send("POST", &target, "application/x-tar", &podman::image());
                assert_eq!(answer.status, 200, "importing the image: {}", answer.text());
                Self::Dockerd(dockerd)
            }
            Ok(other) => panic!("COMPAT_ENGINE is {other:?}; it may be podman or dockerd"),
        }
    }

    pub(crate) fn is_podman(&self) -> bool {
        matches!(self, Self::Podman { .. })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        match self {
            Self::Podman { socket, .. } => socket.clone(),
            Self::Dockerd(dockerd) => dockerd.socket(),
        }
    }

    /// Runs a command with the engine's own program (`podman`, or the docker CLI at dockerd).
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        match self {
            Self::Podman { podman, .. } => podman.run(arguments),
            Self::Dockerd(dockerd) => dockerd.docker().run(arguments),
        }
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Podman { service, .. } => service.as_ref().expect("the engine runs").pid(),
            Self::Dockerd(dockerd) => dockerd.pid(),
        }
    }

    /// Ends it: podman with SIGKILL; dockerd, which does not always come back from that, with SIGTERM. Containers go on.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Podman { service, .. } => drop(service.take()),
            Self::Dockerd(dockerd) => assert_eq!(dockerd.stop(), Some(0)),
        }
    }

    /// Starts it again, on the same socket, and waits until it answers.
    pub(crate) fn launch(&mut self) {
        match self {
            Self::Podman { podman, service, .. } => *service = Some(podman.serve()),
            Self::Dockerd(dockerd) => dockerd.launch(),
        }
    }

    /// Runs a shell command in a new container of the engine's, with further flags; its output.
    pub(crate) fn shell(&self, flags: &[&str], script: &str) -> String {
        self.ok(&command("run", flags, script))
    }

    /// Runs a command that must succeed; its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{}: {said:?}", arguments.join(" "));
        said.out
    }
}

impl World {
    /// Both of them, with what dockplugd is; `None` where the tests are of another daemon.
    pub(crate) fn new() -> Option<Self> {
        if Program::chosen() != Program::Dockplugd {
            return None;
        }
        let place = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
        let engine = Engine::start(&place);
        let address = format!("unix://{}", engine.socket().display());
        let daemon = Daemon::ours_with(&["--engine", &address])?;
        Some(Self { daemon, engine, place })
    }

    /// The engine's socket, as `unix://PATH`.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.engine.socket().display())
    }

    /// The CLI, before dockplugd.
    pub(crate) fn docker(&self) -> Docker {
        self.daemon.docker()
    }

    /// The same CLI, before the engine itself: what it does there is the engine's doing.
    pub(crate) fn straight(&self) -> Docker {
        Docker::new(&self.engine.socket(), &self.place.path().join("cli"))
    }

    /// HTTP to the engine itself.
    pub(crate) fn straight_http(&self) -> Http {
        Http::new(&self.engine.socket())
    }

    /// `docker run` of a shell command, with these flags.
    pub(crate) fn run(&self, flags: &[&str], script: &str) -> String {
        self.docker().ok(&command("run", flags, script))
    }

    /// What the engine itself says of volumes.
    pub(crate) fn volumes_of_engine(&self) -> String {
        self.engine.ok(&["volume", "ls", "-q"])
    }

    /// How many connections the engine has, whosever they are.
    pub(crate) fn connections(&self) -> usize {
        let socket = format!(" {}", self.engine.socket().display());
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        // The fourth field has the flag 00010000 for what listens.
        let is_connected = |line: &&str| line.split_whitespace().nth(3) == Some("00000000");
        table.lines().filter(|line| line.ends_with(&socket)).filter(is_connected).count()
    }

    /// How many volumes are mounted for users.
    pub(crate) fn staged(&self) -> usize {
        let roots = ["mounts", "containers"]
            .map(|name| format!(" {}/", self.daemon.exec_root().join(name).display()));
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        roots.iter().map(|root| table.matches(root).count()).sum()
    }
}

impl Drop for World {
    /// No container outlives its test, whatever became of that.
    fn drop(&mut self) {
        let left = self.straight().run(&["ps", "-aq"]).out;
        let left: Vec<&str> = left.lines().collect();
        if !left.is_empty() {
            self.straight().run(&[&["rm", "-f"], left.as_slice()].concat());
        }
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
