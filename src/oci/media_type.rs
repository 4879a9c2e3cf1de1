//! The kinds of documents and layers that a registry serves, by their names.
//!
//! From the OCI image specification (`media-types.md`) and Docker's image manifest V2, schema 2; the plugin's
//! configuration from moby (`plugin/fetch_linux.go`). Any other name is kept as it is, never guessed at.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a blob is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MediaType {
    /// Docker's manifest of one image or plugin, schema 2.
    DockerManifest,
    /// Docker's list of manifests, one a platform.
    DockerManifestList,
    /// The OCI manifest of one image.
    OciManifest,
    /// The OCI list of manifests, one a platform.
    OciIndex,
    /// The configuration of a managed plugin.
    PluginConfig,
    /// Docker's layer: a tar, gzip.
    DockerLayerGzip,
    /// Docker's layer: a tar as it is.
    DockerLayer,
    /// An OCI layer: a tar as it is.
    OciLayer,
    /// An OCI layer: a tar, gzip.
    OciLayerGzip,
    /// An OCI layer: a tar, zstd.
    OciLayerZstd,
    /// Anything else, by its name.
    Other(String),
}

impl MediaType {
    /// The name that registries use.
    pub fn as_str(&self) -> &str {
        match self {
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerManifestList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::PluginConfig => "application/vnd.docker.plugin.v1+json",
            Self::DockerLayerGzip => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Self::DockerLayer => "application/vnd.docker.image.rootfs.diff.tar",
            Self::OciLayer => "application/vnd.oci.image.layer.v1.tar",
            Self::OciLayerGzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::OciLayerZstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Other(name) => name,
        }
    }

    /// Whether this is a layer that can be unpacked.
    pub fn is_layer(&self) -> bool {
        match self {
            Self::DockerLayerGzip
            | Self::DockerLayer
            | Self::OciLayer
            | Self::OciLayerGzip
            | Self::OciLayerZstd => true,
            Self::DockerManifest
            | Self::DockerManifestList
            | Self::OciManifest
            | Self::OciIndex
            | Self::PluginConfig
            | Self::Other(_) => false,
        }
    }

    /// Whether this is the manifest of one image, not a list of them.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::DockerManifest | Self::OciManifest)
    }

    /// Whether this is a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::DockerManifestList | Self::OciIndex)
    }
}

/// All that have a name of their own.
const KNOWN: [MediaType; 10] = [
    MediaType::DockerManifest,
    MediaType::DockerManifestList,
    MediaType::OciManifest,
    MediaType::OciIndex,
    MediaType::PluginConfig,
    MediaType::DockerLayerGzip,
    MediaType::DockerLayer,
    MediaType::OciLayer,
    MediaType::OciLayerGzip,
    MediaType::OciLayerZstd,
];

impl From<&str> for MediaType {
    fn from(name: &str) -> Self {
        KNOWN.into_iter().find(|known| known.as_str() == name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl From<String> for MediaType {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.as_str().to_owned()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_variant() {
        for known in KNOWN {
            assert!(!matches!(known, MediaType::Other(_)));
            assert_eq!(MediaType::from(known.as_str()), known);
        }
        let other = MediaType::from("text/plain");
        assert_eq!(other, MediaType::Other("text/plain".to_owned()));
        assert_eq!(other.to_string(), "text/plain");
    }

    #[test]
    fn a_layer_is_no_manifest_and_a_manifest_no_index() {
        for known in KNOWN {
            let sorts = [known.is_layer(), known.is_manifest(), known.is_index()];
            let expected = usize::from(known != MediaType::PluginConfig);
            assert_eq!(sorts.into_iter().filter(|is| *is).count(), expected, "{known}");
        }
    }
}
