//! Where a registry sends us: redirects and upload locations, judged before anybody goes there.
//!
//! Pure. The rules are RFC 3986's for relative references; what is refused beyond them (blanks, user information, other
//! schemes) no registry has a reason to send.

use reqwest::Url;
use reqwest::header::{HeaderMap, LOCATION};

use super::error::{Error, Result};

/// How much of a bad location is told.
const SHOWN_CHARS: usize = 256;

/// The `Location` of an answer from `base`, which it may be relative to.
///
/// # Errors
/// [`Error::Location`].
pub(super) fn resolve(base: &Url, headers: &HeaderMap) -> Result<Url> {
    let Some(value) = headers.get(LOCATION) else { return Err(refused(base, "", "there is no Location")) };
    let text = value
        .to_str()
        .map_err(|_| refused(base, &String::from_utf8_lossy(value.as_bytes()), "it is no text"))?;
    let of_url = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    if text.is_empty() || !text.chars().all(of_url) {
        return Err(refused(base, text, "it is no URL"));
    }
    let url = base.join(text).map_err(|_| refused(base, text, "it is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(refused(base, text, "expected http or https and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(base, &shown(&url), "it carries a user name"));
    }
    Ok(url)
}

/// The error about a location that `from` gave; its query, which may be signed, is not told.
pub(super) fn refused(from: &Url, location: &str, reason: &'static str) -> Error {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let host = from.host_str().unwrap_or_default().to_owned();
    Error::Location { host, location: location.chars().take(SHOWN_CHARS).collect(), reason }
}

/// A URL for an error or a log: without query, fragment and user information.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn resolved(location: &[u8]) -> Result<Url> {
        let base = Url::parse("https://reg.example:5000/v2/a/blobs/uploads/").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location).unwrap());
        resolve(&base, &headers)
    }

    #[test]
    fn relative_and_absolute_places() {
        let table = [
            ("/v2/a/blobs/uploads/1?s=%2F", "https://reg.example:5000/v2/a/blobs/uploads/1?s=%2F"),
            ("1", "https://reg.example:5000/v2/a/blobs/uploads/1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://10.0.0.1:80/x?sig=1", "http://10.0.0.1/x?sig=1"),
        ];
        for (location, expected) in table {
            assert_eq!(resolved(location.as_bytes()).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_place_is_an_error_and_not_a_panic() {
        let table: [&[u8]; 11] = [
            b"",
            b"not a url",
            b"http://",
            b"https://[::1",
            b"ftp://a/x",
            b"file:///etc/passwd",
            b"javascript:alert(1)",
            b"http://user:secret@a/x",
            b"http://a:99999/",
            b"\xff\xfe",
            b"http://{}/",
        ];
        for location in table {
            let error = resolved(location).unwrap_err();
            assert!(matches!(error, Error::Location { .. }), "{error}");
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
        let base = Url::parse("http://a").unwrap();
        assert!(resolve(&base, &HeaderMap::new()).unwrap_err().to_string().contains("there is no Location"));
    }

    #[test]
    fn a_query_is_not_told() {
        assert!(
            !refused(&Url::parse("http://a").unwrap(), "http://b/?sig=TOP", "no").to_string().contains("TOP")
        );
        assert_eq!(shown(&Url::parse("http://u:p@b:81/x?sig=TOP#f").unwrap()), "http://b:81/x");
    }
}
