//! The monitor's one loop: runtime commands, output, signals, the container's end.
//!
//! `start` and `see_to_the_end` read like a script; each of their waits is [`Monitor::pump`], which keeps reading the
//! output and hearing signals meanwhile. Nothing here polls on a timer; each runtime command has a deadline.

use super::output::Output;
use super::{complain, init};
use crate::error::chain;
use crate::runtime::log::tail;
use crate::runtime::record::{self, Commands, Desk, Exit, Orders, Started, UNKNOWN_CODE, read_bytes};
use crate::runtime::spawn::{Stdio, null, spawn};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait, waitpid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much of a runtime's messages is looked at, and how much of one is told.
const MESSAGES_BYTES: u64 = 64 * 1024;
const MESSAGE_CHARS: usize = 4 * 1024;

/// A wish to end the container; the later of two that are ordered wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Politely,
    AtOnce,
}

/// One container's supervisor.
#[derive(Debug)]
pub(super) struct Monitor {
    orders: Orders,
    signals: SignalFd,
    output: Output,
    /// The container's ends of the output pipes, until it has them.
    writers: Option<[OwnedFd; 2]>,
    /// The container's first process, from when it is known until it is reaped.
    init: Option<Pid>,
    /// A wish that came while there was no process yet.
    wish: Option<Stop>,
    oom_counter: Option<PathBuf>,
}

impl Monitor {
    /// `signals` are blocked in this process.
    pub(super) fn new(orders: Orders, signals: &SigSet) -> io::Result<Self> {
        let signals = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (output, writers) = Output::new(orders.log.clone())?;
        let (writers, init, wish, oom_counter) = (Some(writers), None, None, None);
        Ok(Self { orders, signals, output, writers, init, wish, oom_counter })
    }

    /// Starts the container and writes down that it runs. When it fails nothing is left, and the message is in the
    /// runtime's words.
    pub(super) fn start(&mut self, desk: &Desk) -> Result<Started, String> {
        if self.orders.commands.state.exists() {
            self.delete();
        }
        let started = self.run().and_then(|pid| {
            self.init = Some(Pid::from_raw(pid));
            self.oom_counter = init::oom_counter(pid);
            let started = Started { pid, at: Timestamp::now() };
            record::write(&desk.started(), &started).map_err(|error| chain(&error))?;
            Ok(started)
        });
        if started.is_err() {
            self.delete();
            self.output.drain();
        } else if let Some(wish) = self.wish.take() {
            self.stop(wish);
        }
        started
    }

    /// Waits for the container's end, removes what is left of it and writes down how it ended.
    pub(super) fn see_to_the_end(&mut self, desk: &Desk) -> io::Result<()> {
        let Some(init) = self.init else { return Ok(()) };
        let code = self.pump(init, Reap::All, None)?.unwrap_or(UNKNOWN_CODE);
        self.init = None;
        let at = Timestamp::now();
        let oom = self.oom_counter.as_deref().is_some_and(init::was_oom);
        // Before the output is drained: in a shared pid namespace others of the container may live on, and write.
        self.delete();
        self.output.drain();
        let exit = Exit { code, at, oom, lost: false };
        record::write(&desk.exit(), &exit).map_err(|error| io::Error::other(chain(&error)))
    }

