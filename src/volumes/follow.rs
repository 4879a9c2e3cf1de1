//! Volumes follow their driver to the name it has now.
//!
//! What is written down of a volume - its record, and what the ledger has of it - gets the new name in one commit, in the
//! volume's turn; then memory, and the lease. Nothing is mounted or unmounted, and the plugin is not asked: it is the same
//! driver. Where one plugin only takes the other's place, a managed one that of a legacy one of the same name, it is asked
//! first whether it has the volume: a legacy plugin that is away for a moment loses nothing to its namesake, and gets back
//! what was its own when the managed one is removed.
//!
//! A kill leaves volumes under the old name, which goes on leading to the new one (`drivers`): the next start goes on here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::known::Written;
use super::ledger::{MOUNTS, Mount};
use super::record::{Record, VOLUMES};
use super::{Problem, Volume, Volumes};
use crate::drivers::{Driver, Drivers, Found, Heir};
use crate::error::chain;
use crate::state::Change;

/// How long whoever has renamed a driver waits for its volumes. Those that are in the midst of a longer call follow
/// when that has ended.
pub const FOLLOW_WAIT: Duration = Duration::from_secs(10);
/// How many volumes follow at a time: as many as share a commit.
const FOLLOWERS_MAX: usize = 256;

impl Volumes {
    /// Has all volumes follow their drivers, and waits for that, [`FOLLOW_WAIT`] at the most.
    pub async fn follow(&self) {
        let volumes = self.clone();
        let following = tokio::spawn(async move { volumes.follow_all().await });
        if tokio::time::timeout(FOLLOW_WAIT, following).await.is_err() {
            tracing::warn!("some volumes have yet to follow their driver to its new name");
        }
    }

    /// One try, of all volumes whose driver is not there under the name that is written down; how many have followed.
    pub(super) async fn follow_all(&self) -> usize {
        let mut names = Vec::new();
        for written in self.0.known.drivers() {
            if self.heir(&written).await.is_some() {
                names.extend(self.0.known.of_driver(&written));
            }
        }
        let followers = names.into_iter().map(|name| async move { self.follow_one(&name).await });
        let followers = futures_util::stream::iter(followers).buffer_unordered(FOLLOWERS_MAX);
        followers.filter(|has_followed| std::future::ready(*has_followed)).count().await
    }

    /// Has a volume follow its driver, in its turn, if there is one to follow; says whether it did.
    pub(super) async fn follow_one(&self, name: &str) -> bool {
        let Some(written) = self.0.known.written(name) else { return false };
        if self.heir(&written).await.is_none() {
            return false;
        }
        let _turn = self.0.turns.take(name).await;
        self.follow_in_turn(name).await
    }

    /// The volume of a name whose turn it is, after it has followed its driver.
    pub(super) async fn known_in_turn(&self, name: &str) -> Option<Arc<Volume>> {
        self.follow_in_turn(name).await;
        self.0.known.find(name)
    }

    /// Has those follow that a driver lists and that are written down as its namesake's, until the deadline.
    pub(super) async fn follow_listed(&self, driver: &Driver, found: &[Found], deadline: Instant) {
        let is_namesakes = |found: &&Found| {
            let known = self.0.known.find(&found.name);
            known.is_some_and(|known| {
                known.driver != driver.name() && Drivers::same(&known.driver, driver.name())
            })
        };
        let following = found.iter().filter(is_namesakes).map(|found| self.follow_one(&found.name));
        // Late, they are left out this once.
        let _ = timeout_at(deadline, join_all(following)).await;
    }

    /// The same as [`Volumes::follow_one`], of a volume whose turn it is.
    async fn follow_in_turn(&self, name: &str) -> bool {
        match self.try_to_follow(name).await {
            Ok(has_followed) => has_followed,
            Err(problem) => {
                let error = chain(&problem);
                tracing::warn!(volume = name, error, "a volume cannot follow its driver; it is tried again");
                false
            }
        }
    }

    async fn heir(&self, written: &Written) -> Option<Heir> {
        self.0.drivers.heir(&written.driver, written.formerly.as_deref()).await
    }

    async fn try_to_follow(&self, name: &str) -> Result<bool, Problem> {
        let Some(Written { driver: former, formerly }) = self.0.known.written(name) else { return Ok(false) };
        let heir = self.0.drivers.heir(&former, formerly.as_deref()).await;
        let (driver, formerly) = match heir {
            Some(Heir::Renamed(now)) => (now, None),
            Some(Heir::Namesake(heir)) if has(&heir, name, self.0.list_deadline).await => {
                // Only what was a legacy plugin's before goes back to it.
                let is_back = formerly.as_deref() == Some(heir.name());
                (heir.name().to_owned(), (!is_back).then(|| former.clone()))
            }
            Some(Heir::Namesake(_)) | None => return Ok(false),
        };
        let Some(record) = self.0.known.record(name) else { return Ok(false) };
        let record = Record { driver: driver.clone(), formerly, ..record };
        let rows = self.0.ledger.of_volume(name).into_iter().filter(|row| row.driver == former);
        let rows: Vec<_> = rows.map(|row| Mount { driver: driver.clone(), ..row }).collect();
        let mut change = Change::new().put(VOLUMES, name, &record)?;
        for row in &rows {
            change = change.put(MOUNTS, row.id(), row)?;
        }
        self.0.store.commit(change).await?;
        for row in rows {
            self.0.ledger.put(row);
        }
        self.0.known.rewrite(name, record, &self.0.drivers);
        tracing::info!(volume = name, former, driver, "has followed its driver");
        self.tell("update", name, &driver);
        Ok(true)
    }
}

/// Whether a driver says that it has a volume. One that does not run is not waited for.
async fn has(driver: &Driver, name: &str, patience: Duration) -> bool {
    driver.is_here() && matches!(driver.get_within(name, patience).await, Ok(Some(_)))
}
