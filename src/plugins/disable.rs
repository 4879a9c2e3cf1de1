//! `disable`: stops a plugin.

use std::sync::Arc;

use super::plugin::{Order, Plugin, Turn};
use super::{Error, Inner, Result};

pub(super) async fn disable(inner: &Arc<Inner>, selector: &str, force: bool) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let mut turn = plugin.turn(selector).await?;
    // In dockerd's order: a disabled plugin that volumes lean on is in use.
    if !force && inner.parts.drivers.leases(&plugin.name()) > 0 {
        return Err(Error::InUse { name: plugin.name() });
    }
    if !plugin.is_enabled() {
        return Err(Error::AlreadyDisabled { name: plugin.name() });
    }
    let mut record = plugin.record();
    record.enabled = false;
    plugin.commit(&inner.parts.store, record).await?;
    stop(inner, &plugin, &mut turn).await;
    inner.tell("disable", &plugin.id, selector);
    Ok(())
}

/// Takes the driver away and ends the process, with whoever watches it.
pub(super) async fn stop(inner: &Inner, plugin: &Plugin, turn: &mut Turn) {
    let disable = || {
        if plugin.is_volume_driver() {
            inner.parts.drivers.disable(&plugin.name());
        }
    };
    disable();
    end(plugin, turn).await;
    // The task that has just ended may have made it known once more.
    disable();
}

/// Ends the process, with whoever watches it; the driver stays known.
pub(super) async fn end(plugin: &Plugin, turn: &mut Turn) {
    plugin.orders.send_replace(Order::Stop);
    if let Some(supervisor) = turn.supervisor.take()
        && let Err(error) = supervisor.await
    {
        tracing::error!(plugin = plugin.name(), %error, "the task that watches a plugin has failed");
    }
}