    /// Runs the container; its first process's pid.
    fn run(&mut self) -> Result<i32, String> {
        let null = null().map_err(|error| error.to_string())?;
        let Some([stdout, stderr]) = self.writers.take() else { return Err("started twice".to_owned()) };
        let stdio = Stdio { stdin: null.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
        let Commands { run, pid_file, messages, .. } = self.orders.commands.clone();
        let since = Timestamp::now();
        let program = run.first().cloned().unwrap_or_default();
        let job = spawn(&run, stdio).map_err(|error| format!("cannot run {program}: {error}"))?;
        drop((stdout, stderr));
        let deadline = self.orders.deadlines.run;
        match self.finish(job, Reap::Awaited, deadline) {
            Ok(Some(0)) => read_pid(&pid_file).ok_or_else(|| format!("{program} left no pid")),
            Ok(Some(code)) => {
                Err(self.words(&messages, since).unwrap_or_else(|| format!("{program} ended with {code}")))
            }
            Ok(None) => Err(format!("{program} did not start it within {} s", deadline.as_secs_f64())),
            Err(error) => Err(format!("waiting for {program}: {error}")),
        }
    }

    /// Has the runtime end and forget whatever there is of the container. Best effort: what is left then is removed
    /// before the next start.
    fn delete(&mut self) {
        let result = null().and_then(|null| {
            let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
            let job = spawn(&self.orders.commands.delete, stdio)?;
            self.finish(job, Reap::All, self.orders.deadlines.delete)
        });
        match result {
            Ok(Some(0)) => {}
            Ok(code) => complain(&format!("deleting the container: exit status {code:?}")),
            Err(error) => complain(&format!("deleting the container: {error}")),
        }
    }

    /// Waits for a runtime command; `None` when it had to be killed.
    fn finish(&mut self, job: Pid, reap: Reap, deadline: Duration) -> io::Result<Option<i32>> {
        let code = self.pump(job, reap, Some(Instant::now() + deadline))?;
        if code.is_none() {
            kill(job, Signal::SIGKILL)?;
            self.pump(job, reap, None)?;
        }
        Ok(code)
    }

    /// Serves output and signals until the awaited child has ended, and reaps it: its exit status, 128 + n for
    /// signal n; or `None` when the deadline has passed.
    fn pump(&mut self, awaited: Pid, reap: Reap, deadline: Option<Instant>) -> io::Result<Option<i32>> {
        loop {
            if let Some(code) = reap.look(awaited)? {
                return Ok(Some(code));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                // Rounded up, or the last millisecond would be spun away.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.output.open().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            drop(fds);
            self.output.read();
            self.hear()?;
        }
    }

    /// Takes the signals that have come. SIGCHLD needs nothing: the children are looked at anyway.
    fn hear(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            match i32::try_from(signal.ssi_signo) {
                Ok(nix::libc::SIGTERM) => self.stop(Stop::Politely),
                Ok(nix::libc::SIGUSR1) => self.stop(Stop::AtOnce),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the first process; what else lives in the container ends with its pid namespace, or is ended by the
    /// runtime when it deletes the container. The pid is our own child's, not yet reaped.
    fn stop(&mut self, wish: Stop) {
        let Some(init) = self.init else {
            self.wish = self.wish.max(Some(wish));
            return;
        };
        let polite = wish == Stop::Politely && init::hears_terminate(init.as_raw());
        let signal = if polite { Signal::SIGTERM } else { Signal::SIGKILL };
        if let Err(error) = kill(init, signal) {
            complain(&format!("sending {signal}: {error}"));
        }
    }

    /// Why the runtime failed: the last error in its messages, else the last line on the output since it ran.
    fn words(&mut self, messages: &Path, since: Timestamp) -> Option<String> {
        let text = read_bytes(messages, MESSAGES_BYTES).ok().flatten().unwrap_or_default();
        let words = last_error(&text).or_else(|| {
            self.output.drain();
            let line = tail(&self.orders.log, 1).pop().filter(|line| line.time >= since)?;
            Some(line.log.trim().to_owned())
        })?;
        Some(words.chars().take(MESSAGE_CHARS).collect())
    }
}

/// Which children are reaped while one is waited for.
#[derive(Debug, Clone, Copy)]
enum Reap {
    /// Only that one: the container's first process may have ended before we know its pid, and must not be lost.
    Awaited,
    /// All: orphans of the container come to us.
    All,
}

impl Reap {
    /// The awaited child's exit status, if it has ended.
    fn look(self, awaited: Pid) -> io::Result<Option<i32>> {
        let awaited = rustix::process::Pid::from_raw(awaited.as_raw());
        loop {
            // Not nix: it takes the child away and then fails when a real-time signal ended it.
            let ended = match self {
                Self::Awaited => waitpid(awaited, WaitOptions::NOHANG),
                Self::All => wait(WaitOptions::NOHANG),
            };
            match ended {
                Ok(None) => return Ok(None),
                Ok(Some((pid, status))) if Some(pid) == awaited => {
                    let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
                    return Ok(Some(code.unwrap_or(UNKNOWN_CODE)));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn read_pid(path: &Path) -> Option<i32> {
    let bytes = read_bytes(path, 16).ok().flatten()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// The last message of level error or worse in a runtime's JSON lines.
fn last_error(text: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Message {
        level: String,
        msg: String,
    }
    text.split(|byte| *byte == b'\n')
        .rev()
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .find(|message| ["error", "fatal", "panic", "ERROR"].contains(&message.level.as_str()))
        .map(|message| message.msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_runtime_is_told() {
        let log = b"{\"level\":\"error\",\"msg\":\"first\",\"time\":\"x\"}\nnoise\n{\"level\":\"error\",\"msg\":\"last\"}\n\
            {\"level\":\"warning\",\"msg\":\"later\"}\n";
        assert_eq!(last_error(log).unwrap(), "last");
        assert_eq!(last_error(b"no JSON"), None);
    }
}
