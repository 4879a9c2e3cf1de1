//! `GET /info`: what `docker info` prints about the server.
//!
//! All of Docker's fields are there, with zeros where they tell of containers and images, which only an engine has.

use std::collections::BTreeMap;
use std::path::Path;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Facts, together};
use crate::api::error::{Failure, Result};
use crate::api::version::ApiVersion;
use crate::api::{Rooms, VERSION, plugins, reply};
use crate::engine;
use crate::error::chain;
use crate::registry::{DOCKER_IO, Hosts};

/// Docker's `Info`, as far as there is something to tell; the rest is in [`zeros`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    plugins: Value,
    #[serde(rename = "IPv4Forwarding")]
    ipv4_forwarding: bool,
    debug: bool,
    n_fd: usize,
    n_goroutines: usize,
    n_events_listener: usize,
    system_time: String,
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
    docker_root_dir: &'a Path,
    name: &'a str,
    server_version: &'static str,
    runtimes: BTreeMap<&'a str, Value>,
    default_runtime: &'a str,
    swarm: Value,
    live_restore_enabled: bool,
    containerd_commit: Value,
    runc_commit: Value,
    init_commit: Value,
    /// Never null: old clients then make up warnings of their own.
    warnings: Vec<String>,
    #[serde(flatten)]
    zeros: Value,
}

/// What dockerd says of a commit it does not know.
const UNKNOWN_COMMIT: &str = "N/A";

/// `GET /info`
pub(in crate::api) async fn info(State(rooms): State<Rooms>, version: ApiVersion) -> Result<Response<Body>> {
    let engine = rooms.face.ask(version, "/info").await;
    let mut own = own(&rooms, version)?;
    Ok(reply::ok(&match engine {
        Some(Ok(engine)) => together::info(own, engine),
        // Nobody has said that there must be one.
        Some(Err(engine::Error::Nowhere)) | None => own,
        Some(Err(error)) => {
            if let Some(warnings) = own["Warnings"].as_array_mut() {
                warnings.push(format!("WARNING: {}", chain(&error)).into());
            }
            own
        }
    }))
}

/// What we say of ourselves.
fn own(rooms: &Rooms, version: ApiVersion) -> Result<Value> {
    let facts = &rooms.facts;
    let machine = &facts.machine;
    let mut volume = plugins::enabled_volume_drivers(rooms);
    // As dockerd, those that were used, or listed, and not those that might be found.
    volume.extend(rooms.volumes.legacy_drivers());
    volume.push("local".to_owned());
    volume.sort();
    let info = Info {
        id: &facts.id,
        plugins: json!({ "Volume": volume, "Network": [], "Authorization": null, "Log": [] }),
        ipv4_forwarding: machine.forwards_ipv4,
        debug: facts.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        n_goroutines: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        n_events_listener: rooms.listeners.count(),
        system_time: jiff::Timestamp::now().to_string(),
        cgroup_driver: "cgroupfs",
        cgroup_version: machine.cgroup_version,
        kernel_version: &machine.kernel,
        operating_system: &machine.system,
        os_version: &machine.system_version,
        os_type: "linux",
        architecture: &machine.architecture,
        index_server_address: "https://index.docker.io/v1/",
        registry_config: registry_config(&rooms.hosts, version),
        processors: machine.processors,
        mem_total: machine.memory_bytes,
        docker_root_dir: &facts.data_root,
        name: &machine.name,
        server_version: VERSION,
        runtimes: facts
            .runtimes
            .iter()
            .map(|(name, path)| (name.as_str(), json!({ "path": path })))
            .collect(),
        default_runtime: rooms.plugins.runtime(),
        swarm: json!({
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        }),
        live_restore_enabled: facts.live_restore,
        containerd_commit: commit(version),
        runc_commit: commit(version),
        init_commit: commit(version),
        warnings: warnings(facts),
        zeros: zeros(version),
    };
    serde_json::to_value(&info).map_err(|error| Failure::unwritten(&error))
}

