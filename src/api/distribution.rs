//! Plugins and registries: privileges, pull, push, upgrade; and, ours, save and load.
//!
//! One call of the plugins' room each. Facts: moby 20.10 `api/server/router/plugin/plugin_routes.go`.

use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::Response;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::AsyncRead;

use super::error::{Failure, Result};
use super::extract::Raw;
use super::form::Form;
use super::go_json::{self, Reader};
use super::{Rooms, progress, reply};
use crate::oci::Reference;
use crate::plugins::privilege::Privilege;
use crate::plugins::{Order, Remote};
use crate::registry::Credentials;

/// Who the user is to the registry: base64 of a JSON document.
const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");
/// What the plugin is called here.
const PLUGIN_NAME: HeaderName = HeaderName::from_static("docker-plugin-name");

/// `GET /plugins/privileges?remote=`
pub(super) async fn privileges(rooms: &Rooms, form: &Form, headers: &HeaderMap) -> Result<Response<Body>> {
    let remote = Remote::parse(form.text("remote"))?;
    Ok(told(rooms.plugins.privileges(&remote, credentials(headers)).await?))
}

/// `POST /plugins/privileges`, ours: the same of a tar from [`save`]. The header tells the name it would get.
pub(super) async fn privileges_of(
    rooms: &Rooms,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Result<Response<Body>> {
    let (name, privileges) = rooms.plugins.privileges_of(body).await?;
    Ok(match name {
        Some(name) => named(Ok(told(privileges)), &name.familiar()),
        None => told(privileges),
    })
}

fn told(privileges: Vec<Privilege>) -> Response<Body> {
    // Go's list that was never filled.
    reply::ok(&Some(privileges).filter(|privileges| !privileges.is_empty()))
}

/// `POST /plugins/pull?remote=&name=`
pub(super) async fn pull(rooms: &Rooms, form: &Form, request: Request) -> Result<Response<Body>> {
    let order = order(form, request).await?;
    let name = order.remote.name(form.text("name"))?;
    let (plugins, called) = (rooms.plugins.clone(), called(&name, form.text("name")));
    let response =
        progress::answer(move |report| async move { plugins.pull(name, order, report).await.map(drop) });
    Ok(named(response.await, &called))
}

/// `POST /plugins/{name}/upgrade?remote=`, and, ours, `&restart=`
pub(super) async fn upgrade(
    rooms: &Rooms,
    form: &Form,
    name: String,
    request: Request,
) -> Result<Response<Body>> {
    let order = order(form, request).await?;
    let called = called(&order.remote.name(&name)?, &name);
    let (plugins, restart) = (rooms.plugins.clone(), form.bool("restart"));
    // An id is fine too; but what is not there is told by its name.
    let name = if plugins.inspect(&name).is_ok() { name } else { called.clone() };
    let response =
        progress::answer(move |report| async move { plugins.upgrade(&name, order, restart, report).await });
    Ok(named(response.await, &called))
}

/// `POST /plugins/{name}/push`
pub(super) async fn push(rooms: &Rooms, name: String, headers: &HeaderMap) -> Result<Response<Body>> {
    let (plugins, credentials) = (rooms.plugins.clone(), credentials(headers));
    progress::answer(move |report| async move { plugins.push(&name, credentials, report).await }).await
}

/// `GET /plugins/{name}/get`, ours: a tar that is an OCI image layout.
pub(super) async fn save(rooms: &Rooms, name: &str) -> Result<Response<Body>> {
    let saved = rooms.plugins.save(name).await?;
    let pieces = futures_util::stream::unfold(saved, |mut saved| async {
        let piece = saved.recv().await?;
        Some((piece, saved))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

/// `POST /plugins/load?name=&privileges=`, ours: the body is such a tar, the consent is in the query.
pub(super) async fn load(
    rooms: &Rooms,
    form: &Form,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Result<Response<Body>> {
    let privileges = match form.text("privileges") {
        "" => Vec::new(),
        json => consented(json.as_bytes())?,
    };
    let (plugins, alias) = (rooms.plugins.clone(), form.text("name").to_owned());
    progress::answer(
        move |report| async move { plugins.load(alias, privileges, body, report).await.map(drop) },
    )
    .await
}

/// The credentials of a request; what cannot be decoded is nobody's, as in dockerd.
fn credentials(headers: &HeaderMap) -> Credentials {
    let header = headers.get(REGISTRY_AUTH).and_then(|value| value.to_str().ok());
    header.map(Credentials::from_header).unwrap_or_default()
}

async fn order(form: &Form, request: Request) -> Result<Order> {
    let credentials = credentials(request.headers());
    let Raw(body) = Raw::from_request(request, &()).await?;
    let privileges = consented(&body)?;
    Ok(Order { remote: Remote::parse(form.text("remote"))?, credentials, privileges })
}

/// The privileges in a body, read as Go reads them: keys in any case, null for nothing.
fn consented(body: &[u8]) -> Result<Vec<Privilege>> {
    let invalid = |reason: String| Failure::invalid(format!("failed to parse privileges: {reason}"));
    let into = |place: &str| format!("value of type {place}");
    let list = match go_json::read(body, Reader::Decoder).map_err(invalid)? {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        other => return Err(invalid(go_json::mismatch(&other, &into("types.PluginPrivileges")))),
    };
    let rest = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>().nth(1);
    if rest.is_some() {
        return Err(Failure::invalid("invalid privileges"));
    }
    let privilege = |value: Value| {
        let fields = match value {
            Value::Null => Map::new(),
            Value::Object(fields) => fields,
            other => return Err(go_json::mismatch(&other, &into("types.PluginPrivilege"))),
        };
        let mut privilege = Privilege { name: String::new(), description: String::new(), value: Vec::new() };
        for (key, value) in fields {
            let read = match key.to_ascii_lowercase().as_str() {
                "name" => text(&value).map(|text| privilege.name = text),
                "description" => text(&value).map(|text| privilege.description = text),
                "value" => texts(&value).map(|texts| privilege.value = texts),
                _ => Some(()),
            };
            read.ok_or_else(|| {
                go_json::mismatch(&value, &format!("struct field PluginPrivilege.{key} of type string"))
            })?;
        }
        Ok(privilege)
    };
    list.into_iter().map(privilege).collect::<std::result::Result<_, String>>().map_err(invalid)
}

fn text(value: &Value) -> Option<String> {
    Option::<String>::deserialize(value).ok().map(Option::unwrap_or_default)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    Option::<Vec<String>>::deserialize(value).ok().map(Option::unwrap_or_default)
}

/// What dockerd says that a plugin is called: as it was typed, if all of it was.
fn called(name: &Reference, typed: &str) -> String {
    match typed.parse::<Reference>() {
        Ok(reference) if reference.tag().is_some() => typed.to_owned(),
        Ok(_) | Err(_) => name.familiar(),
    }
}

/// dockerd tells the name also when it fails.
fn named(response: Result<Response<Body>>, name: &str) -> Response<Body> {
    let mut response = response.unwrap_or_else(IntoResponse::into_response);
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(PLUGIN_NAME, name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_read_as_in_go() {
        let read = |body: &str| consented(body.as_bytes()).map_err(|failure| failure.message().to_owned());
        assert_eq!(read("null"), Ok(Vec::new()));
        assert_eq!(read("[] "), Ok(Vec::new()));
        let one = read(r#"[{"Name":"network","description":null,"VALUE":["host"],"x":1}]"#).unwrap();
        assert_eq!((one[0].name.as_str(), one[0].value.as_slice()), ("network", &["host".to_owned()][..]));
        assert_eq!(read(r#"[{"Name":"x","Value":null}]"#).unwrap()[0].value, Vec::<String>::new());
        assert_eq!(read(""), Err("failed to parse privileges: EOF".to_owned()));
        assert_eq!(read("[] []"), Err("invalid privileges".to_owned()));
        let wrong = "failed to parse privileges: invalid character 'x' looking for beginning of value";
        assert_eq!(read("x"), Err(wrong.to_owned()));
        for bad in ["{}", "[1]", r#"[{"Name":1}]"#, "["] {
            assert!(read(bad).unwrap_err().starts_with("failed to parse privileges: "), "{bad}");
        }
    }
}
