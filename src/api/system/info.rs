//! `GET /info`: what `docker info` prints about the server.
//!
//! All of Docker's fields are there, with zeros where they tell of containers and images, which we do not have.

use std::collections::BTreeMap;
use std::path::Path;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::Facts;
use crate::api::error::Result;
use crate::api::version::ApiVersion;
use crate::api::{Rooms, VERSION, plugins, reply};

/// Docker's `Info`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(flatten)]
    containers: Containers,
    plugins: Plugins,
    #[serde(flatten)]
    limits: Limits,
    #[serde(rename = "IPv4Forwarding")]
    ipv4_forwarding: bool,
    debug: bool,
    n_fd: usize,
    n_goroutines: usize,
    n_events_listener: usize,
    system_time: String,
    logging_driver: &'static str,
    cgroup_driver: &'static str,
    cgroup_version: &'a str,
    kernel_version: &'a str,
    operating_system: &'a str,
    #[serde(rename = "OSVersion")]
    os_version: &'a str,
    #[serde(rename = "OSType")]
    os_type: &'static str,
    architecture: &'a str,
    index_server_address: &'static str,
    registry_config: Value,
    #[serde(rename = "NCPU")]
    processors: usize,
    mem_total: u64,
    generic_resources: Option<()>,
    docker_root_dir: &'a Path,
    http_proxy: &'static str,
    https_proxy: &'static str,
    no_proxy: &'static str,
    name: &'a str,
    labels: [&'static str; 0],
    experimental_build: bool,
    server_version: &'static str,
    runtimes: BTreeMap<&'a str, Value>,
    default_runtime: &'a str,
    swarm: Value,
    live_restore_enabled: bool,
    isolation: &'static str,
    init_binary: &'static str,
    containerd_commit: Value,
    runc_commit: Value,
    init_commit: Value,
    security_options: [&'static str; 0],
    #[serde(rename = "CDISpecDirs")]
    cdi_spec_dirs: [&'static str; 0],
    #[serde(flatten)]
    bridge: Option<Bridge>,
    /// Never null: old clients then make up warnings of their own.
    warnings: Vec<String>,
}

/// We run no containers and keep no images.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Containers {
    containers: u32,
    containers_running: u32,
    containers_paused: u32,
    containers_stopped: u32,
    images: u32,
    driver: &'static str,
    driver_status: [[&'static str; 2]; 0],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Plugins {
    volume: Vec<String>,
    network: [&'static str; 0],
    authorization: Option<()>,
    log: [&'static str; 0],
}

/// Limits that containers could be given.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Limits {
    memory_limit: bool,
    swap_limit: bool,
    cpu_cfs_period: bool,
    cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    cpu_set: bool,
    pids_limit: bool,
    oom_kill_disable: bool,
}

/// Fields that are gone since API 1.50.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Bridge {
    bridge_nf_iptables: bool,
    #[serde(rename = "BridgeNfIp6tables")]
    bridge_nf_ip6tables: bool,
}

/// What dockerd says of a commit it does not know.
const UNKNOWN_COMMIT: &str = "N/A";

/// `GET /info`
pub(in crate::api) async fn info(State(rooms): State<Rooms>, version: ApiVersion) -> Result<Response<Body>> {
    let facts = &rooms.facts;
    let machine = &facts.machine;
    let mut volume = plugins::enabled_volume_drivers(&rooms).await;
    volume.push("local".to_owned());
    volume.sort();
    let info = Info {
        id: &facts.id,
        containers: Containers::default(),
        plugins: Plugins { volume, network: [], authorization: None, log: [] },
        limits: Limits::default(),
        ipv4_forwarding: machine.forwards_ipv4,
        debug: facts.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        n_goroutines: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        n_events_listener: rooms.listeners.count(),
        system_time: jiff::Timestamp::now().to_string(),
        logging_driver: "",
        cgroup_driver: "cgroupfs",
        cgroup_version: machine.cgroup_version,
        kernel_version: &machine.kernel,
        operating_system: &machine.system,
        os_version: &machine.system_version,
        os_type: "linux",
        architecture: &machine.architecture,
        index_server_address: "https://index.docker.io/v1/",
        registry_config: registry_config(version),
        processors: machine.processors,
        mem_total: machine.memory_bytes,
        generic_resources: None,
        docker_root_dir: &facts.data_root,
        http_proxy: "",
        https_proxy: "",
        no_proxy: "",
        name: &machine.name,
        labels: [],
        experimental_build: false,
        server_version: VERSION,
        runtimes: facts
            .runtimes
            .iter()
            .map(|(name, path)| (name.as_str(), json!({ "path": path })))
            .collect(),
        default_runtime: &facts.default_runtime,
        swarm: json!({
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        }),
        live_restore_enabled: facts.live_restore,
        isolation: "",
        init_binary: "",
        containerd_commit: commit(version),
        runc_commit: commit(version),
        init_commit: commit(version),
        security_options: [],
        cdi_spec_dirs: [],
        bridge: (version < ApiVersion::v1(50)).then(Bridge::default),
        warnings: warnings(facts),
    };
    Ok(reply::ok(&info))
}

/// A commit; until API 1.49 also which one was expected.
fn commit(version: ApiVersion) -> Value {
    if version < ApiVersion::v1(49) {
        json!({ "ID": UNKNOWN_COMMIT, "Expected": UNKNOWN_COMMIT })
    } else {
        json!({ "ID": UNKNOWN_COMMIT })
    }
}

/// No registry is configured; until API 1.47 two fields more said so.
fn registry_config(version: ApiVersion) -> Value {
    let mut config = json!({ "InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": [] });
    if version < ApiVersion::v1(47)
        && let Some(config) = config.as_object_mut()
    {
        for key in ["AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"] {
            config.insert(key.to_owned(), Value::Null);
        }
    }
    config
}

/// What an operator should know.
fn warnings(facts: &Facts) -> Vec<String> {
    let open = facts.addresses.iter().filter_map(|address| address.strip_prefix("tcp://"));
    let warning = |address| {
        format!(
            "WARNING: API is accessible on http://{address} without encryption.\n         Access to the remote API is \
             equivalent to root access on the host."
        )
    };
    open.map(warning).collect()
}
