//! What can go wrong with a blob.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Classified, Kind};
use crate::oci::Digest;

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no blob of this digest.
    #[error("the blob {digest} is not in the content store")]
    NotFound {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// The bytes that were written are not the ones that were promised.
    #[error("the content has the digest {got}, expected {expected}")]
    WrongDigest {
        /// The digest of what was written.
        got: Digest,
        /// The digest it should have.
        expected: Digest,
    },
    /// There are fewer or more bytes than were promised.
    #[error("the content has {got_bytes} bytes, expected {expected_bytes}")]
    WrongSize {
        /// How many were written.
        got_bytes: u64,
        /// How many there should be.
        expected_bytes: u64,
    },
    /// A blob that is to be read at once is too large for that.
    #[error("the blob has {size_bytes} bytes, at most {limit_bytes} are allowed")]
    TooLarge {
        /// How many it has.
        size_bytes: u64,
        /// How many are allowed.
        limit_bytes: u64,
    },
    /// The bytes on disk are not the ones that were stored.
    #[error("the blob {digest} is damaged on disk: it has the digest {got} now")]
    Corrupt {
        /// The digest that is its name.
        digest: Digest,
        /// The digest of what is there.
        got: Digest,
    },
    /// The operating system gives no random name.
    #[error("choosing a random name for a new blob")]
    Random(#[source] getrandom::Error),
    /// The operating system refuses, or the disk fails.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was being done, and with which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::WrongDigest { .. } | Self::WrongSize { .. } | Self::TooLarge { .. } => Kind::Invalid,
            Self::Corrupt { .. } | Self::Random(_) => Kind::Internal,
            Self::Io { source, .. } => Kind::of_io(source),
        }
    }
}
