//! Which version of the Engine API a request asks for: the `/v1.NN` before the path.
//!
//! Pure. Comparing, the limits' texts and the statuses are dockerd's (moby `daemon/server/middleware/version.go`);
//! a path without a version asks for the highest.

use std::cmp::Ordering;
use std::fmt;

use super::error::{Failure, Result};

/// The highest version we answer; in front of an engine that answers less, its own is the highest (`face`).
pub const MAX: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// The lowest version we answer.
pub const MIN: ApiVersion = ApiVersion { major: 1, minor: 24 };

/// A version that was asked for and is one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u64,
    minor: u64,
}

impl ApiVersion {
    /// `1.minor`, to compare with.
    pub const fn v1(minor: u64) -> Self {
        Self { major: 1, minor }
    }

    /// Takes what [`split`] found; nothing asks for the highest that is announced.
    ///
    /// # Errors
    /// [`Unsupported`] outside [`MIN`] to `highest`.
    pub fn check(asked: Option<&str>, highest: Self) -> std::result::Result<Self, Unsupported> {
        let Some(asked) = asked else { return Ok(highest) };
        let unsupported = |limit| Unsupported { asked: asked.to_owned(), limit };
        let numbers = numbers(asked);
        if compare(&numbers, MIN) == Ordering::Less {
            return Err(unsupported(Limit::TooOld));
        }
        if compare(&numbers, highest) == Ordering::Greater {
            return Err(unsupported(Limit::TooNew(highest)));
        }
        let number = |place: usize| numbers.get(place).copied().unwrap_or(0);
        Ok(Self { major: number(0), minor: number(1) })
    }

    /// Reads what an engine says of itself; none when that is no version.
    pub fn told(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The highest version that both we and an engine of this version answer.
    #[must_use]
    pub fn with_engine(self) -> Self {
        self.clamp(MIN, MAX)
    }

    /// Refuses a route that is younger than the version asked for.
    ///
    /// # Errors
    /// Invalid, naming the route as dockerd writes it.
    pub fn at_least(self, minimum: Self, route: &str) -> Result<()> {
        if self >= minimum {
            return Ok(());
        }
        Err(Failure::invalid(format!("{route} requires minimum API version {minimum}")))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits `/v1.51/plugins` into `Some("1.51")` and `/plugins`. What does not begin with such a version comes back
/// whole; so does a version with no path after it.
pub fn split(path: &str) -> (Option<&str>, &str) {
    let versioned = || {
        let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
        let well_formed =
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        well_formed.then(|| (version, path.get("/v".len() + version.len()..)))
    };
    match versioned() {
        Some((version, Some(rest))) => (Some(version), rest),
        _ => (None, path),
    }
}

/// The numbers between the dots, as Go's `Atoi` gives them when its errors are ignored.
fn numbers(version: &str) -> Vec<u64> {
    let number = |text: &str| match text.parse() {
        Ok(number) => number,
        Err(_) if text.is_empty() => 0,
        Err(_) => u64::MAX,
    };
    version.split('.').map(number).collect()
}

fn compare(numbers: &[u64], with: ApiVersion) -> Ordering {
    let with = [with.major, with.minor];
    let places = numbers.len().max(with.len());
    let number = |numbers: &[u64], place: usize| numbers.get(place).copied().unwrap_or(0);
    (0..places)
        .map(|place| number(numbers, place).cmp(&number(&with, place)))
        .fold(Ordering::Equal, Ordering::then)
}

/// A version outside our limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    asked: String,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    TooOld,
    TooNew(ApiVersion),
}

impl Unsupported {
    /// Whether the client is from before errors were JSON, so that it prints the answer as it comes.
    pub fn wants_plain_text(&self) -> bool {
        self.limit == Limit::TooOld
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, limit } = self;
        match limit {
            Limit::TooOld => write!(
                f,
                "client version {asked} is too old. Minimum supported API version is {MIN}, please upgrade your \
                 client to a newer version"
            ),
            Limit::TooNew(highest) => {
                write!(f, "client version {asked} is too new. Maximum supported API version is {highest}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_split_off() {
        let table = [
            ("/v1.51/plugins", Some("1.51"), "/plugins"),
            ("/v1.51/", Some("1.51"), "/"),
            ("/v1.51", None, "/v1.51"),
            ("/v./x", Some("."), "/x"),
            ("/v/x", None, "/v/x"),
            ("/volumes/x", None, "/volumes/x"),
            ("/v1.51x/y", None, "/v1.51x/y"),
            ("/_ping", None, "/_ping"),
            ("/v1.41/v1.42/x", Some("1.41"), "/v1.42/x"),
            ("", None, ""),
        ];
        for (path, version, rest) in table {
            assert_eq!(split(path), (version, rest), "{path}");
        }
    }

    #[test]
    fn a_young_route_says_what_it_needs() {
        let route = "PUT /volumes/{name:.*}";
        assert_eq!(ApiVersion::v1(42).at_least(ApiVersion::v1(42), route), Ok(()));
        let message = "PUT /volumes/{name:.*} requires minimum API version 1.42";
        assert_eq!(ApiVersion::v1(41).at_least(ApiVersion::v1(42), route), Err(Failure::invalid(message)));
    }

    #[test]
    fn versions_are_compared_as_in_go() {
        let minor = |minor| Ok(ApiVersion::v1(minor));
        let table: [(Option<&str>, std::result::Result<ApiVersion, &str>); 11] = [
            (None, minor(51)),
            (Some("1.51"), minor(51)),
            (Some("1.51.0"), minor(51)),
            (Some("1.24"), minor(24)),
            (Some("01.41"), minor(41)),
            (Some("1.41.7"), minor(41)),
            (Some("1.52"), Err("client version 1.52 is too new. Maximum supported API version is 1.51")),
            (Some("1.51.1"), Err("client version 1.51.1 is too new. Maximum supported API version is 1.51")),
            (
                Some("99999999999999999999"),
                Err("client version 99999999999999999999 is too new. Maximum supported API version is 1.51"),
            ),
            (
                Some("1.23"),
                Err(
                    "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your \
                     client to a newer version",
                ),
            ),
            (
                Some(".."),
                Err(
                    "client version .. is too old. Minimum supported API version is 1.24, please upgrade your \
                     client to a newer version",
                ),
            ),
        ];
        for (asked, expected) in table {
            let checked = ApiVersion::check(asked, MAX).map_err(|unsupported| unsupported.to_string());
            assert_eq!(checked, expected.map_err(str::to_owned), "{asked:?}");
        }
    }

    #[test]
    fn in_front_of_an_engine_the_lower_version_counts() {
        for (told, expected) in [
            ("1.41", Some(ApiVersion::v1(41))),
            ("1.56", Some(MAX)),
            ("1.12", Some(MIN)),
            ("2.0", Some(MAX)),
            ("", None),
            ("1", None),
            ("new", None),
        ] {
            assert_eq!(ApiVersion::told(told).map(ApiVersion::with_engine), expected, "{told:?}");
        }
        let refused = ApiVersion::check(Some("1.42"), ApiVersion::v1(41)).unwrap_err().to_string();
        assert_eq!(refused, "client version 1.42 is too new. Maximum supported API version is 1.41");
        assert_eq!(ApiVersion::check(None, ApiVersion::v1(41)), Ok(ApiVersion::v1(41)));
    }
}
