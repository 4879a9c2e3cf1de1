//! What can go wrong with the file of state.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Classified, Kind};

/// Why the file of state could not be opened, read or written.
///
/// No variant repeats a value: settings of plugins may be secrets. Cloneable, because all changes that shared a
/// failed transaction get the same error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process holds the lock on the file.
    #[error("another dockplugd uses {}: stop it, or choose another --data-root", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened, or is damaged, or is something else.
    #[error("opening the state file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What redb or the operating system says.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The thread that writes could not be started.
    #[error("starting the thread that writes the state file")]
    Thread(#[source] Arc<std::io::Error>),
    /// A table could not be read.
    #[error("reading the table {table} of the state file")]
    Read {
        /// The table.
        table: &'static str,
        /// What redb says.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A record is not the JSON that the owner of its table expects.
    #[error(
        "the record {key:?} in the table {table} of the state file is not readable: {problem} at line {line} column \
         {column}"
    )]
    Record {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong, in words that do not repeat the value.
        problem: &'static str,
        /// Where in the value, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
    },
    /// A value could not be written as JSON.
    #[error("writing the record {key:?} for the table {table} as JSON")]
    Encode {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What serde says.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A value is larger than any honest one.
    #[error(
        "the record {key:?} for the table {table} has {bytes} bytes, at most {} are allowed",
        super::VALUE_MAX_BYTES
    )]
    TooLarge {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// Its size as JSON.
        bytes: usize,
    },
    /// A transaction failed; nothing of the change was acknowledged.
    #[error("writing the state file")]
    Commit(#[source] Arc<redb::Error>),
    /// The thread that writes is gone, which happens only after it has panicked.
    #[error("the writer of the state file has stopped: restart dockplugd")]
    Stopped,
}

impl Error {
    /// A record that does not parse. serde's own words quote the value, so only its class and place are kept.
    pub(super) fn record(table: &'static str, key: String, error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let problem = match error.classify() {
            Category::Io => "input error",
            Category::Syntax => "not valid JSON",
            Category::Data => "a field of an unexpected type or value",
            Category::Eof => "it ends too early",
        };
        Self::Record { table, key, problem, line: error.line(), column: error.column() }
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::Conflict,
            Self::TooLarge { .. } => Kind::Invalid,
            Self::Open { source: error, .. } | Self::Commit(error) => match error.as_ref() {
                redb::Error::Io(error) => Kind::of_io(error),
                _ => Kind::Internal,
            },
            Self::Thread(_)
            | Self::Read { .. }
            | Self::Record { .. }
            | Self::Encode { .. }
            | Self::Stopped => Kind::Internal,
        }
    }
}
