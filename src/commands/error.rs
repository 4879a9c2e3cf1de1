//! How a command fails, in words for whoever typed it.

use std::io;
use std::path::PathBuf;

use crate::config::Host;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("cannot connect to the daemon at {host}; is dockplugd running? -H or DOCKER_HOST say where")]
    Connect {
        /// Whom we asked.
        host: Host,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke off, or what came is no HTTP.
    #[error("the daemon at {host} broke off")]
    Http {
        /// Whom we asked.
        host: Host,
        /// What hyper says.
        #[source]
        source: hyper::Error,
    },
    /// A request that cannot be written: a name with bytes that no URL has.
    #[error("cannot write the request")]
    Request(#[from] hyper::http::Error),
    /// The daemon's own no.
    #[error("{0}")]
    Daemon(String),
    /// The daemon has no such route: it is a dockerd, or an older dockplugd.
    #[error("the daemon at {host} does not know this command: is it a dockplugd?")]
    Unknown {
        /// Whom we asked.
        host: Host,
    },
    /// An answer that is not what the API says.
    #[error("the daemon answered {got:?}, expected {expected}")]
    Answer {
        /// The beginning of what came.
        got: String,
        /// What should have come.
        expected: &'static str,
    },
    /// A file of the user's.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, ….
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What should be a moment is none.
    #[error("cannot read {0:?} as a time: expected 10m (ago), 2026-11-24T10:00:00Z, or seconds since 1970")]
    Time(String),
    /// An archive does not belong on a terminal.
    #[error("an archive is not for a terminal: use {flag} FILE, or {sign} FILE")]
    Terminal {
        /// `-o`, `-i`
        flag: &'static str,
        /// `>`, `<`
        sign: char,
    },
    /// The user said no, or nobody could be asked.
    #[error("permission was not granted{0}; nothing was installed")]
    NotGranted(&'static str),
}

impl Error {
    /// Gives an I/O error its file; for `map_err`.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
