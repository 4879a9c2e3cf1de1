//! `POST /auth`: `docker login`. This release has no registry client, so it can only tell a body that is none.

use serde::Deserialize;

use crate::api::error::{Failure, Result};
use crate::api::extract::Raw;
use crate::error::Kind;

/// The credentials a client sends. They are only looked at for their shape, and never printed.
#[derive(Deserialize)]
struct Credentials {
    #[serde(rename = "username", default)]
    _username: Option<String>,
    #[serde(rename = "password", default)]
    _password: Option<String>,
    #[serde(rename = "serveraddress", default)]
    _server: Option<String>,
}

/// `POST /auth`
pub(in crate::api) async fn authenticate(Raw(body): Raw) -> Result<()> {
    let mut documents = serde_json::Deserializer::from_slice(&body).into_iter::<Credentials>();
    let invalid = |reason: &str| Failure::invalid(format!("invalid X-Registry-Auth header: {reason}"));
    match documents.next() {
        Some(Ok(_)) => {}
        None => return Err(invalid("invalid JSON: EOF")),
        // serde's message would quote a value.
        Some(Err(error)) => {
            let place = format!("invalid JSON at line {} column {}", error.line(), error.column());
            return Err(invalid(&place));
        }
    }
    if documents.next().is_some() {
        return Err(invalid("multiple JSON documents not allowed"));
    }
    Err(Failure::new(
        Kind::NotImplemented,
        "this release of dockplugd cannot talk to registries yet, nor log in",
    ))
}
