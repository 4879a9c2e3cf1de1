//! `dockplugd set`: changes settings, with a restart if that is asked for, which the docker CLI cannot ask for.

use hyper::Method;

use super::Result;
use super::connection::{Daemon, escaped, whole};
use crate::config::command::Set;

pub(super) async fn set(daemon: &Daemon, set: &Set) -> Result<()> {
    let path = format!("/plugins/{}/set?restart={}", escaped(&set.plugin), u8::from(set.restart));
    let settings = serde_json::Value::from(set.settings.clone());
    daemon.ask(Method::POST, &path, whole(&settings)).await.map(drop)
}