/// What tells of containers, images and limits for them; and what we have no setting for.
fn zeros(version: ApiVersion) -> Value {
    let mut zeros = json!({
        "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0, "ContainersStopped": 0, "Images": 0,
        "Driver": "", "DriverStatus": [], "LoggingDriver": "",
        "MemoryLimit": false, "SwapLimit": false, "CpuCfsPeriod": false, "CpuCfsQuota": false, "CPUShares": false,
        "CPUSet": false, "PidsLimit": false, "OomKillDisable": false,
        "GenericResources": null, "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Labels": [],
        "ExperimentalBuild": false, "Isolation": "", "InitBinary": "", "SecurityOptions": [], "CDISpecDirs": [],
    });
    if version < ApiVersion::v1(50) {
        zeros["BridgeNfIptables"] = json!(false);
        zeros["BridgeNfIp6tables"] = json!(false);
    }
    zeros
}

/// A commit; until API 1.49 also which one was expected.
fn commit(version: ApiVersion) -> Value {
    if version < ApiVersion::v1(49) {
        json!({ "ID": UNKNOWN_COMMIT, "Expected": UNKNOWN_COMMIT })
    } else {
        json!({ "ID": UNKNOWN_COMMIT })
    }
}

/// How registries are reached; until API 1.47 two fields more.
fn registry_config(hosts: &Hosts, version: ApiVersion) -> Value {
    let mirrors: Vec<_> = hosts.mirrors().collect();
    let index = |name: &str, mirrors: &[String], is_official: bool| json!({ "Name": name, "Mirrors": mirrors, "Secure": is_official, "Official": is_official });
    let mut indexes = BTreeMap::from([(DOCKER_IO, index(DOCKER_IO, &mirrors, true))]);
    // That localhost is one of them nobody has configured.
    let named = hosts.insecure_names().filter(|name| *name != "localhost");
    indexes.extend(named.map(|name| (name, index(name, &[], false))));
    let networks: Vec<_> = hosts.insecure_networks().collect();
    let mut config =
        json!({ "InsecureRegistryCIDRs": networks, "IndexConfigs": indexes, "Mirrors": mirrors });
    if version < ApiVersion::v1(47) {
        config["AllowNondistributableArtifactsCIDRs"] = Value::Null;
        config["AllowNondistributableArtifactsHostnames"] = Value::Null;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_versions_get_the_fields_they_had() {
        let keys = |value: Value| value.as_object().unwrap().len();
        let (old, new) = (ApiVersion::v1(46), ApiVersion::v1(51));
        assert_eq!(keys(zeros(old)), keys(zeros(new)) + 2);
        let hosts = Hosts::default();
        assert_eq!(keys(registry_config(&hosts, old)), keys(registry_config(&hosts, new)) + 2);
        assert_eq!(commit(old)["Expected"], UNKNOWN_COMMIT);
        assert_eq!(commit(new)["Expected"], Value::Null);
    }

    #[test]
    fn registries_are_told_as_they_were_configured() {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let hosts = Hosts::new(&own(&["10.0.0.0/8", "reg.lan:5000"]), &own(&["https://m.example"])).unwrap();
        let told = registry_config(&hosts, ApiVersion::v1(51));
        assert_eq!(told["InsecureRegistryCIDRs"], json!(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]));
        assert_eq!(told["Mirrors"], json!(["https://m.example/"]));
        let index = |name: &str| told["IndexConfigs"][name].clone();
        let official =
            json!({"Name": "docker.io", "Mirrors": ["https://m.example/"], "Secure": true, "Official": true});
        assert_eq!(index("docker.io"), official);
        let insecure = json!({"Name": "reg.lan:5000", "Mirrors": [], "Secure": false, "Official": false});
        assert_eq!(index("reg.lan:5000"), insecure);
        assert_eq!(told["IndexConfigs"].as_object().unwrap().len(), 2);
    }
}
