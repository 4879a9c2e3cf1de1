//! Pruning volumes: by dockerd's rules for each API version, and of plugins that are named.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::{process, until};

/// `POST /volumes/prune` of an API version, with filters.
fn prune(daemon: &Daemon, version: &str, filters: &Value) -> Answer {
    let quote =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    let filters: String = filters.to_string().bytes().map(quote).collect();
    daemon.http().ask("POST", &format!("/{version}/volumes/prune?filters={filters}"))
}

/// The names that are gone, sorted.
fn pruned(daemon: &Daemon, version: &str, filters: &Value) -> Vec<String> {
    let answer = prune(daemon, version, filters);
    assert_eq!(answer.status, 200, "{filters}: {}", answer.text());
    let deleted = answer.json()["VolumesDeleted"].clone();
    let mut names: Vec<String> = serde_json::from_value(deleted).unwrap();
    names.sort();
    names
}

fn create(daemon: &Daemon, body: &Value) -> Value {
    let answer = daemon.volume(body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

#[test]
fn prune_takes_what_nobody_uses_and_tells_how_much() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let full = daemon.volume(&json!({})).json();
    fs::write(format!("{}/file", full["Mountpoint"].as_str().unwrap()), vec![b'x'; 12_345]).unwrap();
    assert_eq!(daemon.volume(&json!({"Name": "kept", "Labels": {"keep": "1"}})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "ofplugin", "Driver": "tiny"})).status, 201);

    // The version is pinned: from 1.42 on, only anonymous volumes are pruned by default.
    let answer =
        daemon.http().ask("POST", "/v1.41/volumes/prune?filters=%7B%22label%21%22%3A%5B%22keep%22%5D%7D");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({"VolumesDeleted": [full["Name"]], "SpaceReclaimed": 12_345}));
    let answer =
        daemon.http().ask("POST", "/v1.41/volumes/prune?filters=%7B%22label%22%3A%5B%22nope%22%5D%7D");
    assert_eq!(answer.text(), "{\"VolumesDeleted\":[],\"SpaceReclaimed\":0}\n");
    assert_eq!(daemon.http().ask("GET", "/volumes/kept").status, 200);
    assert_eq!(daemon.http().ask("GET", "/volumes/ofplugin").status, 200);
}

#[test]
fn from_1_42_on_only_anonymous_volumes_unless_all_are_wanted() {
    let Some(daemon) = Daemon::ours() else { return };
    let make = || {
        create(&daemon, &json!({"Name": "named", "Labels": {"a": "1", "b": "2"}}));
        create(&daemon, &json!({"Name": "mounted", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}));
        create(&daemon, &json!({"Labels": {"a": "1"}}))["Name"].as_str().unwrap().to_owned()
    };
    for version in ["v1.42", "v1.50"] {
        let anonymous = make();
        assert_eq!(pruned(&daemon, version, &json!({"label": ["a=2"]})), [""; 0]);
        assert_eq!(pruned(&daemon, version, &json!({"label!": ["a"]})), [""; 0]);
        assert_eq!(pruned(&daemon, version, &json!({"all": ["0"]})), [anonymous.as_str()]);
        assert_eq!(pruned(&daemon, version, &json!({})), [""; 0]);
        // A volume stays that has all of them.
        assert_eq!(pruned(&daemon, version, &json!({"all": ["1"], "label!": ["a=1", "b=2"]})), [""; 0]);
        assert_eq!(pruned(&daemon, version, &json!({"all": ["1"], "label": ["a", "b=3"]})), [""; 0]);
        assert_eq!(pruned(&daemon, version, &json!({"all": ["true"], "label!": ["a=2"]})), ["named"]);
    }
    let anonymous = make();
    let mut both = [anonymous, "named".to_owned()];
    both.sort();
    assert_eq!(pruned(&daemon, "v1.41", &json!({})), both, "until 1.41 all are wanted");
    assert_eq!(
        daemon.http().ask("GET", "/volumes/mounted").status,
        200,
        "what has options is somewhere else"
    );
    let refused = prune(&daemon, "v1.41", &json!({"all": ["false"]}));
    daemon.assert_refused(&refused, 400, "Invalid filter 'all=[false true]': only one value is expected");
}

