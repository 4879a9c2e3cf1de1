//! What can be wrong with a digest, a reference or a manifest.
//!
//! The texts begin as dockerd's do, because the docker CLI shows them unchanged.

use crate::error::{Classified, Kind};

/// Why a digest, a reference or a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form `<algorithm>:<hex digits>`, or with digits that are not lower-case hexadecimal.
    #[error("invalid checksum digest format: expected sha256:<64 lower-case hexadecimal digits>")]
    DigestFormat,
    /// Well-formed, with an algorithm other than sha256.
    #[error("unsupported digest algorithm: {algorithm}, expected sha256")]
    DigestAlgorithm {
        /// The algorithm as it was written.
        algorithm: String,
    },
    /// The right algorithm with too few or too many digits.
    #[error("invalid checksum digest length: got {digits} hexadecimal digits, expected 64")]
    DigestLength {
        /// How many characters followed the colon.
        digits: usize,
    },
    /// Not of Docker's grammar.
    #[error("invalid reference format")]
    ReferenceFormat,
    /// A repository's path with upper-case letters.
    #[error("invalid reference format: repository name ({path}) must be lowercase")]
    ReferenceCase {
        /// The path, with `library/` where it was added.
        path: String,
    },
    /// A name that cannot be told from an id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    ReferenceHex {
        /// The name.
        name: String,
    },
    /// A repository's path that is too long.
    #[error("repository name must not be more than {} characters", super::reference::PATH_MAX_BYTES)]
    ReferenceLength,
    /// More bytes than any honest manifest has.
    #[error("the manifest has {bytes} bytes, at most {} are allowed", super::MANIFEST_MAX_BYTES)]
    ManifestTooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// A media type that is not the one of a single manifest.
    #[error(
        "unsupported manifest media type {media_type:?}, expected Docker's schema 2 or the OCI image manifest"
    )]
    ManifestType {
        /// The type it was served as.
        media_type: String,
    },
    /// A manifest that is not one.
    #[error("invalid manifest: {problem}")]
    Manifest {
        /// What is wrong with it.
        problem: String,
    },
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::DigestFormat
            | Self::DigestAlgorithm { .. }
            | Self::DigestLength { .. }
            | Self::ReferenceFormat
            | Self::ReferenceCase { .. }
            | Self::ReferenceHex { .. }
            | Self::ReferenceLength
            | Self::ManifestTooLarge { .. }
            | Self::ManifestType { .. }
            | Self::Manifest { .. } => Kind::Invalid,
        }
    }
}
