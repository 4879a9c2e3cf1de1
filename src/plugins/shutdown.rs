//! The end of the daemon: plugins are stopped politely, all at once, or left running.

use std::sync::atomic::Ordering;

use super::Inner;
use super::plugin::Order;

pub(super) async fn shutdown(inner: &Inner) {
    inner.closing.store(true, Ordering::SeqCst);
    let order = if inner.parts.live_restore { Order::Leave } else { Order::Stop };
    let plugins = inner.shelf.all();
    for plugin in &plugins {
        plugin.orders.send_replace(order);
    }
    for plugin in plugins {
        // A verb that has its turn ends first; one that waits for a plugin has heard the order too.
        let Ok(mut turn) = plugin.turn(&plugin.name()).await else { continue };
        if let Some(supervisor) = turn.supervisor.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(plugin = plugin.name(), %error, "the task that watches a plugin has failed");
        }
    }
}
