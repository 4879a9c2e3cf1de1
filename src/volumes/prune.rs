//! `POST /volumes/prune`.
//!
//! One at a time. A volume is looked at again when its turn has come: what got a holder meanwhile stays.

use super::{Error, Prune, Result, Volumes};
use crate::error::chain;
use crate::events::{Event, Type};

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The names of the volumes that are gone, sorted.
    pub deleted: Vec<String>,
    /// How many bytes of disk that freed.
    pub reclaimed_bytes: u64,
}

impl Volumes {
    /// Removes local volumes that nothing uses. One that cannot be removed is left out, and logged.
    ///
    /// # Errors
    /// [`Error::PruneRunning`].
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        let (volumes, prune) = (self.clone(), prune.clone());
        self.finish(async move { volumes.prune_to_the_end(&prune).await }).await
    }

    async fn prune_to_the_end(&self, prune: &Prune) -> Result<Pruned> {
        let _only = self.0.pruning.try_lock().map_err(|_| Error::PruneRunning)?;
        let mut names = Vec::new();
        self.0.known.each(|entry| {
            if prune.matches(&entry.volume, entry.is_held()) {
                names.push(entry.volume.name.clone());
            }
        });
        let mut pruned = Pruned::default();
        for name in names {
            let _turn = self.0.turns.take(&name).await;
            let held = self.0.known.is_held(&name);
            if !self.0.known.find(&name).is_some_and(|volume| prune.matches(&volume, held)) {
                continue;
            }
            match self.remove_local(&name).await {
                Ok(freed_bytes) => {
                    pruned.reclaimed_bytes = pruned.reclaimed_bytes.saturating_add(freed_bytes);
                    pruned.deleted.push(name);
                }
                Err(error) => tracing::warn!(error = chain(&error), "a volume could not be pruned"),
            }
        }
        let event =
            Event::new(Type::Volume, "prune", "").with("reclaimed", pruned.reclaimed_bytes.to_string());
        self.0.events.publish(event);
        Ok(pruned)
    }
}
