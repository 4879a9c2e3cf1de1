//! `/plugins`: Docker's shapes, and one call of the plugins' room each.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse as _;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::io::StreamReader;

use super::distribution;
use super::error::{Failure, Result};
use super::extract::Json;
use super::filters::Filters;
use super::form::Form;
use super::logs;
use super::names::Action;
use super::version::ApiVersion;
use super::{Rooms, redact, reply};
use crate::oci::Reference;
use crate::plugins::{Confinement, Filter, Pids, PluginConfig, Settings, View};

/// The capability of plugins that are volume drivers, as filters name it.
const VOLUME_DRIVER: &str = "volumedriver";

/// Docker's `Plugin`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    config: &'a PluginConfig,
    enabled: bool,
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    plugin_reference: &'a str,
    settings: Cow<'a, Settings>,
    /// Ours: what holds it back. dockerd has no such field.
    confinement: Confined,
    /// Ours: what is seen, beside what is wanted. dockerd has no such field.
    state: Observed<'a>,
}

/// What a plugin's process does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Observed<'a> {
    /// `stopped`, `starting`, `running`, `backing off`, `stopping`, `failed`
    status: &'static str,
    pid: Option<i32>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    exit_code: Option<i32>,
    /// As Docker spells it of a container.
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    restarts: u32,
    error: Option<&'a str>,
}

/// What holds a plugin back; names and units are those of a container's `HostConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Confined {
    no_new_privileges: bool,
    /// `builtin`, `unconfined`, or the path of the profile
    seccomp: String,
    capabilities: Vec<String>,
    /// -1: no limit
    pids_limit: i64,
    /// Bytes; 0: no limit
    memory: u64,
    /// Billionths of a processor; 0: no limit
    nano_cpus: u64,
    oom_score_adj: Option<i32>,
}

impl Confined {
    fn of(confinement: &Confinement) -> Self {
        Self {
            no_new_privileges: confinement.no_new_privileges,
            seccomp: confinement.seccomp.label(),
            capabilities: confinement.capability_names(),
            pids_limit: match confinement.pids {
                Pids::Unlimited => -1,
                Pids::AtMost(number) => number.into(),
            },
            memory: confinement.memory.unwrap_or_default(),
            nano_cpus: confinement.nano_cpus.unwrap_or_default(),
            oom_score_adj: confinement.oom_score_adj,
        }
    }
}

impl<'a> Shape<'a> {
    fn of(view: &'a View, rooms: &Rooms) -> Self {
        Self {
            config: &view.config,
            enabled: view.enabled,
            id: &view.id,
            name: &view.name,
            plugin_reference: &view.plugin_reference,
            settings: redact::shown(&view.settings, &rooms.facts.redact_env),
            confinement: Confined::of(&rooms.plugins.confinement(view)),
            state: Observed {
                status: view.observed.status.as_str(),
                pid: view.observed.pid,
                started_at: view.observed.started_at,
                finished_at: view.observed.finished_at,
                exit_code: view.observed.exit_code,
                oom_killed: view.observed.oom_killed,
                restarts: view.observed.restarts,
                error: view.observed.error.as_deref(),
            },
        }
    }
}

/// `GET /plugins?filters=`
pub(super) async fn list(State(rooms): State<Rooms>, form: Form) -> Result<Response<Body>> {
    let views = rooms.plugins.list(&filter(&form.filters()?)?);
    Ok(reply::ok(&views.iter().map(|view| Shape::of(view, &rooms)).collect::<Vec<_>>()))
}

