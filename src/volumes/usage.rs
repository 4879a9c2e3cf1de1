//! How much disk the local volumes take: `GET /system/df`.
//!
//! As dockerd, only local volumes without options: the data of others is elsewhere. Sizes are of the moment: all who ask
//! share one measurement, and wait for it, but not longer than [`USAGE_DEADLINE`]. What was not measured by then is told as
//! it was when it was last measured, with that time, or as unknown; the measurement goes on, so that the next who asks
//! has it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{Result, Volume, Volumes};
use crate::error::chain;

/// How long whoever asks waits for sizes.
pub const USAGE_DEADLINE: Duration = Duration::from_secs(10);

/// One volume's use of the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The volume.
    pub volume: Arc<Volume>,
    /// How many bytes its files take; `None` when that cannot be found out, or not yet.
    pub size_bytes: Option<u64>,
    /// When they did, if that was before the size was asked for.
    pub measured_at: Option<Timestamp>,
    /// How many hold it.
    pub references: usize,
}

impl Volumes {
    /// The local volumes with what they take on disk, by name. Takes [`USAGE_DEADLINE`] at the most.
    ///
    /// # Errors
    /// Only when the machine has no thread left.
    pub async fn usage(&self) -> Result<Vec<Usage>> {
        self.usage_within(USAGE_DEADLINE).await
    }

    pub(super) async fn usage_within(&self, deadline: Duration) -> Result<Vec<Usage>> {
        let asked = std::time::Instant::now();
        let until = Instant::from_std(asked) + deadline;
        let mut wanted = Vec::new();
        self.0.known.each(|entry| {
            if entry.volume.is_local() && !entry.volume.has_options() {
                wanted.push(Arc::clone(&entry.volume));
            }
        });
        let is_fresh =
            |volume: &Arc<Volume>| self.0.sizes.of(volume).is_some_and(|size| size.looked >= asked);
        while !wanted.iter().all(is_fresh) {
            let mut measurement = self.measure(&wanted)?;
            // The error is that it has ended.
            let Ok(Err(_)) = timeout_at(until, measurement.changed()).await else { break };
        }
        let usage = wanted.into_iter().map(|volume| {
            let measured = self.0.sizes.of(&volume);
            let stale = measured.filter(|measured| measured.looked < asked);
            let references = self.0.known.holders(&volume.name);
            Usage {
                size_bytes: measured.and_then(|measured| measured.bytes),
                measured_at: stale.map(|measured| measured.at),
                references,
                volume,
            }
        });
        Ok(usage.collect())
    }

    fn measure(&self, volumes: &[Arc<Volume>]) -> Result<tokio::sync::watch::Receiver<()>> {
        let local = Arc::clone(&self.0.local);
        let measure = move |name: &str| {
            let size = local.measure(name);
            size.map_err(|error| tracing::warn!(volume = name, error = chain(&error), "size unknown")).ok()
        };
        self.0.sizes.measure(volumes.to_vec(), measure).map_err(super::Error::Thread)
    }
}