#[test]
fn volumes_of_a_plugin_are_pruned_when_it_is_named() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    daemon.run("tiny:v2", &daemon.tiny());
    let make = |name: &str, driver: &str| {
        create(&daemon, &json!({"Name": name, "Driver": driver, "DriverOpts": {"o": "1"}}))
    };
    make("kept", "tiny");
    let place = make("gone", "tiny");
    assert_eq!(place["Driver"], "tiny:latest");
    make("of-v2", "tiny:v2");
    make("used", "tiny");
    create(&daemon, &json!({"Name": "local-one"}));
    let reference = json!({"Reference": "r"});
    assert_eq!(daemon.http().json("POST", "/volumes/used/mount", &reference).status, 200);
    let anonymous =
        create(&daemon, &json!({"Driver": "docker.io/library/tiny"}))["Name"].as_str().unwrap().to_owned();
    // What nobody here has made, nobody here takes away.
    fs::create_dir(
        daemon.http().look("/volumes/gone")["Mountpoint"].as_str().unwrap().replace("/gone", "/found"),
    )
    .unwrap();
    assert_eq!(daemon.http().look("/volumes/found")["Driver"], "tiny:latest");

    assert_eq!(pruned(&daemon, "v1.50", &json!({"driver": ["tiny"]})), [anonymous.as_str()]);
    assert_eq!(daemon.http().json("POST", "/volumes/kept/mount", &reference).status, 200);
    let answer = prune(&daemon, "v1.50", &json!({"driver": ["tiny:latest"], "all": ["1"]}));
    assert_eq!(answer.json(), json!({"VolumesDeleted": ["gone"], "SpaceReclaimed": 0}));
    assert_eq!(
        pruned(&daemon, "v1.41", &json!({"driver": ["nope", "docker.io/library/tiny:v2"]})),
        ["of-v2"]
    );
    let said = daemon.docker().ok(&["volume", "prune", "-f", "-a", "--filter", "driver=tiny"]);
    assert_eq!(said, "Total reclaimed space: 0B", "what is in use stays");
    assert_eq!(daemon.docker().ok(&["volume", "ls", "-q"]), "found\nkept\nlocal-one\nused");
    for volume in ["kept", "used"] {
        assert_eq!(daemon.http().json("POST", &format!("/volumes/{volume}/unmount"), &reference).status, 204);
    }
}

#[test]
fn a_second_prune_at_the_same_time_is_a_conflict() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("hang=Remove"));
    create(&daemon, &json!({"Name": "slow", "Driver": "tiny"}));
    create(&daemon, &json!({"Name": "quick"}));
    let all = |driver: &str| json!({"driver": [driver], "all": ["1"]});
    thread::scope(|scope| {
        let first = scope.spawn(|| prune(&daemon, "v1.50", &all("tiny")));
        let calls = daemon.record().join("calls");
        until("the plugin is asked", || {
            fs::read_to_string(&calls).ok().filter(|calls| calls.contains("VolumeDriver.Remove"))
        });
        let second = prune(&daemon, "v1.50", &all("local"));
        daemon.assert_refused(&second, 409, "a prune operation is already running");
        let pid = daemon.http().look("/plugins/tiny/json")["State"]["Pid"].as_i64().unwrap();
        process::send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
        let first = first.join().unwrap();
        assert_eq!(
            first.json(),
            json!({"VolumesDeleted": [], "SpaceReclaimed": 0}),
            "what fails is left out"
        );
    });
    assert_eq!(pruned(&daemon, "v1.50", &all("local")), ["quick"]);
}

#[test]
fn a_plugin_and_its_default_tag_are_one_driver_everywhere() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    let spellings = ["tiny", "tiny:latest", "docker.io/library/tiny", "library/tiny:latest"];
    for (number, driver) in spellings.iter().enumerate() {
        let made = create(&daemon, &json!({"Name": format!("v{number}"), "Driver": driver}));
        assert_eq!(made["Driver"], "tiny:latest", "{driver}");
        let again = create(&daemon, &json!({"Name": "v0", "Driver": driver}));
        assert_eq!(again["Driver"], "tiny:latest", "{driver}: the same volume");
    }
    for driver in spellings {
        let listed = daemon.docker().ok(&["volume", "ls", "-q", "--filter", &format!("driver={driver}")]);
        assert_eq!(listed, "v0\nv1\nv2\nv3", "{driver}");
    }
    assert_eq!(daemon.docker().ok(&["volume", "ls", "-q", "--filter", "driver=tiny:v2"]), "");
    for (number, driver) in spellings.iter().enumerate() {
        let name = format!("v{number}");
        let filters = json!({"driver": [driver], "all": ["1"], "label!": ["none"]});
        assert_eq!(daemon.http().json("POST", "/volumes/v3/mount", &json!({"Reference": "r"})).status, 200);
        if number == 0 {
            assert_eq!(pruned(&daemon, "v1.50", &filters), ["v0", "v1", "v2"], "{driver}");
        } else {
            assert_eq!(pruned(&daemon, "v1.50", &filters), [""; 0], "{driver}");
            create(&daemon, &json!({"Name": name, "Driver": "tiny"}));
            let others: Vec<_> =
                pruned(&daemon, "v1.50", &filters).into_iter().filter(|name| name != "v3").collect();
            let expected: &[String] = if name == "v3" { &[] } else { std::slice::from_ref(&name) };
            assert_eq!(others, expected, "{driver}");
        }
    }
    assert_eq!(daemon.http().json("POST", "/volumes/v3/unmount", &json!({"Reference": "r"})).status, 204);
}
