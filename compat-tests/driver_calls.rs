//! What arrives at a volume plugin's socket: the calls a real dockerd makes, with its headers and bodies.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;

/// One call as the plugin read it.
#[derive(Debug, PartialEq)]
struct Call {
    line: String,
    headers: Vec<String>,
    body: Value,
}

/// All calls since the last look. Capabilities is left out: how often it is asked is nobody's business.
fn calls(daemon: &Daemon) -> Vec<Call> {
    let file = daemon.record().join("calls");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(&file);
    let mut calls = vec![];
    for block in text.split("\nPOST ").map(|b| b.trim_start_matches("POST ")).filter(|b| !b.trim().is_empty())
    {
        let mut lines = block.lines().map(str::trim_end).filter(|l| !l.is_empty());
        let line = lines.next().unwrap().to_owned();
        let (body, headers): (Vec<&str>, Vec<&str>) = lines.partition(|l| l.starts_with('{'));
        let mut body: Value = serde_json::from_str(body[0]).unwrap();
        // No options are null for dockerd and an empty object for us; a plugin cannot tell them apart.
        if body["Opts"].is_null() && body.get("Opts").is_some() {
            body["Opts"] = json!({});
        }
        calls.push(Call { line, headers: headers.into_iter().map(String::from).collect(), body });
    }
    calls.retain(|call| !call.line.contains("Capabilities"));
    calls
}

/// Those that change something, in short.
fn changes(daemon: &Daemon) -> Vec<(String, Value)> {
    let changing = ["Create", "Remove", "Mount", "Unmount"];
    let short = |call: Call| {
        let name = call.line.strip_prefix("/VolumeDriver.")?.split(' ').next()?.to_owned();
        changing.contains(&name.as_str()).then_some((name, call.body))
    };
    calls(daemon).into_iter().filter_map(short).collect()
}

#[test]
fn a_plugin_hears_of_each_change_once_and_in_dockers_words() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(changes(&daemon), []);

    let body = json!({"Name": "t1", "Driver": "tiny", "DriverOpts": {"k": "v"}, "Labels": {"l": "1"}});
    assert_eq!(daemon.volume(&body).status, 201);
    assert_eq!(changes(&daemon), [("Create".into(), json!({"Name": "t1", "Opts": {"k": "v"}}))]);
    assert_eq!(daemon.volume(&json!({"Name": "t1", "Driver": "tiny"})).status, 201);
    assert_eq!(changes(&daemon), [], "it is there already");
    assert_eq!(daemon.volume(&json!({"Name": "t2", "Driver": "tiny"})).status, 201);
    assert_eq!(changes(&daemon), [("Create".into(), json!({"Name": "t2", "Opts": {}}))]);
    for target in ["/volumes/t1", "/volumes", "/volumes/none", "/system/df"] {
        daemon.http().ask("GET", target);
        assert_eq!(changes(&daemon), [], "{target}");
    }
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    assert_eq!(changes(&daemon), [], "a local volume is none of its business");
    assert_eq!(daemon.http().ask("POST", "/v1.41/volumes/prune").status, 200);
    assert_eq!(changes(&daemon), [], "volumes of plugins are not pruned");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/t1").status, 204);
    assert_eq!(changes(&daemon), [("Remove".into(), json!({"Name": "t1"}))]);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/none?force=1").status, 204);
    assert_eq!(changes(&daemon), []);
}

#[test]
fn calls_have_dockers_method_path_and_headers() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "t1", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.http().ask("GET", "/volumes/t1").status, 200);
    assert_eq!(daemon.http().ask("GET", "/volumes").status, 200);
    let calls = calls(&daemon);
    for wanted in ["Create", "Get", "List"] {
        assert!(
            calls.iter().any(|c| c.line == format!("/VolumeDriver.{wanted} HTTP/1.1")),
            "no {wanted} in {calls:?}"
        );
    }
    for call in &calls {
        let headers: Vec<_> = call.headers.iter().map(|h| h.to_ascii_lowercase()).collect();
        assert!(headers.contains(&"accept: application/vnd.docker.plugins.v1.2+json".to_owned()), "{call:?}");
        assert!(headers.iter().any(|h| h.starts_with("host:")), "{call:?}");
        assert!(headers.iter().any(|h| h.starts_with("content-length:")), "{call:?}");
    }
    assert!(!calls.iter().any(|c| c.line.contains("Activate")), "ready means: a connect succeeds");
}

#[test]
fn an_anonymous_volume_has_its_name_before_the_plugin_hears_of_it() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let name = daemon.volume(&json!({"Driver": "tiny"})).json()["Name"].clone();
    assert_eq!(changes(&daemon), [("Create".into(), json!({"Name": name, "Opts": {}}))]);
}
