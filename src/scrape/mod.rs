//! `GET /metrics`: what is counted and what is seen at this moment, as Prometheus reads it.
//!
//! ```text
//! snapshot  everything a scrape tells, gathered from the rooms' memory       text  a snapshot in OpenMetrics
//! ```
//!
//! A scrape waits for nobody: no plugin is asked, no disk is read. Series are those of the plugins, drivers and routes
//! that exist at this moment, so that what is removed disappears, and no client can make them grow. This room knows
//! neither sockets nor Docker's API. Facts: the OpenMetrics specification 1.0.0.

mod snapshot;
mod text;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};

use self::snapshot::Snapshot;
use crate::drivers::Drivers;
use crate::metrics::Requests;
use crate::plugins::Plugins;
use crate::volumes::Volumes;

/// The one path that is answered.
const PATH: &str = "/metrics";
/// What the answer is, by the specification.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The rooms whose numbers are told.
#[derive(Debug)]
pub struct Sources {
    /// Managed plugins.
    pub plugins: Plugins,
    /// Volumes.
    pub volumes: Volumes,
    /// Volume drivers.
    pub drivers: Drivers,
    /// What clients of the API asked.
    pub requests: Arc<Requests>,
    /// Which program this is.
    pub build: Build,
}

/// Which program this is.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from, or `unknown`.
    pub commit: &'static str,
}

/// A service that answers scrapes, and 404 to everything else.
#[derive(Debug, Clone)]
pub struct Scrape(Arc<Sources>);

impl Scrape {
    /// Answers with the numbers of these rooms.
    pub fn new(sources: Sources) -> Self {
        Self(Arc::new(sources))
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if path != PATH || !matches!(*method, Method::GET | Method::HEAD) {
            let text = format!("only GET {PATH} is answered here\n");
            return response(StatusCode::NOT_FOUND, PLAIN, text);
        }
        match text::encode(Snapshot::of(&self.0)) {
            Ok(text) => response(StatusCode::OK, OPENMETRICS, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "cannot write the metrics\n".to_owned())
            }
        }
    }
}

impl tower::Service<Request<Body>> for Scrape {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

fn response(status: StatusCode, content_type: HeaderValue, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
