//! The API is this table: a line an endpoint. Around it, for every answer: the version that is asked for, and the
//! headers dockerd puts everywhere.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use tower::ServiceExt as _;

use super::error::Failure;
use super::version::{self, ApiVersion};
use super::{Face, Rooms, elsewhere, plugins, route, system, volumes};
use crate::metrics::{Requests, UNMATCHED};

/// The path and query as the client wrote them, version and all, in a request's extensions: for forwarding.
#[derive(Debug, Clone)]
pub struct Asked(pub Uri);

/// The version text of the path, until the gate has read it.
#[derive(Debug, Clone)]
struct AskedVersion(Option<String>);

/// `Server`: dockerd's form, because the CLI reads the operating system out of `Docker/… (linux)`. Who we are stands in
/// `/version`.
const SERVER_NAME: HeaderValue =
    HeaderValue::from_static(concat!("Docker/", env!("CARGO_PKG_VERSION"), " (linux)"));
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("api-version");
pub(super) const EXPERIMENTAL: HeaderName = HeaderName::from_static("docker-experimental");
const OS_TYPE: HeaderName = HeaderName::from_static("ostype");

/// Every route we answer; paths are without their version.
#[rustfmt::skip]
fn table(rooms: Rooms, requests: Arc<Requests>) -> Router {
    let ours = Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(system::events))
        .route("/system/df", get(system::usage))
        .route("/auth", post(system::authenticate))
        .route("/plugins", get(plugins::list))
        .route("/plugins/", any(plugins::act))
        .route(route::PLUGINS_REST, any(plugins::act))
        .route("/volumes", get(volumes::list))
        .route("/volumes/", volume())
        .route(route::VOLUMES_REST, volume().post(volumes::act))
        .route("/volumes/create", volume().post(volumes::create))
        .route("/volumes/prune", volume().post(volumes::prune));
    let unmatched = Arc::clone(&requests);
    let gate_of = (requests, rooms.face.clone());
    elsewhere::routes(ours)
        .fallback(|| async move { not_ours(&unmatched, Failure::page_not_found()) })
        .method_not_allowed_fallback(|| async { Failure::page_not_found() })
        .route_layer(from_fn_with_state(gate_of, gate))
        .with_state(rooms)
}

/// What can be done with one volume, whatever it is called: `create` and `prune` are names too.
fn volume() -> MethodRouter<Rooms> {
    get(volumes::inspect).put(volumes::update).delete(volumes::remove)
}

/// The API as a service that answers every request.
#[derive(Debug, Clone)]
pub struct Api {
    router: Router,
    requests: Arc<Requests>,
    face: Face,
}

impl Api {
    /// The API on top of these rooms.
    pub fn new(rooms: Rooms) -> Self {
        let requests = Arc::new(Requests::new(route::templates()));
        let face = rooms.face.clone();
        Self { router: table(rooms, Arc::clone(&requests)), requests, face }
    }

    /// How many requests were answered.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }
}

impl tower::Service<Request> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { router, requests, face } = self.clone();
        Box::pin(async move {
            let mut response = answer(router, &requests, request).await;
            stamp(response.headers_mut(), &face);
            Ok(response)
        })
    }
}

async fn answer(router: Router, requests: &Requests, mut request: Request) -> Response {
    // dockerd answers OPTIONS anywhere, and HEAD only where a route has it: here, or at the engine.
    if request.method() == Method::OPTIONS {
        return not_ours(requests, StatusCode::OK);
    }
    let (asked, rest) = version::split(request.uri().path());
    if request.method() == Method::HEAD && rest != "/_ping" && !elsewhere::has(rest) {
        return not_ours(requests, Failure::page_not_found());
    }
    let asked = AskedVersion(asked.map(str::to_owned));
    let stripped = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let Ok(stripped) = Uri::try_from(stripped) else {
        return not_ours(requests, Failure::page_not_found());
    };
    let original = std::mem::replace(request.uri_mut(), stripped);
    request.extensions_mut().insert(Asked(original));
    request.extensions_mut().insert(asked);
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    }
}

/// An answer that no route has given, counted as such.
fn not_ours(requests: &Requests, answer: impl IntoResponse) -> Response {
    let response = answer.into_response();
    requests.answered(UNMATCHED, response.status().as_u16());
    response
}

/// Passes a request for a known route on, and counts the answer.
async fn gate(
    State((requests, face)): State<(Arc<Requests>, Face)>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let matched = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let template = route::template(matched, request.method(), request.uri().path());
    let response = versioned(&face, request, next).await;
    requests.answered(template, response.status().as_u16());
    response
}

/// Lets a request through if its version is one that is announced.
async fn versioned(face: &Face, mut request: Request, next: Next) -> Response {
    let asked = request.extensions_mut().remove::<AskedVersion>().and_then(|AskedVersion(asked)| asked);
    match ApiVersion::check(asked.as_deref(), face.now().highest) {
        Ok(version) => {
            request.extensions_mut().insert(version);
            next.run(request).await
        }
        Err(unsupported) if unsupported.wants_plain_text() => {
            let mut response = Response::new(Body::from(format!("{unsupported}\n")));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            response
        }
        Err(unsupported) => Failure::invalid(unsupported.to_string()).into_response(),
    }
}

/// The headers of every answer.
fn stamp(headers: &mut HeaderMap, face: &Face) {
    // axum's, beside its 405; dockerd says 404 and nothing of methods.
    headers.remove(ALLOW);
    headers.insert(SERVER, SERVER_NAME);
    let said = face.now();
    if let Ok(version) = HeaderValue::try_from(said.highest.to_string()) {
        headers.insert(API_VERSION, version);
    }
    headers.insert(OS_TYPE, HeaderValue::from_static("linux"));
    headers.insert(EXPERIMENTAL, said.experimental.clone());
}
