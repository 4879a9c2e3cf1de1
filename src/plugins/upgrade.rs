//! `upgrade`: another version under the same name and id, of a disabled plugin, or, with a restart, of one that runs.
//!
//! Fetched beside the old one, without its turn; put in its place in its turn, in four steps of which each can be the last
//! before a crash: the intention is written down; the old root file system is moved aside and the new one in; the record
//! is changed and the intention withdrawn, in one commit; the old root file system is removed. The next start undoes what
//! has an intention and finishes what has none (`recover`). So the old version is whole, or the new one is.
//!
//! With a restart the record is changed only when the new version listens. Until then it is on trial: everything of the
//! old one is kept, on disk and in the state, and is what a crash or a failure comes back to.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::carry::carry;
use super::config::PluginConfig;
use super::fetch::Fetched;
use super::observed::Status;
use super::plugin::{Plugin, Turn, VOLUME_DRIVER};
use super::pull::{self, Order};
use super::record::{PLUGINS, Record};
use super::report::{News, Report};
use super::{
    Error, Inner, Parts, PluginId, Result, blocking, collect, directories, disable, launch, restart,
};
use crate::content::Blob;
use crate::error::chain;
use crate::oci::Reference;
use crate::state::{Change, Table};

/// The plugins whose root file systems are being exchanged; the key is the id. What is left here by a crash does no
/// harm once it was undone.
pub(super) const UPGRADES: Table<bool> = Table::new("upgrades");

/// A version of a plugin.
struct Version {
    record: Record,
    config: Arc<PluginConfig>,
}

/// What a plugin does whose new version does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// The old version was not stopped.
    Untouched,
    /// The old version was started again.
    Back,
    /// The old version does not start either now.
    Retried,
    /// The old version could not be put back.
    Neither,
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untouched => "was not stopped",
            Self::Back => "is back and runs",
            Self::Retried => "is back, does not start either now, and is tried again",
            Self::Neither => "comes back when the daemon is restarted, see its log",
        })
    }
}

/// One version in the place of another.
struct Exchange<'a> {
    inner: &'a Arc<Inner>,
    plugin: &'a Arc<Plugin>,
    /// Whose root file system the new version has until then.
    staging: &'a PluginId,
    old: Version,
    new: Version,
}

pub(super) async fn upgrade(
    inner: &Arc<Inner>,
    selector: &str,
    order: Order,
    restart: bool,
    report: &Report,
) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    refuse_enabled(&plugin, restart)?;
    let reference = order.remote.reference().clone();
    let staging = PluginId::random()?;
    let result = async {
        let fetched = pull::fetch_into(inner, &staging, order, report).await?;
        let mut turn = plugin.turn(selector).await?;
        refuse_enabled(&plugin, restart)?;
        let (exchange, dropped) = Exchange::of(inner, &plugin, &staging, &reference, &fetched);
        if exchange.old.record.enabled {
            exchange.on_trial(&mut turn, report).await?;
        } else {
            exchange.at_rest().await?;
        }
        for setting in dropped {
            report.tell(News::Dropped { setting });
        }
        Ok(())
    }
    .await;
    // Also after success: its directory is empty then, and the old version's blobs may be nobody's.
    collect::remains(inner, &staging).await;
    if result.is_ok() {
        pull::tell(inner, &reference, &plugin.name());
        tracing::info!(plugin = plugin.name(), id = %plugin.id, %reference, "upgraded");
    }
    result
}

/// The ids of the plugins whose upgrade a crash has interrupted. Blocking.
///
/// # Errors
/// [`Error::State`].
pub(super) fn begun(parts: &Parts) -> Result<HashSet<String>> {
    let begun = parts.store.load(UPGRADES).map_err(Error::State)?;
    Ok(begun.into_iter().map(|(id, _)| id).collect())
}

/// Undoes these exchanges, and removes the old root file systems of those that were done. What was on trial is left to
/// its process, which may live; `restart` removes it. Blocking. What cannot be put right is told in the log.
pub(super) fn recover(inner: &Inner, begun: &HashSet<String>) {
    let parts = &inner.parts;
    for plugin in inner.shelf.all() {
        let id = &plugin.id;
        let put_right = if begun.contains(id.as_str()) {
            directories::undo_exchange(parts, id)
        } else {
            directories::end_exchange(parts, id)
        };
        if let Err(error) = put_right {
            tracing::error!(%id, error = chain(&error), "cannot put an interrupted upgrade right");
        }
    }
}

fn refuse_enabled(plugin: &Plugin, restart: bool) -> Result<()> {
    if plugin.is_enabled() && !restart {
        return Err(Error::UpgradeWhileEnabled { name: plugin.name() });
    }
    Ok(())
}

impl<'a> Exchange<'a> {
    /// The exchange for what was fetched, and which settings it drops. In the plugin's turn, as everything here.
    fn of(
        inner: &'a Arc<Inner>,
        plugin: &'a Arc<Plugin>,
        staging: &'a PluginId,
        reference: &Reference,
        fetched: &Fetched,
    ) -> (Self, Vec<String>) {
        let old = Version { record: plugin.record(), config: plugin.config() };
        let (settings, dropped) = carry(&old.config, &old.record.settings, &fetched.config);
        let record = Record {
            reference: reference.to_string(),
            origin: Some(reference.name()),
            config: fetched.config_blob.digest,
            manifest: fetched.manifest_blob.digest,
            layers: fetched.layers.clone(),
            settings,
            ..old.record.clone()
        };
        let new = Version { record, config: Arc::new(fetched.config.clone()) };
        (Self { inner, plugin, staging, old, new }, dropped)
    }

