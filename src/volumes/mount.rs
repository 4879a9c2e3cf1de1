//! Using a volume: `mount` gives a path that stays what it is, `unmount` takes the use back.
//!
//! The ledger is on disk first, so that a kill in between is repaired by `settle`: before the plugin's `Mount` a row
//! `Asked`, before the answer `Held`, before the plugin's `Unmount` `Owed`. The plugin gets one `Mount` and one
//! `Unmount` for each reference. A local volume has no plugin to ask: its own directory is handed out, see `attach`.

use std::path::PathBuf;
use std::sync::Arc;

use super::ledger::{MOUNTS, Mount, Phase, check_reference};
use super::stage::{self, Stage};
use super::{Create, Error, Problem, Result, Volume, Volumes, blocking};
use crate::drivers::Driver;
use crate::error::chain;
use crate::events::{Event, Type};
use crate::finish::finish;
use crate::state::Change;

impl Volumes {
    /// Mounts a volume for a reference, and says where: a path of the host that no plugin can swap. Once more for the
    /// same reference gives the same path; the plugin is not asked again while the mount is there. The volume is in
    /// use until [`Volumes::unmount`], over restarts too. `reference` has 1 to 256 bytes, without control characters.
    ///
    /// # Errors
    /// `get x: no such volume`; `mount x: …`: the reference is none, the driver is not there or says no, or what it
    /// answers is no directory of its own; the kernel does not mount what a local volume's options ask for, or not
    /// within [`MOUNT_DEADLINE`](super::MOUNT_DEADLINE). Nothing is mounted then, and the volume is not in use.
    pub async fn mount(&self, name: &str, reference: &str) -> Result<PathBuf> {
        let (volumes, name, reference) = (self.clone(), name.to_owned(), reference.to_owned());
        finish(async move { volumes.mount_to_the_end(&name, &reference).await }).await
    }

    /// Takes one [`Volumes::mount`] back; fine when there was none.
    ///
    /// # Errors
    /// `get x: no such volume`; `unmount x: …` when the plugin could not be told, or says no. The volume is not in
    /// use any more then, and the plugin is told when it is back; doing it again tells it again.
    pub async fn unmount(&self, name: &str, reference: &str) -> Result<()> {
        let (volumes, name, reference) = (self.clone(), name.to_owned(), reference.to_owned());
        finish(async move { volumes.unmount_to_the_end(&name, &reference).await }).await
    }

    async fn mount_to_the_end(&self, name: &str, reference: &str) -> Result<PathBuf> {
        let failed = |problem| Error::of("mount", name, problem);
        check_reference(reference).map_err(failed)?;
        let _turn = self.0.turns.take(name).await;
        let volume = match self.known_in_turn(name).await {
            Some(volume) => volume,
            None => self.adopt(name).await?,
        };
        self.mount_in_turn(&volume, reference).await.map_err(failed)
    }

    /// Mounts a volume whose turn it is; the reference is checked.
    pub(super) async fn mount_in_turn(&self, volume: &Volume, reference: &str) -> Result<PathBuf, Problem> {
        self.leave_half(volume).await?;
        let row = self.0.ledger.find(&volume.name, reference).unwrap_or_else(|| Mount {
            volume: volume.name.clone(),
            reference: reference.to_owned(),
            driver: volume.driver.clone(),
            phase: Phase::Asked,
        });
        let is_held = row.phase == Phase::Held;
        if row.is_local() {
            return self.mount_local(volume, &row).await;
        }
        let id = row.id();
        if is_held && !self.is_lost(&row).await? {
            return Ok(self.0.stage.path(&id));
        }
        if row.phase == Phase::Owed {
            self.pay_anyhow(&row).await?;
        }
        let driver = self.0.drivers.recorded(&row.driver).await?;
        if !is_held {
            self.note(&row, Phase::Asked).await?;
        }
        match self.ask(&driver, &row).await {
            Ok(()) => {}
            // A mount that was lost: whoever has it still counts on it.
            Err(problem) if is_held => return Err(problem),
            Err(problem) => return Err(self.take_back(&row, problem).await),
        }
        if !is_held {
            self.note(&row, Phase::Held).await?;
            self.tell_mount("mount", &row);
        }
        Ok(self.0.stage.path(&id))
    }

    /// Asks the plugin to mount, and stages what it answers.
    pub(super) async fn ask(&self, driver: &Driver, row: &Mount) -> Result<(), Problem> {
        let answer = driver.mount(&row.volume, &row.reference).await?;
        let refused = |reason: String| Problem::Mountpoint {
            driver: row.driver.clone(),
            name: row.volume.clone(),
            answer: answer.clone(),
            reason,
        };
        let place = driver.place(&answer).map_err(|reason| refused(reason.to_owned()))?;
        let id = row.id();
        let staged = self.on_stage(move |stage| Ok(stage.bind(&id, &place))).await?;
        staged.map_err(|error| match error {
            stage::Error::Theirs(error) => refused(chain(&error)),
            refusal @ stage::Error::Refused { .. } => refused(refusal.to_string()),
            ours => Problem::Stage(ours),
        })
    }

