//! Containers of plugins: start one, find it again after a restart of the daemon, end it, learn how it ended.
//!
//! Two sides, one binary. The [`Launcher`] lives in the daemon. For each container it spawns our own binary as
//! `dockplugd monitor DIR` ([`monitor`]), which is the parent of the container's first process, holds its output,
//! and outlives the daemon. They share the plugin's `monitor/` directory: `lock` (an flock that lives exactly as
//! long as the monitor, with its pid inside), `orders.json`, `started.json`, `exit.json`.
//!
//! This room knows neither plugins nor sockets; it gets a finished runtime spec. How a runtime is called is behind
//! [`Runtime`], and the monitor only ever sees argument lists, so an embedded runtime can be put in its place.
//! Facts come from runc 1.1 (`man 8 runc-run`, `runc-delete`), `pidfd_open(2)`, flock(2), signal(7), proc(5).

mod choice;
pub mod embedded;
mod launcher;
mod lock;
mod log;
pub mod monitor;
mod process;
mod program;
mod record;
mod spawn;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trial;

pub use choice::Candidate;
pub use embedded::EmbeddedRuntime;
pub use launcher::{Launcher, START_DEADLINE, Start};
pub use log::{LOG_TOTAL_BYTES, Line, Reader, Stream, tail};
pub use process::Process;
pub use program::{Container, Runtime, RuntimeProgram};
pub use record::{Commands, Exit, UNKNOWN_CODE};

use crate::error::{Classified, Kind};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong between the daemon and a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such runtime program.
    #[error(
        "no OCI runtime {name:?} {place}; install one (Debian: apt-get install runc) or name another with \
         --add-runtime and --default-runtime"
    )]
    Program {
        /// The name or path that was looked for.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// None of the runtimes works here.
    #[error(
        "no OCI runtime works on this machine: {reasons}; install runc, or name another with --add-runtime"
    )]
    NoRuntime {
        /// What each was said to fail at.
        reasons: String,
    },
    /// A runtime said that it ran a container, and it did not.
    #[error("a trial container did not end as it should: {got}")]
    Trial {
        /// What happened instead.
        got: String,
    },
    /// An id that a runtime would refuse or misunderstand.
    #[error("container id {0:?} must be 1 to 128 of [A-Za-z0-9_.+-] and begin with a letter or a digit")]
    Id(String),
    /// A path that cannot be written in the runtime's JSON or on its command line.
    #[error("path {0:?} is not UTF-8")]
    Path(PathBuf),
    /// A living monitor holds this container.
    #[error("container {0} is already running")]
    Running(String),
    /// A monitor holds this container, and has not said yet whether it runs.
    #[error("container {0} is still being started; try again")]
    Starting(String),
    /// The runtime said no; its own words.
    #[error("the OCI runtime could not start container {id}: {message}")]
    Refused {
        /// The container's id.
        id: String,
        /// What the runtime said, cut at a few KiB.
        message: String,
    },
    /// Nothing was heard in time; what had begun was undone.
    #[error("container {id} did not start within {} s", deadline.as_secs())]
    Deadline {
        /// The container's id.
        id: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The monitor process ended without a word.
    #[error("the monitor of container {id} died before the container ran; it left these words: {words:?}")]
    Monitor {
        /// The container's id.
        id: String,
        /// The end of what it wrote on its standard error.
        words: String,
    },
    /// A system call or a file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `open`, `write`, `spawn`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file of ours, or the spec, is not the JSON it should be.
    #[error("cannot read or write {} as JSON", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Gives an I/O error its place; for `map_err`.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Id(_) | Self::Path(_) => Kind::Invalid,
            Self::Running(_) => Kind::Conflict,
            Self::Program { .. } | Self::NoRuntime { .. } | Self::Starting(_) | Self::Deadline { .. } => {
                Kind::Unavailable
            }
            Self::Trial { .. }
            | Self::Refused { .. }
            | Self::Monitor { .. }
            | Self::Io { .. }
            | Self::Json { .. } => Kind::Internal,
        }
    }
}

/// What this room returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
