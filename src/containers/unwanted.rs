//! Containers that nobody wants: those that only show an image, and those whose create was not seen to its end.
//!
//! An engine goes on making a container when whoever asked for it has been killed, so one may turn up after it was given
//! up. Its token is kept for a while, and it is removed when it turns up. Only tokens that were written down here are
//! touched: an engine may have another dockplugd in front of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::record::UNWANTED;
use super::{Containers, Result};
use crate::state::Change;

/// How long one that was given up may take to turn up.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Those that nobody wants: token, and since when.
#[derive(Debug, Default)]
pub(super) struct Unwanted(Mutex<BTreeMap<String, Timestamp>>);

impl Unwanted {
    pub(super) fn of(rows: Vec<(String, Timestamp)>) -> Self {
        Self(Mutex::new(rows.into_iter().collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    pub(super) fn contains(&self, token: &str) -> bool {
        self.locked().contains_key(token)
    }

    /// Those that will not turn up any more.
    fn old(&self) -> Vec<String> {
        let now = Timestamp::now();
        let is_old = |since: &Timestamp| now.duration_since(*since) > KEPT;
        let all = self.locked();
        all.iter().filter(|(_, since)| is_old(since)).map(|(token, _)| token.clone()).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens of containers that are being made by this very daemon.
#[derive(Debug, Default)]
pub(super) struct Making(Arc<Mutex<BTreeSet<String>>>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct InMaking {
    all: Arc<Mutex<BTreeSet<String>>>,
    token: String,
}

impl Drop for InMaking {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

impl Containers {
    /// From now on a container is being made.
    pub(super) fn making(&self, token: &str) -> InMaking {
        let all = Arc::clone(&self.0.making.0);
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned());
        InMaking { all, token: token.to_owned() }
    }

    pub(super) fn is_being_made(&self, token: &str) -> bool {
        self.0.making.0.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    /// From now on nobody wants the container with this token.
    pub(super) async fn give_up(&self, token: &str) -> Result<()> {
        let now = Timestamp::now();
        self.0.store.commit(Change::new().put(UNWANTED, token, &now)?).await?;
        self.0.unwanted.locked().insert(token.to_owned(), now);
        Ok(())
    }

    /// It is gone, or never was.
    pub(super) async fn forget_unwanted(&self, token: &str) -> Result<()> {
        self.0.store.commit(Change::new().delete(UNWANTED, token)).await?;
        self.0.unwanted.locked().remove(token);
        Ok(())
    }

    /// Removes those that have turned up (`found`: id by token, of containers that do not run), and forgets the old ones.
    pub(super) async fn remove_all_unwanted(&self, found: &BTreeMap<String, String>) -> Result<()> {
        for (token, id) in found {
            if self.0.unwanted.contains(token) && !self.is_being_made(token) {
                self.remove_unwanted(token, id).await;
            }
        }
        for token in self.0.unwanted.old() {
            self.forget_unwanted(&token).await?;
        }
        Ok(())
    }
}
