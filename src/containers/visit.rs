//! Volumes that are mounted while somebody looks into a container: `docker cp` of one that does not run.
//!
//! The last visit to end has them unmounted, if the container does not use them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Containers;

/// How many visits there are, by the token of the container.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<BTreeMap<String, usize>>);

impl Visits {
    pub(super) fn any(&self, token: &str) -> bool {
        self.locked().contains_key(token)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A visit, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    containers: Containers,
    token: String,
    id: String,
}

impl Containers {
    /// Begins a visit of a container whose volumes are mounted.
    pub(super) fn begin_visit(&self, token: &str, id: &str) -> Visit {
        *self.0.visits.locked().entry(token.to_owned()).or_default() += 1;
        Visit { containers: self.clone(), token: token.to_owned(), id: id.to_owned() }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let is_last = {
            let mut visits = self.containers.0.visits.locked();
            let left = visits.get(&self.token).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => visits.remove(&self.token),
                left => visits.insert(self.token.clone(), left),
            };
            left == 0
        };
        let (containers, token, id) = (self.containers.clone(), self.token.clone(), self.id.clone());
        // Without a runtime the daemon is ending; the next start looks.
        if let (true, Ok(runtime)) = (is_last, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { containers.ended(&token, &id).await });
        }
    }
}
