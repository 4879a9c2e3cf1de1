//! What a registry means when it refuses: its words, and what dockerd makes of them.
//!
//! Pure. The JSON is the distribution specification's (`errors: [{code, message}]`); older token servers say `details`
//! or OAuth's `error_description`. The texts are those of `registry/client/errors.go` and `distribution/errors.go`
//! as dockerd 20.10 vendors them.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::Value;

use super::challenge::{self, Challenge};
use super::error::Error;
use super::limits::WORDS_LIMIT_CHARS;

/// dockerd's words for a scope that is not granted.
const DENIED_MESSAGE: &str = "requested access to the resource is denied";
/// dockerd's words for missing or wrong credentials.
const UNAUTHORIZED_MESSAGE: &str = "authentication required";

/// A refusal, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// `DENIED`, `MANIFEST_UNKNOWN`, …; empty when the registry gave none.
    pub(super) code: String,
    /// `denied: requested access to the resource is denied`.
    pub(super) words: String,
}

/// What was asked for when it was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A manifest, by the familiar reference and the familiar name.
    Manifest { reference: &'a str, name: &'a str },
    /// A blob of the repository `name`.
    Blob { digest: crate::oci::Digest, name: &'a str },
    /// To write.
    Push,
    /// Whether somebody may come in at `url`.
    Login { url: &'a str },
}

impl Refusal {
    /// Reads the head and the (bounded) body of an answer.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let (code, message) = from_challenge(status, headers)
            .or_else(|| from_body(status, body))
            .or_else(|| from_status(status))
            .unwrap_or_default();
        let words = if code.is_empty() {
            unexpected(status, body)
        } else {
            // Go: the code in lower case with blanks, then the message.
            format!("{}: {message}", code.to_lowercase().replace('_', " "))
        };
        Self { status, code, words: bounded(&words) }
    }

    /// Whether the token that came with the request was fine and does not reach this far.
    pub(super) fn is_about_scope(&self) -> bool {
        self.code == "DENIED" || self.status == StatusCode::FORBIDDEN
    }

    /// The error dockerd tells, given what was asked for.
    pub(super) fn into_error(self, asked: Asked<'_>) -> Error {
        let Self { status, code, words, .. } = self;
        let denied = code == "DENIED" || (code.is_empty() && status == StatusCode::FORBIDDEN);
        let unauthorized = code == "UNAUTHORIZED" || (code.is_empty() && status == StatusCode::UNAUTHORIZED);
        let missing = status == StatusCode::NOT_FOUND;
        match asked {
            Asked::Login { url } => Error::Login { url: url.to_owned(), status },
            _ if code == "TOOMANYREQUESTS" || status == StatusCode::TOO_MANY_REQUESTS => {
                Error::TooManyRequests { words }
            }
            _ if unauthorized => Error::Unauthorized { words },
            Asked::Push if denied => Error::Denied { words },
            Asked::Manifest { name, .. } | Asked::Blob { name, .. } if denied => {
                Error::PullDenied { name: name.to_owned(), words }
            }
            Asked::Manifest { name, .. } | Asked::Blob { name, .. } if code == "NAME_UNKNOWN" => {
                Error::RepositoryUnknown { name: name.to_owned(), words }
            }
            Asked::Manifest { reference, .. } if missing => {
                Error::ManifestUnknown { reference: reference.to_owned(), words }
            }
            Asked::Blob { digest, .. } if missing => Error::BlobUnknown { digest, words },
            Asked::Manifest { .. } | Asked::Blob { .. } | Asked::Push => Error::Refused { status, words },
        }
    }
}

/// Whether trying the same again later may help.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long the registry asks us to stay away.
pub(super) fn wait_asked(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(wait_of)
}

/// `Retry-After` is in seconds, or a date.
fn wait_of(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

/// RFC 6750: why the token did not do.
fn from_challenge(status: StatusCode, headers: &HeaderMap) -> Option<(String, String)> {
    if status != StatusCode::UNAUTHORIZED {
        return None;
    }
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    challenge::parse(values).into_iter().find_map(|challenge| {
        let Challenge::Bearer(bearer) = challenge else { return None };
        let (code, message) = match bearer.error.as_deref()? {
            "invalid_token" => ("UNAUTHORIZED", UNAUTHORIZED_MESSAGE),
            "insufficient_scope" => ("DENIED", DENIED_MESSAGE),
            _ => return None,
        };
        Some((code.to_owned(), bearer.error_description.unwrap_or_else(|| message.to_owned())))
    })
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<Item>,
    #[serde(default)]
    details: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    error_description: Value,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
}

fn from_body(status: StatusCode, body: &[u8]) -> Option<(String, String)> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
    if let Some(item) = envelope.errors.first() {
        let (code, message) = (text(&item.code), text(&item.message));
        let code = if code.is_empty() { "UNKNOWN".to_owned() } else { code };
        let message = if message.is_empty() { code.to_lowercase().replace('_', " ") } else { message };
        return Some((code, message));
    }
    let said = [&envelope.details, &envelope.error_description, &envelope.error];
    let message = said.into_iter().map(text).find(|text| !text.is_empty())?;
    let code = from_status(status).map_or_else(|| "UNKNOWN".to_owned(), |(code, _)| code);
    Some((code, message))
}

