//! The start of the daemon: reads what there is, sweeps what a crash has left, finds or starts what is enabled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::config::PluginConfig;
use super::former::FormerNames;
use super::launch;
use super::plugin::Plugin;
use super::record::{PLUGINS, Record};
use super::shelf::Shelf;
use super::spec::Kernel;
use super::supervise::{self, First};
use super::{Error, Inner, Parts, PluginId, Result, STARTS_MAX, collect, directories, set, upgrade};
use crate::error::chain;
use crate::oci::CONFIG_MAX_BYTES;

/// Reads all records. Blocking.
///
/// # Errors
/// [`Error::State`], [`Error::Io`], [`Error::Content`].
pub(super) fn open(parts: Parts) -> Result<Arc<Inner>> {
    let mut records = parts.store.load(PLUGINS).map_err(Error::State)?;
    let begun = upgrade::begun(&parts)?;
    let mut anew = set::recover(&parts, &mut records)?;
    anew.extend(begun.iter().cloned());
    let (mut plugins, mut unreadable) = (Vec::new(), Vec::new());
    for (key, record) in records {
        match key.parse::<PluginId>().and_then(|id| Ok((id, read_config(&parts, &record)?))) {
            Ok((id, config)) => plugins.push(Plugin::new(id, record, config)),
            Err(error) => {
                let name = record.name.familiar();
                tracing::error!(
                    plugin = name,
                    id = key,
                    error = chain(&error),
                    "cannot read a plugin, left alone"
                );
                unreadable.push((key, record));
            }
        }
    }
    let former = FormerNames::open(&parts)?;
    for plugin in plugins.iter().filter(|plugin| plugin.is_volume_driver()) {
        parts.drivers.disable(&plugin.name());
    }
    let inner = Inner {
        former,
        shelf: Shelf::new(plugins, unreadable),
        starts: Semaphore::new(STARTS_MAX),
        closing: AtomicBool::new(false),
        anew,
        kernel: Kernel::ask(),
        parts,
    };
    upgrade::recover(&inner, &begun);
    directories::sweep(&inner.parts, |id| inner.shelf.knows(id))?;
    collect::blobs(&inner)?;
    Ok(Arc::new(inner))
}

/// Gives every enabled plugin its task, and ends the processes that no enabled plugin has.
pub(super) fn restore(inner: &Arc<Inner>) {
    for plugin in inner.shelf.all() {
        if plugin.is_enabled() {
            launch::make_known(inner, &plugin);
        }
        tokio::spawn(begin(Arc::clone(inner), plugin));
    }
    tokio::spawn(end_strangers(Arc::clone(inner)));
}

async fn begin(inner: Arc<Inner>, plugin: Arc<Plugin>) {
    let Ok(mut turn) = plugin.turn(&plugin.name()).await else { return };
    if turn.supervisor.is_some() || inner.closing.load(Ordering::SeqCst) {
        return;
    }
    if plugin.is_enabled() {
        let first = if inner.anew.contains(plugin.id.as_str()) { First::Anew } else { First::Find };
        turn.supervisor = Some(supervise::spawn(&inner, &plugin, first));
        return;
    }
    let exec = inner.parts.exec.plugin(plugin.id.as_str());
    match inner.parts.launcher.attach(plugin.id.as_str(), &exec).await {
        Ok(Some(process)) if process.exit().is_none() => {
            tracing::warn!(plugin = plugin.name(), "runs without being enabled: ended");
            launch::stop(&inner, &plugin, &process).await;
            launch::settle(&inner, &plugin).await;
            plugin.observe(|state| state.status = super::Status::Stopped);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(plugin = plugin.name(), error = chain(&error), "cannot look for a process");
        }
    }
}

/// Ends the processes of plugins that are gone; only a crash at a bad moment leaves one.
pub(super) async fn end_strangers(inner: Arc<Inner>) {
    let ids = directories::with_process(&inner.parts).unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "cannot look for processes of removed plugins");
        Vec::new()
    });
    for id in ids.into_iter().filter(|id| !inner.shelf.knows(id)) {
        let exec = inner.parts.exec.plugin(id.as_str());
        let end = async {
            if let Some(process) = inner.parts.launcher.attach(id.as_str(), &exec).await?
                && process.exit().is_none()
            {
                tracing::warn!(%id, "the process of a removed plugin: killed");
                process.kill()?;
                process.wait().await;
            }
            inner.parts.launcher.forget(id.as_str(), &exec).await
        };
        match end.await {
            Ok(()) => collect::remains(&inner, &id).await,
            Err(error) => {
                tracing::warn!(%id, error = chain(&error), "cannot end the process of a removed plugin");
            }
        }
    }
}

fn read_config(parts: &Parts, record: &Record) -> Result<PluginConfig> {
    let bytes = parts.content.read(&record.config, CONFIG_MAX_BYTES).map_err(Error::Content)?;
    PluginConfig::decode(&bytes)
}
