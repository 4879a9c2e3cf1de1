//! From a reference to the manifest's bytes, and from an index to one manifest.
//!
//! Knows no plugin: what the manifest must look like is for whoever asked. The document's own `mediaType`, which its
//! digest covers, goes before the header the registry wrote. The choice by platform is pure.

use std::fmt::Write as _;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;

use super::error::{Error, Result};
use super::refusal::Asked;
use super::session::{Ask, Place, Session};
use super::transport::{Answer, Follow};
use crate::oci::{self, Descriptor, Digest, MediaType};

/// The header in which registries name what they send.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What a manifest is asked for as, unless somebody wants less: one, or a list of them, Docker's and OCI's.
pub const MANIFEST_TYPES: [MediaType; 4] =
    [MediaType::DockerManifest, MediaType::DockerManifestList, MediaType::OciManifest, MediaType::OciIndex];
/// How many characters of a bad header are told.
const SHOWN_CHARS: usize = 128;
/// No more platforms than this are told in an error.
const PLATFORMS_SHOWN: usize = 32;

/// A manifest or an index as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its type, digest and size, of the bytes beside it.
    pub descriptor: Descriptor,
    /// The document, byte for byte.
    pub bytes: Vec<u8>,
}

/// What a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, `arm`, … in Go's spelling.
    pub architecture: String,
    /// `v7`, or empty.
    pub variant: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    platform: Option<Platform>,
}

impl Session {
    /// Fetches the manifest or index of the session's reference: by its digest, else by its tag, else `latest`.
    ///
    /// `accept` lists the types to ask for ([`MANIFEST_TYPES`], as a rule). Asked by digest, the bytes have that digest; asked by tag, they have the
    /// one the registry announces, if it announces any.
    ///
    /// # Errors
    /// The registry's refusals; [`Error::DigestMismatch`], [`Error::DigestHeader`], [`Error::TooLarge`].
    pub async fn resolve(&self, accept: &[MediaType]) -> Result<Resolved> {
        let reference = self.reference();
        let expected = reference.digest().copied();
        let name = match (&expected, reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => "latest".to_owned(),
        };
        self.document(&name, expected, accept).await
    }

    /// Fetches the manifest that an index names, verified against its digest and size.
    ///
    /// # Errors
    /// As [`Session::resolve`]; [`Error::Size`].
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Resolved> {
        let Descriptor { digest, size, media_type } = descriptor;
        let resolved =
            self.document(&digest.to_string(), Some(*digest), std::slice::from_ref(media_type)).await?;
        if resolved.descriptor.size != *size {
            let got_bytes = resolved.descriptor.size;
            return Err(Error::Size { digest: *digest, got_bytes, expected_bytes: *size });
        }
        Ok(resolved)
    }

    async fn document(&self, name: &str, expected: Option<Digest>, accept: &[MediaType]) -> Result<Resolved> {
        let (reference, short) = (self.reference().familiar(), self.reference().familiar_name());
        let path = format!("manifests/{name}");
        let asked = Asked::Manifest { reference: &reference, name: &short };
        let mut ask = Ask::new(Method::GET, Place::Below(&path), asked);
        ask.follow = Follow::Secure;
        // One header each: old registries do not split a list, and then answer schema 1.
        ask.headers = accept
            .iter()
            .filter_map(|media_type| HeaderValue::from_str(media_type.as_str()).ok())
            .map(|value| (ACCEPT, value))
            .collect();
        let (mut answer, _) = self.ask(&ask).await?;
        let what = format!("the manifest of {reference}");
        let announced = content_digest(&answer)?;
        let bytes = answer.body(&what, oci::MANIFEST_MAX_BYTES).await?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.or(announced).filter(|expected| *expected != digest) {
            return Err(Error::DigestMismatch { what, got: digest, expected });
        }
        let media_type = media_type(&bytes, answer.header(&CONTENT_TYPE));
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Resolved { descriptor: Descriptor { media_type, digest, size }, bytes })
    }
}

/// The entry of `index` (the bytes of an index or manifest list) for `platform`.
///
/// Operating system and architecture must match; among those the same variant goes first, then none given, then, for
/// `arm`, the highest that is not above. `reference` is for the error.
///
/// # Errors
/// [`Error::NoPlatform`] with what there is, [`Error::Manifest`] when it is no index.
pub fn choose(index: &[u8], platform: &Platform, reference: &str) -> Result<Descriptor> {
    let broken = |reason: String| Error::Manifest { reference: reference.to_owned(), reason };
    let parsed: Index =
        serde_json::from_slice(index).map_err(|error| broken(format!("not an index: {error}")))?;
    let entries =
        parsed.manifests.ok_or_else(|| broken("not an index: there is no list of manifests".to_owned()))?;
    let best = entries
        .iter()
        .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)))
        // The first of equals, as in the list.
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    if let Some((_, entry)) = best {
        return Ok(entry.descriptor.clone());
    }
    let mut available: Vec<String> = Vec::new();
    for entry in &entries {
        let name = entry.platform.as_ref().map_or_else(|| "unknown".to_owned(), Platform::name);
        if !available.contains(&name) && available.len() < PLATFORMS_SHOWN {
            available.push(name);
        }
    }
    Err(Error::NoPlatform { wanted: platform.name(), available })
}

