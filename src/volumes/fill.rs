//! The first use of a volume: one that is empty is filled with what an image has at its place.
//!
//! While it is filled nobody else gets it: its turn is held. That it is being filled is on disk before anything is
//! written to it, and crossed out when all of it is there; so half of a copy never counts as the volume's content: the
//! next who fills it does all of it again. Whoever uses it without filling takes it as it is, and that ends the matter. A
//! plugin sees one `Mount` and one `Unmount`; the ledger has them as asked for only, so that a kill in between is repaired
//! as any other. Where the content comes from is not known here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::ledger::{Mount, Phase};
use super::local::Wanted;
use super::{Error, Problem, Result, Volume, Volumes, blocking};
use crate::confine::Root;
use crate::error::chain;
use crate::state::{Change, Table};

/// The volumes that are being filled, by name.
pub(super) const FILLS: Table<Fill> = Table::new("fills");

/// What is known of a volume that is being filled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Fill {
    /// Whether nobody else had the volume when it began: all that is in it is of the copy then.
    is_alone: bool,
}

/// The volumes of which half may be there, in memory.
#[derive(Debug, Default)]
pub(super) struct Halves(Mutex<BTreeMap<String, Fill>>);

impl Halves {
    pub(super) fn of(fills: impl IntoIterator<Item = (String, Fill)>) -> Self {
        Self(Mutex::new(fills.into_iter().collect()))
    }

    pub(super) fn forget(&self, name: &str) {
        self.locked().remove(name);
    }

    fn find(&self, name: &str) -> Option<Fill> {
        self.locked().get(name).copied()
    }

    fn note(&self, name: &str, fill: Fill) {
        self.locked().insert(name.to_owned(), fill);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Fill>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volumes {
    /// Lets `work` write into a volume that has nothing in it, or half of what earlier work wrote: it gets the path of
    /// the volume, which is mounted for `reference` meanwhile. Whoever else wants to change or use the volume waits. Not
    /// called for a volume that has something in it.
    ///
    /// # Errors
    /// As [`Volumes::mount`]; what `work` says: the volume is filled by the next who asks then.
    pub async fn fill<E, F>(
        &self,
        name: &str,
        reference: &str,
        work: impl FnOnce(PathBuf) -> F,
    ) -> Result<(), E>
    where
        E: From<Error>,
        F: Future<Output = Result<(), E>>,
    {
        let failed = |problem| Error::of("mount", name, problem);
        let _turn = self.0.turns.take(name).await;
        let Some(volume) = self.known_in_turn(name).await else {
            return Err(Error::of("get", name, Problem::NoSuchVolume).into());
        };
        let row = Mount {
            volume: volume.name.clone(),
            reference: reference.to_owned(),
            driver: volume.driver.clone(),
            phase: Phase::Asked,
        };
        let path = self.mount_passing(&volume, &row).await.map_err(failed)?;
        let filled = match self.begin_fill(&volume, &path).await {
            Ok(true) => match work(path.clone()).await {
                Ok(()) => self.end_fill(name, path).await.map_err(|problem| failed(problem).into()),
                refused => refused,
            },
            Ok(false) => Ok(()),
            Err(problem) => Err(failed(problem).into()),
        };
        if let Err(problem) = self.unmount_passing(&volume, &row).await {
            let error = chain(&problem);
            tracing::warn!(volume = name, error, "a volume that was filled is unmounted later");
        }
        filled
    }

    /// Before somebody uses a volume, whose turn it is, as it is: half of what was to be in it is not made whole any
    /// more. Where it is sure to be nobody's, it is taken away.
    pub(super) async fn leave_half(&self, volume: &Volume) -> Result<(), Problem> {
        let Some(fill) = self.0.halves.find(&volume.name) else { return Ok(()) };
        tracing::warn!(volume = volume.name, "filling it was interrupted, and it is used as it is now");
        self.clear_half(volume, fill).await?;
        self.cross_out_half(&volume.name).await
    }

    /// Whether the volume is to be filled; that is on disk then.
    async fn begin_fill(&self, volume: &Volume, path: &Path) -> Result<bool, Problem> {
        if let Some(fill) = self.0.halves.find(&volume.name) {
            self.clear_half(volume, fill).await?;
            return Ok(true);
        }
        if !is_empty(path.to_owned()).await? {
            return Ok(false);
        }
        let fill = Fill { is_alone: self.has_one_user(volume) };
        self.0.store.commit(Change::new().put(FILLS, &volume.name, &fill)?).await?;
        self.0.halves.note(&volume.name, fill);
        Ok(true)
    }

    async fn end_fill(&self, name: &str, path: PathBuf) -> Result<(), Problem> {
        // Before it counts as whole, it is on the disk.
        on_path(path, |path| Root::open(path)?.sync()).await?;
        self.cross_out_half(name).await
    }

    async fn cross_out_half(&self, name: &str) -> Result<(), Problem> {
        self.0.store.commit(Change::new().delete(FILLS, name)).await?;
        self.0.halves.forget(name);
        Ok(())
    }

    /// Takes half a copy away again, but only out of a directory that is ours alone, and that nobody but who wants it now
    /// has or had: elsewhere others may have written since. The copy goes over what stays.
    async fn clear_half(&self, volume: &Volume, fill: Fill) -> Result<(), Problem> {
        if !fill.is_alone || !self.has_one_user(volume) || !volume.is_directory() {
            return Ok(());
        }
        on_path(self.0.local.mountpoint(&volume.name), |path| Root::open(path)?.clear()).await
    }

    /// Whether nobody has the volume, mounted or to be mounted, but one: who wants it now.
    fn has_one_user(&self, volume: &Volume) -> bool {
        let is_held = self.0.ledger.of_volume(&volume.name).iter().any(|row| row.phase == Phase::Held);
        !is_held && self.0.known.holders(&volume.name) <= 1
    }

    /// Mounts a volume, whose turn it is, for the time of this turn.
    async fn mount_passing(&self, volume: &Volume, row: &Mount) -> Result<PathBuf, Problem> {
        if row.is_local() {
            self.keep_limit(volume).await?;
            if let Some(wanted) = Wanted::of(volume.options.as_ref()) {
                self.repay(&volume.name, &wanted).await?;
                if !self.is_attached(&volume.name, &wanted).await? {
                    self.mount_first(row, false, wanted).await?;
                }
            }
            return Ok(self.0.local.mountpoint(&volume.name));
        }
        let driver = self.0.drivers.recorded(&row.driver).await?;
        self.note(row, Phase::Asked).await?;
        match self.ask(&driver, row).await {
            Ok(()) => Ok(self.0.stage.path(&row.id())),
            Err(problem) => Err(self.take_back(row, problem).await),
        }
    }

    async fn unmount_passing(&self, volume: &Volume, row: &Mount) -> Result<(), Problem> {
        if row.is_local() {
            return self.detach_unused(volume).await;
        }
        self.note(row, Phase::Owed).await?;
        self.pay_anyhow(row).await
    }
}

async fn is_empty(path: PathBuf) -> Result<bool, Problem> {
    on_path(path, |path| {
        let mut is_empty = true;
        Root::open(path)?.top().for_each(|_| {
            is_empty = false;
            Ok(())
        })?;
        Ok(is_empty)
    })
    .await
}

/// Works on a volume's files, on a thread that may wait for a file system.
async fn on_path<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> crate::confine::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = blocking(move || work(&path)).await;
    done.map_err(|error| Problem::Interrupted(error.to_string()))?.map_err(Problem::Content)
}
