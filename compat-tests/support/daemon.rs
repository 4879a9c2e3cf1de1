//! A daemon with a socket and directories of its own: dockplugd, or a real dockerd to compare with.
//!
//! `COMPAT_DAEMON=dockerd` makes the whole suite run against dockerd, so that no test claims of Docker what Docker
//! does not do. What only dockplugd promises asks for [`Daemon::ours`].

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::cli::Docker;
use super::http::{Answer, Http};
use super::plugin::Context;
use super::{patiently, process, until};

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Dockplugd,
    Dockerd,
}

impl Program {
    /// The one the suite runs against.
    pub(crate) fn chosen() -> Self {
        match env::var("COMPAT_DAEMON").as_deref() {
            Err(_) | Ok("" | "dockplugd") => Self::Dockplugd,
            Ok("dockerd") => Self::Dockerd,
            Ok(other) => panic!("COMPAT_DAEMON is {other:?}; it may be dockplugd or dockerd"),
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Self::Dockerd => process::program("dockerd"),
            Self::Dockplugd => env::var_os("DOCKPLUGD").map_or_else(
                || {
                    let built = option_env!("CARGO_BIN_EXE_dockplugd").map(PathBuf::from);
                    built.unwrap_or_else(|| {
                        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/dockplugd")
                    })
                },
                PathBuf::from,
            ),
        }
    }
}

/// The runtime that `COMPAT_RUNTIME` names, for dockplugd; else it takes its own choice.
fn chosen_runtime() -> Option<String> {
    env::var("COMPAT_RUNTIME").ok().filter(|name| !name.is_empty())
}

/// A daemon, running or not, and everything it leaves on disk; all of it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: Program,
    flags: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    child: Option<Child>,
    place: TempDir,
}

impl Daemon {
    /// Our program, whatever the suite runs against: for its commands.
    pub(crate) fn program_of_ours() -> PathBuf {
        Program::Dockplugd.path()
    }

