//! The daemon's side: writes what a monitor needs, spawns it, hears whether the container runs; finds it again.
//!
//! It knows neither plugins nor what the spec says. What it leaves behind at any instant of a kill -9 is told apart
//! by the lock: held means a living monitor, free means that nobody else will write to the desk.

use super::choice::{Candidate, Choice};
use super::lock::{self, Holder};
use super::process::{Process, Watched, settle_locked};
use super::program::{Container, Runtime};
use super::record::{self, Commands, Deadlines, Desk, Orders, Report, Started};
use super::spawn::{self, Stdio};
use super::trial::Trial;
use super::{Error, Result};
use crate::paths::{ExecRoot, PluginExec};
use oci_spec::runtime::Spec;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// How long a start may take until the daemon gives up on the monitor, which has shorter deadlines of its own for
/// each call of the runtime.
pub const START_DEADLINE: Duration = Duration::from_mins(2);
/// The name of a runtime that nobody has named.
const RUNC: &str = "runc";
/// A report is one line, and its message is cut by the monitor.
const REPORT_BYTES: u64 = 64 * 1024;
/// How much of a dead monitor's last words are told.
const WORDS_BYTES: u64 = 2 * 1024;
/// Ids are 64 hex digits; more is not needed.
const ID_BYTES: usize = 128;

/// Starts containers and finds them again. Clones share everything.
#[derive(Debug, Clone)]
pub struct Launcher {
    own_exe: PathBuf,
    choice: Arc<Choice>,
    runtime_root: PathBuf,
    deadlines: Deadlines,
}

/// What to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The container's id: a plugin's.
    pub id: String,
    /// The plugin's directory below the exec root; `bundle/` and `monitor/` in it are made as needed.
    pub exec: PluginExec,
    /// The directory of the bounded log, made as needed.
    pub log: PathBuf,
    /// The runtime spec, written to the bundle; `terminal` must be false.
    pub spec: &'a Spec,
}

impl Launcher {
    /// `own_exe` is the program to spawn monitors from, normally `/proc/self/exe`; `runtime_root` is the directory
    /// of the runtime's own state.
    pub fn new(own_exe: PathBuf, runtime: Arc<dyn Runtime>, runtime_root: PathBuf) -> Self {
        let only = Candidate { name: RUNC.to_owned(), runtime };
        Self::with(own_exe, Choice::only(only), runtime_root)
    }

    /// The same with the first of some runtimes that works, which is found out before the first container.
    pub fn choosing(own_exe: PathBuf, candidates: Vec<Candidate>, exec: &ExecRoot) -> Self {
        Self::with(own_exe, Choice::of(candidates, Trial::new(exec.clone())), exec.runtime())
    }

    fn with(own_exe: PathBuf, choice: Choice, runtime_root: PathBuf) -> Self {
        Self { own_exe, choice: Arc::new(choice), runtime_root, deadlines: Deadlines::default() }
    }

    /// Finds out which runtime works, as the first start does.
    #[cfg(test)]
    pub(super) async fn choose(&self) -> Result<()> {
        self.choice.make(self).await.map(drop)
    }

    /// The name of the runtime that is used, or will be tried first.
    pub fn runtime(&self) -> &str {
        self.choice.name()
    }

    #[cfg(test)]
    pub(super) fn with_deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Starts a container and returns once its first process runs. What an earlier run of the same id left behind is
    /// removed first. When the future is dropped half-way the container may run all the same: `attach` finds it.
    ///
    /// # Errors
    /// [`Error::Running`] when it runs already, [`Error::Refused`] with the runtime's words, [`Error::Deadline`],
    /// [`Error::Monitor`]; nothing is left of it then. [`Error::NoRuntime`], [`Error::Id`], [`Error::Path`], I/O.
    pub async fn start(&self, start: Start<'_>) -> Result<Process> {
        let runtime = self.choice.make(self).await?;
        self.start_with(runtime, start).await
    }

    /// [`Self::start`] with this runtime.
    pub(super) async fn start_with(&self, runtime: &dyn Runtime, start: Start<'_>) -> Result<Process> {
        let Start { id, exec, log, spec } = start;
        check_id(&id)?;
        let (bundle, desk) = (exec.bundle(), Desk::new(exec.monitor()));
        let container = Container { id: &id, root: &self.runtime_root, bundle: &bundle, desk: desk.path() };
        let commands = runtime.commands(&container)?;
        let mut spec = spec.clone();
        runtime.spell(&mut spec);
        let config = serde_json::value::to_raw_value(&spec)
            .map_err(|source| Error::Json { path: bundle.join("config.json"), source })?;
        let orders = Orders { id: id.clone(), log: log.clone(), commands, deadlines: self.deadlines };
        let (own_exe, runtime_root, at) = (self.own_exe.clone(), self.runtime_root.clone(), desk.clone());
        let (pidfd, status) = blocking(move || {
            make_dir(&runtime_root)?;
            make_dir(&bundle)?;
            make_dir(&orders.log)?;
            make_dir(at.path())?;
            let lock = claim(&orders.id, &at)?;
            record::write(&bundle.join("config.json"), &config)?;
            give_birth(&own_exe, &orders, &at, &lock)
        })
        .await?;
        let watched = Watched::new(desk.clone(), pidfd).map_err(Error::io("watch", desk.path()))?;
        match tokio::time::timeout(START_DEADLINE, hear(status)).await {
            Ok(Some(Report::Started(started))) => Ok(Process::living(id, started, log, watched)),
            Ok(Some(Report::Failed { message })) => {
                watched.gone().await;
                Err(Error::Refused { id, message })
            }
            Ok(None) => {
                watched.gone().await;
                Err(Error::Monitor { id, words: last_words(&desk) })
            }
            Err(_) => {
                watched.signal(rustix::process::Signal::KILL).map_err(Error::io("kill", desk.path()))?;
                watched.gone().await;
                Err(Error::Deadline { id, deadline: START_DEADLINE })
            }
        }
    }

