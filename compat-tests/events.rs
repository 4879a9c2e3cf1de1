//! The stream of events: what is told, in which order, with which attributes.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Connection;
use crate::support::process;

/// Reads events until `last` has come, each as (type, action, id, attributes).
fn follow(stream: &mut Connection, last: (&str, &str)) -> Vec<(String, String, String, Value)> {
    let mut seen = vec![];
    let mut pending = String::new();
    loop {
        let chunk = stream.chunk().unwrap().expect("the stream goes on");
        pending += std::str::from_utf8(&chunk).unwrap();
        while let Some((line, rest)) = pending.split_once('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            assert_eq!(event["scope"], "local", "{event}");
            assert_eq!(event["timeNano"].as_i64().unwrap() / 1_000_000_000, event["time"].as_i64().unwrap());
            let (kind, action) = (text(&event["Type"]), text(&event["Action"]));
            let end = (kind.as_str(), action.as_str()) == last;
            seen.push((kind, action, text(&event["Actor"]["ID"]), event["Actor"]["Attributes"].clone()));
            pending = rest.to_owned();
            if end {
                return seen;
            }
        }
    }
}

/// A stream of events that has begun: its headers are here.
fn listen(daemon: &Daemon, query: &str) -> Connection {
    let mut stream = daemon.http().open().unwrap();
    stream.write(format!("GET /events{query} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes()).unwrap();
    let (status, headers) = stream.head().unwrap();
    assert_eq!(status, 200);
    assert!(
        headers.contains(&("Content-Type".into(), "application/json".into())) || daemon.is_ours(),
        "{headers:?}"
    );
    stream
}

#[test]
fn a_plugins_life_and_its_volumes_are_told_in_order() {
    let daemon = Daemon::start();
    let http = daemon.http();
    let mut stream = listen(&daemon, "");
    daemon.run("tiny", &daemon.tiny());
    let id = http.look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.volume(&json!({"Name": "t1", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    assert_eq!(http.ask("DELETE", "/volumes/t1").status, 204);
    assert_eq!(http.ask("DELETE", "/volumes/v1").status, 204);
    assert_eq!(http.ask("POST", "/plugins/tiny/disable").status, 200);
    assert_eq!(http.ask("DELETE", "/plugins/tiny").status, 200);

    let seen = follow(&mut stream, ("plugin", "remove"));
    let told: Vec<_> =
        seen.iter().map(|(kind, action, id, _)| (kind.as_str(), action.as_str(), id.as_str())).collect();
    let mut expected = vec![
        ("plugin", "create", id.as_str()),
        ("plugin", "start", &id),
        ("plugin", "enable", &id),
        ("volume", "create", "t1"),
        ("volume", "create", "v1"),
        ("volume", "destroy", "t1"),
        ("volume", "destroy", "v1"),
        ("plugin", "die", &id),
        ("plugin", "disable", &id),
        ("plugin", "remove", &id),
    ];
    if !daemon.is_ours() {
        expected.retain(|(_, action, _)| !["start", "die"].contains(action));
    }
    assert_eq!(told, expected);
    let attributes = |kind: &str, action: &str, place: usize| {
        let all = seen.iter().filter(|event| (event.0.as_str(), event.1.as_str()) == (kind, action));
        all.map(|event| event.3.clone()).nth(place).unwrap()
    };
    assert_eq!(attributes("plugin", "create", 0), json!({"name": "tiny:latest"}));
    assert_eq!(attributes("volume", "create", 0), json!({"driver": "tiny:latest"}));
    assert_eq!(attributes("volume", "create", 1), json!({"driver": "local"}));
    if daemon.is_ours() {
        assert_eq!(attributes("plugin", "die", 0), json!({"name": "tiny:latest", "exitCode": "0"}));
    }
}

#[test]
fn a_plugin_that_dies_is_told_to_die_and_to_start_again() {
    let Some(daemon) = Daemon::ours() else { return };
    let filter = "?filters=%7B%22event%22%3A%5B%22start%22%2C%22die%22%2C%22restart%22%5D%7D";
    let mut stream = listen(&daemon, filter);
    daemon.run("tiny", &daemon.tiny());
    let first = follow(&mut stream, ("plugin", "start"));
    let pid = first[0].3["pid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.http().look("/plugins/tiny/json")["State"]["Pid"].to_string(), pid);
    process::send(pid.parse().unwrap(), Signal::SIGKILL);
    let seen = follow(&mut stream, ("plugin", "start"));
    let told: Vec<_> =
        seen.iter().map(|(_, action, _, attributes)| (action.as_str(), attributes.clone())).collect();
    assert_eq!(told[0], ("die", json!({"name": "tiny:latest", "exitCode": "137"})));
    assert_eq!(told[1], ("restart", json!({"name": "tiny:latest", "restarts": "1"})));
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn events_that_have_passed_are_told_on_request() {
    let daemon = Daemon::start();
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "v2"})).status, 201);
    let filters = "%7B%22volume%22%3A%5B%22v2%22%5D%7D";
    let mut stream = listen(&daemon, &format!("?since=1&filters={filters}"));
    let seen = follow(&mut stream, ("volume", "create"));
    assert_eq!(seen, [("volume".into(), "create".into(), "v2".into(), json!({"driver": "local"}))]);
}

#[test]
fn a_stream_with_an_end_in_the_past_ends() {
    let daemon = Daemon::start();
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    let answer = daemon.http().ask("GET", "/events?since=1&until=2");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
}

#[test]
fn a_prune_is_told_when_it_is_over() {
    let daemon = Daemon::start();
    let mut stream = listen(&daemon, "?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D");
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    assert_eq!(daemon.http().ask("POST", "/v1.41/volumes/prune").status, 200);
    let seen = follow(&mut stream, ("volume", "prune"));
    let actions: Vec<_> = seen.iter().map(|(_, action, id, _)| (action.as_str(), id.as_str())).collect();
    // dockerd 20.10 tells of no volume that is pruned, moby's main branch does.
    let expected = [("create", "v1"), ("destroy", "v1"), ("prune", "")];
    assert!(actions == expected || !daemon.is_ours() && actions == [expected[0], expected[2]], "{actions:?}");
    assert_eq!(seen.last().unwrap().3, json!({"reclaimed": "0"}));
}

#[test]
fn times_and_filters_that_are_none_are_refused() {
    let daemon = Daemon::start();
    let table = [
        ("since=x&until=0", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("since=2&until=1", "`since` time (2) cannot be after `until` time (1)"),
        ("since=1&until=2&filters=x", "invalid character 'x' looking for beginning of value"),
    ];
    for (query, message) in table {
        let answer = daemon.http().ask("GET", &format!("/events?{query}"));
        daemon.assert_refused(&answer, 400, message);
    }
}

#[test]
fn the_cli_shows_events() {
    let daemon = Daemon::start();
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    let until = daemon.http().look("/info")["SystemTime"].as_str().unwrap().to_owned();
    let arguments =
        ["events", "--since", "1", "--until", &until, "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"];
    assert_eq!(daemon.docker().ok(&arguments), "volume create v1");
}
