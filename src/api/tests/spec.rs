//! The routes that `api-spec/openapi.yaml` tells of are those that answer, and the other way round.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use tower::ServiceExt as _;

use super::Stage;
use crate::api::{elsewhere, route};

const SPEC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/api-spec/openapi.yaml"));
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// The operations of the spec: method and path. It is laid out by hand, two spaces a level.
fn told() -> BTreeSet<(String, String)> {
    let paths = SPEC.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:\n").next().unwrap();
    let (mut told, mut path) = (BTreeSet::new(), String::new());
    for line in paths.lines() {
        let indent = line.len() - line.trim_start().len();
        let key = line.trim().trim_end_matches(':');
        match indent {
            2 => key.clone_into(&mut path),
            4 if METHODS.contains(&key.to_uppercase().as_str()) => {
                told.insert((key.to_uppercase(), path.clone()));
            }
            _ => {}
        }
    }
    told
}

impl Stage {
    /// Whether there is such a route: whatever else is wrong with the request, the page is found.
    async fn has_route(&self, method: &str, path: &str) -> bool {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.api.clone().oneshot(request).await.unwrap();
        if response.status() != 404 {
            // Not read: it may be a stream without an end.
            return true;
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        !(body.is_empty() || body.starts_with(b"{\"message\":\"page not found\"}"))
    }
}

#[tokio::test]
async fn the_spec_tells_of_every_route_and_of_no_other() {
    let (stage, told) = (Stage::new(), told());
    assert!(told.len() > 25, "{told:?}");
    let templates: BTreeSet<_> =
        route::templates().filter(|path| !elsewhere::ROUTES.contains(path)).collect();
    let unknown: Vec<_> = told.iter().filter(|(_, path)| !templates.contains(path.as_str())).collect();
    assert!(unknown.is_empty(), "told of, but no route: {unknown:?}");
    for path in templates {
        // `create` and `x/enable` are names too, where a method has no such verb.
        let room = path.split('/').nth(1).unwrap_or_default();
        let as_name = path.matches('/').nth(1).map(|_| format!("/{room}/{{name}}"));
        for method in METHODS.into_iter().filter(|method| *method != "OPTIONS") {
            let tells = |path: &str| told.contains(&(method.to_owned(), path.to_owned()));
            let expected = tells(path) || as_name.as_deref().is_some_and(tells);
            let has = stage.has_route(method, &path.replace("{name}", "x")).await;
            assert_eq!(has, expected, "{method} {path}");
        }
    }
}