    /// After a mount that failed: nothing of it stays. What the plugin may have mounted it is told to unmount, now or
    /// when it is back.
    pub(super) async fn take_back(&self, row: &Mount, problem: Problem) -> Problem {
        let undone = if is_no(&problem) || was_not_sent(&problem) {
            self.cross_out(row).await
        } else {
            match self.note(row, Phase::Owed).await {
                Ok(()) => self.pay_anyhow(row).await,
                Err(problem) => Err(problem),
            }
        };
        if let Err(error) = undone {
            let (volume, error) = (&row.volume, chain(&error));
            tracing::warn!(volume, error, "a failed mount is taken back when the plugin can be told");
        }
        problem
    }

    async fn unmount_to_the_end(&self, name: &str, reference: &str) -> Result<()> {
        let _turn = self.0.turns.take(name).await;
        let known = self.known_in_turn(name).await;
        let Some(row) = self.0.ledger.find(name, reference) else {
            return match known {
                Some(_) => Ok(()),
                None => Err(Error::of("get", name, Problem::NoSuchVolume)),
            };
        };
        self.unmount_in_turn(&row).await.map_err(|problem| Error::of("unmount", name, problem))
    }

    /// Takes a mount back, of a volume whose turn it is.
    pub(super) async fn unmount_in_turn(&self, row: &Mount) -> Result<(), Problem> {
        if row.is_local() {
            return self.unmount_local(row).await;
        }
        if row.phase != Phase::Owed {
            self.note(row, Phase::Owed).await?;
            self.tell_mount("unmount", row);
        }
        self.pay(row).await
    }

    /// Detaches what is staged, tells the plugin, and crosses the row out, whose phase is `Owed`.
    pub(super) async fn pay(&self, row: &Mount) -> Result<(), Problem> {
        let id = row.id();
        self.on_stage(move |stage| stage.clear(&id)).await?;
        let driver = self.0.drivers.recorded(&row.driver).await?;
        driver.unmount(&row.volume, &row.reference).await?;
        self.cross_out(row).await
    }

    /// As [`Volumes::pay`], but takes the plugin's own no for an answer: it has nothing to unmount, or never will.
    pub(super) async fn pay_anyhow(&self, row: &Mount) -> Result<(), Problem> {
        match self.pay(row).await {
            Err(problem) if is_no(&problem) => {
                let (volume, error) = (&row.volume, chain(&problem));
                tracing::warn!(volume, error, "the plugin does not unmount what nobody uses");
                self.cross_out(row).await
            }
            other => other,
        }
    }

    /// Makes a volume known that only its plugin knows, so that it can be in use.
    async fn adopt(&self, name: &str) -> Result<Arc<Volume>> {
        let Some((driver, _)) = self.anywhere(name).await else {
            return Err(Error::of("get", name, Problem::NoSuchVolume));
        };
        let adopted = self.record(name, driver.name(), Create::default()).await;
        adopted.map_err(|problem| Error::of("mount", name, problem))
    }

    /// Writes a row in a phase: on disk, then in memory.
    pub(super) async fn note(&self, row: &Mount, phase: Phase) -> Result<(), Problem> {
        let row = row.in_phase(phase);
        self.0.store.commit(Change::new().put(MOUNTS, row.id(), &row)?).await?;
        match phase {
            Phase::Asked | Phase::Held => self.0.known.hold(&row.volume, &row.reference),
            Phase::Owed => self.0.known.release(&row.volume, &row.reference),
        }
        self.0.ledger.put(row);
        Ok(())
    }

    /// Crosses a row out: on disk, then in memory.
    pub(super) async fn cross_out(&self, row: &Mount) -> Result<(), Problem> {
        self.0.store.commit(Change::new().delete(MOUNTS, row.id())).await?;
        self.0.ledger.cross_out(row);
        self.0.known.release(&row.volume, &row.reference);
        Ok(())
    }

    /// Works on the staged mounts, on a thread that may wait for a file system.
    pub(super) async fn on_stage<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stage) -> Result<T, stage::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let stage = Arc::clone(&self.0.stage);
        let done = blocking(move || work(&stage)).await;
        Ok(done.map_err(|error| Problem::Interrupted(error.to_string()))??)
    }

    pub(super) fn tell_mount(&self, action: &str, row: &Mount) {
        let event = Event::new(Type::Volume, action, &row.volume);
        self.0.events.publish(event.with("container", &row.reference).with("driver", &row.driver));
    }
}

/// Whether the plugin itself has said no: it has not done what was asked.
pub(super) fn is_no(problem: &Problem) -> bool {
    matches!(problem, Problem::Driver(error) if error.is_answer())
}

fn was_not_sent(problem: &Problem) -> bool {
    matches!(problem, Problem::Driver(error) if error.was_not_sent())
}
