//! `dockplugd mount` and `dockplugd umount`: a volume for whoever has no container engine.

use std::io::{self, Write as _};

use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::connection::{Daemon, escaped, strange, whole};
use super::{Error, Result};
use crate::config::command::Use;

/// How long the answer may be, in bytes: a path, and a little around it.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted {
    mountpoint: String,
}

pub(super) async fn mount(daemon: &Daemon, wanted: &Use) -> Result<()> {
    let path = format!("/volumes/{}/mount", escaped(&wanted.volume));
    let answer = daemon.ask(Method::POST, &path, whole(&json!({ "Reference": wanted.reference }))).await?;
    let expected = "a mountpoint";
    let answer = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
    let answer = answer.map_err(|error| strange(error.to_string().as_bytes(), expected))?.to_bytes();
    let Mounted { mountpoint } = serde_json::from_slice(&answer).map_err(|_| strange(&answer, expected))?;
    writeln!(io::stdout(), "{mountpoint}").map_err(Error::file("write", "standard output"))
}

pub(super) async fn umount(daemon: &Daemon, wanted: &Use) -> Result<()> {
    let path = format!("/volumes/{}/unmount", escaped(&wanted.volume));
    daemon.ask(Method::POST, &path, whole(&json!({ "Reference": wanted.reference }))).await.map(drop)
}
