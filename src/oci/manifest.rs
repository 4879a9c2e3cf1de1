//! The manifest of a plugin: which blob is its configuration, which are its layers.
//!
//! What is read is only looked at: the bytes that are stored and sent again are the ones that were received.
//! Manifests of our own ([`Manifest::plugin_bytes`]) are written as dockerd writes them (`buildManifest` and
//! `writeManifest` in moby's `plugin/backend_linux.go`, 20.10 and main alike): Go's compact JSON, `mediaType`
//! last, because there it is a field added to an embedded structure. So the same content has the same digest.

use serde::{Deserialize, Serialize};

use super::{Digest, Error, MediaType, Result};

/// No honest manifest is larger; registries refuse larger ones too (the OCI distribution specification: 4 MiB).
pub const MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The largest configuration of a plugin that is read.
pub const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How many layers a manifest may name. dockerd makes plugins of one layer, images of at most 127.
pub const LAYERS_MAX: usize = 256;
/// The only version of the format.
const SCHEMA_VERSION: u64 = 2;

/// What a blob is, which bytes it has, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: MediaType,
    /// The sha256 of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// A manifest that was read: Docker's schema 2 or OCI's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// [`MediaType::DockerManifest`] or [`MediaType::OciManifest`].
    pub media_type: MediaType,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first; at most [`LAYERS_MAX`].
    pub layers: Vec<Descriptor>,
}

