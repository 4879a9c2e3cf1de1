//! `remove`: first the record, then everything else.

use std::sync::Arc;

use super::plugin::{Order, View};
use super::{Error, Inner, Result, collect, disable, supervise};

pub(super) async fn remove(inner: &Arc<Inner>, selector: &str, force: bool) -> Result<View> {
    let plugin = inner.shelf.find(selector)?;
    if force {
        // An `enable` that waits for a plugin that never comes up ends at once.
        plugin.orders.send_replace(Order::Stop);
    }
    let mut turn = plugin.turn(selector).await?;
    if !force {
        if inner.parts.drivers.leases(&plugin.name()) > 0 {
            return Err(Error::InUse { name: plugin.name() });
        }
        if plugin.is_enabled() {
            return Err(Error::Enabled { name: plugin.name() });
        }
    }
    disable::stop(inner, &plugin, &mut turn).await;
    let view = plugin.view();
    if let Err(error) = inner.former.commit_removed(inner, &plugin).await {
        // It is still there, and as it was wanted.
        supervise::resume(inner, &plugin, &mut turn);
        return Err(Error::State(error));
    }
    turn.removed = true;
    if plugin.is_volume_driver() {
        inner.parts.drivers.unregister(&plugin.name());
    }
    inner.shelf.take(&plugin.id);
    collect::remains(inner, &plugin.id).await;
    inner.tell("remove", &plugin.id, selector);
    tracing::info!(plugin = plugin.name(), id = %plugin.id, "removed");
    Ok(view)
}
