//! What can be wrong with flags and `daemon.json`.

use std::path::PathBuf;

use super::InvalidHost;
use crate::error::{Classified, Kind};

/// Why the daemon does not understand what it was told.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[error("unable to read the configuration file {0}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error("unable to configure the daemon with file {0}: invalid JSON")]
    Malformed(PathBuf, #[source] serde_json::Error),
    #[error(
        "unable to configure the daemon with file {file}: the following directives don't match any \
         configuration option: {keys}"
    )]
    UnknownKeys { file: PathBuf, keys: String },
    #[error(
        "unable to configure the daemon with file {file}: the following directives are specified both as a \
         flag and in the configuration file: {conflicts}"
    )]
    Conflicts { file: PathBuf, conflicts: String },
    #[error(transparent)]
    Host(#[from] InvalidHost),
    #[error("{flags} is for the daemon, not for a command that asks one")]
    NotForACommand { flags: String },
    #[error("a command asks one daemon: give -H once, as unix://PATH or tcp://HOST:PORT")]
    NotOneHost,
    #[error(
        "invalid metrics address {address:?}: {reason}; expected HOST:PORT, as in --metrics-addr 127.0.0.1:9323"
    )]
    NotAMetricsAddress { address: String, reason: &'static str },
    #[error("invalid logging level: {0:?}: expected trace, debug, info, warn, error or fatal")]
    NotALevel(String),
    #[error("invalid log format: {0:?}: expected text or json")]
    NotAFormat(String),
    #[error("invalid runtime {0:?}: expected NAME=PATH, as in --add-runtime crun=/usr/bin/crun")]
    NotARuntime(String),
    #[error("runtime name '{0}' is reserved")]
    ReservedRuntime(&'static str),
    #[error("runtime {0:?} is given twice")]
    RuntimeTwice(String),
    #[error("specified default runtime '{0}' does not exist: name it with --add-runtime {0}=PATH")]
    NoSuchRuntime(String),
    #[error(
        "invalid driver timeout {0:?}: expected CALL=SECONDS, as in --driver-timeout mount=300; a call is create, get, \
         list, remove, path, mount, unmount or capabilities, and has 1 to {max} seconds",
        max = super::DRIVER_TIMEOUT_MAX_SECONDS
    )]
    NotADriverTimeout(String),
    #[error("driver timeout {0:?}: the call has one already")]
    DriverTimeoutTwice(String),
    #[error("invalid engine {0:?}: expected auto, none or unix:///PATH")]
    NotAnEngine(String),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unreadable(..) => Kind::Internal,
            Self::Malformed(..)
            | Self::UnknownKeys { .. }
            | Self::Conflicts { .. }
            | Self::Host(_)
            | Self::NotForACommand { .. }
            | Self::NotOneHost
            | Self::NotAMetricsAddress { .. }
            | Self::NotALevel(_)
            | Self::NotAFormat(_)
            | Self::NotARuntime(_)
            | Self::ReservedRuntime(_)
            | Self::RuntimeTwice(_)
            | Self::NoSuchRuntime(_)
            | Self::NotADriverTimeout(_)
            | Self::DriverTimeoutTwice(_)
            | Self::NotAnEngine(_) => Kind::Invalid,
        }
    }
}