/// Everything below `/plugins/`: what is asked for is read from the path, and done.
pub(super) async fn act(
    State(rooms): State<Rooms>,
    version: ApiVersion,
    form: Form,
    request: Request,
) -> Result<Response<Body>> {
    let rest = request.uri().path().strip_prefix("/plugins/").unwrap_or_default();
    let plugins = &rooms.plugins;
    match Action::parse(request.method(), rest)? {
        Action::Inspect(name) => return Ok(reply::ok(&Shape::of(&plugins.inspect(&name)?, &rooms))),
        Action::Create => {
            plugins.create(reference(form.text("name"))?, stream(request)).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Action::Set(name) => {
            let Json(settings) = Json::from_request(request, &()).await?;
            plugins.set(&name, settings, form.bool("restart")).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Action::Enable(name) => plugins.enable(&name, timeout(&form)?).await?,
        Action::Disable(name) => {
            rooms.look_at_containers().await;
            plugins.disable(&name, form.bool("force")).await?;
        }
        // dockerd documents the plugin as the answer, and sends nothing.
        Action::Remove(name) => drop(plugins.remove(&name, form.bool("force")).await?),
        Action::Rename(name) => {
            plugins.rename(&name, reference(form.text("name"))?).await?;
            rooms.volumes.follow().await;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Action::Upgrade(name) => {
            version.at_least(ApiVersion::v1(26), "POST /plugins/{name:.*}/upgrade")?;
            return distribution::upgrade(&rooms, &form, name, request).await;
        }
        Action::Privileges => return distribution::privileges(&rooms, &form, request.headers()).await,
        Action::Pull => return distribution::pull(&rooms, &form, request).await,
        Action::Logs(name) => return logs::logs(&rooms, &form, &name, version).await,
        Action::Save(name) => return distribution::save(&rooms, &name).await,
        Action::PrivilegesOf => return distribution::privileges_of(&rooms, stream(request)).await,
        Action::Load => return distribution::load(&rooms, &form, stream(request)).await,
        Action::Push(name) => return distribution::push(&rooms, name, request.headers()).await,
    }
    Ok(StatusCode::OK.into_response())
}

/// The enabled volume drivers among the plugins, by their familiar names.
pub(super) fn enabled_volume_drivers(rooms: &Rooms) -> Vec<String> {
    let filter = Filter { enabled: Some(true), capabilities: vec![VOLUME_DRIVER.to_owned()] };
    rooms.plugins.list(&filter).into_iter().map(|view| view.name).collect()
}

fn filter(filters: &Filters) -> Result<Filter> {
    filters.only(&["capability", "enabled"])?;
    Ok(Filter { enabled: filters.bool("enabled")?, capabilities: filters.values("capability") })
}

fn reference(name: &str) -> Result<Reference> {
    let reference = name.parse::<Reference>().map_err(Failure::from);
    reference.map_err(|failure| failure.while_doing(&format!("failed to parse reference {name}")))
}

/// How long to wait for the plugin; 0 leaves it to the plugins' room.
fn timeout(form: &Form) -> Result<Duration> {
    let seconds = form.integer("timeout")?;
    let negative = |_| Failure::invalid(format!("negative timeout {seconds} is invalid"));
    u64::try_from(seconds).map(Duration::from_secs).map_err(negative)
}

/// A body as something to read from.
fn stream(request: Request) -> impl tokio::io::AsyncRead + Send + Unpin + 'static {
    StreamReader::new(Box::pin(request.into_body().into_data_stream().map_err(std::io::Error::other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_seconds_from_0_on() {
        let timeout = |query: &str| timeout(&Form::parse(query).unwrap());
        assert_eq!(timeout("timeout=30"), Ok(Duration::from_secs(30)));
        assert_eq!(timeout("timeout=0"), Ok(Duration::ZERO));
        assert_eq!(timeout("timeout=-1"), Err(Failure::invalid("negative timeout -1 is invalid")));
        assert_eq!(timeout(""), Err(Failure::invalid("strconv.Atoi: parsing \"\": invalid syntax")));
    }

    #[test]
    fn lists_know_two_filters() {
        let filter = |json: &str| filter(&Filters::parse(json).unwrap());
        let both = filter(r#"{"enabled": ["true"], "capability": ["volumedriver", "authz"]}"#).unwrap();
        assert_eq!(both.enabled, Some(true));
        assert_eq!(both.capabilities, ["authz", "volumedriver"]);
        let refused = |json: &str| filter(json).err().unwrap().message().to_owned();
        assert_eq!(refused(r#"{"name": ["x"]}"#), "Invalid filter 'name'");
        assert_eq!(refused(r#"{"enabled": ["maybe"]}"#), "Invalid filter 'enabled=[maybe]'");
    }
}
