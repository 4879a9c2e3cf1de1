//! Where the engine listens: where the user says, or on the first well-known socket that somebody listens on.
//!
//! It is looked for at each request, since an engine may come and go. A connection is the only proof that one is there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;

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

    /// Resolves when there is a connection to be had. The kernel tells of a socket's name in a directory that is watched;
    /// of all else (a name that nobody listens on yet, another well-known socket) it tells nothing, so that is asked
    /// again.
    pub(super) async fn returns(&self) {
        let directory = match self {
            Self::At(socket) => socket.parent().and_then(|directory| File::open(directory).ok()),
            Self::Anywhere { .. } => None,
        };
        // Before the first look.
        let watch = directory.and_then(|directory| Watch::new(directory, Change::Name).ok());
        let mut pause = PAUSE_MIN;
        while self.connect().await.is_err() {
            let appears = async {
                match &watch {
                    Some(watch) if watch.changed().await.is_ok() => {}
                    _ => std::future::pending().await,
                }
            };
            pause = match tokio::time::timeout(pause, appears).await {
                Ok(()) => PAUSE_MIN,
                Err(_elapsed) => PAUSE_MAX.min(pause * 2),
            };
        }
    }

    /// A connection to the engine.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Nowhere`].
    pub(super) async fn connect(&self) -> Result<UnixStream> {
        match self {
            Self::At(socket) => {
                connect(socket).await.map_err(|source| Error::Absent { socket: socket.clone(), source })
            }
            Self::Anywhere { own, found } => {
                for socket in WELL_KNOWN.iter().map(Path::new).filter(|socket| !is_own(socket, own)) {
                    if let Ok(stream) = connect(socket).await {
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.to_owned());
                        return Ok(stream);
                    }
                }
                Err(Error::Nowhere)
            }
        }
    }
}

async fn connect(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).await
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
