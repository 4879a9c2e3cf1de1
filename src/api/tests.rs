//! The whole API in memory: what a client sends, and the status, headers and body it gets. The rooms are real.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::router::Api;
use super::{Face, Facts, Listeners, Machine, Rooms, VERSION};
use crate::drivers::Drivers;
use crate::events::{Bus, Event, Type};
use crate::paths::{DataRoot, ExecRoot};
use crate::plugins::{self, Plugins};
use crate::runtime::{Launcher, RuntimeProgram};
use crate::state::Store;
use crate::volumes::{Roots, Volumes};
use crate::{content, layer};

mod plugin_routes;
mod spec;

/// The API on rooms of its own, and the directory they live in.
pub(super) struct Stage {
    pub(super) rooms: Rooms,
    api: Api,
    _directory: tempfile::TempDir,
}

/// What a client sees.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Stage {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state.redb")).unwrap();
        let (events, drivers) = (Bus::new(), Drivers::new());
        let path = directory.path();
        let directories = Roots { local: path.join("volumes"), mounts: path.join("mounts") };
        let volumes = Volumes::open(store.clone(), drivers.clone(), events.clone(), &directories).unwrap();
        // Nothing is started here, so any program will do.
        let program = RuntimeProgram::find("true", &std::env::var_os("PATH").unwrap()).unwrap();
        let plugins = Plugins::open(plugins::Parts {
            data: DataRoot::new(path.join("data")),
            exec: ExecRoot::new(path.join("exec")),
            store,
            content: content::Store::open(&path.join("content")).unwrap(),
            events: events.clone(),
            drivers,
            launcher: Launcher::new("/bin/true".into(), Arc::new(program), path.join("runtime")),
            hosts: Arc::default(),
            backoff: plugins::Backoff::default(),
            live_restore: true,
            seccomp: plugins::spec::seccomp::Profile::Builtin,
            limits: layer::Limits::default(),
            version: String::new(),
        })
        .unwrap();
        let facts = Facts {
            redact_env: Vec::new(),
            id: "abc".to_owned(),
            debug: false,
            live_restore: true,
            data_root: directory.path().to_owned(),
            runtimes: BTreeMap::from([("runc".to_owned(), "/usr/bin/runc".into())]),
            addresses: vec!["unix:///x".to_owned(), "tcp://0.0.0.0:2375".to_owned()],
            machine: Machine::ask(),
        };
        let rooms = Rooms {
            plugins,
            hosts: Arc::default(),
            volumes,
            containers: None,
            face: Face::default(),
            events,
            facts: Arc::new(facts),
            listeners: Listeners::default(),
            closing: CancellationToken::new(),
        };
        Self { api: Api::new(rooms.clone()), rooms, _directory: directory }
    }

    /// Sends a request; a body says that it is JSON.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request =
            if body.is_empty() { request } else { request.header("Content-Type", "application/json") };
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Expects an error whose message begins like this.
    pub(super) async fn refuses(&self, (method, path, body): (&str, &str, &str), status: u16, message: &str) {
        let answer = self.ask(method, path, body).await;
        let told = answer.json()["message"].as_str().unwrap().to_owned();
        let asked = format!("{method} {path} {body}");
        assert_eq!(answer.status, status, "{asked}: {told}");
        assert!(told.starts_with(message), "{asked}: got {told:?}, expected {message:?}");
    }

    pub(super) async fn send(&self, request: Request) -> Answer {
        let response = self.api.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

impl Answer {
    /// The body as JSON; it must end in a newline and say what it is.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        assert!(self.body.ends_with('\n'), "{:?}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn every_answer_says_who_speaks_and_which_version() {
    let stage = Stage::new();
    for (method, path, status) in [
        ("GET", "/_ping", 200),
        ("HEAD", "/_ping", 200),
        ("HEAD", "/v1.30/_ping", 200),
        ("OPTIONS", "/whatever", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v1.51", 404),
        ("HEAD", "/info", 404),
        ("PUT", "/info", 404),
        ("GET", "/v1.24/info", 200),
        ("GET", "/v1.52/info", 400),
        ("GET", "/v1.52/nowhere", 404),
        ("GET", "/v1.52/containers/json", 400),
        ("GET", "/v1.23/_ping", 400),
        ("GET", "/containers/json", 501),
        ("POST", "/v1.41/images/create?fromImage=x", 501),
        ("GET", "/networks", 501),
        ("GET", "/containersx", 404),
    ] {
        let answer = stage.ask(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.headers["api-version"], "1.51", "{method} {path}");
        assert_eq!(answer.headers["server"], format!("Docker/{VERSION} (linux)"));
        assert_eq!(answer.headers["ostype"], "linux");
        assert_eq!(answer.headers["docker-experimental"], "false");
        assert!(!answer.headers.contains_key("allow"));
    }
    assert_eq!(stage.ask("PUT", "/info", "").await.body, "{\"message\":\"page not found\"}\n");
    let old = stage.ask("GET", "/v1.23/info", "").await;
    assert_eq!(old.headers["content-type"], "text/plain; charset=utf-8");
    assert!(old.body.starts_with("client version 1.23 is too old."));
}

#[tokio::test]
async fn every_answer_is_counted_once_under_its_route() {
    let stage = Stage::new();
    for (method, path, route, class) in [
        ("GET", "/_ping", "/_ping", "2xx"),
        ("HEAD", "/v1.30/_ping", "/_ping", "2xx"),
        ("GET", "/v1.23/_ping", "/_ping", "4xx"),
        ("GET", "/plugins", "/plugins", "2xx"),
        ("GET", "/v1.41/plugins/me/p/json", "/plugins/{name}/json", "4xx"),
        ("GET", "/plugins/", "unmatched", "4xx"),
        ("GET", "/volumes", "/volumes", "2xx"),
        ("GET", "/volumes/a", "/volumes/{name}", "4xx"),
        ("PATCH", "/volumes/a", "/volumes/{name}", "4xx"),
        ("POST", "/volumes/a%2Fmount", "/volumes/{name}/mount", "4xx"),
        ("POST", "/volumes/prune", "/volumes/prune", "2xx"),
        ("GET", "/containers/json", "/containers", "5xx"),
        ("GET", "/containers", "/containers", "5xx"),
        ("OPTIONS", "/volumes", "unmatched", "2xx"),
        ("HEAD", "/volumes", "unmatched", "4xx"),
        ("GET", "/volumesx", "unmatched", "4xx"),
    ] {
        let counted = || stage.api.requests().counts();
        let of_route = |counts: Vec<crate::metrics::Answered>| {
            let found = counts.into_iter().find(|count| (count.route, count.status) == (route, class));
            found.map_or(0, |count| count.count)
        };
        let sum = |counts: &[crate::metrics::Answered]| counts.iter().map(|count| count.count).sum::<u64>();
        let before = counted();
        stage.ask(method, path, "").await;
        assert_eq!(sum(&counted()), sum(&before) + 1, "{method} {path}");
        assert_eq!(of_route(counted()), of_route(before) + 1, "{method} {path}: {:?}", counted());
    }
}

#[tokio::test]
async fn a_ping_has_dockerds_headers() {
    let stage = Stage::new();
    let get = stage.ask("GET", "/_ping", "").await;
    let head = stage.ask("HEAD", "/_ping", "").await;
    assert_eq!((get.body.as_str(), head.body.as_str()), ("OK", ""));
    for answer in [get, head] {
        assert_eq!(answer.headers["cache-control"], "no-cache, no-store, must-revalidate");
        assert_eq!(answer.headers["pragma"], "no-cache");
        assert_eq!(answer.headers["builder-version"], "2");
        assert_eq!(answer.headers["swarm"], "inactive");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn version_and_info_tell_about_us() {
    let stage = Stage::new();
    let version = stage.ask("GET", "/version", "").await.json();
    assert_eq!(version["Platform"]["Name"], "Dockplug");
    assert_eq!(version["ApiVersion"], "1.51");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Components"][0]["Name"], "Engine");
    assert_eq!(version["Components"][0]["Details"]["ApiVersion"], "1.51");
    let info = stage.ask("GET", "/info", "").await.json();
    assert_eq!(info["ID"], "abc");
    assert_eq!(info["Plugins"]["Volume"], json!(["local"]));
    assert_eq!(info["Runtimes"], json!({ "runc": { "path": "/usr/bin/runc" } }));
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["LiveRestoreEnabled"], true);
    assert_eq!(info["Warnings"].as_array().unwrap().len(), 1);
    assert!(info["Warnings"][0].as_str().unwrap().contains("http://0.0.0.0:2375 without encryption"));
    assert!(info["MemTotal"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_volume_is_made_shown_counted_and_removed() {
    let stage = Stage::new();
    let request = r#"{"Name": "alpha", "Labels": {"a": "b"}}"#;
    let created = stage.ask("POST", "/volumes/create", request).await;
    assert_eq!(created.status, 201);
    let volume = created.json();
    assert_eq!(
        (&volume["Name"], &volume["Driver"], &volume["Scope"]),
        (&json!("alpha"), &json!("local"), &json!("local"))
    );
    assert_eq!((&volume["Labels"], &volume["Options"]), (&json!({ "a": "b" }), &Value::Null));
    assert_eq!(stage.ask("GET", "/v1.41/volumes/alpha", "").await.json(), volume);

    let listed = stage.ask("GET", "/volumes?filters=%7B%22label%22%3A%5B%22a%22%5D%7D", "").await.json();
    assert_eq!(listed, json!({ "Volumes": [volume], "Warnings": null }));
    let other =
        stage.ask("GET", "/volumes?filters=%7B%22label%22%3A%7B%22z%22%3Atrue%7D%7D", "").await.json();
    assert_eq!(other, json!({ "Volumes": [], "Warnings": null }));

    let usage = stage.ask("GET", "/system/df?type=volume", "").await.json();
    assert_eq!(usage["Volumes"][0]["UsageData"]["RefCount"], 0);
    assert_eq!(usage.as_object().unwrap().keys().collect::<Vec<_>>(), ["LayersSize", "Volumes"]);

    // Since 1.42 a prune leaves what has a name.
    let pruned = stage.ask("POST", "/v1.42/volumes/prune", "").await.json();
    assert_eq!(pruned, json!({ "VolumesDeleted": [], "SpaceReclaimed": 0 }));
    let removed = stage.ask("DELETE", "/volumes/alpha", "").await;
    assert_eq!((removed.status, removed.body.as_str()), (204, ""));
    assert_eq!(stage.ask("DELETE", "/volumes/alpha", "").await.status, 404);
    assert_eq!(stage.ask("DELETE", "/volumes/alpha?force=1", "").await.status, 204);

    stage.ask("POST", "/volumes/create", r#"{"Name": "beta"}"#).await;
    let pruned = stage.ask("POST", "/v1.41/volumes/prune", "").await.json();
    assert_eq!(pruned["VolumesDeleted"], json!(["beta"]));
}

#[tokio::test]
async fn what_is_wrong_with_a_volume_is_told_as_dockerd_tells_it() {
    let stage = Stage::new();
    let long = "x".repeat(300);
    for (method, path, body, status, message) in [
        ("GET", "/volumes/nope", "", 404, "get nope: no such volume"),
        ("GET", "/volumes/create", "", 404, "get create: no such volume"),
        (
            "PUT",
            "/volumes/x",
            "",
            503,
            "volume update only valid for cluster volumes, but swarm is unavailable",
        ),
        ("PUT", "/v1.41/volumes/x", "", 400, "PUT /volumes/{name:.*} requires minimum API version 1.42"),
        ("POST", "/v1.24/volumes/prune", "", 400, "POST /volumes/prune requires minimum API version 1.25"),
        ("GET", "/volumes?filters=x", "", 400, "error reading volume filters: invalid character 'x' looking"),
        ("GET", "/volumes?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", "", 400, "Invalid filter 'x'"),
        ("GET", "/volumes?a=%zz", "", 400, "invalid URL escape \"%zz\""),
        ("POST", "/volumes/create", "{", 400, "unexpected EOF"),
        (
            "POST",
            "/volumes/create",
            r#"{"Name": 5}"#,
            400,
            "json: cannot unmarshal number into Go struct field VolumeCreateBody.Name of type string",
        ),
        (
            "POST",
            "/volumes/create",
            r#"{"ClusterVolumeSpec": {}}"#,
            503,
            "This node is not a swarm manager. Use \"docker swarm init\"",
        ),
        ("POST", "/volumes", "", 404, "page not found"),
        ("GET", "/system/df?type=x", "", 400, "unknown object type: x"),
        (
            "POST",
            "/auth",
            r#"{"password": 1234}"#,
            400,
            "invalid X-Registry-Auth header: invalid JSON: expected an object of strings",
        ),
        ("GET", "/events?since=x", "", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("GET", &format!("/volumes/{long}"), "", 404, &format!("get {long}: no such volume")),
    ] {
        stage.refuses((method, path, body), status, message).await;
    }
}

#[tokio::test]
async fn events_are_told_from_the_past_and_live_until_the_daemon_ends() {
    let stage = Stage::new();
    let bus = stage.rooms.events.clone();
    bus.publish(Event::new(Type::Volume, "create", "early"));
    let past = stage.ask("GET", "/events?since=0&until=1", "").await;
    assert_eq!((past.status, past.body.as_str()), (200, ""));

    let request = Request::builder().uri("/v1.41/events?since=1").body(Body::empty()).unwrap();
    let response = stage.api.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(stage.rooms.listeners.count(), 1);
    bus.publish(Event::new(Type::Plugin, "enable", "late"));
    let mut body = response.into_body().into_data_stream();
    for (kind, id) in [("volume", "early"), ("plugin", "late")] {
        let line = futures_util::StreamExt::next(&mut body).await.unwrap().unwrap();
        let event: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&event["Type"], &event["Actor"]["ID"]), (&json!(kind), &json!(id)));
    }
    stage.rooms.closing.cancel();
    assert!(futures_util::StreamExt::next(&mut body).await.is_none());
    drop(body);
    assert_eq!(stage.rooms.listeners.count(), 0);
}
