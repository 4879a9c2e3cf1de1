//! `/volumes`: Docker's shapes, and one call of the volumes' room each.

mod list;
mod update;

use std::path::Path;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

pub(super) use self::list::list;
pub(super) use self::update::update;
use super::error::{Failure, Result};
use super::extract::{FromGo, Json, VolumeName};
use super::form::Form;
use super::go_json::mismatch;
use super::pieces::Item;
use super::version::ApiVersion;
use super::{Rooms, reply};
use crate::error::Kind;
use crate::volumes::{Create, Prune, Texts, Usage, Volume};

/// What dockerd says of a time it does not know: Go's zero.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// dockerd's answer to a cluster volume outside a swarm.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";

/// Docker's `Volume`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    created_at: String,
    driver: &'a str,
    labels: Option<&'a Texts>,
    mountpoint: &'a Path,
    name: &'a str,
    options: Option<&'a Texts>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

/// What a volume takes, in `/system/df`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: usize,
    /// In bytes; -1 is "not known".
    size: i64,
    /// Since when the size may have changed, if that was before the request; dockerd tells no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_at: Option<Timestamp>,
}

impl<'a> Shape<'a> {
    fn of(volume: &'a Volume) -> Self {
        let seconds =
            |time: Timestamp| Timestamp::from_second(time.as_second()).ok().map(|time| time.to_string());
        Self {
            created_at: volume.created_at.and_then(seconds).unwrap_or_else(|| NO_TIME.to_owned()),
            driver: &volume.driver,
            labels: volume.labels.as_ref(),
            mountpoint: volume.mountpoint.as_deref().unwrap_or(Path::new("")),
            name: &volume.name,
            options: volume.options.as_ref(),
            scope: volume.reach.as_str(),
            status: volume.status.as_ref().filter(|status| !status.is_empty()),
            usage_data: None,
        }
    }
}

/// With what it takes, for `/system/df`.
impl Item for Usage {
    fn shape(&self) -> impl Serialize {
        let size = self.size_bytes.and_then(|size| size.try_into().ok()).unwrap_or(-1);
        let data = UsageData { ref_count: self.references, size, measured_at: self.measured_at };
        Shape { usage_data: Some(data), ..Shape::of(&self.volume) }
    }
}

/// What dockerd 20.10 calls the type of [`CreateRequest`], in the words for a body of a wrong shape.
const GO_TYPE: &str = "VolumeCreateBody";

/// Docker's `CreateRequest`, read as Go reads it: keys in any case, null for nothing.
#[derive(Default)]
pub(super) struct CreateRequest {
    name: String,
    driver: String,
    options: Option<Texts>,
    labels: Option<Texts>,
    is_of_cluster: bool,
}

impl FromGo for CreateRequest {
    fn from_go(value: Value) -> std::result::Result<Self, String> {
        let mut request = Self::default();
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(request),
            other => return Err(mismatch(&other, &format!("value of type volume.{GO_TYPE}"))),
        };
        for (key, value) in fields {
            match key.to_ascii_lowercase().as_str() {
                "name" => request.name = text("Name", value)?,
                "driver" => request.driver = text("Driver", value)?,
                "driveropts" => request.options = texts("DriverOpts", value)?,
                "labels" => request.labels = texts("Labels", value)?,
                "clustervolumespec" => request.is_of_cluster = !value.is_null(),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// A string, or nothing. The error names the field, and not the value, which may be a secret.
fn text(field: &str, value: Value) -> std::result::Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(mismatch(&other, &format!("struct field {GO_TYPE}.{field} of type string"))),
    }
}

/// Strings by name, or nothing.
fn texts(field: &str, value: Value) -> std::result::Result<Option<Texts>, String> {
    match value {
        Value::Object(fields) => {
            let text = |(name, value)| text(field, value).map(|value| (name, value));
            fields.into_iter().map(text).collect::<std::result::Result<_, _>>().map(Some)
        }
        Value::Null => Ok(None),
        other => Err(mismatch(&other, &format!("struct field {GO_TYPE}.{field} of type map[string]string"))),
    }
}

/// Docker's `PruneReport`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PruneReport {
    volumes_deleted: Vec<String>,
    space_reclaimed: u64,
}

/// `GET /volumes/{name}`
pub(super) async fn inspect(
    State(rooms): State<Rooms>,
    VolumeName(name): VolumeName,
) -> Result<Response<Body>> {
    Ok(reply::ok(&Shape::of(&*rooms.volumes.inspect(&name).await?)))
}

/// `POST /volumes/create`
pub(super) async fn create(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    Json(request): Json<CreateRequest>,
) -> Result<Response<Body>> {
    if request.is_of_cluster && version >= ApiVersion::v1(42) {
        return Err(Failure::new(Kind::Unavailable, NO_SWARM));
    }
    let create = Create {
        name: Some(request.name).filter(|name| !name.is_empty()),
        driver: request.driver,
        options: request.options,
        labels: request.labels,
    };
    Ok(reply::json(StatusCode::CREATED, &Shape::of(&*rooms.volumes.create(create).await?)))
}

