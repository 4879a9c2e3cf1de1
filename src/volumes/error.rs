//! What can go wrong with volumes, in dockerd's words: `create x: …`, `get x: no such volume`.

use std::path::PathBuf;

use super::{local, stage};
use crate::confine;
use crate::drivers;
use crate::error::{Classified, Kind};
use crate::state;

/// Why something about volumes was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verb on one volume failed. The text is the verb and the name; the problem follows.
    #[error("{verb}{}{name}", if name.is_empty() { "" } else { " " })]
    Volume {
        /// `create`, `get`, `remove`.
        verb: &'static str,
        /// The volume's name as it was given, or made up.
        name: String,
        /// What is wrong.
        #[source]
        problem: Box<Problem>,
    },
    /// A filter is unknown or has a value that makes no sense.
    #[error("Invalid filter '{filter}'{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Filter {
        /// The filter, with its value if that is what is wrong: `all`, `dangling=[x]`.
        filter: String,
        /// What is wrong with its value, if there is more to say.
        reason: Option<String>,
    },
    /// Another prune is at it.
    #[error("a prune operation is already running")]
    PruneRunning,
    /// The records could not be read.
    #[error("reading the volumes' records")]
    State(#[source] state::Error),
    /// The local driver's directory could not be put in order.
    #[error("opening the local volumes")]
    Local(#[from] local::Error),
    /// The staged mounts could not be put in order.
    #[error("opening the staged mounts")]
    Stage(#[from] stage::Error),
    /// There is no thread to measure volumes on.
    #[error("starting the thread that measures volumes")]
    Thread(#[source] std::io::Error),
    /// A task has panicked or was stopped with the daemon.
    #[error("the operation was interrupted: {0}")]
    Stopped(String),
}

/// What is wrong with one volume.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Neither the records nor any driver knows the name.
    #[error("no such volume")]
    NoSuchVolume,
    /// Something uses it.
    #[error("volume is in use - [{}]", holders.join(", "))]
    InUse {
        /// Who, as ids.
        holders: Vec<String>,
    },
    /// The name is another driver's.
    #[error("driver '{driver}' already has volume '{name}': volume name must be unique")]
    NameTaken {
        /// The driver that has it.
        driver: String,
        /// The name.
        name: String,
    },
    /// The name may be a volume of a driver that does not tell.
    #[error(
        "found reference to volume '{name}' in driver '{driver}', but got an error while checking the driver: \
         {cause}: volume name must be unique"
    )]
    Unchecked {
        /// The driver it was made with.
        driver: String,
        /// The name.
        name: String,
        /// Why the driver could not be asked.
        cause: String,
    },
    /// The driver has lost a volume that is used.
    #[error(
        "found references to volume '{name}' in driver '{driver}' but the volume was not found in the driver -- you \
         may need to remove containers referencing this volume or force remove the volume to re-create it: volume \
         name must be unique"
    )]
    Lost {
        /// The driver it was made with.
        driver: String,
        /// The name.
        name: String,
    },
    /// The volume's driver could not be asked.
    #[error("error while checking if volume {name:?} exists in driver {driver:?}")]
    Checking {
        /// The driver it was made with.
        driver: String,
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: Box<drivers::Error>,
    },
    /// The name cannot be a volume's.
    #[error("{0}")]
    Name(String),
    /// A driver said no, could not be reached, or is not there.
    #[error(transparent)]
    Driver(Box<drivers::Error>),
    /// The local driver said no.
    #[error(transparent)]
    Local(#[from] local::Error),
    /// The record could not be written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// What mounts gave no reference.
    #[error("the reference cannot be used: {0}")]
    Reference(String),
    /// The plugin's answer to `Mount` is no directory of its own.
    #[error("plugin {driver} gave volume {name} the mountpoint {answer:?}, which is refused: {reason}")]
    Mountpoint {
        /// The plugin.
        driver: String,
        /// The volume.
        name: String,
        /// What it answered.
        answer: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The mount could not be staged, through no fault of the plugin.
    #[error(transparent)]
    Stage(#[from] stage::Error),
    /// What is in a volume could not be looked at or written down, when it was filled.
    #[error("filling it")]
    Content(#[source] confine::Error),
    /// The kernel does not finish: a server or a device does not answer.
    #[error(
        "the kernel has not finished within {seconds} s: the server or the device does not answer; what may still come \
         of it is undone"
    )]
    Late {
        /// How long it had.
        seconds: u64,
    },
    /// The kernel has not finished what was begun earlier.
    #[error(
        "the kernel is still at an earlier mount or unmount of this volume; it can be tried again when the server or the \
         device answers"
    )]
    Busy,
    /// The kernel has finished too few of the mounts of other volumes.
    #[error("too many mounts of other volumes hang in the kernel")]
    Full,
    /// A task has panicked or was stopped with the daemon.
    #[error("the operation was interrupted: {0}")]
    Interrupted(String),
    /// No random bytes for a name.
    #[error("making up a name")]
    Random(#[source] getrandom::Error),
}

impl Error {
    pub(super) fn of(verb: &'static str, name: &str, problem: impl Into<Problem>) -> Self {
        Self::Volume { verb, name: name.to_owned(), problem: Box::new(problem.into()) }
    }
}

impl From<drivers::Error> for Problem {
    fn from(error: drivers::Error) -> Self {
        Self::Driver(Box::new(error))
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Volume { problem, .. } => problem.kind(),
            Self::Filter { .. } => Kind::Invalid,
            Self::PruneRunning => Kind::Conflict,
            Self::State(error) => error.kind(),
            Self::Local(error) => error.kind(),
            Self::Stage(_) | Self::Thread(_) | Self::Stopped(_) => Kind::Internal,
        }
    }
}

impl Classified for Problem {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchVolume => Kind::NotFound,
            Self::InUse { .. } | Self::NameTaken { .. } | Self::Unchecked { .. } | Self::Lost { .. } => {
                Kind::Conflict
            }
            Self::Name(_) | Self::Reference(_) => Kind::Invalid,
            Self::Late { .. } | Self::Busy | Self::Full => Kind::Unavailable,
            Self::Checking { source: error, .. } | Self::Driver(error) => error.kind(),
            Self::Local(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Mountpoint { .. }
            | Self::Stage(_)
            | Self::Content(_)
            | Self::Interrupted(_)
            | Self::Random(_) => Kind::Internal,
        }
    }
}
