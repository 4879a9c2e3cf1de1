//! The routes of the Engine API that are not ours: containers, images, networks and what belongs to them.
//!
//! They need an engine that runs containers. There is none behind this daemon yet, and it says so: 404 would tell a
//! client that the container is gone.

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::any;

use super::Rooms;
use super::error::Failure;
use super::route::ELSEWHERE_REST;
use crate::error::Kind;

/// The first part of each path that another engine answers, from Docker's API specification.
pub(super) const ROUTES: [&str; 15] = [
    "/build",
    "/commit",
    "/configs",
    "/containers",
    "/distribution",
    "/exec",
    "/grpc",
    "/images",
    "/networks",
    "/nodes",
    "/secrets",
    "/services",
    "/session",
    "/swarm",
    "/tasks",
];

/// Adds these routes, with whatever is below them, for every method.
pub(super) fn routes(router: Router<Rooms>) -> Router<Rooms> {
    ROUTES.iter().fold(router, |router, first| {
        router.route(first, any(refuse)).route(&format!("{first}{ELSEWHERE_REST}"), any(refuse))
    })
}

async fn refuse(method: Method, uri: Uri) -> Failure {
    Failure::new(
        Kind::NotImplemented,
        format!(
            "{method} {}: dockplugd answers plugins and volumes; this needs an engine that runs containers, and none \
             is behind it (--engine)",
            uri.path()
        ),
    )
}
