//! `GET /system/df`: what volumes take on disk. Images, containers and build cache are always empty here.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;

use crate::api::error::{Failure, Result};
use crate::api::form::Form;
use crate::api::version::ApiVersion;
use crate::api::{Rooms, reply, volumes};

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
    Ok(reply::ok(&Usage {
        layers_size: 0,
        images: empty_if(Object::Image),
        containers: empty_if(Object::Container),
        volumes,
        build_cache: empty_if(Object::BuildCache),
    }))
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
