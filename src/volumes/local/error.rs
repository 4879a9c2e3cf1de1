//! What can go wrong with the built-in driver.

use std::io;
use std::path::PathBuf;

use crate::error::{Classified, Kind};

/// Why a local volume was not made, removed or measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not even dockerd knows the option.
    #[error("invalid option: {option:?}")]
    UnknownOption {
        /// The option's name; its value may be a secret.
        option: String,
    },
    /// An option needs another one.
    #[error("missing required option: {option:?}")]
    MissingOption {
        /// The other one.
        option: &'static str,
    },
    /// A size was asked for, and this driver sets no quotas.
    #[error("quota size requested but no quota support")]
    NoQuota,
    /// Something is mounted in the volume.
    #[error("volume has active mounts")]
    Mounted,
    /// The disk.
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
    /// The thread that worked on the disk is gone.
    #[error("{0}")]
    Interrupted(String),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownOption { .. } | Self::MissingOption { .. } | Self::NoQuota => Kind::Invalid,
            // dockerd answers 500 to both.
            Self::Mounted | Self::Io { .. } | Self::Interrupted(_) => Kind::Internal,
        }
    }
}
