//! Sockets to listen on: `unix://`, `tcp://`, and those a service manager passed on (`fd://`).
//!
//! A unix socket is nobody's before it has its owner and mode: it is bound, given away, and only then listened on.
//! A file that is in the way is replaced only if it is a socket on which nobody listens any more.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, UnixAddr, connect, getsockname,
    getsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, UnixListener, UnixSocket};

use super::connection::Stream;
use crate::config::{Group, Host, MetricsAddress};
use crate::error::{Classified, Kind};

/// Who may open the unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// Who may open a private one: its owner.
const PRIVATE_SOCKET_MODE: u32 = 0o600;
/// Of the directories on the way to a private one.
const PRIVATE_DIRECTORY_MODE: u32 = 0o700;
/// How many clients may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 1024;
/// The group of the sockets when none was asked for.
const DEFAULT_GROUP: &str = "docker";
/// The number of the first descriptor that a service manager passes on.
const FIRST_PASSED_FD: i32 = 3;

/// All sockets, bound and listening; their files go when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Socket>,
    files: Vec<SocketFile>,
    addresses: Vec<String>,
}

/// One listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The file of a unix socket that we made. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl Listeners {
    /// Listens on every host. Must be called inside the tokio runtime.
    ///
    /// # Errors
    /// [`Error`], naming the host; whatever was bound before is released.
    pub async fn bind(hosts: &[Host], group: &Group) -> Result<Self, Error> {
        let mut bound = Self { sockets: Vec::new(), files: Vec::new(), addresses: Vec::new() };
        for host in hosts {
            match host {
                Host::Unix(path) => {
                    let binding = |error| Error::Unix(path.clone(), error);
                    let group = group_id(group)?;
                    if let Some(parent) = path.parent() {
                        std::fs::create_dir_all(parent).map_err(binding)?;
                    }
                    let (listener, file) = bind_unix(path, group, SOCKET_MODE)?;
                    bound.add(Socket::Unix(listener), format!("unix://{}", path.display()));
                    bound.files.push(file);
                }
                Host::Tcp(address) => {
                    let listening = |error| Error::Tcp(address.clone(), error);
                    let listener = TcpListener::bind(address).await.map_err(listening)?;
                    let address = listener.local_addr().map_err(listening)?;
                    tracing::warn!(
                        %address,
                        "[!] DON'T BIND ON ANY IP ADDRESS WITHOUT TLS: whoever can connect to this address is root \
                         on this machine [!]"
                    );
                    bound.add(Socket::Tcp(listener), format!("tcp://{address}"));
                }
                Host::Fd(number) => {
                    for listener in passed(*number)? {
                        bound.add(listener, host.to_string());
                    }
                }
            }
        }
        Ok(bound)
    }

    /// Listens on one TCP address for what everybody who can connect may read. Must be called inside the tokio runtime.
    ///
    /// # Errors
    /// [`Error::Metrics`].
    pub async fn bind_metrics(address: &MetricsAddress) -> Result<Self, Error> {
        let listening = |error| Error::Metrics(address.clone(), error);
        let listener = TcpListener::bind(address.as_str()).await.map_err(listening)?;
        let local = listener.local_addr().map_err(listening)?;
        if !local.ip().is_loopback() {
            tracing::warn!(address = %local, "metrics name plugins and routes to whoever can connect to this address");
        }
        let mut bound = Self { sockets: Vec::new(), files: Vec::new(), addresses: Vec::new() };
        bound.add(Socket::Tcp(listener), local.to_string());
        Ok(bound)
    }

    /// Listens on a unix socket for root alone; makes the directories that are missing. Must be called inside the tokio
    /// runtime.
    ///
    /// # Errors
    /// [`Error::Unix`], [`Error::NotASocket`], [`Error::InUse`].
    pub fn bind_private(path: &Path) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(PRIVATE_DIRECTORY_MODE).create(parent);
            made.map_err(|error| Error::Unix(path.to_owned(), error))?;
        }
        let (listener, file) = bind_unix(path, None, PRIVATE_SOCKET_MODE)?;
        let address = format!("unix://{}", path.display());
        Ok(Self { sockets: vec![Socket::Unix(listener)], files: vec![file], addresses: vec![address] })
    }

    /// Where it listens, as `scheme://address` with the real port.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    fn add(&mut self, socket: Socket, address: String) {
        self.sockets.push(socket);
        self.addresses.push(address);
    }

    pub(super) fn into_parts(self) -> (Vec<Socket>, Vec<SocketFile>) {
        (self.sockets, self.files)
    }
}

