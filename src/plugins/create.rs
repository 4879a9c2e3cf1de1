//! `create`: a plugin from a tar of `config.json` and `rootfs`.
//!
//! The record is the commit. Everything else is on disk before it, without a name that anybody looks for: the blobs
//! are pinned, and a directory without a record is swept at the next start.

use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::config::{PluginConfig, Rootfs};
use super::plugin::Plugin;
use super::record::Record;
use super::resources::Resources;
use super::settings::Settings;
use super::{Error, Inner, Parts, PluginId, Result, blocking, collect, directories};
use crate::content::Blob;
use crate::layer;
use crate::oci::{Manifest, Reference};

/// What is on disk, and stays there while this lives.
struct Stored {
    config: PluginConfig,
    config_blob: Blob,
    layer_blob: Blob,
    manifest_blob: Blob,
}

pub(super) async fn create(
    inner: &Arc<Inner>,
    name: Reference,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Result<PluginId> {
    if name.digest().is_some() {
        return Err(Error::Canonical);
    }
    let name = name.with_default_tag();
    let familiar = name.familiar();
    let reserved = inner.shelf.reserve(&familiar)?;
    inner.former.check_free(inner, &familiar).await?;
    let id = PluginId::random()?;
    let result = async {
        let stored = {
            let (inner, id) = (Arc::clone(inner), id.clone());
            let body = SyncIoBridge::new(body);
            blocking(move || store(&inner.parts, &id, body)).await?
        };
        let record = Record {
            name,
            reference: familiar.clone(),
            origin: None,
            enabled: false,
            start_deadline_s: 0,
            config: stored.config_blob.digest,
            manifest: stored.manifest_blob.digest,
            layers: vec![stored.layer_blob.digest],
            settings: Settings::initial(&stored.config),
            resources: Resources::default(),
            created: Timestamp::now(),
        };
        let plugin = Plugin::new(id.clone(), record.clone(), stored.config.clone());
        inner.former.commit_new(inner, &plugin, record).await?;
        inner.shelf.add(Arc::new(plugin), reserved);
        // The pins go here, after the record can be seen.
        drop(stored);
        Ok(())
    }
    .await;
    match result {
        Ok(()) => {
            inner.tell("create", &id, &familiar);
            tracing::info!(plugin = familiar, %id, "created");
            Ok(id)
        }
        Err(error) => {
            collect::remains(inner, &id).await;
            Err(error)
        }
    }
}

/// Takes the tar apart, and puts everything on disk.
fn store(parts: &Parts, id: &PluginId, body: impl Read + Send + 'static) -> Result<Stored> {
    let rootfs = directories::create(parts, id)?;
    let writer = parts.content.writer().map_err(Error::Content)?;
    let context = layer::split_context(body, &rootfs, writer, &parts.limits).map_err(Error::Layer)?;
    let mut config = PluginConfig::decode(&context.config_json)?;
    config.validate()?;
    config.rootfs =
        Some(Rootfs { diff_ids: vec![context.diff_id.to_string()].into(), kind: "layers".to_owned() });
    config.docker_version.clone_from(&parts.version);
    let bytes = config.encode()?;
    let layer_blob = context.blob.commit(None).map_err(Error::Content)?;
    let config_blob = parts.content.put(&bytes).map_err(Error::Content)?;
    let manifest = Manifest::plugin_bytes(
        (config_blob.digest, config_blob.size_bytes),
        (layer_blob.digest, layer_blob.size_bytes),
    );
    let manifest_blob = parts.content.put(&manifest.map_err(Error::Oci)?).map_err(Error::Content)?;
    let path = || parts.data.plugin(id.as_str()).rootfs();
    rootfs.sync().map_err(|source| Error::Directory { path: path(), source })?;
    Ok(Stored { config, config_blob, layer_blob, manifest_blob })
}
