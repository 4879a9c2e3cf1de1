//! The routes of the Engine API that are not ours: containers, images, networks and what belongs to them.
//!
//! They go to the engine that runs containers, as the client wrote them, but only by paths that can be read in one way:
//! what is compared here is what the engine sees. Without an engine they are refused: 404 would tell a client that the
//! container is gone.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Response};
use axum::routing::any;

use super::error::{Failure, Result};
use super::form::unescape;
use super::route::ELSEWHERE_REST;
use super::router::Asked;
use super::version::ApiVersion;
use super::{Rooms, containers, prune, version};
use crate::error::Kind;
use crate::escape::escaped;

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
        router.route(first, any(answer)).route(&format!("{first}{ELSEWHERE_REST}"), any(answer))
    })
}

/// Whether a path without its version is one of these.
pub(super) fn has(path: &str) -> bool {
    ROUTES
        .iter()
        .any(|first| path.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A path in one spelling, taken apart: what a rule looks at, and what the engine is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The parts of the path after the version, unescaped.
    pub(super) parts: Vec<String>,
    /// The version, the path in its one spelling, and the query as the client wrote it.
    pub(super) whole: PathAndQuery,
}

impl Target {
    /// Reads a path and query with or without a version.
    ///
    /// # Errors
    /// Not found, as for any path that is none: empty parts, `.` and `..`, in any spelling.
    pub(super) fn parse(asked: &PathAndQuery) -> Result<Self> {
        let (version, path) = version::split(asked.path());
        let parts = path.strip_prefix('/').ok_or_else(Failure::page_not_found)?.split('/');
        let parts = parts.map(|part| unescape(part, false)).collect::<Result<Vec<_>>>()?;
        // An engine may clean a path before it looks at it, or read an escaped slash as one that is not.
        let has_two_readings = |part: &String| {
            part.contains('\0') || part.split('/').any(|name| matches!(name, "" | "." | ".."))
        };
        let of_containers = parts.first().is_some_and(|first| first == "containers");
        if parts.iter().any(|part| has_two_readings(part) || (of_containers && part.contains('/'))) {
            return Err(Failure::page_not_found());
        }
        let mut whole = version.map(|version| format!("/v{version}")).unwrap_or_default();
        for part in &parts {
            whole.push('/');
            whole.push_str(&part_of_url(part));
        }
        if let Some(query) = asked.query() {
            whole.push('?');
            whole.push_str(query);
        }
        Ok(Self { parts, whole: readable(whole)? })
    }

    /// The same path with another query.
    ///
    /// # Errors
    /// Invalid, when that is none.
    pub(super) fn with_query(&self, query: &str) -> Result<PathAndQuery> {
        let path = self.whole.path();
        readable(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
    }
}

fn readable(whole: String) -> Result<PathAndQuery> {
    PathAndQuery::try_from(whole).map_err(|error| Failure::invalid(error.to_string()))
}

/// A part of a path or a query so that it means itself.
pub(super) fn part_of_url(part: &str) -> String {
    escaped(part, ":@")
}

async fn answer(State(rooms): State<Rooms>, request: Request) -> Result<Response<Body>> {
    let Some(containers) = rooms.containers else {
        return Err(refused(request.method(), request.uri().path()));
    };
    let asked = request.extensions().get::<Asked>().and_then(|Asked(uri)| uri.path_and_query().cloned());
    let asked = asked.ok_or_else(Failure::page_not_found)?;
    let target = Target::parse(&asked)?;
    // The gate may have let it through before the engine had said its version.
    let said = rooms.face.settled().await;
    ApiVersion::check(version::split(asked.path()).0, said.highest)
        .map_err(|unsupported| Failure::invalid(unsupported.to_string()))?;
    containers.follow();
    if let Some(verb) = containers::Verb::of(request.method(), &target.parts) {
        return containers::answer(verb, &containers, request, target).await;
    }
    if names_volumes(request.method(), &target.parts) {
        return Err(Failure::new(
            Kind::NotImplemented,
            "services may name volumes, which the engine must not see: make containers instead",
        ));
    }
    let engine = containers.engine();
    let query = target.whole.query().unwrap_or_default();
    if let Some(instead) = prune::of_images(request.method(), &target.parts, query, said.dialect)? {
        return prune::images(engine, &instead).await;
    }
    let prunes_cache = prune::of_cache(request.method(), &target.parts);
    let response = engine.forward(request, target.whole).await?;
    let instead = prunes_cache.then(|| prune::no_cache(response.status())).flatten();
    Ok(instead.unwrap_or_else(|| response.map(Body::new)))
}

/// Whether a request may name a volume in a way that is not rewritten: a service of a swarm, made or updated.
fn names_volumes(method: &Method, parts: &[String]) -> bool {
    *method == Method::POST && parts.first().is_some_and(|first| first == "services")
}

fn refused(method: &Method, path: &str) -> Failure {
    Failure::new(
        Kind::NotImplemented,
        format!(
            "{method} {path}: dockplugd answers plugins and volumes; this needs an engine that runs containers, and none \
             is behind it (--engine)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(asked: &str) -> Option<(Vec<String>, String)> {
        let asked = asked.parse().unwrap();
        Target::parse(&asked).ok().map(|target| (target.parts, target.whole.to_string()))
    }

    #[test]
    fn what_is_compared_is_what_the_engine_sees() {
        for (asked, parts, whole) in [
            ("/v1.41/containers/json?all=1", &["containers", "json"][..], "/v1.41/containers/json?all=1"),
            ("/containers/%63reate", &["containers", "create"], "/containers/create"),
            ("/images/a%2Fb/json", &["images", "a/b", "json"], "/images/a%2Fb/json"),
            (
                "/images/localhost:5000/a@sha256:0/json",
                &["images", "localhost:5000", "a@sha256:0", "json"],
                "/images/localhost:5000/a@sha256:0/json",
            ),
            (
                "/containers/x/archive?path=%2Fa%2F..",
                &["containers", "x", "archive"],
                "/containers/x/archive?path=%2Fa%2F..",
            ),
        ] {
            let (got_parts, got_whole) = target(asked).unwrap();
            assert_eq!(
                (got_parts, got_whole.as_str()),
                (parts.iter().map(ToString::to_string).collect(), whole),
                "{asked}"
            );
        }
    }

    #[test]
    fn a_service_names_no_volume_to_the_engine() {
        let of = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        assert!(names_volumes(&Method::POST, &of("services/create")));
        assert!(names_volumes(&Method::POST, &of("services/x/update")));
        assert!(
            !names_volumes(&Method::GET, &of("services"))
                && !names_volumes(&Method::POST, &of("networks/create"))
        );
    }

    #[test]
    fn a_path_with_two_readings_is_none() {
        for asked in [
            "/containers//create",
            "/v1.41/containers/create/",
            "/containers/x/../create",
            "/containers/x/%2e%2e/create",
            "/containers/%2E/create",
            "/containers/x%2F..%2Fcreate",
            "/containers%2Fcreate",
            "/images/..%2F..%2Fcontainers/create",
            "/containers/x%00",
        ] {
            let read = target(asked);
            // The router has no route `containers/create`, as one part.
            assert!(
                read.as_ref().is_none_or(|(parts, _)| parts[0] == "containers/create"),
                "{asked}: {read:?}"
            );
        }
    }
}
