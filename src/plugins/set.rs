//! `set`: changes settings of a disabled plugin.

use super::{Error, Inner, Result, settable};

pub(super) async fn set(inner: &Inner, selector: &str, settings: &[String]) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let _turn = plugin.turn(selector).await?;
    let mut record = plugin.record();
    if record.enabled {
        return Err(Error::SetWhileEnabled);
    }
    record.settings = settable::set(&plugin.config(), &record.settings, settings)?;
    plugin.commit(&inner.parts.store, record).await
}
