//! Answers in Go's shape: JSON that ends in a newline, `<`, `>` and `&` left as they are.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use serde::Serialize;

/// The media type of all that is JSON, without a charset, as dockerd has it.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, bytes) = match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            (status, bytes)
        }
        Err(error) => {
            // Our own types only fail to serialise when a map's key is no string: a mistake of ours.
            tracing::error!(%error, "cannot write an answer as JSON");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                b"{\"message\":\"cannot write the answer as JSON\"}\n".to_vec(),
            )
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A value as JSON, 200.
pub(super) fn ok(value: &impl Serialize) -> Response<Body> {
    json(StatusCode::OK, value)
}
