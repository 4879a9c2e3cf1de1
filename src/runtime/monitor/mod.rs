//! The monitor: the small process beside each container, our own binary started as `dockplugd monitor DIR`.
//!
//! Single-threaded and synchronous, so that it costs next to no memory: no async run time, no command line parser,
//! no tracing, buffers of 16 KiB. It is told everything by `DIR/orders.json` and three descriptors: the held lock as
//! standard input, the status pipe as standard output, a file for complaints as standard error. It knows argument
//! lists, not runtimes.
//!
//! Signals to it are its interface: SIGTERM stops the container politely, SIGUSR1 kills it.

mod init;
mod output;
mod supervise;

use super::lock;
use super::record::{self, Desk, Orders, Report};
use super::spawn::null;
use crate::error::chain;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{close, dup2_stdin, dup2_stdout, getpid, setsid};
use std::fs::{File, read_dir};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use supervise::Monitor;

/// The word on the command line that makes this program a monitor.
pub(super) const VERB: &str = "monitor";
/// Its name in `ps`; the kernel keeps 15 bytes.
const NAME: &std::ffi::CStr = c"dockplug-mon";
/// The last process that the kernel should kill when memory is short: it is small, and a container dies with it.
const OWN_OOM_SCORE: &str = "-999";

/// Becomes the monitor when the command line says so; `None` for every other command line. To be called first in
/// `main`, before a thread or an async run time exists.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != VERB {
        return None;
    }
    let dir = arguments.next().map(PathBuf::from).filter(|dir| dir.is_absolute());
    Some(
        match dir.ok_or_else(|| io::Error::other("usage: dockplugd monitor DIR (dockplugd itself does that)"))
        {
            Ok(dir) => finish(monitor(&Desk::new(dir))),
            Err(error) => finish(Err(error)),
        },
    )
}

fn finish(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to the file for complaints.
fn complain(line: &str) {
    // The disk may be full; there is nobody else to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn monitor(desk: &Desk) -> io::Result<()> {
    // Before anything else: a signal that comes early must wait, not kill.
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGUSR1].into_iter().collect();
    signals.thread_block()?;
    close_strangers()?;
    let mut lock = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let status = io::stdout().as_fd().try_clone_to_owned()?;
    let null = null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    lock::sign(&mut lock, &desk.lock(), getpid().as_raw())?;
    // Fails only for a leader of a process group, whose session is its own already or a terminal's.
    let _ = setsid();
    nix::sys::prctl::set_child_subreaper(true)?;
    nix::sys::prctl::set_name(NAME)?;
    nix::unistd::chdir("/")?;
    let orders = record::read::<Orders>(&desk.orders()).map_err(|error| io::Error::other(chain(&error)))?;
    let orders = orders.ok_or_else(|| io::Error::other("there are no orders"))?;
    if abandoned(&status)? {
        return Err(io::Error::other("the daemon is gone; nothing was started"));
    }
    // What is started must not inherit what the daemon has, and only raising it is always allowed.
    set_oom_score("0");
    let mut monitor = Monitor::new(orders, &signals)?;
    match monitor.start(desk) {
        Ok(started) => {
            set_oom_score(OWN_OOM_SCORE);
            tell(status, &Report::Started(started));
            monitor.see_to_the_end(desk)
        }
        Err(message) => {
            tell(status, &Report::Failed { message });
            Ok(())
        }
    }
}

/// Closes what this process inherited beyond its three streams: a daemon's parent may have left something open
/// (systemd passes sockets that way), and a monitor would hold it for weeks.
fn close_strangers() -> io::Result<()> {
    let numbers = read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok())
        .filter(|number| *number > 2)
        .collect::<Vec<_>>();
    for number in numbers {
        // The directory's own descriptor is among them, and closed already.
        let _ = close(number);
    }
    Ok(())
}

/// Whether nobody reads the status pipe any more.
fn abandoned(status: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(status.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds.iter().any(|fd| fd.any() == Some(true)))
}

/// Reports and closes the pipe. The daemon may be gone: then its successor reads the desk.
fn tell(status: OwnedFd, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = File::from(status).write_all(&line);
    }
}

/// Best effort: lowering it needs `CAP_SYS_RESOURCE`.
fn set_oom_score(score: &str) {
    let _ = std::fs::write("/proc/self/oom_score_adj", score);
}
