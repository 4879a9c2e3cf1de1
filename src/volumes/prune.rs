//! `POST /volumes/prune`.
//!
//! One at a time. A volume is looked at again when its turn has come: what got a holder meanwhile stays. Volumes of
//! plugins are pruned only when their driver is named, and only those with a record: of the others nobody here knows
//! who uses them. How much that frees only the plugin knows: it is not counted.

use super::{Error, Prune, Result, Volumes};
use crate::error::chain;
use crate::events::{Event, Type};
use crate::finish::finish;

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The names of the volumes that are gone, sorted.
    pub deleted: Vec<String>,
    /// How many bytes of disk that freed; of local volumes alone.
    pub reclaimed_bytes: u64,
}

impl Volumes {
    /// Removes volumes that nothing uses. One that cannot be removed is left out, and logged.
    ///
    /// # Errors
    /// [`Error::PruneRunning`].
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        let (volumes, prune) = (self.clone(), prune.clone());
        finish(async move { volumes.prune_to_the_end(&prune).await }).await
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
            let found = self.0.known.find(&name);
            let Some(volume) = found.filter(|volume| prune.matches(volume, held)) else { continue };
            let removed = if volume.is_local() {
                self.remove_local(&name).await
            } else {
                self.remove_in_plugin(&volume, false).await.map(|()| 0)
            };
            match removed {
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