    /// Of a disabled plugin.
    async fn at_rest(&self) -> Result<()> {
        let done = match self.begin().await {
            Ok(()) => self.commit().await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            if let Err(error) = self.undo().await {
                let plugin = &self.plugin.name();
                tracing::error!(plugin, error = chain(&error), "the next start undoes this upgrade");
            } else {
                self.sweep().await;
            }
            return done;
        }
        self.end().await;
        if self.plugin.is_volume_driver() {
            self.inner.parts.drivers.disable(&self.plugin.name());
        }
        Ok(())
    }

    /// Of an enabled plugin, which is stopped and started for it.
    async fn on_trial(&self, turn: &mut Turn, report: &Report) -> Result<()> {
        let (inner, plugin) = (self.inner, self.plugin);
        if inner.closing.load(Ordering::SeqCst) {
            return Err(Error::Closing);
        }
        let not_upgraded = |instead| {
            let name = plugin.name();
            move |source| Error::NotUpgraded { name, instead, source: Box::new(source) }
        };
        // Whatever can be known of the new one while the old one runs.
        self.check().await.map_err(not_upgraded(Instead::Untouched))?;
        let kept = self.keep_old().await.map_err(not_upgraded(Instead::Untouched))?;
        report.tell(News::Restarting { name: plugin.name() });
        disable::end(plugin, turn).await;
        let tried = async {
            self.begin().await?;
            plugin.try_on(self.new.record.clone(), Arc::clone(&self.new.config));
            restart::start(inner, plugin, turn).await?;
            let done = self.commit().await;
            if done.is_err() {
                disable::end(plugin, turn).await;
            }
            done
        };
        let Err(failure) = tried.await else {
            drop(kept);
            self.end().await;
            return Ok(());
        };
        tracing::warn!(plugin = plugin.name(), error = chain(&failure), "the new version is taken back");
        if let Err(error) = self.undo().await {
            plugin.observe(|state| {
                state.status = Status::Failed;
                state.error = Some(chain(&error));
            });
            tracing::error!(
                plugin = plugin.name(),
                error = chain(&error),
                "the next start undoes this upgrade"
            );
            return Err(not_upgraded(Instead::Neither)(failure));
        }
        let runs = restart::start_again(inner, plugin, turn).await;
        self.sweep().await;
        Err(not_upgraded(if runs { Instead::Back } else { Instead::Retried })(failure))
    }

    /// Looks whether the new version lacks anything.
    async fn check(&self) -> Result<()> {
        let (config, settings) = (Arc::clone(&self.new.config), self.new.record.settings.clone());
        let rootfs = self.inner.parts.data.plugin(self.staging.as_str()).rootfs();
        blocking(move || launch::check(&config, &settings, &rootfs).map(drop)).await
    }

    /// Keeps the blobs of the old version while no record that anybody sees names them.
    async fn keep_old(&self) -> Result<Vec<Blob>> {
        let (inner, blobs) = (Arc::clone(self.inner), self.old.record.blobs().collect::<Vec<_>>());
        blocking(move || {
            let pinned = blobs.iter().map(|digest| inner.parts.content.pin(digest));
            pinned.collect::<Result<_, _>>().map_err(Error::Content)
        })
        .await
    }

    /// Writes the intention down, and moves the root file systems.
    async fn begin(&self) -> Result<()> {
        let intention = Change::new().put(UPGRADES, self.plugin.id.as_str(), &true).map_err(Error::State)?;
        self.inner.parts.store.commit(intention).await.map_err(Error::State)?;
        let staging = self.staging.clone();
        self.with_directories(move |parts, id| directories::exchange(parts, id, &staging)).await
    }

    /// Makes the new version the one that counts.
    async fn commit(&self) -> Result<()> {
        let (id, record) = (self.plugin.id.as_str(), self.new.record.clone());
        let change =
            Change::new().put(PLUGINS, id, &record).map(|change| restart::without_trials(change, id));
        let config = Arc::clone(&self.new.config);
        self.plugin.commit_change(&self.inner.parts.store, change, record, config).await
    }

    /// Removes what the old version has left.
    async fn end(&self) {
        self.sweep().await;
        let was_driver = self.old.config.implements(VOLUME_DRIVER);
        if was_driver && !self.plugin.is_volume_driver() {
            self.inner.parts.drivers.unregister(&self.plugin.name());
        }
    }

    /// Puts the old version back. The root file system of the new one is left aside.
    async fn undo(&self) -> Result<()> {
        self.plugin.try_on(self.old.record.clone(), Arc::clone(&self.old.config));
        self.with_directories(directories::undo_exchange).await?;
        let withdrawn = Change::new().delete(UPGRADES, self.plugin.id.as_str());
        if let Err(error) = self.inner.parts.store.commit(withdrawn).await {
            // The next start undoes what is undone, which harms nobody.
            let plugin = &self.plugin.name();
            tracing::warn!(plugin, error = chain(&error), "the intention of an undone upgrade is left");
        }
        Ok(())
    }

    /// Removes the root file system that is not wanted any more.
    async fn sweep(&self) {
        if let Err(error) = self.with_directories(directories::end_exchange).await {
            let plugin = &self.plugin.name();
            tracing::error!(plugin, error = chain(&error), "the next start ends this upgrade");
        }
    }

    async fn with_directories(
        &self,
        work: impl FnOnce(&Parts, &PluginId) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (inner, id) = (Arc::clone(self.inner), self.plugin.id.clone());
        blocking(move || work(&inner.parts, &id)).await
    }
}
