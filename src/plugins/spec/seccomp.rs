//! Which system calls a plugin may make: a profile, and what of it the runtime is told for one plugin.
//!
//! The profile is the daemon's, chosen once; it widens with the capabilities that a plugin was granted, so that a
//! consent given in `docker plugin install` is not taken back here. A program that a profile is too narrow for finds
//! EPERM, not its end.

mod builtin;
mod file;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::OciSpecError;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use crate::config::SeccompProfile;
use crate::error::{Classified, Kind};

pub use file::Fault;

/// How large the file of a profile may be, in bytes. Docker's own has 14 KiB.
const PROFILE_MAX_BYTES: u64 = 1024 * 1024;

/// The profile of all plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Ours, after Docker's for containers.
    Builtin,
    /// None.
    Unconfined,
    /// One of the administrator's.
    Own(Arc<Own>),
}

/// A profile that was read from a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Own {
    path: PathBuf,
    profile: file::Profile,
}

/// Whom a filter is for, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// All that it has.
    pub(super) capabilities: &'a Capabilities,
    /// The version of the kernel, its first two numbers.
    pub(super) kernel: (u32, u32),
    /// `x86_64`, `aarch64`.
    pub(super) architecture: &'a str,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the seccomp profile {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The file is no profile.
    #[error("the seccomp profile {}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        fault: Fault,
    },
    /// It was asked for and can do nothing.
    #[error(
        "the seccomp profile {}: this kernel has no seccomp: use --seccomp-profile unconfined, or another kernel",
        path.display()
    )]
    NoSeccomp {
        /// The file.
        path: PathBuf,
    },
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } => Kind::Invalid,
            Self::Unreadable { .. } | Self::NoSeccomp { .. } => Kind::Internal,
        }
    }
}

impl Profile {
    /// The profile that was chosen. As in dockerd the built-in one is done without, with a warning, where the kernel cannot
    /// filter. Blocking.
    ///
    /// # Errors
    /// [`Error`] names the file, and what is wrong in it.
    pub fn load(chosen: &SeccompProfile, has_seccomp: bool) -> Result<Self, Error> {
        match chosen {
            SeccompProfile::Builtin if has_seccomp => Ok(Self::Builtin),
            SeccompProfile::Builtin => {
                tracing::warn!("this kernel has no seccomp: plugins may make any system call");
                Ok(Self::Unconfined)
            }
            SeccompProfile::Unconfined => Ok(Self::Unconfined),
            SeccompProfile::File(path) if !has_seccomp => Err(Error::NoSeccomp { path: path.clone() }),
            SeccompProfile::File(path) => {
                let bytes = read(path).map_err(|source| Error::Unreadable { path: path.clone(), source })?;
                let profile = file::Profile::parse(&bytes);
                let profile = profile.map_err(|fault| Error::Malformed { path: path.clone(), fault })?;
                Ok(Self::Own(Arc::new(Own { path: path.clone(), profile })))
            }
        }
    }

    /// `builtin`, `unconfined`, or the path of the file.
    pub fn label(&self) -> String {
        match self {
            Self::Builtin => "builtin".to_owned(),
            Self::Unconfined => "unconfined".to_owned(),
            Self::Own(own) => own.path.display().to_string(),
        }
    }

    /// What the runtime is told; `None` for no filter.
    ///
    /// # Errors
    /// None that a profile can cause.
    pub(super) fn filter(&self, subject: &Subject<'_>) -> Result<Option<LinuxSeccomp>, OciSpecError> {
        match self {
            Self::Builtin => builtin::filter(subject).map(Some),
            Self::Unconfined => Ok(None),
            Self::Own(own) => Ok(Some(own.profile.filter(subject))),
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PROFILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > PROFILE_MAX_BYTES {
        let message = format!("it has more than {PROFILE_MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
