//! What can go wrong with the built-in driver.

use std::io;
use std::path::PathBuf;

use super::Refusal;
use crate::error::{Classified, Kind};

/// Why a local volume was not made, mounted, removed or measured.
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
    /// An option cannot be handed to the kernel.
    #[error("the option {option:?} holds a zero byte, which no mount can have")]
    NulInOption {
        /// The option's name; its value may be a secret.
        option: String,
    },
    /// More options for the file system than the kernel takes; it would cut them off.
    #[error("\"o\" has {bytes} bytes of options for the file system, expected at most {bytes_max}")]
    LongData {
        /// How many there are.
        bytes: usize,
        /// How many may be.
        bytes_max: usize,
    },
    /// The device of a cifs volume is none.
    #[error("error parsing mount device url: {0}")]
    DeviceUrl(String),
    /// The device of a cifs volume has a port.
    #[error("port not allowed in CIFS device URL, include 'port' in 'o='")]
    PortInDevice,
    /// No size.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// A size was asked for, and the file system has no quotas.
    #[error("quota size requested but no quota support")]
    NoQuota,
    /// A size was asked for of what is mounted.
    #[error(
        "\"size\" limits a volume's own directory, not what \"type\" and \"device\" mount there: leave it out; a tmpfs \
         takes its size in \"o\", as in \"o=size=100m\""
    )]
    SizeOfMount,
    /// A volume has a size, and the file system has no quotas any more.
    #[error("size quota requested for volume but no quota support")]
    NoQuotaNow,
    /// A volume has a size, and its directory comes from elsewhere.
    #[error("its files are not counted yet: they are, and its size is kept, from the next use on")]
    Uncounted,
    /// Something is mounted in the volume.
    #[error("volume has active mounts")]
    Mounted,
    /// There is a type, and nothing to mount.
    #[error("missing device in volume options")]
    MissingDevice,
    /// The host that is to be mounted from has no address.
    #[error("error resolving passed in network volume address: {0}")]
    Address(String),
    /// The kernel does not mount it.
    #[error("failed to mount local volume: {attempt}")]
    Mount {
        /// What was tried, without secrets.
        attempt: String,
        /// What the kernel says.
        #[source]
        reason: Refusal,
    },
    /// The kernel does not detach it.
    #[error("{attempt}")]
    Unmount {
        /// What was tried.
        attempt: String,
        /// What the kernel says.
        #[source]
        reason: Refusal,
    },
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
            Self::UnknownOption { .. }
            | Self::MissingOption { .. }
            | Self::NulInOption { .. }
            | Self::LongData { .. }
            | Self::DeviceUrl(_)
            | Self::PortInDevice
            | Self::Size(_)
            | Self::NoQuota
            | Self::SizeOfMount => Kind::Invalid,
            // dockerd answers 500 to all of them.
            Self::NoQuotaNow
            | Self::Uncounted
            | Self::Mounted
            | Self::MissingDevice
            | Self::Address(_)
            | Self::Mount { .. }
            | Self::Unmount { .. }
            | Self::Interrupted(_) => Kind::Internal,
            Self::Io { source, .. } => Kind::of_io(source),
        }
    }
}
