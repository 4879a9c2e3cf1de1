//! What a registry says of a plugin: its manifest and its configuration, without its layers.
//!
//! The bytes are kept as they came. What is an image and not a plugin is refused here, and so is a layer that cannot
//! be unpacked, before anything large is fetched. The texts are dockerd's where it has them.

use super::config::PluginConfig;
use super::remote::Remote;
use super::report::{News, Report};
use super::{Error, Result};
use crate::oci::{CONFIG_MAX_BYTES, Descriptor, Manifest, MediaType, Reference};
use crate::registry::{self, MANIFEST_TYPES, Platform, Session};

/// How images are configured: for the error.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"];

/// A plugin without its layers.
#[derive(Debug)]
pub(super) struct Described {
    /// What the manifest says.
    pub(super) manifest: Manifest,
    /// Its bytes.
    pub(super) manifest_bytes: Vec<u8>,
    /// What the configuration says.
    pub(super) config: PluginConfig,
    /// Its bytes.
    pub(super) config_bytes: Vec<u8>,
}

/// Asks a registry; of an index, the manifest for this machine.
///
/// # Errors
/// [`Error::Registry`], [`Error::RemoteManifest`], [`Error::NotAPlugin`], [`Error::ForeignLayer`], and whatever is
/// wrong with the configuration.
pub(super) async fn describe(
    session: &Session,
    remote: &Remote,
    report: Option<&Report>,
) -> Result<Described> {
    let mut resolved = session.resolve(&MANIFEST_TYPES).await.map_err(registry_error)?;
    if resolved.descriptor.media_type.is_index() {
        let reference = remote.reference().familiar();
        let chosen =
            registry::choose(&resolved.bytes, &Platform::here(), &reference).map_err(registry_error)?;
        resolved = session.manifest(&chosen).await.map_err(registry_error)?;
    }
    let manifest = read_manifest(&resolved.bytes, &resolved.descriptor.media_type, remote.reference())?;
    if let Some(report) = report {
        let repository = remote.reference().familiar_name();
        report.tell(News::Pulling { repository, version: remote.version() });
        report.tell(News::Manifest(resolved.descriptor.digest));
    }
    let limit_bytes = usize::try_from(CONFIG_MAX_BYTES).unwrap_or(usize::MAX);
    let config_bytes = session.fetch_whole(&manifest.config, limit_bytes).await.map_err(registry_error)?;
    Described::new(manifest, resolved.bytes, config_bytes)
}

/// Reads the manifest of a plugin.
///
/// # Errors
/// [`Error::RemoteManifest`], [`Error::NotAPlugin`], [`Error::ForeignLayer`].
pub(super) fn read_manifest(bytes: &[u8], media_type: &MediaType, reference: &Reference) -> Result<Manifest> {
    let manifest = Manifest::parse(bytes, media_type)
        .map_err(|source| Error::RemoteManifest { reference: reference.familiar(), source })?;
    let kind = &manifest.config.media_type;
    if *kind != MediaType::PluginConfig {
        let what = if IMAGE_CONFIGS.contains(&kind.as_str()) { "an image" } else { "something else" };
        let (reference, got) = (reference.to_string(), kind.to_string());
        return Err(Error::NotAPlugin { reference, what, got });
    }
    match manifest.layers.iter().find(|layer| !layer.media_type.is_layer()) {
        None => Ok(manifest),
        Some(Descriptor { digest, media_type, .. }) => {
            Err(Error::ForeignLayer { digest: *digest, media_type: media_type.to_string() })
        }
    }
}

impl Described {
    /// Reads the configuration that belongs to a manifest.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Violation`].
    pub(super) fn new(manifest: Manifest, manifest_bytes: Vec<u8>, config_bytes: Vec<u8>) -> Result<Self> {
        let config = PluginConfig::decode(&config_bytes)?;
        config.validate()?;
        Ok(Self { manifest, manifest_bytes, config, config_bytes })
    }
}

/// For `map_err`.
pub(super) fn registry_error(error: registry::Error) -> Error {
    Error::Registry(Box::new(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &str, layer: &str) -> Result<Manifest> {
        let digest = crate::oci::Digest::of(b"");
        let descriptor = |kind: &str| json!({ "mediaType": kind, "digest": digest, "size": 1 });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OciManifest,
            "config": descriptor(config),
            "layers": [descriptor(layer)],
        });
        read_manifest(manifest.to_string().as_bytes(), &MediaType::OciManifest, &"a/b:c".parse().unwrap())
    }

    #[test]
    fn images_and_foreign_layers_are_refused_by_name() {
        const PLUGIN: &str = "application/vnd.docker.plugin.v1+json";
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
        assert!(read(PLUGIN, LAYER).is_ok());
        let error = read("application/vnd.docker.container.image.v1+json", LAYER).unwrap_err().to_string();
        assert_eq!(
            error,
            "did not find plugin config for specified reference docker.io/a/b:c: this is an image, not a plugin \
             (its config is application/vnd.docker.container.image.v1+json)"
        );
        let error = read("x/y", LAYER).unwrap_err().to_string();
        assert!(error.contains("this is something else, not a plugin (its config is x/y)"), "{error}");
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let error = read(PLUGIN, foreign).unwrap_err().to_string();
        assert!(error.contains(foreign), "{error}");
    }
}
