//! The id of a plugin, and which plugin somebody means.
//!
//! Pure. The policy is dockerd's (`resolvePluginID` in moby's `plugin/store.go`): a full id; a name, in any of the
//! ways it can be written, where a missing tag means `latest`; the beginning of exactly one id.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::oci::Reference;

/// How many hexadecimal digits an id has.
const DIGITS: usize = 64;
/// How many random bytes they stand for.
const BYTES: usize = DIGITS / 2;

/// What we call a plugin: 64 lower-case hexadecimal digits, minted at random, the same for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginId(String);

impl PluginId {
    /// A new id.
    ///
    /// # Errors
    /// [`Error::Random`] when the operating system gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0_u8; BYTES];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        Ok(Self(bytes.iter().fold(String::with_capacity(DIGITS), |hex, byte| format!("{hex}{byte:02x}"))))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for PluginId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == DIGITS && text.bytes().all(hex) {
            return Ok(Self(text));
        }
        Err(Error::NotFound { selector: text })
    }
}

impl From<PluginId> for String {
    fn from(id: PluginId) -> Self {
        id.0
    }
}

impl Deref for PluginId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The plugin that `selector` means, among these ids and names as Docker shows them (`rclone:latest`).
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Ambiguous`] when several ids begin like this.
pub(super) fn resolve<'a>(
    selector: &str,
    plugins: impl Iterator<Item = (&'a PluginId, &'a str)> + Clone,
) -> Result<&'a PluginId, Error> {
    let not_found = || Error::NotFound { selector: selector.to_owned() };
    if let Ok(id) = selector.parse::<PluginId>() {
        return plugins.map(|(id, _)| id).find(|known| **known == id).ok_or_else(not_found);
    }
    let reference: Reference = selector.parse().map_err(|_| not_found())?;
    if reference.digest().is_some() {
        return Err(not_found());
    }
    let name = reference.with_default_tag().familiar();
    if let Some((id, _)) = plugins.clone().find(|(_, known)| *known == name) {
        return Ok(id);
    }
    let mut matching = plugins.map(|(id, _)| id).filter(|id| id.as_str().starts_with(selector));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Ambiguous { selector: selector.to_owned() }),
        (None, _) => Err(not_found()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> PluginId {
        format!("{start}{}", "0".repeat(DIGITS - start.len())).parse().unwrap()
    }

    #[test]
    fn ids_are_random_and_of_the_right_form() {
        let (one, other) = (PluginId::random().unwrap(), PluginId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse::<PluginId>().unwrap(), one);
        for bad in ["", "ab", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../../etc"] {
            assert!(bad.parse::<PluginId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_selector_means_what_dockerd_takes_it_for() {
        let (tiny, beef, private) = (id("df49d"), id("df5"), id("0a0c"));
        let plugins = [(&tiny, "tiny:latest"), (&beef, "beef:latest"), (&private, "localhost:5000/a/b:c")];
        let full = tiny.to_string();
        let found = [
            ("tiny", &tiny),
            ("tiny:latest", &tiny),
            ("library/tiny", &tiny),
            ("docker.io/library/tiny", &tiny),
            ("docker.io/tiny:latest", &tiny),
            (full.as_str(), &tiny),
            ("df49d", &tiny),
            ("df4", &tiny),
            ("0", &private),
            ("localhost:5000/a/b:c", &private),
            // A name goes before the beginning of an id.
            ("beef", &beef),
        ];
        for (selector, expected) in found {
            assert_eq!(resolve(selector, plugins.into_iter()).unwrap(), expected, "{selector}");
        }
        let upper = full.to_uppercase();
        let unknown = "f".repeat(64);
        let canonical = format!("tiny@sha256:{}", "0".repeat(64));
        let not_found = [
            "",
            " ",
            "..",
            "nope",
            "Nope",
            "tiny:v2",
            "nope:latest",
            "localhost:5000/a/b",
            "tiny/json",
            &upper,
            &unknown,
            &canonical,
        ];
        for selector in not_found {
            let error = resolve(selector, plugins.into_iter()).unwrap_err();
            assert_eq!(error.to_string(), format!("plugin \"{selector}\" not found"));
        }
        for selector in ["d", "df"] {
            let error = resolve(selector, plugins.into_iter()).unwrap_err();
            assert_eq!(error.to_string(), format!("multiple plugins found for \"{selector}\""));
        }
    }
}
