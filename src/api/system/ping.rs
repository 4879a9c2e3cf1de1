//! `GET` and `HEAD /_ping`: that we live, and in headers what a client must know before it says more.
//!
//! `Api-Version`, on which the CLI settles its own version, is on every answer (`super::super::router`).

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA};
use axum::http::{Method, Response};

/// Which builder the CLI shall use: `BuildKit`, as dockerd has said since 23.0.
const BUILDER_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("builder-version"), HeaderValue::from_static("2"));
/// That this daemon is in no swarm.
const SWARM: (HeaderName, HeaderValue) =
    (HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));

/// `GET /_ping` and `HEAD /_ping`, the latter with a length of 0 as dockerd has it.
pub(in crate::api) async fn ping(method: Method) -> Response<Body> {
    let body = if method == Method::HEAD { Body::empty() } else { Body::from("OK") };
    let mut response = Response::new(body);
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate")),
        (PRAGMA, HeaderValue::from_static("no-cache")),
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        BUILDER_VERSION,
        SWARM,
    ];
    response.headers_mut().extend(headers);
    response
}