    /// Finds what an earlier daemon started: the living container, or how its last run ended, or `None` when it
    /// never ran (since the last reboot). A container whose monitor was killed is deleted here.
    ///
    /// # Errors
    /// [`Error::Starting`] while a monitor has not said whether the container runs; I/O.
    pub async fn attach(&self, id: &str, exec: &PluginExec) -> Result<Option<Process>> {
        check_id(id)?;
        let (id, desk) = (id.to_owned(), Desk::new(exec.monitor()));
        let at = desk.clone();
        let Some((orders, found)) = blocking(move || look(&id, &at)).await? else { return Ok(None) };
        Ok(Some(match found {
            Found::Living(started, pidfd) => {
                let watched = Watched::new(desk.clone(), pidfd).map_err(Error::io("watch", desk.path()))?;
                Process::living(orders.id, started, orders.log, watched)
            }
            Found::Ended(started, exit) => Process::ended(orders.id, started, orders.log, exit),
        }))
    }

    /// Removes what this room keeps of a container that does not run: runtime state, `bundle/` and `monitor/`.
    /// The log stays.
    ///
    /// # Errors
    /// [`Error::Running`] or [`Error::Starting`] when it does run; I/O.
    pub async fn forget(&self, id: &str, exec: &PluginExec) -> Result<()> {
        check_id(id)?;
        let (id, bundle, desk) = (id.to_owned(), exec.bundle(), Desk::new(exec.monitor()));
        blocking(move || {
            if desk.path().exists() {
                let lock = claim(&id, &desk)?;
                settle_locked(&desk)?;
                remove_dir(desk.path())?;
                lock::release(&lock);
            }
            remove_dir(&bundle)
        })
        .await
    }
}

enum Found {
    Living(Started, OwnedFd),
    Ended(Started, record::Exit),
}

fn look(id: &str, desk: &Desk) -> Result<Option<(Orders, Found)>> {
    if !desk.path().exists() {
        return Ok(None);
    }
    let found = match lock::take(desk)? {
        Holder::Us(lock) => {
            let settled = settle_locked(desk);
            lock::release(&lock);
            settled?.map(|(started, exit)| Found::Ended(started, exit))
        }
        Holder::Monitor(pidfd) => match record::read(&desk.started())? {
            Some(started) => Some(Found::Living(started, pidfd)),
            None => return Err(Error::Starting(id.to_owned())),
        },
        Holder::Unborn => return Err(Error::Starting(id.to_owned())),
    };
    Ok(record::read(&desk.orders())?.zip(found))
}

/// Takes the lock for a container that must not run.
fn claim(id: &str, desk: &Desk) -> Result<File> {
    match lock::take(desk)? {
        Holder::Us(lock) => Ok(lock),
        Holder::Monitor(_) => Err(Error::Running(id.to_owned())),
        Holder::Unborn => Err(Error::Starting(id.to_owned())),
    }
}

/// Clears the desk, writes the orders, spawns the monitor: its descriptor and the reading end of its status pipe.
fn give_birth(own_exe: &Path, orders: &Orders, desk: &Desk, lock: &File) -> Result<(OwnedFd, OwnedFd)> {
    let Commands { pid_file, messages, .. } = &orders.commands;
    for old in [&desk.started(), &desk.exit(), pid_file, messages] {
        record::remove(old)?;
    }
    record::write(&desk.orders(), orders)?;
    let complaints = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(desk.complaints())
        .map_err(Error::io("open", &desk.complaints()))?;
    let program = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| Error::Path(path.to_owned()));
    let argv = [program(own_exe)?, super::monitor::VERB.to_owned(), program(desk.path())?];
    let spawn = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (status, sender) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let stdio = Stdio { stdin: lock.as_fd(), stdout: sender.as_fd(), stderr: complaints.as_fd() };
        let pid = spawn::spawn(&argv, stdio)?;
        // Not reaped before its descriptor is used, so the pid is its own even if it has died already.
        Ok((spawn::open_pidfd(pid.as_raw())?, status))
    };
    spawn().map_err(Error::io("spawn", own_exe))
}

/// The monitor's one line; `None` when it died without one, or wrote something else.
async fn hear(status: OwnedFd) -> Option<Report> {
    let receiver = pipe::Receiver::from_owned_fd(status).ok()?;
    let mut line = Vec::new();
    receiver.take(REPORT_BYTES).read_to_end(&mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

fn last_words(desk: &Desk) -> String {
    let words = record::read_bytes(&desk.complaints(), WORDS_BYTES).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&words).trim().to_owned()
}

fn check_id(id: &str) -> Result<()> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
    let good = id.len() <= ID_BYTES
        && id.bytes().all(word)
        && id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if good { Ok(()) } else { Err(Error::Id(id.to_owned())) }
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("make", dir))
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::io("finish", Path::new("a background task"))(io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_command_line_could_misread_are_refused() {
        for good in ["a", "0123456789abcdef", "a_b.c+d-e", &"f".repeat(128)] {
            check_id(good).unwrap();
        }
        for bad in ["", "-x", "--root", ".", "..", "a/b", "a b", "é", &"f".repeat(129), "a\0"] {
            check_id(bad).unwrap_err();
        }
    }
}
