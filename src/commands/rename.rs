//! `dockplugd rename`: another name for a plugin, which the docker CLI cannot ask for.

use hyper::Method;

use super::Result;
use super::connection::{Daemon, empty, escaped};
use crate::config::command::Rename;

pub(super) async fn rename(daemon: &Daemon, rename: &Rename) -> Result<()> {
    let path = format!("/plugins/{}/rename?name={}", escaped(&rename.plugin), escaped(&rename.name));
    daemon.ask(Method::POST, &path, empty()).await.map(drop)
}
