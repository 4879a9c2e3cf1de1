//! What `set` and `upgrade` of an enabled plugin share: it is started with something new, which is on trial until it
//! listens.
//!
//! A trial has a row in the table of its verb, which is withdrawn when the plugin was seen to listen, with the new or
//! with what was before. Where the start of the daemon finds one, a process that runs is not taken for the plugin's, for
//! nobody knows what it was started with.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::launch::{self, Leftover};
use super::observed::Status;
use super::plugin::{Order, Plugin, Turn};
use super::set::TRIALS;
use super::supervise::{self, First};
use super::upgrade::UPGRADES;
use super::{Error, Inner, Result, blocking, directories};
use crate::error::chain;
use crate::state::Change;

/// Starts an enabled plugin as it is now, and waits until it listens. In the turn of a verb.
///
/// # Errors
/// Why it does not run; then it does not run.
pub(super) async fn start(inner: &Arc<Inner>, plugin: &Arc<Plugin>, turn: &mut Turn) -> Result<()> {
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

/// The same with what worked before: tells whether it runs, and goes on trying if it does not. In the turn of a verb.
pub(super) async fn start_again(inner: &Arc<Inner>, plugin: &Arc<Plugin>, turn: &mut Turn) -> bool {
    let again = start(inner, plugin, turn).await;
    if again.is_err() && !inner.closing.load(Ordering::SeqCst) {
        supervise::resume(inner, plugin, turn);
    }
    again.is_ok()
}

/// Adds to a change that nothing of this plugin is on trial any more.
pub(super) fn without_trials(change: Change, id: &str) -> Change {
    change.delete(TRIALS, id).delete(UPGRADES, id)
}

/// Ends a trial that a crash has interrupted, once the plugin runs with what was before. What fails is tried again at
/// the next start.
pub(super) async fn withdraw(inner: &Arc<Inner>, plugin: &Plugin) {
    let change = without_trials(Change::new(), plugin.id.as_str());
    let withdrawn = inner.parts.store.commit(change).await.map_err(Error::State);
    // What was on trial had a process until now.
    let (own, id) = (Arc::clone(inner), plugin.id.clone());
    for ended in [withdrawn, blocking(move || directories::end_exchange(&own.parts, &id)).await] {
        if let Err(error) = ended {
            tracing::warn!(plugin = plugin.name(), error = chain(&error), "something of a trial is left");
        }
    }
}
