//! Removing what no record needs any more: directories, and blobs.
//!
//! Nothing here fails a verb: what could not be removed is told in the log, and tried again at the next start.

use std::sync::Arc;

use super::{Error, Inner, PluginId, Result, blocking, directories};
use crate::error::chain;

/// Removes everything of a plugin whose record is gone, or never was.
pub(super) async fn remains(inner: &Arc<Inner>, id: &PluginId) {
    let (parts, own) = (Arc::clone(inner), id.clone());
    let removed = blocking(move || {
        directories::settle(&parts.parts, &own)?;
        directories::remove(&parts.parts, &own)
    });
    if let Err(error) = removed.await {
        tracing::warn!(%id, error = chain(&error), "cannot remove all of a plugin; the next start tries again");
    }
    unneeded(inner).await;
}

/// Removes the blobs that nobody needs, as [`blobs`], and does not fail.
pub(super) async fn unneeded(inner: &Arc<Inner>) {
    let collecting = Arc::clone(inner);
    if let Err(error) = blocking(move || blobs(&collecting)).await {
        tracing::warn!(error = chain(&error), "cannot remove all blobs that nobody needs");
    }
}

/// Removes the blobs that no record names and nobody is about to name. Blocking.
///
/// # Errors
/// [`Error::Content`].
pub(super) fn blobs(inner: &Inner) -> Result<()> {
    let freed_bytes = inner.parts.content.collect(|| inner.shelf.blobs()).map_err(Error::Content)?;
    if freed_bytes > 0 {
        tracing::debug!(freed_bytes, "removed blobs that nobody needs");
    }
    Ok(())
}