    /// Starts the daemon the suite runs against, and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_as(Program::chosen(), &[])
    }

    /// The same, for what only dockplugd promises; `None` when the suite runs against dockerd.
    pub(crate) fn ours() -> Option<Self> {
        Self::ours_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn ours_with(flags: &[&str]) -> Option<Self> {
        (Program::chosen() == Program::Dockplugd).then(|| Self::start_as(Program::Dockplugd, flags))
    }

    /// Starts the named program.
    pub(crate) fn start_as(program: Program, flags: &[&str]) -> Self {
        Self::start_in(program, flags, Vec::new())
    }

    /// The same as [`Daemon::ours_with`], with these variables in its environment.
    pub(crate) fn ours_in(flags: &[&str], environment: Vec<(&'static str, OsString)>) -> Option<Self> {
        (Program::chosen() == Program::Dockplugd)
            .then(|| Self::start_in(Program::Dockplugd, flags, environment))
    }

    fn start_in(program: Program, flags: &[&str], environment: Vec<(&'static str, OsString)>) -> Self {
        let place = tempfile::Builder::new().prefix("compat").tempdir().unwrap();
        fs::create_dir(place.path().join("record")).unwrap();
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut daemon = Self { program, flags, environment, child: None, place };
        daemon.launch();
        daemon
    }

    /// Starts it (again), and waits until it answers.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(self.program.path());
        command.arg("-H").arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(self.data_root()).arg("--exec-root").arg(self.exec_root());
        // Not the machine's: neither its pid file nor what its administrator has configured.
        command.arg("--pidfile").arg(self.place().join("pid"));
        fs::write(self.place().join("daemon.json"), "{}").unwrap();
        command.arg("--config-file").arg(self.place().join("daemon.json"));
        if self.program == Program::Dockerd {
            command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
            // Should the machine have a containerd of its own, nothing of ours meets anything of its.
            command.args(["--containerd-namespace=compat", "--containerd-plugins-namespace=compat-plugins"]);
        }
        if self.program == Program::Dockplugd {
            command.arg("--legacy-plugins-dir").arg(self.legacy());
            if !self.flags.iter().any(|flag| flag == "--engine") {
                // Not the machine's, if it has one.
                command.args(["--engine", "none"]);
            }
            if let Some(runtime) = chosen_runtime() {
                command.arg("--default-runtime").arg(runtime);
            }
        }
        command.args(&self.flags).env("PATH", process::search_path()).env_remove("NOTIFY_SOCKET");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(
            command.spawn().unwrap_or_else(|e| panic!("starting {}: {e}", self.program.path().display())),
        );
        until("the daemon answers", || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            assert!(ended.is_none(), "the daemon ended ({ended:?}):\n{}", self.log());
            // A connect alone may still reach the listener of a killed one, in a child that was just being made.
            let ping = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
            let answer = self.http().open().ok()?.exchange("GET", ping).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// The flags from its next start on, in place of those it has.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(ToString::to_string).collect();
    }

    /// SIGKILL: as if the power went, for the daemon alone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end; the exit code, `None` when a signal ended it.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        process::send(self_pid(&child), Signal::SIGTERM);
        until("the daemon has ended", || child.try_wait().unwrap()).code()
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.program == Program::Dockplugd
    }

    /// The running daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        self_pid(self.child.as_ref().expect("the daemon runs"))
    }

    /// The directory that holds everything else.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place().join("docker.sock")
    }

    pub(crate) fn data_root(&self) -> PathBuf {
        self.place().join("data")
    }

    pub(crate) fn exec_root(&self) -> PathBuf {
        self.place().join("exec")
    }

    /// Where dockplugd looks for legacy plugins; made by who puts one there.
    pub(crate) fn legacy(&self) -> PathBuf {
        self.place().join("legacy")
    }

    /// What tiny plugins find at `/record`.
    pub(crate) fn record(&self) -> PathBuf {
        self.place().join("record")
    }

    /// Everything the daemon said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(&self.socket())
    }

    pub(crate) fn docker(&self) -> Docker {
        Docker::new(&self.socket(), &self.place().join("cli"))
    }

    /// A good plugin for this daemon; see `plugins/tiny.rs` for how it can be made to misbehave.
    pub(crate) fn tiny(&self) -> Context {
        Context::tiny(&self.record())
    }

    /// `POST /plugins/create`.
    pub(crate) fn create(&self, name: &str, tar: &[u8]) -> Answer {
        self.http().send("POST", &format!("/plugins/create?name={name}"), "application/x-tar", tar)
    }

    /// Creates a plugin, which must work.
    pub(crate) fn install(&self, name: &str, context: &Context) {
        let answer = self.create(name, &context.tar());
        assert_eq!(answer.status, 204, "creating {name}: {}", answer.text());
    }

    /// `POST /plugins/{name}/enable`, with dockerd's default timeout.
    pub(crate) fn enable(&self, name: &str) -> Answer {
        self.http().ask("POST", &format!("/plugins/{name}/enable?timeout=0"))
    }

    /// Creates and enables a plugin, which must work.
    pub(crate) fn run(&self, name: &str, context: &Context) {
        self.install(name, context);
        let answer = self.enable(name);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "enabling {name}");
    }

    /// `POST /volumes/create`.
    pub(crate) fn volume(&self, body: &Value) -> Answer {
        self.http().json("POST", "/volumes/create", body)
    }

    /// A refusal: the message, and the status that dockplugd owes. Where that is a 4xx, dockerd may say 500, which is
    /// one of the known differences. The message is that of dockerd 20.10; dockplugd may use moby 28's instead.
    pub(crate) fn assert_refused(&self, answer: &Answer, status: u16, message: &str) {
        if !self.is_ours() || answer.message() != in_moby_28(message) {
            assert_eq!(answer.message(), message);
        }
        let fine = answer.status == status || (!self.is_ours() && answer.status == 500);
        assert!(fine, "status {} instead of {status}: {message}", answer.status);
    }

    /// Every path below the two roots, without what they hold: to see that nothing is left behind.
    pub(crate) fn tree(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.data_root(), self.exec_root()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open.push(entry.path());
                }
                found.insert(entry.path());
            }
        }
        found
    }

    fn log_file(&self) -> PathBuf {
        self.place().join("log")
    }

    fn remove_plugins(&self) {
        let Ok(mut connection) = self.http().open() else { return };
        let request = b"GET /plugins HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        let Ok(list) = connection.exchange("GET", request) else { return };
        let list: Value = serde_json::from_slice(&list.body).unwrap_or_default();
        for plugin in list.as_array().into_iter().flatten() {
            let id = plugin["Id"].as_str().unwrap_or_default();
            let request =
                format!("DELETE /plugins/{id}?force=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
            let Ok(mut connection) = self.http().open() else { return };
            let _ = connection.exchange("DELETE", request.as_bytes());
        }
    }

    /// Whatever still runs for this daemon's directory, and what is still mounted there.
    fn sweep(&self) {
        let place = self.place().display().to_string();
        for ours in process::mentioning(&place) {
            for pid in process::family(ours) {
                process::send(pid, Signal::SIGKILL);
            }
            let _ = patiently(|| (!process::lives(ours)).then_some(()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut points: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(4)).collect();
        points.retain(|point| point.starts_with(&place));
        points.sort_unstable();
        for point in points.into_iter().rev() {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the daemon's last words:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        if self.child.is_some() {
            self.remove_plugins();
        }
        if let Some(child) = &self.child {
            process::send(self_pid(child), Signal::SIGTERM);
        }
        if let Some(mut child) = self.child.take() {
            // A panic while a panic unwinds would hide the first one.
            let _ = patiently(|| child.try_wait().ok().flatten());
            let _ = child.kill();
            let _ = child.wait();
        }
        self.sweep();
    }
}

/// What has been reworded since 20.10.
fn in_moby_28(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("Invalid filter ") {
        return format!("invalid filter {rest}");
    }
    let name = message.strip_prefix("failed to parse reference ").and_then(|rest| rest.split(':').next());
    let named = format!("repository name (library/{}) must be lowercase", name.unwrap_or_default());
    message.replace("repository name must be lowercase", &named)
}

fn self_pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id is an i32")
}
