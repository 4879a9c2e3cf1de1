//! Waiting until a plugin listens.
//!
//! Readiness is a connect that succeeds; nothing is sent (a plugin need not know `/Plugin.Activate`). The watch on
//! the directory is set before the first attempt, so that no socket appears unseen in between. `bind` makes the file
//! and the kernel tells; `listen` comes later and the kernel tells nobody: that gap alone is bridged by asking again,
//! see [`Pace`]. This file does not know the plugin's process: whoever waits also watches for its end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::connect::{Attempt, Endpoint, Pace};
use super::error::{Error, SocketError};

/// How many bytes of events are taken at a time. What they say is not looked at: each is a reason to try again.
const EVENTS_BYTES: usize = 4096;

/// Resolves when the socket `socket_name` in `sockets` accepts a connection. Waits for ever otherwise: give it a
/// deadline, and drop it when the plugin's process ends.
///
/// # Errors
/// [`Error::Ready`] when waiting longer is of no use: the directory cannot be watched or is gone, the name is not
/// one file name, there is something in its place that is not a socket (a link is never followed).
pub async fn ready(sockets: &Path, socket_name: &str) -> Result<(), Error> {
    wait(sockets, socket_name).await.map_err(Error::Ready)
}

async fn wait(sockets: &Path, socket_name: &str) -> Result<(), SocketError> {
    let endpoint = Endpoint::new(sockets, socket_name);
    let watch = Watch::new(&endpoint, sockets)?;
    let mut pace = Pace::new();
    loop {
        match endpoint.attempt().await? {
            Attempt::Connected(_) => return Ok(()),
            Attempt::Absent(_) => {
                watch.changed().await?;
                pace = Pace::new();
            }
            Attempt::Refused(_) => pace.tick().await,
        }
    }
}

/// A watch on the directory.
struct Watch<'a> {
    events: AsyncFd<OwnedFd>,
    path: &'a Path,
}

impl<'a> Watch<'a> {
    fn new(endpoint: &Endpoint, path: &'a Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { step: "watching", path: path.to_owned(), source };
        let directory = endpoint.open_directory()?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let by_descriptor = format!("/proc/self/fd/{}", directory.as_raw_fd());
        inotify.add_watch(by_descriptor.as_str(), appears | gone).map_err(|errno| failed(errno.into()))?;
        #[allow(
            deprecated,
            reason = "unsound only for a type that changes its descriptor; OwnedFd never does"
        )]
        let events = AsyncFd::with_interest(OwnedFd::from(inotify), Interest::READABLE).map_err(failed)?;
        Ok(Self { events, path })
    }

    /// Waits until something has happened in the directory since the last call.
    async fn changed(&self) -> Result<(), SocketError> {
        let read = |inotify: &OwnedFd| {
            nix::unistd::read(inotify, &mut [0_u8; EVENTS_BYTES]).map_err(io::Error::from)
        };
        self.events.async_io(Interest::READABLE, read).await.map(drop).map_err(|source| SocketError::Io {
            step: "watching",
            path: self.path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

    use super::*;

    /// Starts to wait, and lets it come to its first stop.
    async fn waiting(sockets: PathBuf) -> tokio::task::JoinHandle<Result<(), Error>> {
        let task = tokio::spawn(async move { ready(&sockets, "p.sock").await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn a_socket_that_is_there_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(directory.path().join("p.sock")).unwrap();
        ready(directory.path(), "p.sock").await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_appears_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let task = waiting(directory.path().to_owned()).await;
        std::fs::write(directory.path().join("other"), "").unwrap();
        let _listener = UnixListener::bind(directory.path().join("p.sock")).unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_is_moved_into_place_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let task = waiting(directory.path().to_owned()).await;
        let _listener = UnixListener::bind(directory.path().join("p.tmp")).unwrap();
        std::fs::rename(directory.path().join("p.tmp"), directory.path().join("p.sock")).unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_bound_socket_is_not_ready_before_it_listens() {
        let directory = tempfile::tempdir().unwrap();
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&directory.path().join("p.sock")).unwrap()).unwrap();
        let task = waiting(directory.path().to_owned()).await;
        let mut pace = Pace::new();
        pace.tick().await;
        assert!(!task.is_finished());
        listen(&fd, Backlog::new(1).unwrap()).unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_left_over_socket_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        drop(UnixListener::bind(&path).unwrap());
        let task = waiting(directory.path().to_owned()).await;
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let task = waiting(directory.path().to_owned()).await;
        symlink("/run/other.sock", directory.path().join("p.sock")).unwrap();
        let error = crate::error::chain(&task.await.unwrap().unwrap_err());
        assert!(error.contains("p.sock is a symbolic link, not a socket"), "{error}");
    }

    #[tokio::test]
    async fn a_directory_that_goes_away_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = directory.path().join("sockets");
        std::fs::create_dir(&sockets).unwrap();
        let task = waiting(sockets.clone()).await;
        std::fs::remove_dir(&sockets).unwrap();
        task.await.unwrap().unwrap_err();
    }
}
