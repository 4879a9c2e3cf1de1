//! Legacy plugins: whatever listens where a file in one of a few directories says, and calls itself a volume driver.
//!
//! ```text
//! discover  which file names a plugin       address  what is written in it: where, and whom to believe
//! ```
//!
//! Nothing is watched: a name is looked for when somebody asks for it, all of them when all are listed. A plugin that
//! was found is greeted once (`Plugin.Activate`) and used as long as its file is the same and it can be reached; a plugin
//! that comes back is greeted anew. Nobody but who asks waits for the greeting. This file does not know which names managed
//! plugins have.

mod address;
mod discover;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use self::discover::Source;
use super::calls::Calls;
use super::deadlines::Deadlines;
use super::driver::Driver;
use super::error::{Error, LegacyError};
use super::presence::Presence;
use super::scope::Scope;

/// The legacy plugins of this machine.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    directories: Vec<PathBuf>,
    deadlines: Deadlines,
    /// Those that were used, by name. Held only for a look or a change in memory.
    known: Mutex<BTreeMap<String, Entry>>,
}

/// A legacy plugin that was used.
#[derive(Debug, Default)]
struct Entry {
    /// Its numbers; they go on when it is found again.
    calls: Arc<Calls>,
    /// The file that names it, and what was found by it.
    live: Option<(Source, Arc<Driver>)>,
}

/// A driver, and whether it was not known before.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) driver: Arc<Driver>,
    pub(super) is_new: bool,
}

impl Legacy {
    /// Plugins that files in these directories name.
    pub(super) fn new(directories: Vec<PathBuf>, deadlines: Deadlines) -> Self {
        Self { directories, deadlines, known: Mutex::default() }
    }

    /// The plugin of a name; `None` when no file names it.
    ///
    /// # Errors
    /// [`Error::Legacy`].
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Error> {
        self.try_find(name)
            .await
            .map_err(|problem| Error::Legacy { name: name.to_owned(), problem: Box::new(problem) })
    }

    /// Whether a file names the plugin; it is not greeted.
    pub(super) async fn has(&self, name: &str) -> bool {
        let (directories, name) = (self.directories.clone(), name.to_owned());
        let looked = tokio::task::spawn_blocking(move || discover::find(&directories, &name).is_some()).await;
        // Who could not look takes none for gone.
        looked.unwrap_or(true)
    }

    /// The names of all that there are.
    pub(super) async fn names(&self) -> BTreeSet<String> {
        if self.directories.is_empty() {
            return BTreeSet::new();
        }
        let directories = self.directories.clone();
        let names = tokio::task::spawn_blocking(move || discover::names(&directories)).await;
        names.unwrap_or_else(|error| {
            tracing::error!(%error, "the search for legacy plugins was interrupted");
            BTreeSet::new()
        })
    }

    /// Those that were found when they were last looked for.
    pub(super) fn known(&self) -> Vec<Arc<Driver>> {
        self.entries().values().filter_map(|entry| Some(Arc::clone(&entry.live.as_ref()?.1))).collect()
    }

    async fn try_find(&self, name: &str) -> Result<Option<Found>, LegacyError> {
        let (directories, asked) = (self.directories.clone(), name.to_owned());
        let before = self.live(name).filter(|(_, driver)| !driver.is_lost()).map(|(source, _)| source);
        let looked = tokio::task::spawn_blocking(move || {
            let Some(source) = discover::find(&directories, &asked) else { return Ok(None) };
            // What is known already need not be read again.
            let way = if before.as_ref() == Some(&source) { None } else { Some(address::read(&source)?) };
            Ok(Some((source, way)))
        });
        let looked = looked.await.map_err(|error| LegacyError::Interrupted(error.to_string()))?;
        let Some((source, way)) = looked? else {
            self.lose(name);
            return Ok(None);
        };
        let Some(way) = way else {
            // Unless it was lost while it was looked for.
            return Ok(self.live(name).map(|(_, driver)| Found { driver, is_new: false }));
        };
        self.lose(name);
        // Whether it is there nobody knows before it is asked.
        let presence = watch::Sender::new(Presence::Here).subscribe();
        let calls = self.entries().get(name).map(|entry| Arc::clone(&entry.calls)).unwrap_or_default();
        let driver = Driver::new(name, way, Scope::Host, presence, self.deadlines, Arc::clone(&calls));
        if !driver.activate().await.map_err(|error| LegacyError::Activate(Box::new(error)))? {
            return Err(LegacyError::NotAVolumeDriver);
        }
        tracing::info!(driver = name, path = %source.path.display(), "found a legacy volume plugin");
        let driver = Arc::new(driver);
        let entry = Entry { calls, live: Some((source, Arc::clone(&driver))) };
        let replaced = self.entries().insert(name.to_owned(), entry);
        // After the lock: it may have connections to close.
        drop(replaced);
        Ok(Some(Found { driver, is_new: true }))
    }

    fn live(&self, name: &str) -> Option<(Source, Arc<Driver>)> {
        self.entries().get(name)?.live.clone()
    }

    fn lose(&self, name: &str) {
        let lost = self.entries().get_mut(name).and_then(|entry| entry.live.take());
        drop(lost);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
