//! A container's start, end and removal, as far as its volumes go.
//!
//! A start mounts them first; when it fails and the container does not run, they are unmounted again. An end is seen in
//! the engine's events (`follow`), not in the request that asked for it: a process may end by itself.

use std::path::Path;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::policy::will_return;
use super::{Containers, Error, Places, Record, Result, Use, Visit};
use crate::error::chain;

/// A start under way: the container's volumes are mounted, and nobody unmounts them before the engine has answered.
#[derive(Debug)]
pub struct Starting {
    token: String,
    id: String,
    turn: OwnedMutexGuard<()>,
}

/// A removal under way: what the engine's events say of the container waits until the engine has answered, since they do
/// not tell whether its own volumes go too.
#[derive(Debug)]
pub struct Removing {
    id: String,
    turn: OwnedMutexGuard<()>,
}

impl Containers {
    /// Mounts the volumes of a container that is about to be started, by any of its names. None when it uses none of
    /// ours, or is not there: the engine says so then.
    ///
    /// # Errors
    /// The engine is not there, or a volume cannot be mounted: the container must not be started.
    pub async fn before_start(&self, name: &str) -> Result<Option<Starting>> {
        if self.is_empty() {
            return Ok(None);
        }
        let Some(container) = self.inspect(name).await? else { return Ok(None) };
        let Some((token, record)) = container["Id"].as_str().and_then(|id| self.find(id)) else {
            return Ok(None);
        };
        let turn = self.turn(&token).await;
        let Some(id) = record.id.clone() else { return Ok(None) };
        if let Err(error) = self.mount(&id, &record.uses).await {
            if is_idle(&container) && !self.0.visits.any(&token) {
                self.unmount(&id, &record.uses).await;
            }
            return Err(error);
        }
        Ok(Some(Starting { token, id, turn }))
    }

    /// The same for what looks into a container's volumes and does not start it: they are mounted until the visit ends,
    /// and longer if the container runs.
    ///
    /// # Errors
    /// As [`Containers::before_start`].
    pub async fn visit(&self, name: &str) -> Result<Option<Visit>> {
        let Some(Starting { token, id, turn }) = self.before_start(name).await? else { return Ok(None) };
        let visit = self.begin_visit(&token, &id);
        drop(turn);
        Ok(Some(visit))
    }

    /// A user is about to stop a container of ours: what comes of that is not started again by its engine. The whole id,
    /// if it is ours.
    ///
    /// # Errors
    /// The engine is not there, or it cannot be written down.
    pub async fn before_stop(&self, name: &str) -> Result<Option<String>> {
        let Some(id) = self.id_of(name).await? else { return Ok(None) };
        self.note_stopped(&id, true).await?;
        Ok(Some(id))
    }

