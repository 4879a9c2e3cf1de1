//! Waiting until a plugin listens.
//!
//! Readiness is a connect that succeeds; nothing is sent (a plugin need not know `/Plugin.Activate`). The watch on
//! the directory is set before the first attempt, so that no socket appears unseen in between. `bind` makes the file
//! and the kernel tells; `listen` comes later and the kernel tells nobody: that gap alone is bridged by asking again,
//! see [`Pace`]. This file does not know the plugin's process: whoever waits also watches for its end.

use std::path::Path;

use super::connect::{Attempt, Endpoint, Pace};
use super::error::{Error, SocketError};
use crate::watch::{Change, Watch};

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
    let failed = |source| SocketError::Io { step: "watching", path: sockets.to_owned(), source };
    let watch = Watch::new(endpoint.open_directory()?, Change::Name).map_err(failed)?;
    let mut pace = Pace::new();
    loop {
        match endpoint.attempt().await? {
            Attempt::Connected(_) => return Ok(()),
            Attempt::Absent(_) => {
                watch.changed().await.map_err(failed)?;
                pace = Pace::new();
            }
            Attempt::Refused(_) => pace.tick().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
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
