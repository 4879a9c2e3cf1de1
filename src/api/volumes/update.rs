//! `PUT /volumes/{name}`: other labels for a volume, and dockerd's answer to everything else.

use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use serde_json::Value;

use crate::api::Rooms;
use crate::api::error::{Failure, Result};
use crate::api::extract::{FromGo, Json, VolumeName};
use crate::api::go_json::mismatch;
use crate::api::version::ApiVersion;
use crate::error::Kind;
use crate::volumes::Texts;

/// The body of `PUT /volumes/{name}`: labels, which dockerd does not know, or anything else.
#[derive(Default)]
struct UpdateRequest {
    labels: Option<std::result::Result<Texts, String>>,
    is_of_cluster: bool,
}

impl FromGo for UpdateRequest {
    fn from_go(value: Value) -> std::result::Result<Self, String> {
        let mut request = Self::default();
        let Value::Object(fields) = value else { return Ok(request) };
        for (key, value) in fields {
            match key.to_ascii_lowercase().as_str() {
                "labels" => request.labels = Some(labels(value)),
                "spec" => request.is_of_cluster = !value.is_null(),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// All labels; none must be said with an empty object.
fn labels(value: Value) -> std::result::Result<Texts, String> {
    let Value::Object(fields) = value else {
        return Err(mismatch(&value, "field Labels of type map[string]string"));
    };
    let label = |(name, value)| match value {
        Value::String(text) => Ok((name, text)),
        other => Err(mismatch(&other, &format!("label {name:?} of type string"))),
    };
    fields.into_iter().map(label).collect()
}

/// `PUT /volumes/{name}`: gives a volume other labels, which dockerd does not do. What dockerd does is to update cluster
/// volumes, of which there are none.
pub(in crate::api) async fn update(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    VolumeName(name): VolumeName,
    request: Request,
) -> Result<StatusCode> {
    version.at_least(ApiVersion::v1(42), "PUT /volumes/{name:.*}")?;
    let message = "volume update only valid for cluster volumes, but swarm is unavailable";
    // dockerd does not look at the body before it says so.
    let no_cluster = || Failure::new(Kind::Unavailable, message);
    let Json(request) = Json::<UpdateRequest>::from_request(request, &()).await.map_err(|_| no_cluster())?;
    let labels = request.labels.filter(|_| !request.is_of_cluster).ok_or_else(no_cluster)?;
    rooms.volumes.relabel(&name, labels.map_err(Failure::invalid)?).await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_ours_and_everything_else_is_dockerds() {
        let read = |json: Value| {
            let request = UpdateRequest::from_go(json).unwrap();
            (request.labels, request.is_of_cluster)
        };
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Some(Ok(pairs.collect::<Texts>()))
        };
        assert_eq!(read(json!({"LABELS": {"a": "b"}, "x": 1})), (labels(&[("a", "b")]), false));
        assert_eq!(read(json!({"Labels": {}, "Spec": null})), (labels(&[]), false));
        assert_eq!(read(json!({"Labels": {}, "Spec": {}})), (labels(&[]), true));
        assert_eq!(read(json!({"Spec": {"Availability": "drain"}})), (None, true));
        assert_eq!(read(json!([1])), (None, false));
        for wrong in [json!(null), json!(["a"]), json!({"a": 1}), json!({"a": null})] {
            assert!(matches!(read(json!({"Labels": wrong})), (Some(Err(_)), false)), "{wrong}");
        }
    }
}
