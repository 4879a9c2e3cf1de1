//! Where the engine listens: where the user says, or on the first well-known socket that somebody listens on.
//!
//! It is looked for at each request, since an engine may come and go. A connection is the only proof that one is there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::net::UnixStream;

use super::{Error, Result};

/// Where engines listen that come with their own service, the most likely first.
pub const WELL_KNOWN: [&str; 4] =
    ["/run/podman/podman.sock", "/var/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock"];

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
