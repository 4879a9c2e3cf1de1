//! `dockplugd set`: changes settings, with a restart if that is asked for, which the docker CLI cannot ask for.

use http_body_util::{BodyExt as _, Full};
use hyper::Method;

use super::Result;
use super::connection::{Daemon, escaped};
use crate::config::command::Set;

pub(super) async fn set(daemon: &Daemon, set: &Set) -> Result<()> {
    let path = format!("/plugins/{}/set?restart={}", escaped(&set.plugin), u8::from(set.restart));
    let settings = serde_json::Value::from(set.settings.clone()).to_string();
    let body = Full::from(settings).map_err(|never| match never {}).boxed_unsync();
    daemon.ask(Method::POST, &path, body).await.map(drop)
}
