//! `GET /version`: what `docker version` prints about the server, and the engine behind it.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;
use serde_json::Value;

use super::{Facts, together};
use crate::api::error::{Failure, Result};
use crate::api::version::{self, ApiVersion};
use crate::api::{Rooms, VERSION, reply};
use crate::error::chain;

/// Docker's `VersionResponse`; the fields after `components` are for clients from before there were components.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    platform: Platform,
    version: &'a str,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    os: &'a str,
    arch: &'a str,
    components: [Component<'a>; 1],
    git_commit: &'a str,
    go_version: &'a str,
    kernel_version: &'a str,
    build_time: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Platform {
    name: &'static str,
}

/// The CLI prints one called `Engine` in the shape it knows from dockerd.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Component<'a> {
    name: &'static str,
    version: &'a str,
    details: Details<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details<'a> {
    api_version: String,
    arch: &'a str,
    build_time: &'a str,
    experimental: &'static str,
    git_commit: &'a str,
    go_version: &'a str,
    kernel_version: &'a str,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    os: &'a str,
}

/// The commit of this build, if whoever built it said so.
pub const COMMIT: &str = match option_env!("DOCKPLUG_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// When this was built, if whoever built it said so.
const BUILT: &str = match option_env!("DOCKPLUG_BUILT") {
    Some(built) => built,
    None => "unknown",
};
/// In the place where dockerd names the Go it was built with.
const NO_GO: &str = "none (Rust)";

/// `GET /version`
pub(in crate::api) async fn version(
    State(rooms): State<Rooms>,
    version: ApiVersion,
) -> Result<Response<Body>> {
    let engine = rooms.face.ask(version, "/version").await;
    let highest = rooms.face.now().highest;
    let own = own(&rooms.facts, highest)?;
    Ok(reply::ok(&match engine {
        Some(Ok(engine)) => together::version(own, engine, highest),
        Some(Err(error)) => {
            tracing::debug!(error = chain(&error), "the engine does not tell its version");
            own
        }
        None => own,
    }))
}

/// What we say of ourselves.
fn own(facts: &Facts, highest: ApiVersion) -> Result<Value> {
    let (arch, kernel) = (facts.machine.go_architecture(), facts.machine.kernel.as_str());
    let (highest, lowest) = (highest.to_string(), version::MIN.to_string());
    let answer = Answer {
        platform: Platform { name: "Dockplug" },
        version: VERSION,
        api_version: highest.clone(),
        min_api_version: lowest.clone(),
        os: "linux",
        arch,
        components: [Component {
            name: "Engine",
            version: VERSION,
            details: Details {
                api_version: highest,
                arch,
                build_time: BUILT,
                experimental: "false",
                git_commit: COMMIT,
                go_version: NO_GO,
                kernel_version: kernel,
                min_api_version: lowest,
                os: "linux",
            },
        }],
        git_commit: COMMIT,
        go_version: NO_GO,
        kernel_version: kernel,
        build_time: BUILT,
    };
    serde_json::to_value(&answer).map_err(|error| Failure::unwritten(&error))
}
