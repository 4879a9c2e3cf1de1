//! What a user types to name a plugin: `rclone`, `vieux/sshfs:latest`, `registry:5000/a/b@sha256:…`.
//!
//! Docker's grammar and Docker's way to complete a short name, by hand. Facts from
//! `github.com/distribution/reference` as moby's main branch vendors it; the version in moby 20.10 knows no IPv6 hosts and
//! takes no upper-case host without a dot. Where this differs from it, on purpose:
//!
//! - The digest is a sha256. Theirs may be a sha384 or sha512, which nothing here could verify.
//! - The part before the first slash is a host or it is refused. Theirs takes `a_b.c/d`, which is no host name and
//!   not completed with one either, as a name on no registry at all.
//! - A short form is shown only if it means the same when it is typed. Theirs shows `docker.io/a.b/c` as `a.b/c`,
//!   which is another registry.
//! - A text of more than [`REFERENCE_MAX_BYTES`] is refused before anything else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, Error, Result};

/// The longest path of a repository, without the host.
pub(super) const PATH_MAX_BYTES: usize = 255;
/// The longest tag.
const TAG_MAX_BYTES: usize = 128;
/// The longest text that is looked at; a host name and everything else at its limit fit well.
const REFERENCE_MAX_BYTES: usize = 4096;
/// The least hexadecimal digits of what is taken for a digest at all.
const DIGEST_MIN_DIGITS: usize = 32;
/// How many hexadecimal digits make an id.
const ID_DIGITS: usize = 64;

/// Docker Hub, which is meant when no host is given.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older name of it.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The one host that is recognised without a dot or a colon.
const LOCALHOST: &str = "localhost";
/// Where the repositories are that have a name of one part, on Docker Hub.
const OFFICIAL: &str = "library/";
/// The tag that is meant when neither a tag nor a digest is given.
const DEFAULT_TAG: &str = "latest";

/// A complete reference: a repository on a registry, and, if it was given, a tag and a digest.
///
/// Parsing completes what was typed; [`fmt::Display`] writes all of it (`docker.io/library/rclone:latest`), and that
/// parses to the same reference again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, with its port if one was given: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository on that registry: `library/rclone`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and path without tag and digest: `docker.io/library/rclone`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same repository with the tag `latest`, if there was neither a tag nor a digest; else the same reference.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.digest.is_none() {
            self.tag.get_or_insert_with(|| DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository and tag with this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// What Docker shows: the shortest text that means the same, with the tag and the digest that are there:
    /// `rclone:latest`, `vieux/sshfs`, `localhost:5000/a/b`.
    pub fn familiar(&self) -> String {
        self.shortened(true)
    }

    /// What Docker shows, without tag and digest: `rclone`.
    pub fn familiar_name(&self) -> String {
        self.shortened(false)
    }

    fn shortened(&self, complete: bool) -> String {
        let named = Self { tag: None, digest: None, ..self.clone() };
        let shown = if complete { self } else { &named };
        if self.domain == DEFAULT_DOMAIN {
            let official = self.path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
            let short = format!("{}{}", official.unwrap_or(&self.path), shown.suffix());
            if short.parse().as_ref() == Ok(shown) {
                return short;
            }
        }
        shown.to_string()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > REFERENCE_MAX_BYTES {
            return Err(Error::ReferenceFormat);
        }
        if text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(Error::ReferenceHex { name: text.to_owned() });
        }
        let (domain, remainder) = complete(text);
        let before_colon = remainder.split(':').next().unwrap_or_default();
        if before_colon.contains(char::is_uppercase) {
            return Err(Error::ReferenceCase { path: before_colon.to_owned() });
        }
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if !is_domain(domain)
            || !path.split('/').all(is_path_component)
            || !tag.is_none_or(is_tag)
            || !digest.is_none_or(is_digest_like)
        {
            return Err(Error::ReferenceFormat);
        }
        if path.len() > PATH_MAX_BYTES {
            return Err(Error::ReferenceLength);
        }
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::parse).transpose()?,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// Splits the host from the rest, and adds what a short name leaves out.
fn complete(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL}{text}"));
    };
    let (domain, rest) = match first {
        LEGACY_DOMAIN => (DEFAULT_DOMAIN, rest),
        LOCALHOST => (first, rest),
        // No path may have upper case, so it can only be a host.
        _ if first.contains(['.', ':']) || first.contains(char::is_uppercase) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain, format!("{OFFICIAL}{rest}"));
    }
    (domain, rest.to_owned())
}

/// A host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
fn is_domain(text: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_component = |component: &str| {
        !component.is_empty()
            && !component.starts_with('-')
            && !component.ends_with('-')
            && component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_component) && port.is_none_or(is_port)
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    let is_separator = |separator: &[u8]| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    };
    ends_are_words && bytes.split(|b| is_word(*b)).all(is_separator)
}

/// At most 128 letters, digits, `_`, `.`, `-`; the first is not `.` or `-`.
fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= TAG_MAX_BYTES
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Enough of a digest to complain about it as such; [`Digest`] does the rest.
fn is_digest_like(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.split(['-', '_', '+', '.']).all(is_part)
            && hex.len() >= DIGEST_MIN_DIGITS
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests;
