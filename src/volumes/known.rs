//! All volumes that have a record, in memory, and who holds each of them.
//!
//! The lock is held for a look or a change in memory only. Who may change which name when is `turn`'s business; who
//! the holders are is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::local::Local;
use super::record::Record;
use super::{Problem, Volume};
use crate::drivers::{Drivers, Lease, Reach};

/// The volumes by name.
#[derive(Debug, Default)]
pub(super) struct Known(RwLock<BTreeMap<String, Entry>>);

/// One volume.
#[derive(Debug)]
pub(super) struct Entry {
    /// As its record tells it: of a local volume, all there is to tell. Shared with whoever asked.
    pub(super) volume: Arc<Volume>,
    /// Who uses it, as references: those the ledger has in use.
    holders: BTreeSet<String>,
    /// Who counts on it though they do not use it now: containers that exist.
    owners: BTreeSet<String>,
    /// See [`Record::formerly`].
    formerly: Option<String>,
    /// While it exists its plugin cannot be disabled or removed. None for a local volume.
    lease: Option<Lease>,
}

/// What is written down of a volume's driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) driver: String,
    /// See [`Record::formerly`].
    pub(super) formerly: Option<String>,
}

impl Entry {
    /// The entry of a record, with a lease on its driver.
    pub(super) fn new(name: &str, record: Record, local: &Local, drivers: &Drivers) -> Self {
        let is_local = record.is_local();
        let lease = (!is_local).then(|| drivers.lease(&record.driver));
        let volume = Volume {
            name: name.to_owned(),
            driver: record.driver,
            mountpoint: is_local.then(|| local.mountpoint(name)),
            created_at: Some(record.created_at),
            reach: Reach::Local,
            labels: record.labels,
            options: record.options,
            status: None,
        };
        let (holders, owners) = (BTreeSet::new(), BTreeSet::new());
        Self { volume: Arc::new(volume), holders, owners, formerly: record.formerly, lease }
    }

    /// What is written down of its driver; nothing of a local volume.
    fn written(&self) -> Option<(&str, Option<&str>)> {
        (!self.volume.is_local()).then_some((self.volume.driver.as_str(), self.formerly.as_deref()))
    }

    /// Whether something uses it.
    pub(super) fn is_held(&self) -> bool {
        !self.holders.is_empty() || !self.owners.is_empty()
    }

    /// All who use it or count on it.
    fn users(&self) -> BTreeSet<&String> {
        self.holders.union(&self.owners).collect()
    }
}

impl Written {
    fn of((driver, formerly): (&str, Option<&str>)) -> Self {
        Self { driver: driver.to_owned(), formerly: formerly.map(str::to_owned) }
    }
}

impl Known {
    /// The volume of a name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Volume>> {
        self.read().get(name).map(|entry| Arc::clone(&entry.volume))
    }

    /// The volume of a name, and whether something uses it.
    pub(super) fn look(&self, name: &str) -> Option<(Arc<Volume>, bool)> {
        self.read().get(name).map(|entry| (Arc::clone(&entry.volume), entry.is_held()))
    }

    /// What is written down of all drivers, each once, but for the local one.
    pub(super) fn drivers(&self) -> Vec<Written> {
        let known = self.read();
        let written: BTreeSet<_> = known.values().filter_map(Entry::written).collect();
        written.into_iter().map(Written::of).collect()
    }

    /// The names of the volumes of which this is written down.
    pub(super) fn of_driver(&self, written: &Written) -> Vec<String> {
        let wanted = (written.driver.as_str(), written.formerly.as_deref());
        let known = self.read();
        let of_driver = known.iter().filter(|(_, entry)| entry.written() == Some(wanted));
        of_driver.map(|(name, _)| name.clone()).collect()
    }

    /// What is written down of the driver of a name; nothing of a local volume.
    pub(super) fn written(&self, name: &str) -> Option<Written> {
        self.read().get(name)?.written().map(Written::of)
    }

    /// Calls `look` with every volume, by name.
    pub(super) fn each(&self, look: impl FnMut(&Entry)) {
        self.read().values().for_each(look);
    }

    /// Whether something uses the name.
    pub(super) fn is_held(&self, name: &str) -> bool {
        self.read().get(name).is_some_and(Entry::is_held)
    }

    /// Adds a volume, or replaces the one that has the name.
    pub(super) fn insert(&self, name: &str, entry: Entry) {
        self.write().insert(name.to_owned(), entry);
    }

    /// Tells a volume that has a record otherwise; its holders stay.
    pub(super) fn replace(&self, volume: Arc<Volume>) {
        if let Some(entry) = self.write().get_mut(&volume.name) {
            entry.volume = volume;
        }
    }

    /// Tells a plugin's volume as its new record does, and counts on the driver in that; its holders stay.
    pub(super) fn rewrite(&self, name: &str, record: Record, drivers: &Drivers) {
        let lease = drivers.lease(&record.driver);
        let mut known = self.write();
        let Some(entry) = known.get_mut(name) else { return };
        let Record { driver, formerly, options, labels, created_at } = record;
        let created_at = Some(created_at);
        let volume = Volume { driver, created_at, labels, options, ..Volume::clone(&entry.volume) };
        entry.volume = Arc::new(volume);
        entry.formerly = formerly;
        let before = entry.lease.replace(lease);
        // After the lock is released, as below.
        drop(known);
        drop(before);
    }

    /// The record of a volume.
    pub(super) fn record(&self, name: &str) -> Option<Record> {
        let known = self.read();
        let Entry { volume, formerly, .. } = known.get(name)?;
        Some(Record {
            driver: volume.driver.clone(),
            formerly: formerly.clone(),
            options: volume.options.clone(),
            labels: volume.labels.clone(),
            // What has a record has a time.
            created_at: volume.created_at.unwrap_or_else(Timestamp::now),
        })
    }

    /// Forgets a volume.
    pub(super) fn forget(&self, name: &str) {
        // Dropped after the lock is released: dropping a lease takes the drivers' lock.
        let forgotten = self.write().remove(name);
        drop(forgotten);
    }

    /// The problem that keeps a name from being removed: who uses it.
    pub(super) fn check_unused(&self, name: &str) -> Result<(), Problem> {
        match self.read().get(name) {
            Some(entry) if entry.is_held() => {
                Err(Problem::InUse { holders: entry.users().into_iter().cloned().collect() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Adds a holder, which the ledger has on disk.
    pub(super) fn hold(&self, name: &str, holder: &str) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.holders.insert(holder.to_owned());
        }
    }

    /// Takes a holder away; fine when it was none.
    pub(super) fn release(&self, name: &str, holder: &str) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.holders.remove(holder);
        }
    }

    /// Adds who counts on a name.
    pub(super) fn own(&self, name: &str, owner: &str) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.owners.insert(owner.to_owned());
        }
    }

    /// Takes who counts on a name away; fine when they did not.
    pub(super) fn disown(&self, name: &str, owner: &str) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.owners.remove(owner);
        }
    }

    /// How many hold a name.
    pub(super) fn holders(&self, name: &str) -> usize {
        self.read().get(name).map_or(0, |entry| entry.users().len())
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
