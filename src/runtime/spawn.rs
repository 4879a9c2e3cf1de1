//! Starts a program with a clean signal state, a clean environment and exactly three descriptors.
//!
//! `posix_spawn` instead of `std::process`: the monitor blocks its signals for signalfd, and a child must not
//! inherit that (a plugin with SIGTERM blocked could never be stopped politely). It knows no runtime and no file.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The whole environment of what we start: nothing that the daemon was given may leak (`NOTIFY_SOCKET` and
/// `LISTEN_FDS` change what runc does).
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Signals whose disposition a parent may have set to "ignore", which survives exec; Rust itself does with SIGPIPE.
const DEFAULTED: [Signal; 8] = [
    Signal::SIGPIPE,
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The three standard streams of a child; anything else it inherits must be close-on-exec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stdio<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
}

/// Starts `argv[0]` (a path) with the arguments `argv`.
pub(super) fn spawn(argv: &[String], stdio: Stdio<'_>) -> io::Result<nix::unistd::Pid> {
    let arguments = argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
    let program = arguments.first().ok_or_else(|| io::Error::other("an empty command"))?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&DEFAULTED.into_iter().collect())?;
    let mut actions = PosixSpawnFileActions::init()?;
    // Copies first: a source with the number 0, 1 or 2 must not be overwritten before it is used.
    let sources = [stdio.stdin, stdio.stdout, stdio.stderr].map(|fd| fd.try_clone_to_owned());
    let mut held = Vec::with_capacity(sources.len());
    for (number, source) in (0..).zip(sources) {
        let source = source?;
        actions.add_dup2(source.as_raw_fd(), number)?;
        held.push(source);
    }
    let environment = [CString::new(ENVIRONMENT)?];
    Ok(posix_spawn(program.as_c_str(), &actions, &attributes, &arguments, &environment)?)
}

/// `/dev/null`, to read and to write.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// Runs a command to its end without output; blocking. Its exit status, or `None` when the deadline passed and it
/// was killed. For the daemon's side, where each child is waited for through its own descriptor.
pub(super) fn run(argv: &[String], deadline: Duration) -> io::Result<Option<i32>> {
    let null = null()?;
    let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
    let pidfd = open_pidfd(spawn(argv, stdio)?.as_raw())?;
    let until = Instant::now() + deadline;
    let ended = wait_readable(pidfd.as_fd(), until)?;
    if !ended {
        pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
    }
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    Ok(if ended { status.and_then(|status| status.exit_status()).or(Some(-1)) } else { None })
}

/// A descriptor of the process that has this pid now.
pub(super) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("pid 0"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait_readable(fd: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_status_comes_back_and_a_hanging_command_is_killed() {
        let long = Duration::from_mins(1);
        assert_eq!(run(&command("exit 7"), long).unwrap(), Some(7));
        assert_eq!(run(&command("exec sleep 1000"), Duration::ZERO).unwrap(), None);
        assert!(run(&["/no/such".to_owned()], long).is_err());
        assert!(run(&[], long).is_err());
    }

    #[test]
    fn a_child_starts_with_no_signal_blocked_and_no_inherited_variable() {
        SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]).thread_block().unwrap();
        let clean = run(
            &command(
                "grep -q '^SigBlk:.0000000000000000$' /proc/self/status && test \"$(env | grep -vc -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= )\" = 0",
            ),
            Duration::from_mins(1),
        );
        SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]).thread_unblock().unwrap();
        assert_eq!(clean.unwrap(), Some(0));
    }
}
