//! The documents that the daemon and a monitor leave for each other in a plugin's `monitor/` directory.
//!
//! Each is written whole or not at all (a temporary name, then rename), mode 0600. This file does not know who
//! writes which one when; that stands in `launcher` and `monitor`.

use super::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The code of a container whose end nobody saw; containerd uses the same number.
pub const UNKNOWN_CODE: i32 = 255;
/// How long the runtime may take to start a container: long, for a machine that is badly overloaded.
const RUN_DEADLINE: Duration = Duration::from_secs(50);
/// How long it may take to delete one; runc itself waits 10 s for a killed process.
const DELETE_DEADLINE: Duration = Duration::from_secs(30);
/// A document longer than this is not one of ours.
const DOCUMENT_BYTES: u64 = 1 << 20;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status of its first process, 0 to 255; 128 + n when signal n ended it.
    pub code: i32,
    /// When it was noticed.
    pub at: Timestamp,
    /// The kernel ran out of the memory allowed to the container and killed something in it.
    #[serde(default)]
    pub oom: bool,
    /// The monitor died before it could see the end: `code` is [`UNKNOWN_CODE`].
    #[serde(default)]
    pub lost: bool,
}

impl Exit {
    /// The end that nobody saw, as of now.
    pub(super) fn lost() -> Self {
        Self { code: UNKNOWN_CODE, at: Timestamp::now(), oom: false, lost: true }
    }
}

/// How to call a runtime for one container: argument lists, first the program, and the files it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// Creates and starts the container, with the standard streams it is given, and returns while it runs.
    pub run: Vec<String>,
    /// Ends everything in the container and forgets it; succeeds when there is nothing.
    pub delete: Vec<String>,
    /// Exists exactly while the runtime knows the container.
    pub state: PathBuf,
    /// Where `run` writes the first process's pid, decimal.
    pub pid_file: PathBuf,
    /// Where the runtime writes its messages: JSON lines with `level` and `msg`.
    pub messages: PathBuf,
}

/// What the daemon tells a new monitor (`orders.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) id: String,
    /// The directory of the bounded log.
    pub(super) log: PathBuf,
    pub(super) commands: Commands,
    pub(super) deadlines: Deadlines,
}

/// How long the runtime may take for one command.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Deadlines {
    pub(super) run: Duration,
    pub(super) delete: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { run: RUN_DEADLINE, delete: DELETE_DEADLINE }
    }
}

/// What the monitor says when the container runs (`started.json`, and the first line of the status pipe).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) at: Timestamp,
}

/// The one line that a monitor writes on its status pipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Report {
    /// The container runs.
    Started(Started),
    /// It does not, and nothing of it is left.
    Failed { message: String },
}

/// The names in a plugin's `monitor/` directory.
#[derive(Debug, Clone)]
pub(super) struct Desk(PathBuf);

impl Desk {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self(dir)
    }
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    pub(super) fn orders(&self) -> PathBuf {
        self.0.join("orders.json")
    }
    pub(super) fn started(&self) -> PathBuf {
        self.0.join("started.json")
    }
    pub(super) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }
    /// What the monitor itself had to complain about; empty as a rule.
    pub(super) fn complaints(&self) -> PathBuf {
        self.0.join("stderr")
    }
    pub(super) fn pid_file(&self) -> PathBuf {
        self.0.join("container.pid")
    }
    pub(super) fn messages(&self) -> PathBuf {
        self.0.join("runtime.log")
    }
}

/// Writes a document whole: `path.new`, then rename. Not fsynced: a kill of any process leaves the old or the new
/// document, and what a power cut can take is about containers that the same power cut has ended.
pub(super) fn write<T: Serialize>(path: &Path, document: &T) -> Result<()> {
    let bytes =
        serde_json::to_vec(document).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    let fill = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        rename(&new, path)
    };
    fill().map_err(Error::io("write", path))
}

/// Reads a document; `None` when there is none, or an empty one, which a power cut may leave.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_bytes(path, DOCUMENT_BYTES).map_err(Error::io("read", path))? else {
        return Ok(None);
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// Reads at most `limit_bytes` of a file; `None` when there is none.
pub(super) fn read_bytes(path: &Path, limit_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(limit_bytes).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
