//! How reading, unpacking or writing a layer fails. What is wrong with an archive is said with the entry's name.

use std::borrow::Cow;
use std::io;

use nix::errno::Errno;

use crate::confine;
use crate::error::{Classified, Kind};

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive stopped arriving.
    #[error("cannot read the archive")]
    Source(#[source] io::Error),
    /// The compressed stream is not well-formed, or ends early.
    #[error("the archive's {format} stream is damaged or cut off")]
    Compression {
        /// gzip or zstd.
        format: &'static str,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// A compression we do not read.
    #[error("the archive is compressed with {format}, which is not supported: use gzip, zstd or none")]
    Unsupported {
        /// Its name.
        format: &'static str,
    },
    /// Something where a tar header should be.
    #[error("failed to read from tar: archive/tar: invalid tar header {place}: {problem}")]
    Header {
        /// `at the start` or `after entry …`.
        place: String,
        /// What is wrong.
        problem: Cow<'static, str>,
    },
    /// An entry that is not allowed.
    #[error("entry {entry}: {problem}")]
    Entry {
        /// Its name, quoted.
        entry: String,
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// The archive ends within an entry's content.
    #[error(
        "failed to read {entry}: unexpected EOF: the archive ends {missing_bytes} bytes before its content does"
    )]
    CutOff {
        /// Its name, quoted.
        entry: String,
        /// How much of its content has not come.
        missing_bytes: u64,
    },
    /// The archive ends between two entries, without the mark for its end.
    #[error("the archive ends without its end mark: whoever made it stopped half-way")]
    Unmarked,
    /// An entry that could not be made below the root.
    #[error("cannot unpack entry {entry}")]
    Place {
        /// Its name, quoted.
        entry: String,
        /// What stood against it.
        #[source]
        source: confine::Error,
    },
    /// An entry whose content or attributes could not be written.
    #[error("cannot write entry {entry}")]
    Write {
        /// Its name, quoted.
        entry: String,
        /// What the kernel said; a full disk shows up here.
        #[source]
        source: io::Error,
    },
    /// More of something than [`Limits`](super::Limits) allow.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A plugin context without a root file system; dockerd's words.
    #[error("no rootfs found: EOF")]
    NoRootfs,
    /// A plugin context without config.json; dockerd's words.
    #[error("config not found")]
    NoConfig,
    /// A plugin context whose config.json is not one readable file.
    #[error("config.json {problem}")]
    Config {
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// The compressed layer could not be stored.
    #[error("cannot store the layer")]
    Blob(#[source] io::Error),
    /// A thread could not be started, or ended without an answer.
    #[error("cannot run the threads that unpack a layer")]
    Thread(#[source] io::Error),
}

impl Error {
    /// Whether bytes that were changed on their way could be the reason.
    pub fn may_be_damage(&self) -> bool {
        match self {
            Self::Compression { .. }
            | Self::Unsupported { .. }
            | Self::Header { .. }
            | Self::Entry { .. }
            | Self::CutOff { .. }
            | Self::Unmarked
            | Self::Place { .. } => true,
            Self::Source(_)
            | Self::Write { .. }
            | Self::Limit { .. }
            | Self::NoRootfs
            | Self::NoConfig
            | Self::Config { .. }
            | Self::Blob(_)
            | Self::Thread(_) => false,
        }
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Source(_) | Self::Unmarked | Self::Thread(_) => Kind::Internal,
            Self::Write { source, .. } | Self::Blob(source) => Kind::of_io(source),
            Self::Compression { .. }
            | Self::Unsupported { .. }
            | Self::Header { .. }
            | Self::Entry { .. }
            | Self::CutOff { .. }
            | Self::Limit { .. }
            | Self::NoRootfs
            | Self::NoConfig
            | Self::Config { .. } => Kind::Invalid,
            Self::Place { source, .. } => place_kind(source),
        }
    }
}

/// Below an empty directory of ours, most of what the kernel refuses is the archive's fault; a full disk is not.
fn place_kind(error: &confine::Error) -> Kind {
    match error {
        confine::Error::Name { .. } | confine::Error::Type { .. } => Kind::Invalid,
        confine::Error::Mounted { .. } => Kind::Conflict,
        confine::Error::Kernel => Kind::Internal,
        confine::Error::System { source, .. } => match source {
            Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::ELOOP
            | Errno::EEXIST
            | Errno::ENOTEMPTY
            | Errno::ENAMETOOLONG
            | Errno::EINVAL
            | Errno::EILSEQ
            | Errno::EMLINK
            | Errno::EPERM
            | Errno::E2BIG
            | Errno::ERANGE
            | Errno::EXDEV => Kind::Invalid,
            Errno::ENOSPC | Errno::EDQUOT => Kind::Full,
            _ => Kind::Internal,
        },
    }
}
