//! The one thread that has the database open: takes what is waiting, writes it in one transaction, answers all.
//!
//! redb refuses every further use of a database after an error of the disk, until it is opened anew. So the writer
//! drops the database after a failed transaction and opens it again for the next job: a disk that was full for an
//! hour does not need a restart of the daemon.

use std::sync::{Arc, mpsc};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use super::{Change, Error, Result};

/// How many changes share one transaction at most: more would only make the first of them wait longer.
pub(super) const GROUP_MAX: usize = 256;

/// Opens the database, at the start and after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database> + Send>;
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
    database: Option<Database>,
    /// How many transactions have been written.
    pub(super) transactions: u64,
}

impl Writer {
    pub(super) fn new(opener: Opener) -> Result<Self> {
        let database = Some(opener()?);
        Ok(Self { opener, database, transactions: 0 })
    }

    /// Works until all senders are gone and nothing waits any more, then closes the database.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        self.work(jobs);
        tracing::debug!(transactions = self.transactions, "closing the state file");
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
        let database = self.database()?;
        match write(database, group.iter().map(|(change, _)| change)) {
            Ok(()) => {
                self.transactions += 1;
                Ok(())
            }
            Err(error) => {
                tracing::error!(error = crate::error::chain(&error), "writing the state file failed");
                self.database = None;
                Err(Error::Commit(Arc::new(error)))
            }
        }
    }

    fn load(&mut self, table: &'static str) -> Result<Records> {
        let read = |database: &Database| read(database, table);
        read(self.database()?).map_err(|source| Error::Read { table, source: Arc::new(source) })
    }

    fn database(&mut self) -> Result<&Database> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.opener)()?,
        };
        Ok(self.database.insert(database))
    }
}

fn write<'a>(
    database: &Database,
    changes: impl Iterator<Item = &'a Change>,
) -> std::result::Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    for step in changes.flat_map(|change| &change.steps) {
        let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(step.table);
        let mut table = transaction.open_table(definition)?;
        match &step.value {
            Some(value) => table.insert(step.key.as_str(), value.as_slice())?,
            None => table.remove(step.key.as_str())?,
        };
    }
    Ok(transaction.commit()?)
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
