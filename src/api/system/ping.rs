//! `GET` and `HEAD /_ping`: that we live, and in headers what a client must know before it says more.
//!
//! With an engine behind us it is asked first, within a limit (`face`). `Api-Version`, on which the CLI settles its own version, is on every answer (`super::super::router`).

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use axum::http::{Method, Response};

use crate::api::Rooms;
use crate::api::face::{BUILDER_VERSION, SWARM};

/// `GET /_ping` and `HEAD /_ping`, the latter with a length of 0 as dockerd has it.
pub(in crate::api) async fn ping(State(rooms): State<Rooms>, method: Method) -> Response<Body> {
    let said = rooms.face.look().await;
    let body = if method == Method::HEAD { Body::empty() } else { Body::from("OK") };
    let mut response = Response::new(body);
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate")),
        (PRAGMA, HeaderValue::from_static("no-cache")),
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (BUILDER_VERSION, said.builder.clone()),
        (SWARM, said.swarm.clone()),
    ];
    response.headers_mut().extend(headers);
    response
}
