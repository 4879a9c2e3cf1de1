//! `rename`: another name for a plugin, which runs on if it runs.
//!
//! Its id stays, and all that goes by it: the process, its socket, its directories, its log. So does what it was made or
//! pulled as; a push goes where the name says, as ever. The change of the record is one commit, with the old name in it,
//! so that what was written down under that is found.

use std::sync::Arc;

use super::record::Record;
use super::{Error, Inner, Result};
use crate::oci::Reference;

pub(super) async fn rename(inner: &Arc<Inner>, selector: &str, name: Reference) -> Result<()> {
    if name.digest().is_some() {
        return Err(Error::Canonical);
    }
    let name = name.with_default_tag();
    let familiar = name.familiar();
    let plugin = inner.shelf.find(selector)?;
    let reserved = inner.shelf.reserve(&familiar)?;
    inner.former.check_free(inner, &familiar).await?;
    let _turn = plugin.turn(selector).await?;
    let former = plugin.name();
    let record = Record { name, ..plugin.record() };
    inner.former.commit_renamed(inner, &plugin, record).await?;
    // Only now, so that the name is never free in between.
    drop(reserved);
    tracing::info!(plugin = familiar, former, id = %plugin.id, "renamed");
    // As docker tells it of a container.
    inner.tell_with("rename", &plugin.id, &familiar, &[("oldName", former)]);
    Ok(())
}
