//! Which blobs are in use although no record names them yet.
//!
//! Pure bookkeeping, no file. The rule that makes collecting sound: a blob is pinned before it gets its name, and
//! unpinned after a record names it. While a collection runs, everything that is or gets pinned counts as pinned
//! until the collection ends; so a blob whose record the collector did not see was pinned when it looked, or
//! later, and is left alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oci::Digest;

/// Keeps a blob from being collected, until it is dropped.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    digest: Digest,
}

impl Pin {
    pub(super) fn new(pins: Arc<Pins>, digest: Digest) -> Self {
        {
            let mut pinned = pins.locked();
            *pinned.counts.entry(digest).or_default() += 1;
            if let Some(seen) = &mut pinned.seen {
                seen.insert(digest);
            }
        }
        Self { pins, digest }
    }

    /// Which blob is kept.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.pins), self.digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.pins.locked();
        if let Some(count) = pinned.counts.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                pinned.counts.remove(&self.digest);
            }
        }
    }
}

/// All pins of one store.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pinned: Mutex<Pinned>,
    /// Held during a collection: one at a time.
    collecting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Pinned {
    /// How many pins each digest has; never zero.
    counts: HashMap<Digest, usize>,
    /// During a collection: what was pinned at any time since it began.
    seen: Option<HashSet<Digest>>,
}

impl Pins {
    /// Begins a collection, after the one that runs.
    pub(super) fn collect(&self) -> Collection<'_> {
        let one_at_a_time = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pinned = self.locked();
        pinned.seen = Some(pinned.counts.keys().copied().collect());
        Collection { pins: self, _one_at_a_time: one_at_a_time }
    }

    fn locked(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection that runs.
pub(super) struct Collection<'a> {
    pins: &'a Pins,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Collection<'_> {
    /// Calls `remove` unless the blob was pinned since the collection began. Nobody pins it meanwhile.
    pub(super) fn unless_pinned<T>(&self, digest: &Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let pinned = self.pins.locked();
        let in_use = pinned.seen.as_ref().is_none_or(|seen| seen.contains(digest));
        (!in_use).then(remove)
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.pins.locked().seen = None;
    }
}
