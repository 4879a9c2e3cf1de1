//! `set`: changes settings of a plugin: of a disabled one, or, with a restart, of one that runs.
//!
//! With a restart the new settings are on trial until the plugin listens: what worked is kept beside them, and comes
//! back when they do not work, and also when the daemon is killed in the midst (`recover`). So the plugin has the old
//! settings or the new ones, and runs with those it has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::record::{PLUGINS, Record};
use super::resources::{self, Resources};
use super::settings::Settings;
use super::{Error, Inner, Parts, Result, disable, restart, settable, supervise};
use crate::state::{Change, Table};

/// What a plugin had before what is on trial; the key is the id.
pub(super) const TRIALS: Table<Trial> = Table::new("trials");

/// What `set` changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    #[serde(flatten)]
    settings: Settings,
    #[serde(default)]
    resources: Resources,
}

pub(super) async fn set(
    inner: &Arc<Inner>,
    selector: &str,
    settings: &[String],
    with_restart: bool,
) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let mut turn = plugin.turn(selector).await?;
    let old = plugin.record();
    if old.enabled && !with_restart {
        return Err(Error::SetWhileEnabled);
    }
    let (resources, settings) = resources::set(old.resources, settings)?;
    let settings = settable::set(&plugin.config(), &old.settings, &settings)?;
    let new = Record { settings, resources, ..old.clone() };
    let id = plugin.id.as_str();
    let settled = |record: &Record| {
        Change::new().put(PLUGINS, id, record).map(|change| restart::without_trials(change, id))
    };
    if !old.enabled {
        return plugin.commit_change(&inner.parts.store, settled(&new), new, plugin.config()).await;
    }
    if inner.closing.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    let before = Trial { settings: old.settings.clone(), resources: old.resources };
    let trial = Change::new().put(PLUGINS, id, &new).and_then(|change| change.put(TRIALS, id, &before));
    plugin.commit_change(&inner.parts.store, trial, new.clone(), plugin.config()).await?;
    disable::end(&plugin, &mut turn).await;
    let mut tried = restart::start(inner, &plugin, &mut turn).await;
    if tried.is_ok() {
        // Withdrawn last: who is killed before this has the old settings, which worked too.
        tried = plugin.commit_change(&inner.parts.store, settled(&new), new, plugin.config()).await;
        if tried.is_err() {
            disable::end(&plugin, &mut turn).await;
        }
    }
    let Err(failure) = tried else { return Ok(()) };
    if let Err(error) = plugin.commit_change(&inner.parts.store, settled(&old), old, plugin.config()).await {
        // Nothing can be written: it is tried on as it is, and the next start of the daemon takes it back.
        supervise::resume(inner, &plugin, &mut turn);
        return Err(error);
    }
    let runs = restart::start_again(inner, &plugin, &mut turn).await;
    Err(Error::NotWithThese { name: plugin.name(), runs, source: Box::new(failure) })
}

/// Gives the plugins whose new settings were on trial when the daemon was killed the old ones again, and tells which
/// they are, by id. Their rows stay until they run. Blocking.
///
/// # Errors
/// [`Error::State`].
pub(super) fn recover(parts: &Parts, records: &mut [(String, Record)]) -> Result<HashSet<String>> {
    let trials = parts.store.load(TRIALS).map_err(Error::State)?;
    let mut change = Change::new();
    for (id, before) in &trials {
        let Some((_, record)) = records.iter_mut().find(|(key, _)| key == id) else {
            // Nobody's any more.
            change = change.delete(TRIALS, id);
            continue;
        };
        if (&record.settings, record.resources) != (&before.settings, before.resources) {
            record.settings = before.settings.clone();
            record.resources = before.resources;
            change = change.put(PLUGINS, id, record).map_err(Error::State)?;
            let plugin = record.name.familiar();
            tracing::warn!(plugin, "its new settings were on trial: it has the old ones again");
        }
    }
    if !trials.is_empty() {
        parts.store.commit_now(change).map_err(Error::State)?;
    }
    Ok(trials.into_iter().map(|(id, _)| id).collect())
}