fn from_status(status: StatusCode) -> Option<(String, String)> {
    let (code, message) = match status.as_u16() {
        401 => ("UNAUTHORIZED", UNAUTHORIZED_MESSAGE),
        403 => ("DENIED", DENIED_MESSAGE),
        429 => ("TOOMANYREQUESTS", "too many requests"),
        _ => return None,
    };
    Some((code.to_owned(), message.to_owned()))
}

fn unexpected(status: StatusCode, body: &[u8]) -> String {
    let mut words = format!("received unexpected HTTP status: {status}");
    let body = String::from_utf8_lossy(body);
    let first = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !first.is_empty() && !first.starts_with('<') {
        words = format!("{words}: {first}");
    }
    words
}

/// Others' text for ours: one line, no control characters, not too long.
pub(super) fn bounded(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(WORDS_LIMIT_CHARS).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Classified as _, Kind};
    use reqwest::header::{HeaderName, HeaderValue};

    fn read(status: u16, headers: &[(HeaderName, &str)], body: &str) -> Refusal {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        Refusal::read(StatusCode::from_u16(status).unwrap(), &headers.collect(), body.as_bytes())
    }

    type Headers<'a> = &'a [(HeaderName, &'a str)];

    #[test]
    fn words_are_the_registrys_in_dockerds_form() {
        let scope = [(WWW_AUTHENTICATE, "Bearer realm=\"http://t\",error=\"insufficient_scope\"")];
        let expired = [(WWW_AUTHENTICATE, "Bearer realm=\"http://t\",error=\"invalid_token\"")];
        let unauthorized =
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#;
        let table: [(u16, Headers<'_>, &str, &str); 12] = [
            (
                404,
                &[],
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (401, &scope, unauthorized, "denied: requested access to the resource is denied"),
            (401, &expired, unauthorized, "unauthorized: authentication required"),
            (401, &[], unauthorized, "unauthorized: authentication required"),
            (
                401,
                &[],
                r#"{"details":"incorrect username or password"}"#,
                "unauthorized: incorrect username or password",
            ),
            (401, &[], "", "unauthorized: authentication required"),
            (403, &[], "<html>", "denied: requested access to the resource is denied"),
            (429, &[], "slow down", "toomanyrequests: too many requests"),
            (502, &[], "<html>x</html>", "received unexpected HTTP status: 502 Bad Gateway"),
            (
                500,
                &[],
                "\n boom\x1b[31m \nmore",
                "received unexpected HTTP status: 500 Internal Server Error: boom [31m",
            ),
            (
                400,
                &[],
                r#"{"errors":[]}"#,
                "received unexpected HTTP status: 400 Bad Request: {\"errors\":[]}",
            ),
            (400, &[], r#"{"errors":[{"code":1}]}"#, "unknown: unknown"),
        ];
        for (status, headers, body, words) in table {
            assert_eq!(read(status, headers, body).words, words, "{status} {body}");
        }
        assert!(read(500, &[], &"x".repeat(100_000)).words.len() <= WORDS_LIMIT_CHARS);
    }

    #[test]
    fn errors_are_dockerds() {
        let manifest = Asked::Manifest { reference: "a/b:1", name: "a/b" };
        let digest = crate::oci::Digest::of(b"");
        let blob = Asked::Blob { digest, name: "a/b" };
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let name =
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
        let table = [
            (
                404,
                unknown,
                manifest,
                Kind::NotFound,
                "manifest for a/b:1 not found: manifest unknown: manifest unknown",
            ),
            (
                404,
                name,
                manifest,
                Kind::NotFound,
                "repository a/b not found: name unknown: repository name not known to registry",
            ),
            (
                403,
                "",
                manifest,
                Kind::NotFound,
                "pull access denied for a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (403, "", Asked::Push, Kind::Forbidden, "denied: requested access to the resource is denied"),
            (401, "", manifest, Kind::Unauthorized, "unauthorized: authentication required"),
            (401, "", Asked::Push, Kind::Unauthorized, "unauthorized: authentication required"),
            (429, "", blob, Kind::Internal, "toomanyrequests: too many requests"),
            (418, "", blob, Kind::Internal, "received unexpected HTTP status: 418 I'm a teapot"),
        ];
        for (status, body, asked, kind, text) in table {
            let error = read(status, &[], body).into_error(asked);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.kind(), kind, "{text}");
        }
        assert!(matches!(read(404, &[], "").into_error(blob), Error::BlobUnknown { .. }));
    }

    #[test]
    fn when_to_come_back() {
        let after = |value: &str| {
            wait_asked(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(after("Wed, 21 Oct 2099 07:28:00 GMT") > Some(Duration::from_hours(1)));
        assert_eq!(after("soon"), None);
        assert_eq!(after("99999999999999999999"), None);
    }
}
