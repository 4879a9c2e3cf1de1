//! Plugins as registries keep them, built by hand: manifests of every kind, layers of every compression, good and bad.
//!
//! Facts: distribution's `docs/spec/manifest-v2-2.md`, and OCI's image specification.

use std::fmt::Write as _;
use std::io::{Read, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::archive::{Entry, Tar};
use super::registry::{Registry, Stored};

pub(crate) const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const SCHEMA2_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const SCHEMA2_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
pub(crate) const PLUGIN_CONFIG: &str = "application/vnd.docker.plugin.v1+json";
pub(crate) const IMAGE_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob and what a manifest says of it.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    pub(crate) fn digest(&self) -> String {
        digest(&self.bytes)
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// A plugin's manifest and its blobs.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) media_type: String,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    /// The manifest's bytes, when it lies.
    pub(crate) lie: Option<Vec<u8>>,
}

impl Artifact {
    /// A plugin that asks for nothing and is good for nothing, schema2 and gzip, its layers one file each.
    pub(crate) fn small(mark: &str) -> Self {
        let tars = ["one", "two"].map(|name| {
            let content = format!("{mark} {name} ").repeat(500);
            Tar::new()
                .with(&Entry::directory("etc"))
                .with(&Entry::file(&format!("etc/{name}"), content.as_bytes()))
                .end()
        });
        let config = json!({
            "description": mark,
            "documentation": "none",
            "interface": {"socket": "x.sock", "types": ["docker.volumedriver/1.0"]},
            "entrypoint": ["/none"],
            "workdir": "/",
            "network": {"type": ""},
            "linux": {"capabilities": [], "devices": []},
            "rootfs": {"type": "layers", "diff_ids": tars.each_ref().map(|tar| digest(tar))},
        });
        Self {
            media_type: SCHEMA2.to_owned(),
            config: Blob::new(PLUGIN_CONFIG, config.to_string()),
            layers: tars.iter().map(|tar| Blob::new(SCHEMA2_LAYER, gzip(tar))).collect(),
            lie: None,
        }
    }

    /// What a registry has.
    pub(crate) fn of(registry: &Registry, stored: &Stored) -> Self {
        let manifest: Value = serde_json::from_slice(&stored.manifest).unwrap();
        let blob = |d: &Value| {
            Blob::new(d["mediaType"].as_str().unwrap(), registry.blob(d["digest"].as_str().unwrap()))
        };
        Self {
            media_type: SCHEMA2.to_owned(),
            config: blob(&manifest["config"]),
            layers: manifest["layers"].as_array().unwrap().iter().map(blob).collect(),
            lie: None,
        }
    }

    /// The same plugin in OCI's words, its (gzip) layers packed anew: `gzip`, `zstd` or `plain`.
    pub(crate) fn in_oci(mut self, packing: &str) -> Self {
        OCI.clone_into(&mut self.media_type);
        for layer in &mut self.layers {
            let mut tar = vec![];
            GzDecoder::new(layer.bytes.as_slice()).read_to_end(&mut tar).unwrap();
            *layer = match packing {
                "gzip" => Blob::new(&format!("{OCI_LAYER}+gzip"), gzip(&tar)),
                "zstd" => {
                    Blob::new(&format!("{OCI_LAYER}+zstd"), zstd::encode_all(tar.as_slice(), 3).unwrap())
                }
                "plain" => Blob::new(OCI_LAYER, tar),
                other => panic!("no packing {other}"),
            };
        }
        self
    }

    /// The manifest's bytes.
    pub(crate) fn manifest(&self) -> Vec<u8> {
        if let Some(lie) = &self.lie {
            return lie.clone();
        }
        let layers: Vec<Value> = self.layers.iter().map(Blob::descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": self.media_type, "config": self.config.descriptor(),
            "layers": layers});
        manifest.to_string().into_bytes()
    }

    /// The same artifact whose manifest says something else.
    pub(crate) fn lying(mut self, lie: impl FnOnce(&mut Value)) -> Self {
        let mut manifest: Value = serde_json::from_slice(&self.manifest()).unwrap();
        lie(&mut manifest);
        self.lie = Some(manifest.to_string().into_bytes());
        self
    }

    /// Config and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.config].into_iter().chain(&self.layers)
    }

    /// Puts all of it into an open registry.
    pub(crate) fn put(&self, registry: &Registry, repository: &str, tag: &str) {
        for blob in self.blobs() {
            registry.put_blob(repository, &blob.bytes);
        }
        registry.put_manifest(repository, tag, &self.media_type, &self.manifest());
    }

    /// What an index says of it.
    pub(crate) fn entry(&self, os: &str, architecture: &str) -> Value {
        let manifest = Blob::new(&self.media_type, self.manifest());
        let mut entry = manifest.descriptor();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    }
}

/// `sha256:...` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// This machine, as an index names it.
pub(crate) fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
