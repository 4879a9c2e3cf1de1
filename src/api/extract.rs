//! What handlers get out of a request. Everything ill-formed is refused here, before a handler runs.
//!
//! The rules for bodies, and their texts, are dockerd's (moby 20.10 `api/server/httputils`).

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use serde_json::Value;

use super::error::{Failure, Result};
use super::form::{self, Form};
use super::go_json::{self, Reader};
use super::version::{self, ApiVersion};

/// How large a JSON body may be, in bytes. dockerd has no limit; the largest that makes sense is a volume's options.
pub(super) const MAX_JSON_BYTES: usize = 16 * 1024 * 1024;

/// What a JSON value is read into, as Go reads it.
pub(super) trait FromGo: Sized {
    /// Reads the value; null is nothing.
    ///
    /// # Errors
    /// Go's words for a value of another type.
    fn from_go(value: Value) -> std::result::Result<Self, String>;
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// A body of whatever type, within the same limit.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Bytes);

/// The name in `/volumes/{name}`, unescaped; it may contain slashes, and be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeName(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Ok(parts.extensions.get().copied().unwrap_or(version::MAX))
    }
}

impl<S: Sync> FromRequestParts<S> for VolumeName {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let name = parts.uri.path().strip_prefix("/volumes/").unwrap_or_default();
        form::unescape(name, false).map(Self)
    }
}

impl<S: Sync, T: FromGo> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let empty = body.size_hint().exact() == Some(0);
        check_content_type(&parts.headers, empty)?;
        read(body, MAX_JSON_BYTES).await.and_then(|bytes| parse(&bytes)).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        read(request.into_body(), MAX_JSON_BYTES).await.map(Self)
    }
}

/// All of a body, within the limit.
pub(super) async fn read(body: Body, max_bytes: usize) -> Result<Bytes> {
    let too_large =
        || Failure::invalid(format!("request body too large: expected at most {max_bytes} bytes"));
    // One that says so is not read at all.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    axum::body::to_bytes(body, max_bytes).await.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if is_too_large {
            too_large()
        } else {
            Failure::invalid(format!("reading the request body: {error}"))
        }
    })
}

/// The first value in `bytes`; as in dockerd 20.10, what follows it is not looked at.
fn parse<T: FromGo>(bytes: &[u8]) -> Result<T> {
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::invalid("got EOF while reading request body"));
    }
    go_json::read(bytes, Reader::Decoder).and_then(T::from_go).map_err(Failure::invalid)
}

impl FromGo for Vec<String> {
    fn from_go(value: Value) -> std::result::Result<Self, String> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Err(go_json::mismatch(&other, "value of type string")),
        };
        match value {
            Value::Array(values) => values.into_iter().map(text).collect(),
            Value::Null => Ok(Self::new()),
            other => Err(go_json::mismatch(&other, "value of type []string")),
        }
    }
}

/// A body must say that it is JSON; what has no body may be silent.
fn check_content_type(headers: &HeaderMap, empty: bool) -> Result<()> {
    let header = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let header = header.as_deref().unwrap_or_default();
    if header.is_empty() && empty {
        return Ok(());
    }
    let media_type = header.split(';').next().unwrap_or_default().trim().to_lowercase();
    if media_type == "application/json" {
        return Ok(());
    }
    Err(Failure::invalid(format!("Content-Type specified ({header}) must be 'application/json'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn extract(content_type: Option<&str>, body: Body) -> std::result::Result<Vec<String>, String> {
        let mut request = Request::new(body);
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        Json::from_request(request, &()).await.map(|Json(value)| value).map_err(|failure| {
            assert_eq!(failure, Failure::invalid(failure.message()));
            failure.message().to_owned()
        })
    }

    /// Content type, body, what comes out.
    type Row<'a> = (Option<&'a str>, &'static str, std::result::Result<&'a [&'a str], &'a str>);

    #[tokio::test]
    async fn a_body_must_be_one_json_value_that_says_so() {
        let json = Some("application/json");
        let table: &[Row<'_>] = &[
            (json, r#"["a", null]"#, Ok(&["a", ""])),
            (Some("Application/JSON; charset=utf-8"), " [\"a\"]\n ", Ok(&["a"])),
            (json, "null", Ok(&[])),
            (json, "[] []", Ok(&[])),
            (json, "", Err("got EOF while reading request body")),
            (None, "", Err("got EOF while reading request body")),
            (None, "[]", Err("Content-Type specified () must be 'application/json'")),
            (Some("text/plain"), "[]", Err("Content-Type specified (text/plain) must be 'application/json'")),
            (json, " ", Err("got EOF while reading request body")),
            (json, "[", Err("unexpected EOF")),
            (json, "[nope", Err("invalid character 'o' in literal null (expecting 'u')")),
            (json, "{}", Err("json: cannot unmarshal object into Go value of type []string")),
            (json, "[1]", Err("json: cannot unmarshal number into Go value of type string")),
        ];
        for (content_type, body, expected) in table {
            let extracted = extract(*content_type, Body::from(*body)).await;
            let expected =
                expected.map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
            assert_eq!(extracted, expected.map_err(str::to_owned), "{content_type:?} {body:?}");
        }
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_that_is_empty_is_no_json_and_one_without_end_is_cut_off() {
        let chunks = |chunks: Vec<Vec<u8>>| {
            let chunks = chunks.into_iter().map(Ok::<_, std::convert::Infallible>);
            Body::from_stream(futures_util::stream::iter(chunks))
        };
        let json = Some("application/json");
        let empty = extract(json, chunks(vec![])).await;
        assert_eq!(empty.unwrap_err(), "got EOF while reading request body");
        let endless = extract(json, chunks(vec![vec![b' '; MAX_JSON_BYTES], vec![b' ']])).await;
        assert_eq!(endless.unwrap_err(), "request body too large: expected at most 16777216 bytes");
    }
}
