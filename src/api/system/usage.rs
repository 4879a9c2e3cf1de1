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
    volumes: Option<Vec<volumes::Shape>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_cache: Option<[(); 0]>,
}

/// Which objects are asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    images: bool,
    containers: bool,
    volumes: bool,
    build_cache: bool,
}

impl Wanted {
    /// Reads `type`, which is known since API 1.42; without it everything is wanted.
    fn parse(form: &Form, version: ApiVersion) -> Result<Self> {
        let types = form.all("type").filter(|_| version >= ApiVersion::v1(42));
        let Some(types) = types else {
            return Ok(Self { images: true, containers: true, volumes: true, build_cache: true });
        };
        types.into_iter().try_fold(Self::default(), |wanted, kind| match kind {
            "image" => Ok(Self { images: true, ..wanted }),
            "container" => Ok(Self { containers: true, ..wanted }),
            "volume" => Ok(Self { volumes: true, ..wanted }),
            "build-cache" => Ok(Self { build_cache: true, ..wanted }),
            unknown => Err(Failure::invalid(format!("unknown object type: {unknown}"))),
        })
    }
}

/// `GET /system/df?type=`
pub(in crate::api) async fn usage(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    form: Form,
) -> Result<Response<Body>> {
    let wanted = Wanted::parse(&form, version)?;
    let volumes = if wanted.volumes { Some(volumes::usage(&rooms).await?) } else { None };
    Ok(reply::ok(&Usage {
        layers_size: 0,
        images: wanted.images.then_some([]),
        containers: wanted.containers.then_some([]),
        volumes,
        build_cache: wanted.build_cache.then_some([]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_choose_what_is_told() {
        let parse = |query: &str, minor| Wanted::parse(&Form::parse(query).unwrap(), ApiVersion::v1(minor));
        let all = Wanted { images: true, containers: true, volumes: true, build_cache: true };
        assert_eq!(parse("", 51), Ok(all));
        assert_eq!(parse("type=nonsense", 41), Ok(all));
        let some = Wanted { volumes: true, build_cache: true, ..Wanted::default() };
        assert_eq!(parse("type=volume&type=build-cache", 42), Ok(some));
        assert_eq!(parse("type=volumes", 42), Err(Failure::invalid("unknown object type: volumes")));
    }
}
