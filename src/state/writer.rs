//! The one thread that has the database open: takes what is waiting, writes it as one frame of the journal, answers all.
//!
//! The database gets what is in the journal when that is full, when a table is read, and at the end. What has no room in
//! the journal goes there directly, behind what is in it.
//!
//! redb refuses every further use of a database after an error of the disk, until it is opened anew. So the writer
//! drops the database after a failed transaction and opens it again for the next job: a disk that was full for an
//! hour does not need a restart of the daemon.

use std::sync::{Arc, mpsc};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::change::Step;
use super::journal::{Journal, Mark};
use super::{Change, Error, Result};

/// Where the database keeps its [`Mark`].
const MARKS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("journal");
const MARK: &str = "mark";

/// How many changes share one frame at most: more would only make the first of them wait longer.
pub(super) const GROUP_MAX: usize = 256;

/// Opens the database and its journal, at the start and after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Opened> + Send>;

/// The database, and what it does not have yet.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) journal: Journal,
}

/// The records of a table, as JSON.
pub(super) type Records = Vec<(String, Vec<u8>)>;

/// What the thread is asked for.
pub(super) enum Job {
    /// A change to make durable.
    Commit { change: Change, answer: oneshot::Sender<Result<()>> },
    /// A table to read.
    Load { table: &'static str, answer: mpsc::SyncSender<Result<Records>> },
}

type Waiting = (Change, oneshot::Sender<Result<()>>);

pub(super) struct Writer {
    opener: Opener,
    /// `None` after a failure.
    opened: Option<Opened>,
    /// How often something was synced.
    pub(super) syncs: u64,
}

impl Writer {
    pub(super) fn new(opener: Opener) -> Result<Self> {
        let first = opener()?;
        Ok(Self { opener, opened: Some(first), syncs: 0 })
    }

    /// Works until all senders are gone and nothing waits any more, then closes the database.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        self.work(jobs);
        if let Err(error) = self.settle() {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "the last changes stay in the journal until the next start");
        }
        tracing::debug!(syncs = self.syncs, "closing the state file");
    }

    pub(super) fn work(&mut self, jobs: &mpsc::Receiver<Job>) {
        let mut next = jobs.recv().ok();
        while let Some(job) = next.take() {
            match job {
                Job::Load { table, answer } => {
                    // Whoever asked may be gone, and then nobody misses the answer; so with all answers below.
                    let _ = answer.send(self.load(table));
                }
                Job::Commit { change, answer } => {
                    let mut group = vec![(change, answer)];
                    while group.len() < GROUP_MAX && next.is_none() {
                        match jobs.try_recv() {
                            Ok(Job::Commit { change, answer }) => group.push((change, answer)),
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
            }
            next = next.or_else(|| jobs.recv().ok());
        }
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        let result = self.transact(&group);
        for (_, answer) in group {
            let _ = answer.send(result.clone());
        }
    }

    fn transact(&mut self, group: &[Waiting]) -> Result<()> {
        if group.iter().all(|(change, _)| change.steps.is_empty()) {
            return Ok(());
        }
        let steps = || group.iter().flat_map(|(change, _)| &change.steps);
        match self.opened()?.journal.append(steps()) {
            Ok(true) => {
                self.syncs += 1;
                Ok(())
            }
            Ok(false) => self.write_through(steps()),
            Err(error) => Err(Error::Commit(Arc::new(failed(redb::Error::Io(error))))),
        }
    }

    /// Puts what is in the journal into the database, and these steps after it.
    fn write_through<'a>(&mut self, steps: impl Iterator<Item = &'a Step>) -> Result<()> {
        let Opened { database, journal } = self.opened()?;
        match write_through(database, journal, steps) {
            Ok(()) => {
                self.syncs += 1;
                Ok(())
            }
            Err(error) => {
                self.opened = None;
                Err(Error::Commit(Arc::new(failed(error))))
            }
        }
    }

    /// Leaves nothing in the journal.
    fn settle(&mut self) -> Result<()> {
        if self.opened()?.journal.is_empty() { Ok(()) } else { self.write_through([].iter()) }
    }

    fn load(&mut self, table: &'static str) -> Result<Records> {
        self.settle()?;
        let read = |database: &Database| read(database, table);
        read(&self.opened()?.database).map_err(|source| Error::Read { table, source: Arc::new(source) })
    }

    fn opened(&mut self) -> Result<&mut Opened> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => (self.opener)()?,
        };
        Ok(self.opened.insert(opened))
    }
}

/// Tells the log of an error that clients are told too.
fn failed(error: redb::Error) -> redb::Error {
    tracing::error!(error = crate::error::chain(&error), "writing the state file failed");
    error
}

/// One transaction of everything in the journal, then these steps, and the new mark.
fn write_through<'a>(
    database: &Database,
    journal: &mut Journal,
    steps: impl Iterator<Item = &'a Step>,
) -> std::result::Result<(), redb::Error> {
    let (before, mark) = journal.read()?;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    take(&transaction, before.iter())?;
    take(&transaction, steps)?;
    transaction.open_table(MARKS)?.insert(MARK, (mark.series, mark.number))?;
    transaction.commit()?;
    journal.begin(mark);
    Ok(())
}

fn take<'a>(
    transaction: &WriteTransaction,
    steps: impl Iterator<Item = &'a Step>,
) -> std::result::Result<(), redb::Error> {
    for step in steps {
        let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(&step.table);
        let mut table = transaction.open_table(definition)?;
        match &step.value {
            Some(value) => table.insert(step.key.as_str(), value.as_slice())?,
            None => table.remove(step.key.as_str())?,
        };
    }
    Ok(())
}

/// The mark of a database; one that has none yet gets it.
pub(super) fn mark(database: &Database) -> std::result::Result<Mark, redb::Error> {
    let found = match database.begin_read()?.open_table(MARKS) {
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        table => table?.get(MARK)?.map(|mark| mark.value()),
    };
    if let Some((series, number)) = found {
        return Ok(Mark { series, number });
    }
    let mut series = [0; 8];
    getrandom::fill(&mut series).map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
    let mark = Mark { series: u64::from_le_bytes(series), number: 0 };
    let transaction = database.begin_write()?;
    transaction.open_table(MARKS)?.insert(MARK, (mark.series, mark.number))?;
    transaction.commit()?;
    Ok(mark)
}

fn read(database: &Database, table: &str) -> std::result::Result<Records, redb::Error> {
    let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
    let table = match database.begin_read()?.open_table(definition) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        records.push((key.value().to_owned(), value.value().to_owned()));
    }
    Ok(records)
}
