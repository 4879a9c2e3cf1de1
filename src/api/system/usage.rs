//! `GET /system/df`: what volumes take on disk. Images, containers and build cache are the engine's, or there are none.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::{Map, Value, json};

use super::together;
use crate::api::error::{Failure, Result};
use crate::api::form::Form;
use crate::api::version::ApiVersion;
use crate::api::{Rooms, pieces, reply};
use crate::engine;
use crate::volumes::Usage;

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
    let volumes = if wanted.contains(&Object::Volume) { Some(rooms.volumes.usage().await?) } else { None };
    let of_engine: Vec<(&str, &str)> = wanted.iter().filter_map(|object| object.of_engine()).collect();
    let fields = if of_engine.is_empty() {
        without_engine(&of_engine)
    } else {
        let kinds: Vec<&str> = of_engine.iter().map(|(kind, _)| *kind).collect();
        let target = format!("/system/df?type={}", kinds.join("&type="));
        match rooms.face.ask_patiently(version, &target).await {
            // Nobody has said that there must be one.
            Some(Err(engine::Error::Nowhere)) | None => without_engine(&of_engine),
            Some(answer) => {
                let mut engine = answer?;
                if let (Some(containers), Some(list)) = (&rooms.containers, engine.get_mut("Containers")) {
                    *list = containers.listed(list.take());
                }
                together::usage(engine, |field| of_engine.iter().any(|(_, of)| *of == field))
            }
        }
    };
    told(&fields, volumes)
}

/// What an engine would tell that has nothing. What was not asked for is absent.
fn without_engine(wanted: &[(&str, &str)]) -> Map<String, Value> {
    let empty = wanted.iter().map(|(_, field)| ((*field).to_owned(), json!([])));
    std::iter::once(("LayersSize".to_owned(), json!(0))).chain(empty).collect()
}

/// Docker's disk usage as it was until API 1.51.
fn told(fields: &Map<String, Value>, volumes: Option<Vec<Usage>>) -> Result<Response<Body>> {
    let Some(volumes) = volumes else { return Ok(reply::ok(fields)) };
    let mut before = serde_json::to_vec(fields).map_err(|error| Failure::unwritten(&error))?;
    // Volumes are its last field: after all others, of which there is one at least.
    before.pop();
    before.extend_from_slice(b",\"Volumes\":[");
    Ok(pieces::answer(before, volumes, b"]}\n".to_vec()))
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