/// `DELETE /volumes/{name}?force=`
pub(super) async fn remove(
    State(rooms): State<Rooms>,
    VolumeName(name): VolumeName,
    form: Form,
) -> Result<StatusCode> {
    rooms.look_at_containers().await;
    rooms.volumes.remove(&name, form.bool("force")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /volumes/prune?filters=`
pub(super) async fn prune(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    form: Form,
) -> Result<Response<Body>> {
    version.at_least(ApiVersion::v1(25), "POST /volumes/prune")?;
    let mut terms = form.filters()?.into_terms();
    // Until then a prune took every unused volume; since then only those that were made without a name.
    if version < ApiVersion::v1(42) {
        terms.entry("all".to_owned()).or_default().insert("true".to_owned());
    }
    rooms.look_at_containers().await;
    let pruned = rooms.volumes.prune(&Prune::parse(&terms)?).await?;
    let report = PruneReport { volumes_deleted: pruned.deleted, space_reclaimed: pruned.reclaimed_bytes };
    Ok(reply::ok(&report))
}

/// The body of `mount` and `unmount`.
#[derive(Default)]
struct MountRequest {
    reference: String,
}

impl FromGo for MountRequest {
    fn from_go(value: Value) -> std::result::Result<Self, String> {
        let fields = match value {
            Value::Object(fields) => fields,
            other => {
                return Err(format!("{}, expected {{\"Reference\": \"…\"}}", mismatch(&other, "an object")));
            }
        };
        let mut request = Self::default();
        for (key, value) in fields.into_iter().filter(|(key, _)| key.eq_ignore_ascii_case("reference")) {
            request.reference = match value {
                Value::String(text) => text,
                other => return Err(mismatch(&other, &format!("field {key} of type string"))),
            };
        }
        Ok(request)
    }
}

/// Where a volume is mounted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted<'a> {
    mountpoint: &'a Path,
}

/// `POST /volumes/{name}/mount` and `POST /volumes/{name}/unmount`, which dockerd does not have.
pub(super) async fn act(
    State(rooms): State<Rooms>,
    VolumeName(path): VolumeName,
    request: Request,
) -> Result<Response<Body>> {
    let Some((name, verb @ ("mount" | "unmount"))) = path.rsplit_once('/') else {
        return Err(Failure::page_not_found());
    };
    let Json(MountRequest { reference }) = Json::from_request(request, &()).await?;
    if verb == "mount" {
        let mountpoint = rooms.volumes.mount(name, &reference).await?;
        return Ok(reply::ok(&Mounted { mountpoint: &mountpoint }));
    }
    rooms.volumes.unmount(name, &reference).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drivers::Reach;

    fn volume() -> Volume {
        Volume {
            name: "v".to_owned(),
            driver: "me/p:latest".to_owned(),
            mountpoint: None,
            created_at: None,
            reach: Reach::Global,
            labels: None,
            options: Some(Texts::from([("a".to_owned(), "<b>".to_owned())])),
            status: Some(Map::new()),
        }
    }

    #[test]
    fn a_volume_has_dockers_shape() {
        assert_eq!(
            serde_json::to_string(&Shape::of(&volume())).unwrap(),
            r#"{"CreatedAt":"0001-01-01T00:00:00Z","Driver":"me/p:latest","Labels":null,"Mountpoint":"","Name":"v","Options":{"a":"<b>"},"Scope":"global"}"#
        );
        let volume = Volume {
            mountpoint: Some("/m".into()),
            created_at: Some(Timestamp::new(1_700_000_000, 999).unwrap()),
            labels: Some(Texts::new()),
            status: serde_json::from_str(r#"{"k": 1}"#).unwrap(),
            ..volume()
        };
        let usage = Usage { volume: Arc::new(volume), size_bytes: None, measured_at: None, references: 2 };
        assert_eq!(
            serde_json::to_string(&usage.shape()).unwrap(),
            r#"{"CreatedAt":"2023-11-14T22:13:20Z","Driver":"me/p:latest","Labels":{},"Mountpoint":"/m","Name":"v","Options":{"a":"<b>"},"Scope":"global","Status":{"k":1},"UsageData":{"RefCount":2,"Size":-1}}"#
        );
    }

    #[test]
    fn a_request_is_read_as_go_reads_it() {
        let read = |json: &str| CreateRequest::from_go(serde_json::from_str(json).unwrap());
        let json =
            r#"{"name": "v", "DRIVER": null, "driveropts": {"a": "b", "c": null}, "Labels": null, "x": 1}"#;
        let request = read(json).unwrap();
        assert_eq!((request.name.as_str(), request.driver.as_str()), ("v", ""));
        let options = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(request.options, Some(Texts::from(options)));
        assert!(request.labels.is_none() && !request.is_of_cluster);
        assert!(read("null").is_ok());
        for (json, message) in [
            ("[]", "json: cannot unmarshal array into Go value of type volume.VolumeCreateBody"),
            (
                r#"{"name": 1}"#,
                "json: cannot unmarshal number into Go struct field VolumeCreateBody.Name of type string",
            ),
            (
                r#"{"DriverOpts": {"password": 12345}}"#,
                "json: cannot unmarshal number into Go struct field VolumeCreateBody.DriverOpts of type string",
            ),
            (
                r#"{"labels": ["x"]}"#,
                "json: cannot unmarshal array into Go struct field VolumeCreateBody.Labels of type map[string]string",
            ),
        ] {
            assert_eq!(read(json).err().as_deref(), Some(message), "{json}");
        }
    }
}
