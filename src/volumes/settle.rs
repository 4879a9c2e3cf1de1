//! Making the ledger, the kernel and the plugins agree: at the start, and whenever a plugin comes back.
//!
//! At the start what is staged without a row is detached. A row that is `Held` and has nothing staged, or something
//! dead, is mounted again with the same reference; one that is `Owed` is paid. Both need the plugin: they are done
//! when its driver becomes live. A plugin that has forgotten a volume in use gets it with its options again. A plugin that
//! fails at it is asked again the next time it comes. Local volumes need no plugin: they are settled at the start, by `attach`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::ledger::{Ledger, Mount, Phase};
use super::mount::is_no;
use super::stage::{self, Stage};
use super::{Problem, Volumes};
use crate::drivers::Driver;
use crate::error::chain;

/// How long a staged file system may take to say that it lives. One that hangs is left as it is.
const ALIVE_DEADLINE: Duration = Duration::from_secs(2);

/// Detaches what the ledger does not have in use. Blocking, for the start.
///
/// # Errors
/// The directory of staged mounts, or the kernel's table, cannot be read.
pub(super) fn sweep(stage: &Stage, ledger: &Ledger) -> Result<(), stage::Error> {
    let rows = ledger.all();
    let kept: Vec<_> = rows.iter().filter(|row| row.phase == Phase::Held).map(Mount::id).collect();
    let found = stage.mounted()?.into_iter().chain(stage.places()?);
    for orphan in found.filter(|id| !kept.contains(id)) {
        if let Err(error) = stage.clear(&orphan) {
            tracing::warn!(orphan, error = chain(&error), "a mount that nobody uses is left staged");
        }
    }
    Ok(())
}

impl Volumes {
    /// Mounts again what was lost and pays what is owed, from now on whenever a driver becomes live; has volumes follow
    /// whenever one gets another name. Needs a runtime; ends with the last of these volumes.
    pub fn follow_drivers(&self) {
        let mut arrivals = self.0.drivers.arrivals();
        arrivals.mark_changed();
        let inner = Arc::downgrade(&self.0);
        self.settle_local_to_the_end();
        tokio::spawn(async move {
            while arrivals.changed().await.is_ok() {
                let Some(inner) = inner.upgrade() else { return };
                // On its own: a plugin that hangs must not keep the next one waiting.
                tokio::spawn(async move {
                    let volumes = Self(inner);
                    let following = async {
                        // What has followed may have something to settle with its driver.
                        if volumes.follow_all().await > 0 {
                            volumes.settle().await;
                        }
                    };
                    tokio::join!(volumes.settle(), following)
                });
            }
        });
    }

    /// Looks at every row whose driver is live; drivers at once, the rows of one after the other.
    pub(super) async fn settle(&self) {
        let mut by_driver: BTreeMap<String, Vec<Mount>> = BTreeMap::new();
        for row in self.0.ledger.all() {
            if !row.is_local() {
                by_driver.entry(row.driver.clone()).or_default().push(row);
            }
        }
        let settle = |(driver, rows): (String, Vec<Mount>)| async move {
            // One that is being started becomes live once more when it listens.
            if !self.0.drivers.recorded(&driver).await.is_ok_and(|driver| driver.is_here()) {
                return;
            }
            for row in rows {
                if let Err(problem) = self.settle_one(&row).await {
                    let (volume, reference, error) = (&row.volume, &row.reference, chain(&problem));
                    tracing::warn!(volume, reference, error, "a mount is not as the ledger has it");
                }
            }
        };
        join_all(by_driver.into_iter().map(settle)).await;
    }

    async fn settle_one(&self, row: &Mount) -> Result<(), Problem> {
        let _turn = self.0.turns.take(&row.volume).await;
        // Its turn has come: what is true of it now?
        let Some(row) = self.0.ledger.find(&row.volume, &row.reference) else { return Ok(()) };
        match row.phase {
            Phase::Owed => self.pay_anyhow(&row).await,
            Phase::Held if self.is_lost(&row).await? => {
                let driver = self.0.drivers.recorded(&row.driver).await?;
                tracing::info!(
                    volume = row.volume,
                    reference = row.reference,
                    "a lost mount is mounted again"
                );
                match self.ask(&driver, &row).await {
                    // Some plugins know nothing any more of what they had before they died.
                    Err(problem) if is_no(&problem) => self.make_again(&driver, &row, problem).await,
                    other => other,
                }
            }
            // Asked, in its own turn: somebody failed to write down how it ended.
            Phase::Asked => {
                self.note(&row, Phase::Owed).await?;
                self.pay_anyhow(&row).await
            }
            Phase::Held => Ok(()),
        }
    }

    /// Makes a volume that is in use once more in a plugin that has forgotten it, with the options it was made with, and
    /// mounts it. `refusal` is why it could not be mounted as it was.
    async fn make_again(&self, driver: &Driver, row: &Mount, refusal: Problem) -> Result<(), Problem> {
        let Some(volume) = self.0.known.find(&row.volume) else { return Err(refusal) };
        // One that it knows is not to be made over: the refusal has another reason.
        if driver.get(&row.volume).await.is_ok_and(|found| found.is_some()) {
            return Err(refusal);
        }
        let refusal = chain(&refusal);
        tracing::warn!(volume = row.volume, refusal, "its plugin has forgotten a volume in use: made again");
        driver.create(&row.volume, volume.options.as_ref()).await?;
        self.ask(driver, row).await
    }

    /// Whether what should be staged is not, or is dead.
    pub(super) async fn is_lost(&self, row: &Mount) -> Result<bool, Problem> {
        let id = row.id();
        let look = self.on_stage(move |stage| Ok(!stage.mounted()?.contains(&id) || stage.is_dead(&id)));
        tokio::time::timeout(ALIVE_DEADLINE, look).await.unwrap_or(Ok(false))
    }
}
