//! One connection to a socket of this machine; to that of a plugin without following anything the plugin put in its place.
//!
//! The sockets directory is bound into the plugin, which can put a symbolic link to a socket of the host there. So
//! the directory is opened, the socket in it is opened by its one name with `O_PATH | O_NOFOLLOW`, looked at, and the
//! connection is made to `/proc/self/fd/N`, which is that very inode. It also keeps the path far below the 108 bytes
//! of `sun_path`. The directory is opened anew for each connection: a plugin that is started again gets a new one. A
//! socket that the machine's administrator has named is opened as any path.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use hyperlocal::{UnixConnector, UnixStream};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use tokio::time::Interval;
use tower::Service;

use super::error::SocketError;

/// Where a plugin listens.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    directory: PathBuf,
    socket: String,
}

/// The answer to one attempt that is not an error for good.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Connected.
    Connected(UnixStream),
    /// There is no socket.
    Absent(SocketError),
    /// There is a socket and nobody listens on it, or its queue of connections is full.
    Refused(SocketError),
}

impl Endpoint {
    /// Names the socket; nothing is looked at.
    pub(super) fn new(directory: impl Into<PathBuf>, socket: impl Into<String>) -> Self {
        Self { directory: directory.into(), socket: socket.into() }
    }

    /// Opens the directory, as a path only.
    pub(super) fn open_directory(&self) -> Result<OwnedFd, SocketError> {
        open(&self.directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| io_error("opening the directory", &self.directory, errno.into()))
    }

    /// Tries once.
    ///
    /// # Errors
    /// What another attempt would not change: the directory is gone, something else is in the socket's place.
    pub(super) async fn attempt(&self) -> Result<Attempt, SocketError> {
        let directory = self.open_directory()?;
        let path = self.path()?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let socket = match openat(&directory, self.socket.as_str(), flags, Mode::empty()) {
            Ok(socket) => socket,
            Err(nix::Error::ENOENT) => {
                return Ok(Attempt::Absent(io_error("opening", &path, nix::Error::ENOENT.into())));
            }
            Err(errno) => return Err(io_error("opening", &path, errno.into())),
        };
        attempt_at(socket, &path).await
    }

    /// Connects. Waits only while the queue of connections is full, until whoever called gives up.
    ///
    /// # Errors
    /// There is no socket, nobody listens on it, or it is no socket.
    pub(super) async fn connect(&self) -> Result<UnixStream, SocketError> {
        let mut pace = Pace::new();
        loop {
            match self.attempt().await? {
                Attempt::Connected(stream) => return Ok(stream),
                Attempt::Refused(error) if is_full(&error) => pace.tick().await,
                Attempt::Absent(error) | Attempt::Refused(error) => return Err(error),
            }
        }
    }

    /// The socket's path, for messages.
    fn path(&self) -> Result<PathBuf, SocketError> {
        let mut components = Path::new(&self.socket).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name == OsStr::new(&self.socket) => {
                Ok(self.directory.join(name))
            }
            _ => Err(SocketError::Name { name: self.socket.clone() }),
        }
    }
}

/// The time between attempts at a socket that exists and refuses.
///
/// The kernel tells nobody when `listen` makes a bound socket ready, nor when a full queue of connections has room
/// again, so these two are asked for: after 1 ms first, twice as long each time, never more than 64 ms. An attempt
/// costs some 20 µs.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Interval,
    next: Duration,
}

impl Pace {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(64);

    pub(super) fn new() -> Self {
        Self { interval: tokio::time::interval(Self::LONGEST), next: Self::FIRST }
    }

    /// Waits for the next attempt. Dropped in between, it counts as not called.
    pub(super) async fn tick(&mut self) {
        self.interval.reset_after(self.next);
        self.interval.tick().await;
        self.next = (self.next * 2).min(Self::LONGEST);
    }
}

