//! Who has the database and its journal open: writes a group of changes as one frame of the journal, and answers all.
//!
//! The database gets what is in the journal when that is full, and at the end. What has no room in the journal goes there
//! directly, behind what is in it. A table is what the database has of it, and then the journal. This file does not know on which thread it works.
//!
//! redb refuses every further use of a database after an error of the disk, until it is opened anew. So the writer
//! drops the database after a failed transaction and opens it again for the next job: a disk that was full for an
//! hour does not need a restart of the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::change::Step;
use super::journal::{Journal, Mark};
use super::{Change, Error, Result};

/// Where the database keeps its [`Mark`].
const MARKS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("journal");
const MARK: &str = "mark";

/// A disk that syncs a small write in less time than this is quick: not much more than it takes to wake two threads.
const QUICK: Duration = Duration::from_millis(1);

/// Opens the database and its journal, at the start and after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Opened> + Send>;

/// The database, and what it does not have yet.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) journal: Journal,
}

/// The records of a table, as JSON.
pub(super) type Records = BTreeMap<String, Vec<u8>>;

/// A change, and whoever waits for it. They may be gone, and then nobody misses the answer.
pub(super) type Waiting = (Change, oneshot::Sender<Result<()>>);

pub(super) struct Writer {
    opener: Opener,
    /// `None` after a failure, and at the end.
    opened: Option<Opened>,
    /// How often something was synced.
    pub(super) syncs: u64,
    /// How long the last write to the journal took.
    last: Duration,
}

impl Writer {
    pub(super) fn new(opener: Opener) -> Result<Self> {
        let first = opener()?;
        Ok(Self { opener, opened: Some(first), syncs: 0, last: Duration::MAX })
    }

    /// Whether the next write will hardly take longer than to have another thread do it.
    pub(super) fn is_quick(&self) -> bool {
        self.opened.is_some() && self.last < QUICK
    }

    /// Makes the last write a quick one, or not.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, is_quick: bool) {
        self.last = if is_quick { Duration::ZERO } else { Duration::MAX };
    }

    /// Writes these changes as one, and answers.
    pub(super) fn commit(&mut self, group: Vec<Waiting>) {
        let done = match self.journal(&group) {
            Ok(false) => self.write_through(steps(&group)),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        answer(group, &done);
    }

    /// The same, if the journal has room for them; gives them back otherwise.
    pub(super) fn append(&mut self, group: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let done = match self.journal(&group) {
            Ok(false) => return Some(group),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        answer(group, &done);
        None
    }

    /// Writes one frame; says whether there was room for it.
    fn journal(&mut self, group: &[Waiting]) -> Result<bool> {
        if steps(group).next().is_none() {
            return Ok(true);
        }
        let begun = Instant::now();
        let appended = self.opened()?.journal.append(steps(group));
        match appended {
            Ok(true) => {
                self.syncs += 1;
                self.last = begun.elapsed();
                Ok(true)
            }
            Ok(false) => Ok(false),
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

    /// Reads a table. Writes nothing: a full disk shall not keep anybody from knowing what there is.
    pub(super) fn load(&mut self, table: &'static str) -> Result<Records> {
        let Opened { database, journal } = self.opened()?;
        read(database, journal, table).map_err(|source| Error::Read { table, source: Arc::new(source) })
    }

    /// Leaves nothing in the journal, and closes the files.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.settle() {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "the last changes stay in the journal until the next start");
        }
        tracing::debug!(syncs = self.syncs, "closing the state file");
        self.opened = None;
    }

    /// Closes the files as they are: whatever comes next opens them anew.
    pub(super) fn give_up(&mut self) {
        self.opened = None;
    }

    fn opened(&mut self) -> Result<&mut Opened> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => (self.opener)()?,
        };
        Ok(self.opened.insert(opened))
    }
}

fn steps(group: &[Waiting]) -> impl Iterator<Item = &Step> {
    group.iter().flat_map(|(change, _)| &change.steps)
}

fn answer(group: Vec<Waiting>, done: &Result<()>) {
    for (_, answer) in group {
        let _nobody_waits = answer.send(done.clone());
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

fn read(database: &Database, journal: &mut Journal, name: &str) -> std::result::Result<Records, redb::Error> {
    let mut records = Records::new();
    let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(name);
    match database.begin_read()?.open_table(definition) {
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        table => {
            for entry in table?.iter()? {
                let (key, value) = entry?;
                records.insert(key.value().to_owned(), value.value().to_owned());
            }
        }
    }
    for step in journal.read()?.0.into_iter().filter(|step| step.table == name) {
        match step.value {
            Some(value) => records.insert(step.key, value),
            None => records.remove(&step.key),
        };
    }
    Ok(records)
}
