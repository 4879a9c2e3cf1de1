//! Where the engine listens: where the user says, or on the first well-known socket that somebody listens on, or where we
//! start one.
//!
//! It is looked for at each request, since an engine may come and go. A connection is the only proof that one is there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;

use super::service::Service;
use super::{Error, Result};
use crate::watch::{Change, Watch};

/// Where engines listen that come with their own service, the most likely first.
pub const WELL_KNOWN: [&str; 4] =
    ["/run/podman/podman.sock", "/var/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock"];

/// The first pause before an engine that is away is looked for again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What was said of where it is.
#[derive(Debug)]
pub(super) enum Place {
    /// There, and nowhere else.
    At(PathBuf),
    /// On one of the well-known sockets that is none of these.
    Anywhere {
        own: Vec<PathBuf>,
        /// What is started when there is none.
        service: Service,
        /// Where one was found last.
        found: Mutex<Option<PathBuf>>,
    },
}

impl Place {
    /// The socket that was said, or the first on which somebody listened last time.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::At(socket) => Some(socket.clone()),
            Self::Anywhere { found, .. } => found.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Resolves when there is a connection to be had.
    pub(super) async fn returns(&self) {
        if let Self::At(socket) = self {
            drop(appears(socket).await);
            return;
        }
        let mut pace = Pace::new();
        while self.connect().await.is_err() {
            pace.wait(std::future::pending()).await;
        }
    }

    /// A connection to the engine.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Nowhere`], [`Error::Start`].
    pub(super) async fn connect(&self) -> Result<UnixStream> {
        match self {
            Self::At(socket) => {
                connect(socket).await.map_err(|source| Error::Absent { socket: socket.clone(), source })
            }
            Self::Anywhere { own, found, service } => {
                let note = |socket: &Path| {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.to_owned());
                };
                // Once it runs it is the engine: its containers are nowhere else.
                if let Some(stream) = service.running().await {
                    note(service.socket());
                    return Ok(stream);
                }
                for socket in WELL_KNOWN.iter().map(Path::new).filter(|socket| !is_own(socket, own)) {
                    if let Ok(stream) = connect(socket).await {
                        note(socket);
                        return Ok(stream);
                    }
                }
                service.start().await.inspect(|_| note(service.socket()))
            }
        }
    }
}

/// A connection to a socket.
pub(super) async fn connect(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).await
}

/// A connection to a socket, as soon as somebody listens. The kernel tells of a name in a directory that is watched; of a
/// name that nobody listens on yet it tells nothing, so that is asked again.
pub(super) async fn appears(socket: &Path) -> UnixStream {
    let directory = socket.parent().and_then(|directory| File::open(directory).ok());
    // Before the first look.
    let watch = directory.and_then(|directory| Watch::new(directory, Change::Name).ok());
    let mut pace = Pace::new();
    loop {
        if let Ok(stream) = connect(socket).await {
            return stream;
        }
        let changes = async {
            match &watch {
                Some(watch) if watch.changed().await.is_ok() => {}
                _ => std::future::pending().await,
            }
        };
        pace.wait(changes).await;
    }
}

/// The pauses of whoever looks again.
struct Pace(Duration);

impl Pace {
    fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// Waits for the event, or until the pause is over; the next one is longer.
    async fn wait(&mut self, event: impl Future<Output = ()>) {
        self.0 = match tokio::time::timeout(self.0, event).await {
            Ok(()) => PAUSE_MIN,
            Err(_elapsed) => PAUSE_MAX.min(self.0 * 2),
        };
    }
}

/// Whether a socket is one of ours, by whatever path: we would answer ourselves for ever.
fn is_own(socket: &Path, own: &[PathBuf]) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let socket = real(socket);
    own.iter().any(|own| real(own) == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_socket_is_known_by_every_path() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, link) = (directory.path().join("a.sock"), directory.path().join("link"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert!(is_own(&link.join("a.sock"), std::slice::from_ref(&socket)));
        assert!(!is_own(&link.join("b.sock"), &[socket]));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        let error = Place::At("/no/such.sock".into()).connect().await.unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.starts_with("nobody listens on /no/such.sock"), "{text}");
    }
}
