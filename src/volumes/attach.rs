//! Volumes of the built-in driver that are mounted in their own directory at the first use, and detached after the last.
//!
//! However many have such a volume, the kernel has it mounted once. The ledger says who, on disk first:
//! - before the kernel is asked to mount, the row is `Asked`; before anybody hears of it, `Held`;
//! - before it is detached, after the last one, the row is `Owed`.
//!
//! So after a kill, what is mounted and `Held` by nobody is detached, and what is `Held` and not mounted is mounted again.
//! The kernel works `aside`: a server that does not answer costs a deadline, and only those who want this volume.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::aside::{Late, Trouble};
use super::ledger::{Mount, Phase};
use super::local::{self, Local, Wanted};
use super::{Problem, Volume, Volumes};
use crate::error::chain;

/// How long it takes until a lost mount that could not be made again is tried again; twice as long each time.
const RETRY_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// As long, and no longer.
const RETRY_PAUSE_LONGEST: Duration = Duration::from_mins(1);

impl Volumes {
    /// Mounts a local volume, whose turn it is, for the reference of the row; says where its data is.
    pub(super) async fn mount_local(&self, volume: &Volume, row: &Mount) -> Result<PathBuf, Problem> {
        let mountpoint = self.0.local.mountpoint(&volume.name);
        let is_held = row.phase == Phase::Held;
        self.keep_limit(volume).await?;
        if let Some(wanted) = Wanted::of(volume.options.as_ref()) {
            self.repay(&volume.name, &wanted).await?;
            if !self.is_attached(&volume.name, &wanted).await? {
                self.mount_first(row, is_held, wanted).await?;
            }
        }
        if !is_held {
            self.note(row, Phase::Held).await?;
            self.tell_mount("mount", row);
        }
        Ok(mountpoint)
    }

    /// Takes the mount of a local volume, whose turn it is, back from the reference of the row.
    pub(super) async fn unmount_local(&self, row: &Mount) -> Result<(), Problem> {
        let Some(wanted) = self.wanted(&row.volume) else {
            self.cross_out(row).await?;
            self.tell_mount("unmount", row);
            return Ok(());
        };
        if row.phase != Phase::Owed {
            self.note(row, Phase::Owed).await?;
            self.tell_mount("unmount", row);
        }
        self.repay(&row.volume, &wanted).await
    }

    /// Detaches what is mounted in a local volume, whose turn it is, if nobody has it.
    pub(super) async fn detach_unused(&self, volume: &Volume) -> Result<(), Problem> {
        match Wanted::of(volume.options.as_ref()) {
            Some(wanted) => self.repay(&volume.name, &wanted).await,
            None => Ok(()),
        }
    }

