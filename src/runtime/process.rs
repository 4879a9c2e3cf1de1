//! One container that was started: a handle that many can hold.
//!
//! Signals go to the monitor through its process descriptor, so never to a stranger with a recycled pid. The end is
//! read from `exit.json` once the monitor is gone; a monitor that died without writing one is cleaned up after here.

use super::lock::{self, Holder};
use super::log::{self, Line};
use super::record::{self, Desk, Exit, Orders, Started};
use super::{Error, Result, spawn};
use jiff::Timestamp;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// A container that was started, running or ended. Clones are the same container; dropping it does nothing to it.
#[derive(Debug, Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    started: Started,
    log: PathBuf,
    monitor: Option<Watched>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub(super) fn living(id: String, started: Started, log: PathBuf, monitor: Watched) -> Self {
        let exit = monitor.exit.clone();
        Self { inner: Arc::new(Inner { id, started, log, monitor: Some(monitor), exit }) }
    }

    pub(super) fn ended(id: String, started: Started, log: PathBuf, exit: Exit) -> Self {
        let (_, exit) = watch::channel(Some(exit));
        Self { inner: Arc::new(Inner { id, started, log, monitor: None, exit }) }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The pid of the container's first process, as this machine counts; a stranger's after the end.
    pub fn pid(&self) -> i32 {
        self.inner.started.pid
    }

    /// When the runtime had started it.
    pub fn started_at(&self) -> Timestamp {
        self.inner.started.at
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        self.inner.exit.borrow().clone()
    }

    /// Waits for its end, when nothing of it is left, neither process nor runtime state. Many may wait.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.inner.exit.clone();
        // An error says that the run time of this program is going down, and the watching task with it.
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()).unwrap_or_else(Exit::lost)
    }

    /// Asks it to stop: SIGTERM to its first process, or SIGKILL at once when that is pid 1 of its own pid namespace
    /// and has no way to receive SIGTERM (the kernel would drop it). Returns before it has ended; fine when it has.
    ///
    /// # Errors
    /// [`Error::Io`] when the monitor cannot be signalled.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it and everything in it with SIGKILL. Returns before it has ended; fine when it has.
    ///
    /// # Errors
    /// [`Error::Io`] when the monitor cannot be signalled.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::USR1)
    }

    /// The last lines of what it and its predecessors wrote; see [`log::tail`]. Reads files.
    pub fn log_tail(&self, lines: usize) -> Vec<Line<'static>> {
        log::tail(&self.inner.log, lines)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(monitor) = &self.inner.monitor else { return Ok(()) };
        monitor.signal(signal).map_err(Error::io("signal the monitor of", self.inner.id.as_ref()))
    }
}

/// A monitor whose death is waited for by a task.
#[derive(Debug)]
pub(super) struct Watched {
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Watched {
    /// Begins to watch; needs the run time. The task reaps the monitor if it is our child, cleans up after it if it
    /// could not do that itself, and ends with it.
    pub(super) fn new(desk: Desk, pidfd: OwnedFd) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let ready = readable(pidfd.try_clone()?)?;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            let _ = ready.readable().await;
            let last = tokio::task::spawn_blocking(move || {
                // Fails when the monitor is not our child but an earlier daemon's; then somebody else reaps it.
                let _ = waitid(WaitId::PidFd(ready.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
                settle(&desk)
            });
            let exit = match last.await {
                Ok(Ok(Some((_, exit)))) => exit,
                Ok(Ok(None)) => Exit::lost(),
                Ok(Err(error)) => {
                    tracing::error!(error = crate::error::chain(&error), "cleaning up after a monitor");
                    Exit::lost()
                }
                Err(error) => {
                    tracing::error!(%error, "cleaning up after a monitor");
                    Exit::lost()
                }
            };
            sender.send_replace(Some(exit));
        });
        Ok(Self { pidfd, exit })
    }

    /// Waits until the monitor is gone and cleaned up after.
    pub(super) async fn gone(&self) {
        let _ = self.exit.clone().wait_for(Option::is_some).await;
    }

    /// Sends a signal to the monitor; fine when it is gone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A descriptor that the run time waits on.
#[allow(
    deprecated,
    reason = "what the unsafe successor asks for, a descriptor that lives as long, an OwnedFd gives"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// What a monitor left that lives no more: when its container ran, and how it ended. Blocking.
///
/// When the monitor was killed before it saw the end, the container is deleted here, with the runtime that started
/// it, and the unknown end is written down. `None` when no container ran.
///
/// # Errors
/// [`Error::Starting`] when the lock is held after all; I/O.
pub(super) fn settle(desk: &Desk) -> Result<Option<(Started, Exit)>> {
    match lock::take(desk)? {
        Holder::Us(lock) => {
            let settled = settle_locked(desk);
            lock::release(&lock);
            settled
        }
        Holder::Monitor(_) | Holder::Unborn => Err(Error::Starting(desk.path().display().to_string())),
    }
}

/// [`settle`] for one who holds the lock.
pub(super) fn settle_locked(desk: &Desk) -> Result<Option<(Started, Exit)>> {
    let Some(orders) = record::read::<Orders>(&desk.orders())? else { return Ok(None) };
    if orders.commands.state.exists() {
        let program = PathBuf::from(orders.commands.delete.first().map_or("", String::as_str));
        match spawn::run(&orders.commands.delete, orders.deadlines.delete)
            .map_err(Error::io("run", &program))?
        {
            Some(0) => {}
            code => tracing::warn!(id = orders.id, ?code, "the runtime could not delete a container"),
        }
    }
    let Some(started) = record::read::<Started>(&desk.started())? else { return Ok(None) };
    if let Some(exit) = record::read::<Exit>(&desk.exit())? {
        return Ok(Some((started, exit)));
    }
    let exit = Exit::lost();
    record::write(&desk.exit(), &exit)?;
    Ok(Some((started, exit)))
}