/// The order of the fields is the order in dockerd's bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u64,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
    media_type: MediaType,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    schema_version: u64,
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest that was served, or is described, as `media_type`.
    ///
    /// # Errors
    /// [`Error::ManifestTooLarge`], [`Error::Manifest`] when it is no JSON of the right shape, is not of the version
    /// 2, names itself as another type than `media_type`, is at the same time something else (a list, or schema 1),
    /// or names too many layers; [`Error::ManifestType`] when `media_type` is not the type of one manifest.
    pub fn parse(bytes: &[u8], media_type: &MediaType) -> Result<Self> {
        if bytes.len() > MANIFEST_MAX_BYTES {
            return Err(Error::ManifestTooLarge { bytes: bytes.len() });
        }
        if !media_type.is_manifest() {
            return Err(Error::ManifestType { media_type: media_type.to_string() });
        }
        let refuse = |problem: String| Err(Error::Manifest { problem });
        let read: Read = match serde_json::from_slice(bytes) {
            Ok(read) => read,
            Err(error) => return refuse(error.to_string()),
        };
        if read.schema_version != SCHEMA_VERSION {
            return refuse(format!("schemaVersion is {}, expected {SCHEMA_VERSION}", read.schema_version));
        }
        // A document that is two things at once is read differently by different clients.
        if read.manifests.is_some() || read.fs_layers.is_some() {
            return refuse("it is both a manifest and something else (manifests, fsLayers)".to_owned());
        }
        match read.media_type {
            Some(own) if own != *media_type => {
                return refuse(format!("mediaType is {own:?}, it was described as {media_type}"));
            }
            // Docker's format demands the field, OCI's does not.
            None if *media_type == MediaType::DockerManifest => {
                return refuse("mediaType is missing".to_owned());
            }
            Some(_) | None => {}
        }
        let Some(config) = read.config else { return refuse("config is missing".to_owned()) };
        let layers = read.layers.unwrap_or_default();
        if layers.len() > LAYERS_MAX {
            return refuse(format!("it names {} layers, at most {LAYERS_MAX} are allowed", layers.len()));
        }
        Ok(Self { media_type: media_type.clone(), config, layers })
    }

    /// The manifest of a plugin that was created here, byte for byte as dockerd would write it.
    ///
    /// `config` and `layer` are the digests and sizes, in bytes, of the configuration and of the gzip-compressed
    /// layer.
    ///
    /// # Errors
    /// [`Error::Manifest`], which does not happen: everything in it has a JSON.
    pub fn plugin_bytes(config: (Digest, u64), layer: (Digest, u64)) -> Result<Vec<u8>> {
        let descriptor = |media_type, (digest, size)| Descriptor { media_type, digest, size };
        let written = Written {
            schema_version: SCHEMA_VERSION,
            config: &descriptor(MediaType::PluginConfig, config),
            layers: &[descriptor(MediaType::DockerLayerGzip, layer)],
            media_type: MediaType::DockerManifest,
        };
        serde_json::to_vec(&written).map_err(|error| Error::Manifest { problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": DIGEST, "size": 7 })
    }

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MediaType::DockerManifest,
            "config": descriptor("application/vnd.docker.plugin.v1+json"),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
        })
    }

    fn parse(json: &Value, media_type: &MediaType) -> Result<Manifest> {
        Manifest::parse(&serde_json::to_vec(json).unwrap(), media_type)
    }

    #[test]
    fn ours_has_the_bytes_that_dockerd_writes() {
        let empty = Digest::of(b"");
        let bytes = Manifest::plugin_bytes((empty, 522), (empty, 2047)).unwrap();
        let expected = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.docker.plugin.v1+json","digest":"{DIGEST}","size":522}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"{DIGEST}","size":2047}}],"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}}"#
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let manifest = Manifest::parse(expected.as_bytes(), &MediaType::DockerManifest).unwrap();
        assert_eq!(manifest.config.size, 522);
        assert_eq!(manifest.layers[0].media_type, MediaType::DockerLayerGzip);
    }

    #[test]
    fn both_formats_are_read() {
        let docker = parse(&manifest(), &MediaType::DockerManifest).unwrap();
        let oci = json!({
            "schemaVersion": 2,
            "artifactType": "application/x",
            "config": descriptor("application/vnd.docker.plugin.v1+json"),
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": DIGEST, "size": 7,
                "annotations": { "a": "b" },
            }],
            "annotations": { "a": "b" },
        });
        let oci = parse(&oci, &MediaType::OciManifest).unwrap();
        assert_eq!(oci.config, docker.config);
        assert_eq!(oci.layers[0].media_type, MediaType::OciLayerZstd);
    }

    #[test]
    fn what_is_wrong_is_refused_and_told() {
        let changed = |key: &str, value: Value| {
            let mut manifest = manifest();
            manifest[key] = value;
            manifest
        };
        let layer = descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip");
        let with = |key: &str, value: Value| {
            let mut layer = layer.clone();
            layer[key] = value;
            changed("layers", json!([layer]))
        };
        let cases = [
            (changed("schemaVersion", json!(1)), "schemaVersion is 1, expected 2"),
            (changed("schemaVersion", json!("2")), "invalid type"),
            (changed("mediaType", json!(MediaType::OciManifest)), "it was described as"),
            (changed("mediaType", Value::Null), "mediaType is missing"),
            (changed("config", Value::Null), "config is missing"),
            (changed("manifests", json!([])), "both a manifest and something else"),
            (changed("fsLayers", json!([])), "both a manifest and something else"),
            (changed("layers", json!(vec![layer.clone(); LAYERS_MAX + 1])), "257 layers"),
            (with("digest", json!("sha256:../../etc/passwd")), "invalid checksum digest length"),
            (with("digest", json!(format!("sha512:{}", "0".repeat(128)))), "unsupported digest algorithm"),
            (with("size", json!(-1)), "invalid value"),
            (with("size", json!(1.5)), "invalid type"),
            (json!([]), "invalid"),
        ];
        for (json, expected) in cases {
            let error = parse(&json, &MediaType::DockerManifest).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
        let full = changed("layers", json!(vec![layer.clone(); LAYERS_MAX]));
        assert_eq!(parse(&full, &MediaType::DockerManifest).unwrap().layers.len(), LAYERS_MAX);
    }

    #[test]
    fn a_list_or_a_huge_document_is_not_a_manifest() {
        let error = parse(&manifest(), &MediaType::OciIndex).unwrap_err();
        assert!(matches!(error, Error::ManifestType { .. }), "{error}");
        let error =
            Manifest::parse(&vec![b' '; MANIFEST_MAX_BYTES + 1], &MediaType::DockerManifest).unwrap_err();
        assert_eq!(error, Error::ManifestTooLarge { bytes: MANIFEST_MAX_BYTES + 1 });
        let deep = "[".repeat(100_000);
        assert!(Manifest::parse(deep.as_bytes(), &MediaType::DockerManifest).is_err());
    }
}
