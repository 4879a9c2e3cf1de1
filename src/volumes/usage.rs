//! How much disk the local volumes take: `GET /system/df`.
//!
//! As dockerd, only local volumes without options: the data of others is elsewhere.

use std::sync::Arc;

use super::{Result, Volume, Volumes, blocking};
use crate::error::chain;

/// One volume's use of the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The volume.
    pub volume: Arc<Volume>,
    /// How many bytes its files take; `None` when that cannot be found out.
    pub size_bytes: Option<u64>,
    /// How many hold it.
    pub references: usize,
}

impl Volumes {
    /// The local volumes with what they take on disk, by name. Walks through all of their directories.
    ///
    /// # Errors
    /// Only when it is interrupted.
    pub async fn usage(&self) -> Result<Vec<Usage>> {
        let mut found = Vec::new();
        self.0.known.each(|entry| {
            if entry.volume.is_local() && !entry.volume.has_options() {
                found.push(Arc::clone(&entry.volume));
            }
        });
        let local = Arc::clone(&self.0.local);
        let measured = blocking(move || {
            let measure = |volume: Arc<Volume>| {
                let size = local.measure(&volume.name);
                (volume, size)
            };
            found.into_iter().map(measure).collect::<Vec<_>>()
        });
        let usage = measured.await?.into_iter().map(|(volume, size)| {
            let size_bytes = size
                .map_err(|error| tracing::warn!(volume = volume.name, error = chain(&error), "size unknown"))
                .ok();
            let references = self.0.known.holders(&volume.name);
            Usage { volume, size_bytes, references }
        });
        Ok(usage.collect())
    }
}
