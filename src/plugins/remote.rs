//! What is asked for at a registry, and what it is to be called here.
//!
//! Pure. The rules are dockerd's (`parseRemoteRef` and `getName` in moby's `api/server/router/plugin`): a digest goes
//! before a tag, which then only names what is installed; a name of the user's must not have a digest.

use super::{Error, Result};
use crate::oci::Reference;

/// A plugin at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What is fetched: with a tag or with a digest, never with both.
    reference: Reference,
    /// What it is called here if nobody says: with a tag.
    name: Reference,
}

impl Remote {
    /// Reads what a user typed.
    ///
    /// # Errors
    /// [`Error::Reference`].
    pub fn parse(text: &str) -> Result<Self> {
        let typed: Reference = text.parse().map_err(Error::Reference)?;
        let name = match typed.tag() {
            Some(tag) => format!("{}:{tag}", typed.name()),
            None => typed.name(),
        };
        let name = name.parse::<Reference>().map_err(Error::Reference)?.with_default_tag();
        let reference = match typed.digest() {
            Some(digest) => format!("{}@{digest}", typed.name()).parse().map_err(Error::Reference)?,
            None => name.clone(),
        };
        Ok(Self { reference, name })
    }

    /// What is fetched.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What it is called here: `alias` if there is one.
    ///
    /// # Errors
    /// [`Error::Reference`], [`Error::NameWithDigest`].
    pub fn name(&self, alias: &str) -> Result<Reference> {
        if alias.is_empty() {
            return Ok(self.name.clone());
        }
        let alias: Reference = alias.parse().map_err(Error::Reference)?;
        if alias.digest().is_some() {
            return Err(Error::NameWithDigest);
        }
        Ok(alias.with_default_tag())
    }

    /// The tag or the digest, as it is told.
    pub(super) fn version(&self) -> String {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_fetched_and_what_it_is_called() {
        let with = |before: &str| format!("{before}@{DIGEST}");
        let cases = [
            ("rclone".to_owned(), "docker.io/library/rclone:latest".to_owned(), "rclone:latest", "latest"),
            ("a/b:v1".to_owned(), "docker.io/a/b:v1".to_owned(), "a/b:v1", "v1"),
            (
                "localhost:5000/a".to_owned(),
                "localhost:5000/a:latest".to_owned(),
                "localhost:5000/a:latest",
                "latest",
            ),
            (with("a/b"), with("docker.io/a/b"), "a/b:latest", DIGEST),
            (with("a/b:v1"), with("docker.io/a/b"), "a/b:v1", DIGEST),
        ];
        for (typed, reference, name, version) in cases {
            let remote = Remote::parse(&typed).unwrap();
            assert_eq!(remote.reference().to_string(), reference, "{typed}");
            assert_eq!(remote.name("").unwrap().familiar(), name, "{typed}");
            assert_eq!(remote.version(), version, "{typed}");
            assert_eq!(remote.name("docker.io/library/x").unwrap().familiar(), "x:latest");
        }
    }

    #[test]
    fn bad_ones_are_refused() {
        for bad in ["", "a/UPPER", "a b", "a:b:c", "a@sha256:1"] {
            assert!(matches!(Remote::parse(bad), Err(Error::Reference(_))), "{bad}");
        }
        let remote = Remote::parse("a").unwrap();
        assert!(matches!(remote.name("A"), Err(Error::Reference(_))));
        let error = remote.name(&format!("a@{DIGEST}")).unwrap_err();
        assert_eq!(error.to_string(), "cannot use digest in plugin tag");
    }
}