impl Platform {
    /// The machine this runs on.
    pub fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// `linux/arm/v7`, without control characters and not too long.
    pub fn name(&self) -> String {
        let mut name = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            let _ = write!(name, "/{}", self.variant);
        }
        name.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
    }

    /// How well `offered` suits this machine, or not at all.
    fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(u32::MAX);
        }
        if offered.variant.is_empty() {
            return Some(u32::MAX - 1);
        }
        let level = |variant: &str| variant.strip_prefix('v').and_then(|level| level.parse::<u32>().ok());
        match (self.architecture.as_str(), level(&self.variant), level(&offered.variant)) {
            ("arm", Some(own), Some(offered)) if offered < own => Some(offered),
            // arm64 without a variant is v8.
            ("arm64", None, Some(8)) if self.variant.is_empty() => Some(u32::MAX - 1),
            _ => None,
        }
    }
}

/// The digest the registry announces; one of an algorithm other than ours is no use and no harm.
pub(super) fn content_digest(answer: &Answer) -> Result<Option<Digest>> {
    let Some(header) = answer.header(&CONTENT_DIGEST).filter(|header| !header.is_empty()) else {
        return Ok(None);
    };
    match header.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(oci::Error::DigestAlgorithm { .. }) => Ok(None),
        Err(source) => {
            Err(Error::DigestHeader { header: header.chars().take(SHOWN_CHARS).collect(), source })
        }
    }
}

fn media_type(bytes: &[u8], content_type: Option<&str>) -> MediaType {
    #[derive(Deserialize)]
    struct Own {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let own: Option<Own> = serde_json::from_slice(bytes).ok();
    let header = content_type.and_then(|value| value.split(';').next()).map(str::trim).unwrap_or_default();
    let served = MediaType::from(header);
    match own {
        Some(Own { media_type: Some(own), .. }) if !own.is_empty() => MediaType::from(own),
        _ if served.is_manifest() || served.is_index() => served,
        // OCI leaves the field out at will.
        Some(Own { manifests: Some(_), .. }) => MediaType::OciIndex,
        Some(Own { config: Some(_), .. }) => MediaType::OciManifest,
        Some(_) | None => served,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    fn index(platforms: &[&str]) -> Vec<u8> {
        let entry = |text: &&str| {
            let Platform { os, architecture, variant } = platform(text);
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": Digest::of(text.as_bytes()), "size": 7, "annotations": {},
                "platform": { "os": os, "architecture": architecture, "variant": variant, "os.features": [] },
            })
        };
        let manifests: Vec<_> = platforms.iter().map(entry).collect();
        serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": manifests })).unwrap()
    }

    #[test]
    fn the_machine_gets_its_own() {
        let table: [(&str, &[&str], Option<&str>); 10] = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["windows/amd64", "linux/386"], None),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some("linux/amd64")),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some("linux/arm/v6")),
            ("linux/arm/v7", &["linux/arm", "linux/arm/v7"], Some("linux/arm/v7")),
            ("linux/arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/arm64", &["linux/arm64/v8"], Some("linux/arm64/v8")),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/amd64", &[], None),
        ];
        for (wanted, offered, expected) in table {
            let got =
                choose(&index(offered), &platform(wanted), "a").ok().map(|descriptor| descriptor.digest);
            assert_eq!(got, expected.map(|name| Digest::of(name.as_bytes())), "{wanted} {offered:?}");
        }
    }

    #[test]
    fn the_error_lists_what_there_is() {
        let error =
            choose(&index(&["linux/arm64", "windows/amd64", "linux/arm64"]), &platform("linux/amd64"), "a");
        assert_eq!(
            error.unwrap_err().to_string(),
            "no matching manifest for linux/amd64 in the manifest list entries, which are for linux/arm64, windows/amd64"
        );
        for garbage in
            [&b"{}"[..], b"[]", b"", br#"{"manifests":[{"digest":"x"}]}"#, br#"{"manifests":null}"#]
        {
            assert!(matches!(choose(garbage, &Platform::here(), "a"), Err(Error::Manifest { .. })));
        }
        let unknown = json!({ "manifests": [{ "mediaType": "x", "digest": Digest::of(b""), "size": 0 }] });
        let error = choose(unknown.to_string().as_bytes(), &Platform::here(), "a").unwrap_err();
        assert!(error.to_string().ends_with("which are for unknown"), "{error}");
    }

    #[test]
    fn the_documents_own_word_goes_first() {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let table = [
            (
                json!({ "mediaType": docker }),
                Some("application/vnd.oci.image.index.v1+json"),
                MediaType::DockerManifest,
            ),
            (
                json!({ "config": {} }),
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                MediaType::OciManifest,
            ),
            (json!({ "config": {} }), Some("application/json"), MediaType::OciManifest),
            (json!({ "manifests": [] }), None, MediaType::OciIndex),
            (json!({ "mediaType": "" }), Some(docker), MediaType::DockerManifest),
            (json!([]), Some("text/plain"), MediaType::Other("text/plain".to_owned())),
        ];
        for (document, header, expected) in table {
            assert_eq!(media_type(document.to_string().as_bytes(), header), expected, "{document}");
        }
    }
}
