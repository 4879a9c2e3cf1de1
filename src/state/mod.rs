//! What must survive a restart: small records in named tables, in one file.
//!
//! A record is a key and a JSON value. This room knows no plugin and no volume; the rooms that own a table name it
//! with a [`Table`] and give it a type. A change is durable when [`Store::commit`] has answered. There is one writer,
//! which takes everything that is waiting into one write: under load many changes share one fsync.
//!
//! ```text
//! change   what is to be written; pure
//! queue    what waits to be written, and on which thread that is done
//! writer   how it is written
//! journal  where a change is durable first, beside the database; frame says what its bytes mean
//! ahead    the file under the database
//! ```
//! The file is a redb database; what is said here about its locks and its durability is from redb's documentation.

mod ahead;
mod change;
mod error;
mod frame;
mod journal;
mod queue;
mod writer;

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::de::DeserializeOwned;

use ahead::Ahead;
pub use change::{Change, Table, VALUE_MAX_BYTES};
pub use error::Error;
use journal::{JOURNAL_BYTES, Journal};
use queue::Queue;
use writer::{Opened, Writer};

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// How much of the file redb may keep in memory. The rooms keep their records themselves, so that little is read
/// twice; idle memory matters more.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// How long is waited for another process that has the file open. A daemon that was killed may live on in a child that
/// was just being made, until that has become another program.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
/// The mode of the file: settings of plugins may be secrets.
const FILE_MODE: u32 = 0o600;
/// The mode of the directory, when this room makes it.
const DIRECTORY_MODE: u32 = 0o700;

/// The file of state, opened; clones are the same file. The last one that is dropped closes it, after everything
/// that was given to [`Store::commit`] has been written.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the file, or makes it (mode 0600) together with its directory (0700). Blocking.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it open and keeps it, [`Error::Open`] when it cannot be opened or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        Self::start(Box::new(move || open_files(&path)))
    }

    /// Starts the writer on what `opener` opens, and again on what it opens after a failed commit.
    fn start(opener: writer::Opener) -> Result<Self> {
        let queue = Arc::new(Queue::new(Writer::new(opener)?));
        let served = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || served.serve())
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        Ok(Self(Arc::new(Inner { queue, thread: Some(thread) })))
    }

    /// All records of a table, ordered by key; none when the table was never written. Blocking, for the start.
    ///
    /// # Errors
    /// [`Error::Record`] names the first record that is not what `V` expects; [`Error::Read`].
    pub fn load<V: DeserializeOwned>(&self, table: Table<V>) -> Result<Vec<(String, V)>> {
        let records = self.0.queue.load(table.name())?;
        records
            .into_iter()
            .map(|(key, json)| match serde_json::from_slice(&json) {
                Ok(value) => Ok((key, value)),
                Err(error) => Err(Error::record(table.name(), key, &error)),
            })
            .collect()
    }

    /// Makes a change: all of it or nothing. It is on disk when the answer is `Ok`.
    ///
    /// The change takes its place in the order of changes when this is called, not when the answer is first awaited:
    /// call it while holding the lock that guards the record in memory, and await after releasing it. It is written when
    /// the answer is awaited or dropped, at the latest; dropping it does not take the change back. Awaiting may write what
    /// waits, on the thread of whoever awaits. An empty change is answered when all earlier ones are on disk.
    ///
    /// # Errors
    /// [`Error::Commit`] for every change that shared the failed transaction. What an error of the disk leaves behind
    /// is unknown until the next start; the next change tries again with the file newly opened.
    pub fn commit(&self, change: Change) -> impl Future<Output = Result<()>> + Send + use<> {
        self.0.queue.commit(change)
    }

    /// The same, blocking, for the start.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_now(&self, change: Change) -> Result<()> {
        self.0.queue.commit_now(change)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the state file has panicked");
        }
    }
}

/// Opens the database, and the journal beside it.
fn open_files(path: &Path) -> Result<Opened> {
    let database = open_file(path)?;
    let mark = writer::mark(&database)
        .map_err(|source| Error::Open { path: path.to_owned(), source: Arc::new(source) })?;
    let path = path.with_extension("journal");
    let journal = Journal::open(&path, JOURNAL_BYTES, mark)
        .map_err(|error| Error::Open { path, source: Arc::new(redb::Error::Io(error)) })?;
    Ok(Opened { database, journal })
}

/// Opens the database; a new file is on disk under its name when this returns.
fn open_file(path: &Path) -> Result<redb::Database> {
    let io = |source| Error::Open { path: path.to_owned(), source: Arc::new(redb::Error::Io(source)) };
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(io)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(io)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(io)?;
    let open = || {
        let backend = Ahead::new(file.try_clone()?)?;
        redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)
    };
    let opened = match open() {
        Err(error) if is_in_use(&error) => {
            wait_for_turn(path).map_err(io)?;
            open()
        }
        other => other,
    };
    let database = opened.map_err(|error| {
        if is_in_use(&error) {
            return Error::InUse { path: path.to_owned() };
        }
        Error::Open { path: path.to_owned(), source: Arc::new(error.into()) }
    })?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(database)
}

fn is_in_use(error: &redb::DatabaseError) -> bool {
    use redb::DatabaseError::{DatabaseAlreadyOpen, LockProtocolMismatch};
    matches!(error, DatabaseAlreadyOpen | LockProtocolMismatch)
}

/// Waits until nobody has the file open, or for [`TURN_DEADLINE`]. redb has an flock on it, which it gives up after its
/// other locks.
fn wait_for_turn(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // Waits on for a lock that never comes: then this process ends, with it.
    std::thread::Builder::new().name("state-turn".to_owned()).spawn(move || {
        let locked = file.lock();
        drop(file);
        sender.send(locked)
    })?;
    receiver.recv_timeout(TURN_DEADLINE).unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests;
