//! What can go wrong between us and the engine.

use std::path::{Path, PathBuf};

use crate::error::{Classified, Kind};

/// Why the engine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens where the user said.
    #[error("nobody listens on {}, where --engine says that containers are run: start that engine; plugins and volumes work without", socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// Nobody listens on any well-known socket, and there is no podman to start.
    #[error(
        "this needs an engine that runs containers, and none was found: start one (as `podman system service` does), or \
         name its socket with --engine unix://PATH; plugins and volumes work without"
    )]
    Nowhere,
    /// The one that we would start does not start, or does not stay.
    #[error(
        "{program}, which runs containers, was started and does not serve: {why}; plugins and volumes work without"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// Its last words, or what became of it.
        why: String,
    },
    /// It has not answered in time what every engine answers at once.
    #[error("the engine that runs containers{} does not answer", on(socket.as_deref()))]
    Silent {
        /// Its socket, if one was found.
        socket: Option<PathBuf>,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the connection to the engine that runs containers broke")]
    Broken(#[source] hyper::Error),
    /// The answer did not come to its end, or is too large.
    #[error("the engine's answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine says no to something that every engine has.
    #[error("the engine refuses {what} with the status {status}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its status.
        status: u16,
    },
    /// The target is none.
    #[error("this cannot be asked of the engine")]
    Target(#[source] hyper::http::Error),
    /// Whoever asked has gone before there was an answer.
    #[error("the client has gone")]
    Departed,
}

/// Where it listens, for a message.
fn on(socket: Option<&Path>) -> String {
    socket.map_or_else(String::new, |socket| format!(" and listens on {}", socket.display()))
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Absent { .. }
            | Self::Nowhere
            | Self::Start { .. }
            | Self::Silent { .. }
            | Self::Broken(_)
            | Self::Departed => Kind::Unavailable,
            Self::Answer(_) | Self::Refused { .. } => Kind::Internal,
            Self::Target(_) => Kind::Invalid,
        }
    }
}
