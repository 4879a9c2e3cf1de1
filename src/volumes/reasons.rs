//! Why volumes are not as they should be, by name: what inspect tells until it is mended. In memory only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The reasons of one kind.
#[derive(Debug, Default)]
pub(super) struct Reasons(Mutex<BTreeMap<String, String>>);

impl Reasons {
    /// The last one for a volume.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        self.locked().get(name).cloned()
    }

    pub(super) fn note(&self, name: &str, reason: String) {
        self.locked().insert(name.to_owned(), reason);
    }

    pub(super) fn forget(&self, name: &str) {
        self.locked().remove(name);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