impl Socket {
    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

fn bind_unix(path: &Path, group: Option<u32>, mode: u32) -> Result<(UnixListener, SocketFile), Error> {
    let binding = |error| Error::Unix(path.to_owned(), error);
    make_way(path)?;
    let socket = UnixSocket::new_stream().map_err(binding)?;
    socket.bind(path).map_err(binding)?;
    let metadata = std::fs::symlink_metadata(path).map_err(binding)?;
    let file = SocketFile { path: path.to_owned(), id: (metadata.dev(), metadata.ino()) };
    if let Some(group) = group {
        std::os::unix::fs::lchown(path, None, Some(group)).map_err(binding)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(binding)?;
    Ok((socket.listen(BACKLOG).map_err(binding)?, file))
}

/// The number of the group that shall own the socket; `None` leaves it to root's.
fn group_id(group: &Group) -> Result<Option<u32>, Error> {
    let look_up = |name: &str| {
        nix::unistd::Group::from_name(name)
            .map(|group| group.map(|group| group.gid.as_raw()))
            .map_err(|errno| Error::Group(name.to_owned(), errno.into()))
    };
    match group {
        Group::Default => look_up(DEFAULT_GROUP),
        Group::Named(name) => match name.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => look_up(name)?.map(Some).ok_or_else(|| Error::NoSuchGroup(name.clone())),
        },
    }
}

/// Removes a socket on which nobody listens; anything else that is in the way stays there.
fn make_way(path: &Path) -> Result<(), Error> {
    let binding = |error| Error::Unix(path.to_owned(), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(binding(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Error::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match listener_of(path).map_err(|errno| binding(errno.into()))? {
        Some(owner) => Err(Error::InUse { path: path.to_owned(), owner }),
        None => std::fs::remove_file(path).map_err(binding),
    }
}

/// Who listens on this socket, for people; `None` if nobody does. Never waits, however full its backlog.
fn listener_of(path: &Path) -> Result<Option<String>, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => {}
        // Its backlog is full: it lives.
        Err(Errno::EAGAIN) => return Ok(Some("another process".to_owned())),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let pid = getsockopt(&probe, sockopt::PeerCredentials)?.pid();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    Ok(Some(match name {
        Ok(name) => format!("{} (process {pid})", name.trim_end()),
        Err(_) => format!("process {pid}"),
    }))
}

/// The sockets the service manager passed on: all of them, or the one of that number.
fn passed(number: Option<i32>) -> Result<Vec<Socket>, Error> {
    let passed: Vec<i32> = sd_notify::listen_fds().map_err(Error::Activation)?.collect();
    if passed.is_empty() {
        return Err(Error::NoneActivated);
    }
    if let Some(number) = number
        && !passed.contains(&number)
    {
        let last = passed.last().copied().unwrap_or(FIRST_PASSED_FD);
        return Err(Error::TooFewActivated { number, last });
    }
    passed
        .into_iter()
        .filter(|fd| number.is_none_or(|number| number == *fd))
        .map(|fd| {
            // SAFETY: the service manager left this descriptor open for this very process (LISTEN_PID is ours), and
            // nothing else in it uses descriptors by number; `bind` takes each of them once.
            #[allow(unsafe_code, reason = "the only way to own a descriptor that is told by its number")]
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            adopt(fd)
        })
        .collect()
}

/// Makes a listener of a descriptor, whatever its address family.
fn adopt(fd: OwnedFd) -> Result<Socket, Error> {
    let number = fd.as_raw_fd();
    let unusable = |error: io::Error| Error::Unusable(number, error);
    let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn).map_err(|errno| unusable(errno.into()))?;
    if !listens {
        return Err(unusable(io::Error::other("it does not listen")));
    }
    let address: SockaddrStorage = getsockname(number).map_err(|errno| unusable(errno.into()))?;
    match address.family() {
        Some(AddressFamily::Unix) => {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true).map_err(unusable)?;
            UnixListener::from_std(listener).map(Socket::Unix).map_err(unusable)
        }
        Some(AddressFamily::Inet | AddressFamily::Inet6) => {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true).map_err(unusable)?;
            TcpListener::from_std(listener).map(Socket::Tcp).map_err(unusable)
        }
        _ => Err(unusable(io::Error::other("it is neither a unix nor a TCP socket"))),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[error("cannot listen on unix://{0}")]
    Unix(PathBuf, #[source] io::Error),
    #[error("cannot listen on unix://{0}: the file is there and is no socket")]
    NotASocket(PathBuf),
    #[error(
        "cannot listen on unix://{path}: {owner} answers there; stop it, or listen elsewhere: \
         -H unix:///run/dockplug.sock"
    )]
    InUse { path: PathBuf, owner: String },
    #[error("cannot look up group {0:?}")]
    Group(String, #[source] io::Error),
    #[error("group {0} not found: create it, or name another one with --group")]
    NoSuchGroup(String),
    #[error("cannot listen on tcp://{0}")]
    Tcp(String, #[source] io::Error),
    #[error(
        "cannot serve metrics on {0}: give --metrics-addr another HOST:PORT of this machine, or end what listens there"
    )]
    Metrics(MetricsAddress, #[source] io::Error),
    #[error("cannot read which sockets the service manager passed on")]
    Activation(#[source] io::Error),
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NoneActivated,
    #[error("too few socket activated files passed in by systemd: got 3 to {last}, expected {number}")]
    TooFewActivated { number: i32, last: i32 },
    #[error("failed to listen on systemd activated file: fd {0}")]
    Unusable(i32, #[source] io::Error),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unix(..)
            | Self::Group(..)
            | Self::Tcp(..)
            | Self::Metrics(..)
            | Self::Activation(_)
            | Self::Unusable(..) => Kind::Internal,
            Self::NotASocket(_) | Self::InUse { .. } => Kind::Conflict,
            Self::NoSuchGroup(_) | Self::NoneActivated | Self::TooFewActivated { .. } => Kind::NotFound,
        }
    }
}
