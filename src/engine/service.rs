//! The engine that we start ourselves, when none listens: `podman system service`, on a private socket.
//!
//! It is started by the first request that needs it, again by the next request after it has died (with a growing pause
//! when it does not stay), and ended with us. One that an earlier daemon has left is found by its socket and taken over.
//! It is configured by our environment, as the program is when a user runs it. Facts: podman-system-service(1), unix(7)
//! (whose process listens: `SO_PEERCRED`).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::find::{appears, connect};
use super::{Error, Result};
use crate::finish::finish;

/// The program.
const PROGRAM: &str = "podman";
/// How long it may take from its start until it listens.
const START_MAX: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END_MAX: Duration = Duration::from_secs(10);
/// The first pause after it did not start, or did not stay; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// One that lived this long is not blamed for what was before.
const STEADY: Duration = Duration::from_mins(1);
/// How much of what it writes is kept, in bytes.
const LOG_MAX_BYTES: u64 = 1 << 20;
/// Of our environment, what is meant for us alone.
const OURS_ALONE: [&str; 4] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// How it can be started; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: PathBuf,
    search_path: OsString,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Option<Running>,
    pause: Duration,
    /// Not before this is it started again, because of that.
    not_before: Option<(Instant, String)>,
    is_ending: bool,
}

#[derive(Debug)]
struct Running {
    child: Child,
    since: Instant,
}

impl Service {
    /// One that listens on this socket, in a directory that is ours alone, and whose program is looked for on this path.
    pub(super) fn new(socket: PathBuf, search_path: OsString) -> Self {
        let state = State { child: None, pause: PAUSE_MIN, not_before: None, is_ending: false };
        Self(Arc::new(Inner { socket, search_path, state: tokio::sync::Mutex::new(state) }))
    }

    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// A connection to one that runs.
    pub(super) async fn running(&self) -> Option<UnixStream> {
        connect(self.socket()).await.ok()
    }

    /// A connection to one that is started now, if it does not run.
    ///
    /// # Errors
    /// [`Error::Nowhere`] without the program, [`Error::Start`].
    pub(super) async fn start(&self) -> Result<UnixStream> {
        let service = self.clone();
        // Whoever asked may go; what is begun is brought to its end.
        finish(async move { service.start_to_the_end().await }).await
    }

    async fn start_to_the_end(&self) -> Result<UnixStream> {
        let mut state = self.0.state.lock().await;
        if let Some(stream) = self.running().await {
            return Ok(stream);
        }
        if state.is_ending {
            return Err(Error::Nowhere);
        }
        if let Some(mut dead) = state.child.take() {
            let lived = dead.since.elapsed();
            let why = self.why(&mut dead, "does not listen any more").await;
            tracing::warn!(program = PROGRAM, why, "the engine that was started has ended");
            if lived < STEADY {
                state.blame(why);
            } else {
                state.pause = PAUSE_MIN;
            }
        }
        if let Some((when, why)) = &state.not_before
            && Instant::now() < *when
        {
            return Err(did_not(why.clone()));
        }
        let program = std::env::split_paths(&self.0.search_path).map(|directory| directory.join(PROGRAM));
        let program = program.into_iter().find(|program| program.is_file()).ok_or(Error::Nowhere)?;
        match self.launch(&program).await {
            Ok((running, stream)) => {
                tracing::info!(program = %program.display(), socket = %self.socket().display(), "engine started");
                state.child = Some(running);
                Ok(stream)
            }
            Err(why) => {
                state.blame(why.clone());
                Err(did_not(why))
            }
        }
    }

    /// Starts it, and waits until it listens.
    async fn launch(&self, program: &Path) -> std::result::Result<(Running, UnixStream), String> {
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", self.socket().display()));
            }
            _ => {}
        }
        let mut command = Command::new(program);
        command.args(["--log-level=error", "system", "service", "--time=0"]);
        command.arg(format!("unix://{}", self.socket().display()));
        let log =
            self.fresh_log().map_err(|error| format!("cannot write {}: {error}", self.log().display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        for name in OURS_ALONE {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut running = Running { child, since: Instant::now() };
        let listens = tokio::time::timeout(START_MAX, appears(self.socket()));
        let trouble = tokio::select! {
            listens = listens => match listens {
                Ok(stream) => return Ok((running, stream)),
                Err(_elapsed) => "does not listen",
            },
            _ended = running.child.wait() => "has ended",
        };
        Err(self.why(&mut running, trouble).await)
    }

    /// What it writes: a file and no pipe, which would break, and end it, when we are killed.
    fn log(&self) -> PathBuf {
        self.socket().with_extension("log")
    }

    fn fresh_log(&self) -> io::Result<File> {
        File::create(self.log())?;
        // At its end, wherever that is: it may be cut.
        File::options().append(true).open(self.log())
    }

    /// Keeps what it writes within its limit.
    pub(super) fn trim(&self) {
        let trimmed = std::fs::metadata(self.log()).and_then(|log| {
            if log.len() > LOG_MAX_BYTES {
                File::options().write(true).open(self.log())?.set_len(0)
            } else {
                Ok(())
            }
        });
        match trimmed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, log = %self.log().display(), "cannot be cut");
            }
            _ => {}
        }
    }

    /// Why it does not serve, in its own last words where it has some. It is ended, if it has not.
    async fn why(&self, running: &mut Running, trouble: &str) -> String {
        let _already_gone = running.child.start_kill();
        let status = running.child.wait().await;
        let said = std::fs::read(self.log()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        match (said.lines().rfind(|line| !line.trim().is_empty()), status) {
            (Some(last), _) => last.to_owned(),
            (None, Ok(status)) => format!("it {trouble} ({status})"),
            (None, Err(error)) => format!("it {trouble}: {error}"),
        }
    }

    /// Ends it, whoever has started it, and starts none any more.
    pub(super) async fn end(&self) {
        let mut state = self.0.state.lock().await;
        state.is_ending = true;
        let ended = end(self.socket()).await;
        if let Err(error) = &ended {
            tracing::warn!(%error, "the engine that was started does not end");
        }
        if let Some(mut running) = state.child.take() {
            let _reaped = running.child.kill().await;
        }
    }
}

impl State {
    /// It did not start, or did not stay.
    fn blame(&mut self, why: String) {
        self.not_before = Some((Instant::now() + self.pause, why));
        self.pause = PAUSE_MAX.min(self.pause * 2);
    }
}

/// Ends the process that listens on a socket of ours, if one does: politely, then not.
pub(super) async fn end(socket: &Path) -> io::Result<()> {
    let Ok(stream) = connect(socket).await else { return Ok(()) };
    let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let pidfd =
        pidfd_open(pid.ok_or_else(|| io::Error::other("its process is not ours"))?, PidfdFlags::empty())?;
    #[allow(deprecated, reason = "unsound only for a type that changes its descriptor; OwnedFd never does")]
    let gone = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    for signal in [Signal::TERM, Signal::KILL] {
        send(gone.get_ref(), signal)?;
        if let Ok(gone) = tokio::time::timeout(END_MAX, gone.readable()).await {
            return gone.map(drop);
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn send(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn did_not(why: String) -> Error {
    Error::Start { program: PROGRAM, why }
}
