//! What can go wrong between us and a volume plugin.
//!
//! The texts of lookups and of what a plugin answers are dockerd's: clients see them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Classified, Kind};

/// Why a driver was not found, or a call to it gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No plugin of this name is known.
    #[error("error looking up volume plugin {name}: plugin {name:?} not found")]
    NotFound {
        /// What was asked for, as it was typed.
        name: String,
    },
    /// The plugin is there and the user has disabled it.
    #[error("error looking up volume plugin {name}: plugin {name} found but disabled")]
    Disabled {
        /// What was asked for, as it was typed.
        name: String,
    },
    /// There is a legacy plugin of this name, and it cannot be used.
    #[error("error looking up volume plugin {name}: legacy plugin")]
    Legacy {
        /// What was asked for.
        name: String,
        /// What is wrong.
        #[source]
        problem: Box<LegacyError>,
    },
    /// Nobody named a driver.
    #[error("driver name cannot be empty")]
    Nameless,
    /// The plugin answered 200 and an error text: that text, and nothing of ours.
    #[error("{reason}")]
    Refused {
        /// The plugin's words, shortened.
        reason: String,
    },
    /// The plugin answered another status than 200.
    #[error("{method}: {reason}")]
    Status {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The HTTP status.
        status: u16,
        /// The plugin's words, shortened: its `Err`, or its body.
        reason: String,
    },
    /// The plugin is still being started; nothing was sent.
    #[error("{method}: plugin {driver} is starting and does not listen yet{}", after(*waited))]
    Starting {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The plugin does not run at present; nothing was sent.
    #[error("{method}: plugin {driver} is backing off and is started again at {next_try:.0}: {error}")]
    BackingOff {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// Why it does not run.
        error: String,
        /// When it is started again.
        next_try: Timestamp,
    },
    /// The plugin has as many calls to answer as it is sent at a time; nothing was sent.
    #[error("{method}: plugin {driver} {why}")]
    Crowded {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// How many, which ones, and how long was waited.
        why: String,
    },
    /// The plugin has not answered for a while and is left alone; nothing was sent.
    #[error("{method}: plugin {driver} {why}")]
    LeftAlone {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// Since when, why, and when it is tried again.
        why: String,
    },
    /// The plugin's socket could not be connected to; nothing was sent.
    #[error("{method}: connecting to plugin {driver}")]
    Connect {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// Which step failed, and why.
        #[source]
        source: SocketError,
    },
    /// The connection broke before the whole answer was there. What the plugin did is unknown.
    #[error("{method}: the connection to plugin {driver} broke")]
    Broken {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// What hyper says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The plugin did not answer in time. What it did, or will do, is unknown.
    #[error("{method}: plugin {driver} did not answer within {} s", deadline.as_secs_f64())]
    Deadline {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The answer is larger than any honest one.
    #[error("{method}: plugin {driver} answered with more than {limit_bytes} bytes")]
    TooLarge {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// How many are allowed.
        limit_bytes: usize,
    },
    /// The answer is not what the protocol says.
    #[error("{method}: plugin {driver} gave an answer that makes no sense: {problem}")]
    Answer {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// What was got and what was expected; never a whole answer.
        problem: String,
    },
    /// A request could not be written.
    #[error("{method}: writing the request to plugin {driver}")]
    Request {
        /// `VolumeDriver.Create` and so on.
        method: &'static str,
        /// The driver.
        driver: String,
        /// What serde or hyper says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Waiting for a plugin's socket failed for good.
    #[error("waiting for the plugin's socket")]
    Ready(#[source] SocketError),
}

impl Error {
    /// Whether this is the plugin's own answer, an honest no: the call arrived, and did not do what was asked.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Status { .. })
    }

    /// Whether the plugin has never heard of the call.
    pub fn was_not_sent(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Legacy { .. }
            | Self::Disabled { .. }
            | Self::Nameless
            | Self::Starting { .. }
            | Self::BackingOff { .. }
            | Self::Crowded { .. }
            | Self::LeftAlone { .. }
            | Self::Connect { .. }
            | Self::Request { .. }
            | Self::Ready(_) => true,
            Self::Refused { .. }
            | Self::Status { .. }
            | Self::Broken { .. }
            | Self::Deadline { .. }
            | Self::TooLarge { .. }
            | Self::Answer { .. } => false,
        }
    }
}

fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" after {} s", waited.as_secs_f64()) }
}

/// Why a legacy plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// What names the plugin could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// What names the plugin makes no sense.
    #[error("{} makes no sense: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was got and what was expected.
        problem: String,
    },
    /// The plugin is no volume driver.
    #[error("Plugin does not implement the requested driver")]
    NotAVolumeDriver,
    /// The plugin did not answer to `Plugin.Activate` as it should.
    #[error(transparent)]
    Activate(Box<Error>),
    /// A task has panicked or was stopped with the daemon.
    #[error("the search was interrupted: {0}")]
    Interrupted(String),
}

/// Why a plugin's socket cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The name of the socket is not one component of a path.
    #[error("the socket's name {name:?} must be one file name without slashes")]
    Name {
        /// What the plugin's config says.
        name: String,
    },
    /// There is something else in the socket's place.
    #[error("{} is {found}, not a socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
        /// What is there: "a symbolic link", ….
        found: &'static str,
    },
    /// A connection over a network could not be made.
    #[error("{step} {address}")]
    Remote {
        /// What was tried.
        step: &'static str,
        /// With whom: `HOST:PORT`.
        address: String,
        /// What the operating system, or TLS, says.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("{step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Disabled { .. } => Kind::Conflict,
            Self::Nameless => Kind::Invalid,
            Self::Starting { .. }
            | Self::BackingOff { .. }
            | Self::Crowded { .. }
            | Self::LeftAlone { .. } => Kind::Unavailable,
            // dockerd answers 500 to everything that goes wrong in or on the way to a plugin.
            Self::Legacy { .. }
            | Self::Refused { .. }
            | Self::Status { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Deadline { .. }
            | Self::TooLarge { .. }
            | Self::Answer { .. }
            | Self::Request { .. }
            | Self::Ready(_) => Kind::Internal,
        }
    }
}