/// Connects to a socket of the host; links that lead to it are followed. Waits only while the queue of connections is
/// full, until whoever called gives up.
///
/// # Errors
/// There is no socket, nobody listens on it, or it is no socket.
pub(super) async fn connect_on_host(path: &Path) -> Result<UnixStream, SocketError> {
    let mut pace = Pace::new();
    loop {
        let opened = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let socket = opened.map_err(|errno| io_error("opening", path, errno.into()))?;
        match attempt_at(socket, path).await? {
            Attempt::Connected(stream) => return Ok(stream),
            Attempt::Refused(error) if is_full(&error) => pace.tick().await,
            Attempt::Absent(error) | Attempt::Refused(error) => return Err(error),
        }
    }
}

/// Tries once to connect to the very inode that was opened.
async fn attempt_at(socket: OwnedFd, path: &Path) -> Result<Attempt, SocketError> {
    let status = fstat(&socket).map_err(|errno| io_error("looking at", path, errno.into()))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(SocketError::NotASocket { path: path.to_owned(), found: kind_words(kind) });
    }
    let by_descriptor = hyperlocal::Uri::new(format!("/proc/self/fd/{}", socket.as_raw_fd()), "/");
    let connected = UnixConnector.call(by_descriptor.into()).await;
    // The descriptor had to stay open until here: its number is what was connected to.
    drop(socket);
    match connected {
        Ok(stream) => Ok(Attempt::Connected(stream)),
        Err(error) if is_refusal(&error) => Ok(Attempt::Refused(io_error("connecting to", path, error))),
        Err(error) => Err(io_error("connecting to", path, error)),
    }
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> SocketError {
    SocketError::Io { step, path: path.to_owned(), source }
}

/// Whether another attempt may be answered otherwise.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}

/// Whether the queue of connections is full: a unix socket says EAGAIN then.
fn is_full(error: &SocketError) -> bool {
    matches!(error, SocketError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

fn kind_words(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

    use super::*;

    #[tokio::test]
    async fn a_link_in_the_sockets_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(elsewhere.path().join("real.sock")).unwrap();
        symlink(elsewhere.path().join("real.sock"), directory.path().join("p.sock")).unwrap();
        let error = Endpoint::new(directory.path(), "p.sock").connect().await.unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { found: "a symbolic link", .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_stays_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(directory.path().join("p.sock")).unwrap();
        let below = directory.path().join("sockets");
        std::fs::create_dir(&below).unwrap();
        for name in ["../p.sock", "/p.sock", "..", ".", "", "a/p.sock", "p.sock/"] {
            let error = Endpoint::new(&below, name).connect().await.unwrap_err();
            assert!(matches!(error, SocketError::Name { .. }), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn a_link_of_the_host_is_followed_to_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let _listener = UnixListener::bind(at("real.sock")).unwrap();
        symlink(at("real.sock"), at("link.sock")).unwrap();
        connect_on_host(&at("link.sock")).await.unwrap();
        std::fs::write(at("file"), "").unwrap();
        let error = connect_on_host(&at("file")).await.err().unwrap();
        assert!(matches!(error, SocketError::NotASocket { found: "a regular file", .. }), "{error}");
        assert!(connect_on_host(&at("none")).await.is_err());
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let _listener = UnixListener::bind(directory.path().join("p.sock")).unwrap();
        std::fs::rename(directory.path().join("p.sock"), deep.join("p.sock")).unwrap();
        Endpoint::new(&deep, "p.sock").connect().await.unwrap();
    }

    #[tokio::test]
    async fn nobody_there_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::new(directory.path(), "p.sock");
        assert!(matches!(endpoint.attempt().await.unwrap(), Attempt::Absent(_)));
        drop(UnixListener::bind(directory.path().join("p.sock")).unwrap());
        assert!(matches!(endpoint.attempt().await.unwrap(), Attempt::Refused(_)));
        assert!(endpoint.connect().await.is_err());
    }

    #[tokio::test]
    async fn a_full_queue_of_connections_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let listener = UnixListener::from(fd);
        let endpoint = Arc::new(Endpoint::new(directory.path(), "p.sock"));
        let mut queued = Vec::new();
        while let Attempt::Connected(stream) = endpoint.attempt().await.unwrap() {
            queued.push(stream);
        }
        let waiting = tokio::spawn({
            let endpoint = Arc::clone(&endpoint);
            async move { endpoint.connect().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        listener.accept().unwrap();
        waiting.await.unwrap().unwrap();
    }
}
