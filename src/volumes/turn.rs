//! One change of a name at a time.
//!
//! A lock for each name that is being changed, made when it is needed and forgotten with its last user. It may be
//! held while a plugin is waited for: only changes of the same name wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Locks = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The names that are being changed.
#[derive(Debug, Default)]
pub(super) struct Turns(Locks);

/// The right to change one name, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    locks: Locks,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the name's turn; first come, first served.
    pub(super) async fn take(&self, name: &str) -> Turn {
        let lock = Arc::clone(locked(&self.0).entry(name.to_owned()).or_default());
        // Made before waiting, so that a waiter who goes away cleans up as well.
        let mut turn = Turn { locks: Arc::clone(&self.0), name: name.to_owned(), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut locks = locked(&self.locks);
        drop(self.guard.take());
        // Only the map knows it: nobody holds it, and nobody waits, for waiters are counted too.
        if locks.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.name);
        }
    }
}

fn locked(locks: &Locks) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
    locks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_at_a_time_and_nothing_is_left() {
        let turns = Arc::new(Turns::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
                tokio::spawn(async move {
                    let _turn = turns.take("a").await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(locked(&turns.0).is_empty());
    }

    #[tokio::test]
    async fn other_names_do_not_wait() {
        let turns = Turns::default();
        let _a = turns.take("a").await;
        let _b = turns.take("b").await;
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_leaves_nothing() {
        let turns = Arc::new(Turns::default());
        let held = turns.take("a").await;
        let waiter = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { drop(turns.take("a").await) }
        });
        tokio::task::yield_now().await;
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        drop(held);
        assert!(locked(&turns.0).is_empty());
    }
}
