//! The name of stored bytes, and the name of an unpacked layer: sha256, and nothing else.
//!
//! A [`Digest`] holds the 32 bytes, so that what was parsed cannot be anything but a digest: it is safe as a file
//! name and in a URL. Which algorithms exist and how they are written is from the OCI image specification; the
//! order of the checks is go-digest's, so that a client sees the same complaint.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use super::{Error, Result};

/// The algorithm's name before the colon.
const ALGORITHM: &str = "sha256";
/// How many hexadecimal digits follow the colon.
const HEX_DIGITS: usize = 64;
/// How many bytes they stand for.
const BYTES: usize = HEX_DIGITS / 2;
/// No longer algorithm is repeated in an error; a hostile one may be megabytes.
const ALGORITHM_SHOWN_MAX: usize = 32;

/// The sha256 of some stored bytes: `sha256:<64 lower-case hexadecimal digits>`.
///
/// Ordered as its text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; BYTES]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 digits without the algorithm: the name of a file in the content store.
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(HEX_DIGITS), |mut hex, byte| {
            hex.extend([digit(byte >> 4), digit(byte & 0xf)]);
            hex
        })
    }

    /// The digest whose 64 digits are `hex`, as [`Digest::hex`] wrote them.
    ///
    /// # Errors
    /// [`Error::DigestLength`] and [`Error::DigestFormat`].
    pub fn from_hex(hex: &str) -> Result<Self> {
        if hex.len() != HEX_DIGITS {
            return Err(Error::DigestLength { digits: hex.len() });
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = (value(pair[0])? << 4) | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (algorithm, hex) = text.split_once(':').ok_or(Error::DigestFormat)?;
        if algorithm == ALGORITHM {
            return if hex.is_empty() { Err(Error::DigestFormat) } else { Self::from_hex(hex) };
        }
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let encoded = |b: u8| b.is_ascii_alphanumeric() || b"=_-".contains(&b);
        if !algorithm.split(['.', '+', '_', '-']).all(part) || hex.is_empty() || !hex.bytes().all(encoded) {
            return Err(Error::DigestFormat);
        }
        Err(Error::DigestAlgorithm { algorithm: algorithm.chars().take(ALGORITHM_SHOWN_MAX).collect() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// The digest of a layer's uncompressed tar: what `rootfs.diff_ids` of a configuration lists.
///
/// Written as a [`Digest`] is, and never to be mixed up with one: the blob of the same layer is compressed and has
/// another digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl FromStr for DiffId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Computes the digest of bytes that arrive piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken so far.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Digest, E> {
        text.parse().map_err(E::custom)
    }
}

fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 })
}

fn value(digit: u8) -> Result<u8> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Error::DigestFormat),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// sha256 of nothing, as `sha256sum </dev/null` prints it.
    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>(), Ok(Digest::of(b"")));
    }

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"hello, ");
        hasher.update(b"world");
        assert_eq!(hasher.finish(), Digest::of(b"hello, world"));
    }

    #[test]
    fn everything_but_sha256_in_lower_case_is_refused() {
        let hex = &EMPTY["sha256:".len()..];
        let cases = [
            (String::new(), Error::DigestFormat),
            (hex.to_owned(), Error::DigestFormat),
            (format!(":{hex}"), Error::DigestFormat),
            ("sha256:".to_owned(), Error::DigestFormat),
            (format!("sha256:{}", hex.to_uppercase()), Error::DigestFormat),
            (format!("sha256:{}g", &hex[1..]), Error::DigestFormat),
            (format!("sha256:{}é", &hex[2..]), Error::DigestFormat),
            (format!("sha256: {}", &hex[1..]), Error::DigestFormat),
            (format!("sha/256:{hex}"), Error::DigestFormat),
            (format!("sha256:{}", &hex[1..]), Error::DigestLength { digits: 63 }),
            (format!("sha256:{hex}0"), Error::DigestLength { digits: 65 }),
            (format!("sha256:../{hex}"), Error::DigestLength { digits: 67 }),
            (format!("SHA256:{hex}"), Error::DigestFormat),
            (format!("sha512..:{hex}"), Error::DigestFormat),
            (format!("sha512:{hex}/.."), Error::DigestFormat),
            (format!("sha512:{hex}{hex}"), Error::DigestAlgorithm { algorithm: "sha512".to_owned() }),
            (format!("{}:0", "a".repeat(99)), Error::DigestAlgorithm { algorithm: "a".repeat(32) }),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    #[test]
    fn json_is_the_text_and_is_checked() {
        let json = format!("\"{EMPTY}\"");
        assert_eq!(serde_json::to_string(&Digest::of(b"")).unwrap(), json);
        assert_eq!(serde_json::to_string(&DiffId(Digest::of(b""))).unwrap(), json);
        assert_eq!(serde_json::from_str::<DiffId>(&json).unwrap(), DiffId(Digest::of(b"")));
        assert!(serde_json::from_str::<Digest>("\"sha256:../../etc/passwd\"").is_err());
    }

    proptest! {
        #[test]
        fn text_and_back(bytes: [u8; 32], other: [u8; 32]) {
            let (digest, other) = (Digest(bytes), Digest(other));
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(digest.cmp(&other), digest.to_string().cmp(&other.to_string()));
        }

        #[test]
        fn parsing_never_panics(text in "(sha256:)?\\PC{0,70}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
