//! `dockplugd upgrade`: another version of a plugin, with a restart if that is asked for, which the docker CLI cannot
//! ask for.
//!
//! It asks the registry as nobody: one that wants a login is for `docker plugin upgrade`.

use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use serde::Deserialize;

use super::connection::{Daemon, empty, escaped, strange, whole};
use super::{Result, consent, progress};
use crate::config::command::Upgrade;

/// How long the description of a plugin may be, in bytes.
const PLUGIN_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What we need of Docker's `Plugin`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Plugin {
    name: String,
    #[serde(default)]
    plugin_reference: String,
}

pub(super) async fn upgrade(daemon: &Daemon, wanted: Upgrade) -> Result<()> {
    let path = format!("/plugins/{}", escaped(&wanted.plugin));
    let answer = daemon.ask(Method::GET, &format!("{path}/json"), empty()).await?.into_body();
    let answer = Limited::new(answer, PLUGIN_MAX_BYTES).collect().await;
    let answer = answer.map_err(|error| strange(error.to_string().as_bytes(), "a plugin"))?.to_bytes();
    let plugin: Plugin = serde_json::from_slice(&answer).map_err(|_| strange(&answer, "a plugin"))?;
    let remote = wanted.remote.unwrap_or(plugin.plugin_reference);
    let query = format!("remote={}", escaped(&remote));
    let list = daemon.ask(Method::GET, &format!("/plugins/privileges?{query}"), empty()).await?;
    let title = format!("Plugin {remote:?}, to be {:?}, is", plugin.name);
    let asker = consent::Asker { title, stdin_is_taken: false };
    let granted = consent::granted(list.into_body(), wanted.grant_all_permissions, &asker).await?;
    let path = format!("{path}/upgrade?{query}&restart={}", u8::from(wanted.restart));
    let answer = daemon.ask(Method::POST, &path, whole(&granted)).await?;
    progress::show(daemon, answer.into_body()).await?;
    consent::print(&format!("Upgraded plugin {} to {remote}\n", plugin.name))
}