    /// The engine has answered a stop with this status.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn after_stop(&self, id: &str, status: StatusCode) -> Result<()> {
        if !status.is_success() && status != StatusCode::NOT_MODIFIED {
            return self.note_stopped(id, false).await;
        }
        if let Some((token, _)) = self.find(id) {
            self.ended(&token, id).await;
        }
        Ok(())
    }

    async fn note_stopped(&self, id: &str, is_stopped: bool) -> Result<()> {
        match self.find(id) {
            Some((token, record)) if record.is_stopped != is_stopped => {
                self.note(&token, Record { is_stopped, ..record }).await
            }
            _ => Ok(()),
        }
    }

    /// The engine has answered a start with this status.
    pub async fn after_start(&self, starting: Starting, status: StatusCode) {
        if status.is_success() {
            if let Err(error) = self.note_stopped(&starting.id, false).await {
                tracing::warn!(
                    id = starting.id,
                    error = chain(&error),
                    "a container that was started again counts as stopped"
                );
            }
            return drop(starting.turn);
        }
        drop(starting.turn);
        if status != StatusCode::NOT_MODIFIED {
            self.over(&starting.token, &starting.id).await;
            self.could_not_start(&starting.id).await;
        }
    }

    /// The engine has answered an attach: some have set the container up now, so that it uses its volumes.
    pub async fn after_attach(&self, starting: Starting) {
        drop(starting.turn);
        self.ended(&starting.token, &starting.id).await;
    }

    /// A container was not started: one that is removed when it ends is removed, as dockerd does. Who waits for that (the
    /// CLI's `run --rm`) would wait for ever.
    pub async fn could_not_start(&self, name: &str) {
        let Ok(Some(container)) = self.inspect(name).await else { return };
        let Some((_, record)) = container["Id"].as_str().and_then(|id| self.find(id)) else { return };
        let Some(id) = record.id.filter(|_| record.auto_remove && is_idle(&container)) else { return };
        let target = format!("/containers/{id}?force=1");
        match self.engine().ask(Method::DELETE, &target, None).await {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND => {
                self.removed(&id).await;
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::warn!(id, status, "a container that could not be started is not removed");
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(id, error, "a container that could not be started is not removed");
            }
        }
    }

    /// The engine has said that a container ended, or it may have: its volumes are unmounted, unless it runs.
    pub(super) async fn ended(&self, token: &str, id: &str) {
        self.unmount_unless(token, id, |container, record| {
            !is_idle(container) || will_return(container, record.is_stopped)
        })
        .await;
    }

    /// The same when it is sure that its policy does not bring it back.
    pub(super) async fn over(&self, token: &str, id: &str) {
        self.unmount_unless(token, id, |container, _| !is_idle(container)).await;
    }

    async fn unmount_unless(&self, token: &str, id: &str, is_used: impl Fn(&Value, &Record) -> bool) {
        let _turn = self.turn(token).await;
        let Some((_, record)) = self.find(id) else { return };
        if self.0.visits.any(token) {
            return;
        }
        match self.inspect(id).await {
            Ok(Some(container)) if is_used(&container, &record) => {}
            Ok(_) => self.unmount(id, &record.uses).await,
            Err(error) => tracing::warn!(id, error = chain(&error), "whether a container runs is not known"),
        }
    }

    /// A container is about to be removed, by any of its names. None when it uses no volume of ours.
    ///
    /// # Errors
    /// The engine is not there.
    pub async fn before_remove(&self, name: &str) -> Result<Option<Removing>> {
        let Some(id) = self.id_of(name).await? else { return Ok(None) };
        let Some((token, _)) = self.find(&id) else { return Ok(None) };
        Ok(Some(Removing { id, turn: self.turn(&token).await }))
    }

    /// The engine has removed it. `own` removes its own volumes too.
    pub async fn after_remove(&self, removing: Removing, own: bool) {
        let Removing { id, turn } = removing;
        self.forget(&id, own).await;
        drop(turn);
    }

    /// The engine has removed a container, of which this is the whole id.
    pub(super) async fn removed(&self, id: &str) {
        let Some((token, _)) = self.find(id) else { return };
        let _turn = self.turn(&token).await;
        self.forget(id, false).await;
    }

    /// In its turn.
    async fn forget(&self, id: &str, own: bool) {
        let Some((token, record)) = self.find(id) else { return };
        self.unmount(id, &record.uses).await;
        if let Err(error) = self.0.places.remove(&token) {
            tracing::warn!(id, error = chain(&error), "the directories of a removed container are left");
        }
        if let Err(error) = self.cross_out(&token, &record).await {
            return tracing::warn!(id, error = chain(&error), "a removed container stays written down");
        }
        if own || record.auto_remove {
            self.drop_own(&record.uses).await;
        }
    }

    /// The whole id of a container of ours, by any of its names.
    ///
    /// # Errors
    /// The engine is not there.
    pub async fn id_of(&self, name: &str) -> Result<Option<String>> {
        if self.is_empty() {
            return Ok(None);
        }
        let container = self.inspect(name).await?;
        let id = container.and_then(|container| container["Id"].as_str().map(str::to_owned));
        Ok(id.filter(|id| self.find(id).is_some()))
    }

    async fn mount(&self, id: &str, uses: &[Use]) -> Result<()> {
        for used in uses {
            let volume = self.0.volumes.mount(&used.volume, id).await?;
            if used.is_bound {
                let (place, subpath) = (used.source.clone(), used.subpath.clone());
                blocking(move || Places::bind(&volume, subpath.as_deref(), Path::new(&place))).await?;
            }
        }
        Ok(())
    }

    async fn unmount(&self, id: &str, uses: &[Use]) {
        for used in uses {
            if used.is_bound {
                let place = used.source.clone();
                if let Err(error) = blocking(move || Places::clear(Path::new(&place))).await {
                    tracing::warn!(
                        id,
                        error = chain(&error),
                        "a volume stays bound for a container that has ended"
                    );
                }
            }
            if let Err(error) = self.0.volumes.unmount(&used.volume, id).await {
                tracing::warn!(
                    id,
                    error = chain(&error),
                    "a volume of a container that has ended is unmounted later"
                );
            }
        }
    }

    /// What is known of a container is made to agree with what the engine says: it runs, it does not, it is gone.
    pub(super) async fn settle(&self, token: &str, record: &Record, running: Option<bool>) {
        let Some(id) = record.id.as_deref() else { return };
        match running {
            None => self.removed(id).await,
            Some(false) => self.ended(token, id).await,
            Some(true) => {}
        }
    }
}

/// Runs what touches mounts on a thread that may wait for them.
async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Interrupted(error.to_string())))
}

/// Whether a state is one in which nothing of a container uses its mounts. Some engines set a container up before its
/// start, when a client attaches to it: that is none of these.
pub(super) fn is_over(state: &Value) -> bool {
    matches!(state.as_str(), Some("configured" | "created" | "dead" | "exited" | "removing" | "stopped"))
}

fn is_idle(container: &Value) -> bool {
    is_over(&container["State"]["Status"])
}