    /// Makes the kernel agree with the ledger on all local volumes, and goes on trying where it cannot: a server may be
    /// up later than the daemon. Ends when all agree, or with the last of these volumes.
    pub(super) fn settle_local_to_the_end(&self) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut pause = RETRY_PAUSE_FIRST;
            let mut interval = tokio::time::interval(RETRY_PAUSE_LONGEST);
            let mut left = None;
            while let Some(inner) = inner.upgrade() {
                let volumes = Self(inner);
                let lost = match left {
                    None => volumes.settle_local().await,
                    Some(names) => volumes.settle_locals(names).await,
                };
                if lost.is_empty() {
                    return;
                }
                left = Some(lost);
                // The volumes must not be kept by who waits for nothing.
                drop(volumes);
                interval.reset_after(pause);
                interval.tick().await;
                pause = RETRY_PAUSE_LONGEST.min(pause * 2);
            }
        });
    }

    /// One try, of all local volumes that the ledger or the kernel knows of; says which could not be settled.
    pub(super) async fn settle_local(&self) -> BTreeSet<String> {
        let rows = self.0.ledger.all();
        let in_ledger = rows.into_iter().filter(Mount::is_local).map(|row| row.volume);
        let mut names: BTreeSet<_> = in_ledger.collect();
        match self.on_disk("", |local, _| local.mounted()).await {
            Ok(mounted) => names.extend(mounted),
            Err(problem) => {
                let error = chain(&problem);
                tracing::warn!(error, "what is mounted in local volumes could not be found out");
            }
        }
        self.settle_locals(names).await
    }

    async fn settle_locals(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let settle = |name: String| async move { (!self.settle_local_one(&name).await).then_some(name) };
        join_all(names.into_iter().map(settle)).await.into_iter().flatten().collect()
    }

    /// Says whether it could.
    async fn settle_local_one(&self, name: &str) -> bool {
        let _turn = self.0.turns.take(name).await;
        let Err(problem) = self.settle_local_in_turn(name).await else {
            self.0.lost.forget(name);
            return true;
        };
        let error = chain(&problem);
        tracing::warn!(volume = name, error, "a mount is not as the ledger has it");
        if self.0.known.is_held(name) {
            self.0.lost.note(name, error);
        }
        false
    }

    async fn settle_local_in_turn(&self, name: &str) -> Result<(), Problem> {
        let Some(wanted) = self.wanted(name) else { return Ok(()) };
        self.repay(name, &wanted).await?;
        let Some(held) = self.0.ledger.of_volume(name).into_iter().find(|row| row.phase == Phase::Held)
        else {
            return Ok(());
        };
        if self.is_attached(name, &wanted).await? {
            return Ok(());
        }
        tracing::info!(volume = name, "a lost mount is mounted again");
        self.mount_first(&held, true, wanted).await
    }

    /// Has the kernel mount it. Whoever holds it already goes on holding it, also when that fails.
    pub(super) async fn mount_first(
        &self,
        row: &Mount,
        is_held: bool,
        wanted: Wanted,
    ) -> Result<(), Problem> {
        if !is_held {
            self.note(row, Phase::Asked).await?;
        }
        let again = wanted.clone();
        let mounted = self.in_kernel(&row.volume, move |local, name| local.attach(name, &wanted)).await;
        let Err(problem) = mounted else {
            self.0.lost.forget(&row.volume);
            return Ok(());
        };
        if !is_held {
            // While the kernel is still at it there is nothing to undo yet; the end of its thread does it then.
            let undone = match problem {
                Problem::Late { .. } => self.note(row, Phase::Owed).await,
                _ => self.repay(&row.volume, &again).await,
            };
            if let Err(error) = undone {
                let (volume, error) = (&row.volume, chain(&error));
                tracing::warn!(volume, error, "a failed mount is taken back at the next use or start");
            }
        }
        Err(problem)
    }

    /// Crosses out what nobody has any more, after detaching the volume if nobody at all has it.
    pub(super) async fn repay(&self, name: &str, wanted: &Wanted) -> Result<(), Problem> {
        // What the kernel is still at may be mounted at any moment.
        if self.0.aside.is_busy(name) {
            return Err(Problem::Busy);
        }
        let rows = self.0.ledger.of_volume(name);
        let is_held = rows.iter().any(|row| row.phase == Phase::Held);
        if !is_held {
            self.0.lost.forget(name);
        }
        if !is_held && self.is_mounted(name).await? {
            let wanted = wanted.clone();
            self.in_kernel(name, move |local, name| local.detach(name, &wanted)).await?;
        }
        for row in rows.iter().filter(|row| row.phase != Phase::Held) {
            self.cross_out(row).await?;
        }
        Ok(())
    }

    async fn is_mounted(&self, name: &str) -> Result<bool, Problem> {
        self.on_disk(name, Local::is_mounted).await
    }

    pub(super) async fn is_attached(&self, name: &str, wanted: &Wanted) -> Result<bool, Problem> {
        let wanted = wanted.clone();
        self.on_disk(name, move |local, name| local.is_attached(name, &wanted)).await
    }

    fn wanted(&self, name: &str) -> Option<Wanted> {
        let volume = self.0.known.find(name).filter(|volume| volume.is_local())?;
        Wanted::of(volume.options.as_ref())
    }

    /// Calls the local driver where it may hang.
    async fn in_kernel(
        &self,
        name: &str,
        work: impl FnOnce(&Local, &str) -> Result<(), local::Error> + Send + 'static,
    ) -> Result<(), Problem> {
        let (local, own_name) = (Arc::clone(&self.0.local), name.to_owned());
        match self.0.aside.run(name, move || work(&local, &own_name)).await {
            Ok(done) => Ok(done?),
            Err(Trouble::Late(late)) => {
                self.settle_after(late, name);
                Err(Problem::Late { seconds: self.0.aside.deadline().as_secs() })
            }
            Err(Trouble::Busy) => Err(Problem::Busy),
            Err(Trouble::Full) => Err(Problem::Full),
            Err(Trouble::Lost(reason)) => Err(Problem::Interrupted(reason)),
        }
    }

    /// Makes the kernel agree with the ledger when it has finished after all: a mount that nobody waits for any more is
    /// detached, one that somebody has is tried again if it has failed.
    fn settle_after(&self, late: Late, name: &str) {
        let (inner, name) = (Arc::downgrade(&self.0), name.to_owned());
        tokio::spawn(async move {
            late.ended().await;
            if let Some(inner) = inner.upgrade() {
                Self(inner).settle_local_one(&name).await;
            }
        });
    }
}
