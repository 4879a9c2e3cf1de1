//! `GET /system/df`: what volumes take on disk. Images, containers and build cache are the engine's, or there are none.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;

use super::together;
use crate::api::error::{Failure, Result};
use crate::api::form::Form;
use crate::api::version::ApiVersion;
use crate::api::{Rooms, reply, volumes};
use crate::engine;
use crate::error::Kind;

/// Docker's disk usage as it was until API 1.51. What was not asked for is absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    layers_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<volumes::Usages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_cache: Option<[(); 0]>,
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Image,
    Container,
    Volume,
    BuildCache,
}

impl Object {
    /// The engine's word for it in a request, and the field of its answer; none for what is ours.
    fn of_engine(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Image => Some(("image", "Images")),
            Self::Container => Some(("container", "Containers")),
            Self::BuildCache => Some(("build-cache", "BuildCache")),
            Self::Volume => None,
        }
    }
}

/// Reads `type`, which is known since API 1.42; without it everything is wanted.
fn wanted(form: &Form, version: ApiVersion) -> Result<Vec<Object>> {
    let types = form.all("type").filter(|_| version >= ApiVersion::v1(42));
    let Some(types) = types else {
        return Ok(vec![Object::Image, Object::Container, Object::Volume, Object::BuildCache]);
    };
    let object = |kind| match kind {
        "image" => Ok(Object::Image),
        "container" => Ok(Object::Container),
        "volume" => Ok(Object::Volume),
        "build-cache" => Ok(Object::BuildCache),
        unknown => Err(Failure::invalid(format!("unknown object type: {unknown}"))),
    };
    types.into_iter().map(object).collect()
}

/// `GET /system/df?type=`
pub(in crate::api) async fn usage(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    form: Form,
) -> Result<Response<Body>> {
    let wanted = wanted(&form, version)?;
    let empty_if = |object| wanted.contains(&object).then_some([]);
    let volumes = if wanted.contains(&Object::Volume) { Some(volumes::usage(&rooms).await?) } else { None };
    let own = Usage {
        layers_size: 0,
        images: empty_if(Object::Image),
        containers: empty_if(Object::Container),
        volumes,
        build_cache: empty_if(Object::BuildCache),
    };
    let of_engine: Vec<&str> =
        wanted.iter().filter_map(|object| object.of_engine()).map(|(kind, _)| kind).collect();
    if of_engine.is_empty() {
        return Ok(reply::ok(&own));
    }
    let target = format!("/system/df?type={}", of_engine.join("&type="));
    let mut engine = match rooms.face.ask_patiently(version, &target).await {
        // Nobody has said that there must be one.
        Some(Err(engine::Error::Nowhere)) | None => return Ok(reply::ok(&own)),
        Some(answer) => answer?,
    };
    if let (Some(containers), Some(list)) = (&rooms.containers, engine.get_mut("Containers")) {
        *list = containers.listed(list.take());
    }
    let own = serde_json::to_value(&own).map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let is_wanted =
        |field: &str| wanted.iter().any(|object| object.of_engine().is_some_and(|(_, of)| of == field));
    Ok(reply::ok(&together::usage(own, engine, is_wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_choose_what_is_told() {
        let wanted = |query: &str, minor| wanted(&Form::parse(query).unwrap(), ApiVersion::v1(minor));
        let all = vec![Object::Image, Object::Container, Object::Volume, Object::BuildCache];
        assert_eq!(wanted("", 51), Ok(all.clone()));
        assert_eq!(wanted("type=nonsense", 41), Ok(all));
        assert_eq!(wanted("type=volume&type=build-cache", 42), Ok(vec![Object::Volume, Object::BuildCache]));
        assert_eq!(wanted("type=volumes", 42), Err(Failure::invalid("unknown object type: volumes")));
    }
}
