//! Prunes that an engine without all that dockerd has refuses, so that `docker system prune` would stop half-way: of the
//! build cache where there is none, and of all images at podman, which knows that by a route of its own.
//!
//! Facts: moby `api/types/image`, podman `pkg/api/handlers/{compat,libpod}/images_prune.go`.

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::elsewhere::part_of_url;
use super::error::{Failure, Result};
use super::face::Dialect;
use super::form::Form;
use super::reply;
use crate::engine::Engine;
use crate::error::Kind;

/// The route by which podman prunes all images.
const ALL_IMAGES: &str = "/v4.0.0/libpod/images/prune?all=true";

/// Whether a request prunes the build cache.
pub(super) fn of_cache(method: &Method, parts: &[String]) -> bool {
    *method == Method::POST && parts == ["build", "prune"]
}

/// What is answered for an engine that knows no such route.
pub(super) fn no_cache(status: StatusCode) -> Option<Response<Body>> {
    (status == StatusCode::NOT_FOUND)
        .then(|| reply::ok(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })))
}

/// Where this engine is asked instead for a prune of all images; none if it understands the request as it is.
pub(super) fn of_images(
    method: &Method,
    parts: &[String],
    query: &str,
    dialect: Dialect,
) -> Result<Option<String>> {
    if *method != Method::POST || parts != ["images", "prune"] || dialect != Dialect::Podman {
        return Ok(None);
    }
    let filters = Form::parse(query)?.filters()?;
    let is_all = filters.values("dangling").iter().any(|value| value == "false" || value == "0");
    let mut others = filters.into_terms();
    others.remove("dangling");
    let others = part_of_url(&json!(others).to_string());
    Ok(is_all.then(|| format!("{ALL_IMAGES}&filters={others}")))
}

/// Asks there, and answers as dockerd does.
pub(super) async fn images(engine: &Engine, target: &str) -> Result<Response<Body>> {
    let answer = engine.ask(Method::POST, target, None).await?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let (StatusCode::OK, Some(list)) = (answer.status, told.as_array()) {
        return Ok(reply::ok(&pruned(list)));
    }
    let why = told["message"].as_str().unwrap_or("its answer makes no sense");
    Err(Failure::new(Kind::Internal, format!("the engine does not prune images: {why}")))
}

fn pruned(list: &[Value]) -> Value {
    let gone = || list.iter().filter(|image| image["Err"].is_null());
    let deleted: Vec<Value> = gone().map(|image| json!({ "Deleted": image["Id"] })).collect();
    let bytes: u64 = gone().filter_map(|image| image["Size"].as_u64()).sum();
    json!({ "ImagesDeleted": deleted, "SpaceReclaimed": bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_prune_of_all_images_goes_another_way() {
        let parts = ["images", "prune"].map(str::to_owned);
        let of = |query: &str, dialect| of_images(&Method::POST, &parts, query, dialect).unwrap();
        let all =
            "filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%2C%22until%22%3A%7B%225h%22%3Atrue%7D%7D";
        let expected = format!("{ALL_IMAGES}&filters=%7B%22until%22:%5B%225h%22%5D%7D");
        assert_eq!(of(all, Dialect::Podman), Some(expected));
        assert_eq!(of(all, Dialect::Docker), None);
        assert_eq!(of("filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D", Dialect::Podman), None);
        assert_eq!(of("", Dialect::Podman), None);
    }

    #[test]
    fn what_was_taken_is_told_as_dockerd_tells_it() {
        let list = [json!({"Id": "a", "Size": 5}), json!({"Id": "b", "Size": 7, "Err": "in use"})];
        assert_eq!(pruned(&list), json!({"ImagesDeleted": [{"Deleted": "a"}], "SpaceReclaimed": 5}));
    }
}
