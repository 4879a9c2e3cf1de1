//! `set`: changes settings of a plugin: of a disabled one, or, with a restart, of one that runs.
//!
//! With a restart the new settings are on trial until the plugin listens: what worked is kept beside them, and comes
//! back when they do not work, and also when the daemon is killed in the midst (`recover`). So the plugin has the old
//! settings or the new ones, and runs with those it has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::launch::{self, Leftover};
use super::observed::Status;
use super::plugin::{Order, Plugin, Turn};
use super::record::{PLUGINS, Record};
use super::settings::Settings;
use super::supervise::{self, First};
use super::{Error, Inner, Parts, Result, disable, settable};
use crate::state::{Change, Table};

/// What settings a plugin had before those that are on trial; the key is the id.
const TRIALS: Table<Settings> = Table::new("trials");

pub(super) async fn set(
    inner: &Arc<Inner>,
    selector: &str,
    settings: &[String],
    restart: bool,
) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let mut turn = plugin.turn(selector).await?;
    let old = plugin.record();
    if old.enabled && !restart {
        return Err(Error::SetWhileEnabled);
    }
    let settings = settable::set(&plugin.config(), &old.settings, settings)?;
    let new = Record { settings, ..old.clone() };
    if !old.enabled {
        return plugin.commit(&inner.parts.store, new).await;
    }
    if inner.closing.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    let id = plugin.id.as_str();
    let trial = Change::new().put(PLUGINS, id, &new).and_then(|change| change.put(TRIALS, id, &old.settings));
    plugin.commit_change(&inner.parts.store, trial, new.clone(), plugin.config()).await?;
    disable::end(&plugin, &mut turn).await;
    let mut tried = start(inner, &plugin, &mut turn).await;
    if tried.is_ok() {
        // Withdrawn last: who is killed before this has the old settings, which worked too.
        let done = Change::new().put(PLUGINS, id, &new).map(|change| change.delete(TRIALS, id));
        tried = plugin.commit_change(&inner.parts.store, done, new, plugin.config()).await;
        if tried.is_err() {
            disable::end(&plugin, &mut turn).await;
        }
    }
    let Err(failure) = tried else { return Ok(()) };
    let back = Change::new().put(PLUGINS, id, &old).map(|change| change.delete(TRIALS, id));
    if let Err(error) = plugin.commit_change(&inner.parts.store, back, old, plugin.config()).await {
        // Nothing can be written: it is tried on as it is, and the next start of the daemon takes it back.
        supervise::resume(inner, &plugin, &mut turn);
        return Err(error);
    }
    let again = start(inner, &plugin, &mut turn).await;
    if again.is_err() && !inner.closing.load(Ordering::SeqCst) {
        supervise::resume(inner, &plugin, &mut turn);
    }
    Err(Error::NotWithThese { name: plugin.name.clone(), runs: again.is_ok(), source: Box::new(failure) })
}

/// Starts an enabled plugin with the settings it has now. In the turn of the verb.
async fn start(inner: &Arc<Inner>, plugin: &Arc<Plugin>, turn: &mut Turn) -> Result<()> {
    plugin.orders.send_replace(Order::Run);
    // After the order, which would otherwise take back that of the end.
    if inner.closing.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    plugin.observe(|state| state.status = Status::Starting);
    let process = launch::launch(inner, plugin, plugin.start_deadline(), Leftover::End).await;
    match process {
        Ok(process) => {
            launch::make_known(inner, plugin);
            turn.supervisor = Some(supervise::spawn(inner, plugin, First::Running(process)));
            Ok(())
        }
        Err(error) => {
            launch::settle(inner, plugin).await;
            Err(error)
        }
    }
}

/// Gives the plugins whose new settings were on trial when the daemon was killed the old ones again. The processes that
/// have the new ones must not be taken over: these are their plugins' ids. Blocking.
///
/// # Errors
/// [`Error::State`].
pub(super) fn recover(parts: &Parts, records: &mut [(String, Record)]) -> Result<HashSet<String>> {
    let trials = parts.store.load(TRIALS).map_err(Error::State)?;
    let mut change = Change::new();
    for (id, settings) in &trials {
        change = change.delete(TRIALS, id);
        if let Some((_, record)) = records.iter_mut().find(|(key, _)| key == id) {
            record.settings = settings.clone();
            change = change.put(PLUGINS, id, record).map_err(Error::State)?;
            tracing::warn!(
                plugin = record.name.familiar(),
                "its new settings were on trial: it has the old ones again"
            );
        }
    }
    if !trials.is_empty() {
        parts.store.commit_now(change).map_err(Error::State)?;
    }
    Ok(trials.into_iter().map(|(id, _)| id).collect())
}
