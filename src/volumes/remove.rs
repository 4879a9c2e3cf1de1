//! `DELETE /volumes/{name}`.
//!
//! Never while something holds the volume; what is owed to its plugin is paid first, and what nobody uses any more is
//! detached from a local one: what was mounted there is nobody's to delete. A local volume first gets out of the way under a name that no volume can
//! have, then its record goes, then its files: a kill in between leaves the whole volume (put back at the next
//! start) or none of it (swept). A plugin removes, then the record goes: a kill in between leaves a record whose volume
//! the plugin does not have, which neither lists nor inspects tell, and which the next create or remove clears away.
//!
//! By force: a name that does not exist is fine; a driver that is gone is not waited for, its volume is forgotten; and
//! when the driver fails the volume is forgotten too, but the failure is told, as dockerd tells it.

use super::fill::FILLS;
use super::ledger::MOUNTS;
use super::record::VOLUMES;
use super::{Error, Problem, Result, Volume, Volumes, limit, local};
use crate::drivers;
use crate::error::chain;
use crate::finish::finish;
use crate::state::Change;

impl Volumes {
    /// Removes a volume and its data.
    ///
    /// # Errors
    /// `get x: no such volume`, unless by force; `remove x: volume is in use - [holders]`; the driver's no.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let (volumes, name) = (self.clone(), name.to_owned());
        finish(async move { volumes.remove_to_the_end(&name, force).await }).await
    }

    async fn remove_to_the_end(&self, name: &str, force: bool) -> Result<()> {
        let _turn = self.0.turns.take(name).await;
        match self.known_in_turn(name).await {
            Some(volume) if volume.is_local() => {
                self.detach_unused(&volume).await.map_err(|problem| Error::of("remove", name, problem))?;
                self.remove_local(name).await.map(drop)
            }
            Some(volume) => self.remove_in_plugin(&volume, force).await,
            None => self.remove_unknown(name, force).await,
        }
    }

    /// Removes a local volume whose turn it is; says how many bytes that freed.
    pub(super) async fn remove_local(&self, name: &str) -> Result<u64> {
        let failed = |problem| Error::of("remove", name, problem);
        self.0.known.check_unused(name).map_err(failed)?;
        let limit = self.0.known.find(name).and_then(|volume| limit::of(&volume));
        let discard = move |local: &local::Local, name: &str| local.discard(name, limit);
        let discarded = self.on_disk(name, discard).await.map_err(failed)?;
        if let Err(problem) = self.forget(name).await {
            if let Err(error) = self.on_disk(name, move |local, name| local.put_back(name, &discarded)).await
            {
                let error = chain(&error);
                tracing::error!(volume = name, error, "a volume could neither be removed nor put back");
            }
            return Err(failed(problem));
        }
        self.tell("destroy", name, super::LOCAL_DRIVER);
        let freed = self.on_disk(name, move |local, _| local.sweep(&discarded)).await;
        Ok(freed.unwrap_or_else(|error| {
            let error = chain(&error);
            tracing::warn!(volume = name, error, "files of a removed volume are left for the next start");
            0
        }))
    }

    /// Removes a plugin's volume whose turn it is.
    pub(super) async fn remove_in_plugin(&self, volume: &Volume, force: bool) -> Result<()> {
        let name = volume.name.as_str();
        let failed = |problem| Error::of("remove", name, problem);
        self.0.known.check_unused(name).map_err(failed)?;
        for debt in self.0.ledger.of_volume(name) {
            match self.pay_anyhow(&debt).await {
                Ok(()) => {}
                Err(problem) if force => {
                    tracing::warn!(
                        volume = name,
                        error = chain(&problem),
                        "the plugin is not told to unmount"
                    );
                }
                Err(problem) => return Err(failed(problem)),
            }
        }
        match self.in_plugin(volume).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.forget(name).await.map_err(failed)?;
                return if force { Ok(()) } else { Err(Error::of("get", name, Problem::NoSuchVolume)) };
            }
            Err(problem) if force => {
                self.forget(name).await.map_err(failed)?;
                return if is_gone(&problem) { Ok(()) } else { Err(Error::of("get", name, problem)) };
            }
            Err(problem) => return Err(Error::of("get", name, problem)),
        }
        let removed = match self.0.drivers.recorded(&volume.driver).await {
            Ok(driver) => driver.remove(name).await,
            Err(error) => Err(error),
        };
        if removed.is_ok() || force {
            self.forget(name).await.map_err(failed)?;
        }
        removed.map_err(|error| failed(error.into()))?;
        self.tell("destroy", name, &volume.driver);
        Ok(())
    }

    /// Removes what some driver has under a name that has no record.
    async fn remove_unknown(&self, name: &str, force: bool) -> Result<()> {
        let Some((driver, _)) = self.anywhere(name).await else {
            return if force { Ok(()) } else { Err(Error::of("get", name, Problem::NoSuchVolume)) };
        };
        driver.remove(name).await.map_err(|error| Error::of("remove", name, error))?;
        self.tell("destroy", name, driver.name());
        Ok(())
    }

    /// Drops the record, on disk first.
    async fn forget(&self, name: &str) -> Result<(), Problem> {
        // With what is still owed to a plugin that was not reached.
        let debts = self.0.ledger.of_volume(name);
        let change =
            debts.iter().fold(Change::new().delete(VOLUMES, name).delete(FILLS, name), |change, debt| {
                change.delete(MOUNTS, debt.id())
            });
        self.0.store.commit(change).await?;
        for debt in &debts {
            self.0.ledger.cross_out(debt);
        }
        self.0.halves.forget(name);
        self.0.unlimited.forget(name);
        self.0.known.forget(name);
        Ok(())
    }
}

/// Whether the driver is not there, as opposed to there and failing.
pub(super) fn is_gone(problem: &Problem) -> bool {
    use drivers::Error::{Disabled, NotFound};
    matches!(problem, Problem::Checking { source, .. } if matches!(**source, NotFound { .. } | Disabled { .. }))
}
