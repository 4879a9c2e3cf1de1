//! Plugins that get another name, and the volumes that follow them: renamed while they run, or removed and installed anew
//! under another alias. And those that only claim a volume, which do not get it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::registry_crashes::granted;
use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::local::{act, mounted, unmount};
use crate::support::openmetrics::{self, Exposition};
use crate::support::registry::Registry;
use crate::support::{install, process, until};

fn rename(daemon: &Daemon, plugin: &str, name: &str) -> Answer {
    daemon.http().ask("POST", &format!("/plugins/{plugin}/rename?name={name}"))
}

fn create(daemon: &Daemon, name: &str, driver: &str) {
    let made = daemon.volume(&json!({"Name": name, "Driver": driver}));
    assert_eq!(made.status, 201, "{}", made.text());
}

fn driver(daemon: &Daemon, volume: &str) -> Value {
    daemon.http().look(&format!("/volumes/{volume}"))["Driver"].clone()
}

fn remove(daemon: &Daemon, plugin: &str) {
    let answer = daemon.http().ask("DELETE", &format!("/plugins/{plugin}?force=1"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// How often the tiny plugin was asked for this.
fn asked(daemon: &Daemon, call: &str) -> usize {
    let calls = fs::read_to_string(daemon.record().join("calls")).unwrap_or_default();
    calls.matches(&format!("POST /VolumeDriver.{call} ")).count()
}

/// The events so far of this kind and action, with their attributes.
fn told(daemon: &Daemon, kind: &str, action: &str) -> Vec<Value> {
    let now = jiff::Timestamp::now();
    let until = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let events = daemon.http().ask("GET", &format!("/events?since=0&until={until}")).text();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let wanted = events.filter(|event| event["Type"] == kind && event["Action"] == action);
    wanted.map(|event| event["Actor"]["Attributes"].clone()).collect()
}

#[test]
fn a_plugin_that_runs_gets_another_name_and_its_mounts_stay() {
    let published = tempfile::Builder::new().prefix("published").tempdir().unwrap();
    let directory = published.path().join("sockets").display().to_string();
    let flags = ["--publish-sockets", &directory, "--metrics-addr=127.0.0.1:0"];
    let Some(mut daemon) = Daemon::ours_with(&flags) else { return };
    daemon.run("old", &daemon.tiny().mode("talk"));
    create(&daemon, "used", "old");
    create(&daemon, "idle", "old");
    let place = mounted(&daemon, "used", "r1");
    fs::write(place.join("file"), "text").unwrap();
    let before = daemon.http().look("/plugins/old/json");

    let answer = rename(&daemon, "old", "me/new:v1");
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let after = daemon.http().look("/plugins/me/new:v1/json");
    for same in ["Id", "PluginReference", "Settings", "Config", "Enabled"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!((&after["Name"], &after["State"]["Pid"]), (&json!("me/new:v1"), &before["State"]["Pid"]));
    assert_eq!(daemon.http().ask("GET", "/plugins/old/json").status, 404);
    assert_eq!(daemon.http().look("/plugins").as_array().unwrap().len(), 1);

    for volume in ["used", "idle"] {
        assert_eq!(driver(&daemon, volume), "me/new:v1");
    }
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "text");
    assert_eq!(mounted(&daemon, "used", "r1"), place);
    assert_eq!((asked(&daemon, "Mount"), asked(&daemon, "Unmount")), (1, 0), "the plugin was not asked");
    let docker = daemon.docker();
    assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", "driver=me/new:v1"]), "idle\nused");
    let refused = docker.fails(&["volume", "create", "-d", "old", "other"]);
    let words = r#"create other: error looking up volume plugin old: plugin "old" not found"#;
    assert_eq!(refused, words, "who types the old name means no plugin");
    assert_eq!(daemon.http().ask("POST", "/plugins/me/new:v1/disable").status, 409, "volumes count on it");
    assert_eq!(daemon.http().look("/info")["Plugins"]["Volume"], json!(["local", "me/new:v1"]));

    assert_eq!(told(&daemon, "plugin", "rename"), [json!({"name": "me/new:v1", "oldName": "old:latest"})]);
    assert_eq!(told(&daemon, "volume", "update"), vec![json!({"driver": "me/new:v1"}); 2]);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("metrics listen on")).unwrap();
    let scraped = Exposition::parse(
        &openmetrics::ask(line.split_once("address=").unwrap().1, "GET", "/metrics").text(),
    );
    let created = [("driver", "me/new:v1"), ("call", "Create"), ("outcome", "ok")];
    assert_eq!(scraped.count("dockplug_volume_driver_calls_total", &created), 2, "its numbers go on");
    assert_eq!(scraped.count("dockplug_volumes", &[("driver", "me/new:v1")]), 2);
    assert!(scraped.samples().iter().all(|sample| !format!("{sample:?}").contains("old:latest")));
    let socket = |name: &str| published.path().join("sockets").join(format!("{name}.sock"));
    until("it is published under its new name", || UnixStream::connect(socket("me/new:v1")).ok());
    until("and not under its old one", || (!socket("old").exists()).then_some(()));
    assert!(
        daemon.http().ask("GET", "/plugins/me/new:v1/logs?stderr=1").text().contains("tiny: Create used")
    );

    daemon.kill();
    daemon.launch();
    until("it is found again", || (daemon.http().ask("GET", "/volumes/idle").status == 200).then_some(()));
    assert_eq!(daemon.http().look("/plugins/me/new:v1/json")["State"]["Pid"], before["State"]["Pid"]);
    unmount(&daemon, "used", "r1");
    assert_eq!((asked(&daemon, "Mount"), asked(&daemon, "Unmount")), (1, 1));
    for volume in ["used", "idle"] {
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{volume}")).status, 204);
    }
    assert_eq!(daemon.http().ask("POST", "/plugins/me/new:v1/disable").status, 200);
}

#[test]
fn a_renamed_plugin_that_dies_is_started_again_under_its_new_name() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("old", &daemon.tiny());
    create(&daemon, "data", "old");
    let place = mounted(&daemon, "data", "r1");
    assert_eq!(rename(&daemon, "old", "new").status, 204);
    let pid = daemon.http().look("/plugins/new/json")["State"]["Pid"].as_i64().unwrap();
    process::send(pid.try_into().unwrap(), nix::sys::signal::Signal::SIGKILL);
    until("it runs again", || {
        let state = &daemon.http().look("/plugins/new/json")["State"];
        (state["Status"] == "running" && state["Restarts"] == 1).then_some(())
    });
    for (action, attribute) in [("die", json!("137")), ("restart", Value::Null)] {
        let told = told(&daemon, "plugin", action);
        assert_eq!(told.len(), 1, "{action}");
        assert_eq!((&told[0]["name"], &told[0]["exitCode"]), (&json!("new:latest"), &attribute));
    }
    assert_eq!(driver(&daemon, "data"), "new:latest");
    assert_eq!(mounted(&daemon, "data", "r1"), place);
    assert_eq!(daemon.volume(&json!({"Name": "other", "Driver": "old"})).status, 404);
    unmount(&daemon, "data", "r1");
}

#[test]
fn a_disabled_plugin_is_renamed_by_command_and_its_old_name_is_free() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("old", &daemon.tiny());
    create(&daemon, "data", "old");
    assert_eq!(daemon.http().ask("POST", "/plugins/old/disable?force=1").status, 200);
    let mut command = Command::new(Daemon::program_of_ours());
    command.args(["rename", "old", "new"]).stdin(Stdio::null());
    let output =
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let refused = daemon.http().ask("GET", "/volumes/data").message();
    assert!(refused.contains("plugin new:latest found but disabled"), "{refused}");
    assert_eq!(daemon.enable("new").status, 200);
    assert_eq!(driver(&daemon, "data"), "new:latest");
    // Another plugin of the old name has nothing of it.
    daemon.run("old", &daemon.tiny());
    assert_eq!(driver(&daemon, "data"), "new:latest");
    create(&daemon, "other", "old");
    assert_eq!(driver(&daemon, "other"), "old:latest");
    // And back again, while its volumes are mounted.
    let place = mounted(&daemon, "data", "r1");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/other").status, 204);
    remove(&daemon, "old");
    assert_eq!(rename(&daemon, "new", "old").status, 204);
    assert_eq!((driver(&daemon, "data"), mounted(&daemon, "data", "r1")), (json!("old:latest"), place));
    unmount(&daemon, "data", "r1");
}

#[test]
fn a_name_that_cannot_be_had_is_refused_in_dockers_words() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.install("one", &daemon.tiny());
    daemon.install("two", &daemon.tiny());
    let digest = format!("x@sha256:{}", "0".repeat(64));
    for (plugin, name, status, message) in [
        ("nope", "x", 404, r#"plugin "nope" not found"#),
        ("one", "two", 409, "plugin two:latest already exists"),
        ("one", "docker.io/library/two:latest", 409, "plugin two:latest already exists"),
        ("one", "one", 409, "plugin one:latest already exists"),
        ("one", "a%20b", 400, "failed to parse reference a b: invalid reference format"),
        ("one", "", 400, "failed to parse reference : invalid reference format"),
        ("one", &digest, 400, "canonical references are not permitted"),
    ] {
        let answer = rename(&daemon, plugin, name);
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{plugin} to {name:?}");
    }
    assert_eq!(daemon.http().look("/plugins").as_array().unwrap().len(), 2);
}

#[test]
fn a_name_is_not_given_away_while_volumes_have_still_to_follow() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("old", &daemon.tiny().mode("hold=Mount"));
    create(&daemon, "data", "old");
    let go = daemon.record().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let http = daemon.http();
    let mounting = std::thread::spawn(move || act(&http, "mount", "data", "r1"));
    until("the plugin has been asked", || (asked(&daemon, "Mount") == 1).then_some(()));
    // The answer waits for the volume, but not for ever.
    assert_eq!(rename(&daemon, "old", "new").status, 204);
    assert_eq!(driver(&daemon, "data"), "new:latest", "it can be used meanwhile");
    let words = "the name old:latest is not free yet: volumes have still to follow the plugin that had it, which is \
                 new:latest now; try again when they are no longer in the midst of a call";
    let refused = daemon.create("old", &daemon.tiny().tar());
    assert_eq!((refused.status, refused.message().as_str()), (409, words));
    assert_eq!(rename(&daemon, "new", "old").message(), words);
    drop(fs::OpenOptions::new().write(true).open(&go).unwrap());
    assert_eq!(mounting.join().unwrap().status, 200);
    until("it has followed", || (!told(&daemon, "volume", "update").is_empty()).then_some(()));
    daemon.install("old", &daemon.tiny());
    assert_eq!(driver(&daemon, "data"), "new:latest");
    unmount(&daemon, "data", "r1");
}

/// Has a plugin in a registry, as `tag` of `repository`, whose volumes are on a server.
fn publish(daemon: &Daemon, registry: &Registry, repository: &str, tag: &str) {
    let name = registry.name(&format!("{repository}:{tag}"));
    daemon.install(&name, &daemon.tiny().mode("remember"));
    install::push(daemon, &name, &Value::Null).ok();
    remove(daemon, &name);
}

fn install(daemon: &Daemon, registry: &Registry, remote: &str, alias: &str) {
    install::pull(daemon, &registry.name(remote), alias, &granted(daemon), &Value::Null).ok();
    let answer = daemon.enable(alias);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn volumes_follow_a_plugin_that_is_removed_and_installed_under_another_alias() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    for tag in ["v1", "v2"] {
        publish(&daemon, &registry, "team/tiny", tag);
    }
    install(&daemon, &registry, "team/tiny:v1", "old");
    create(&daemon, "data", "old");
    let place = mounted(&daemon, "data", "r1");
    remove(&daemon, "old");
    let gone = daemon.http().ask("GET", "/volumes/data");
    assert!(gone.message().contains(r#"exists in driver "old:latest""#), "{}", gone.text());
    daemon.kill();
    daemon.launch();
    install(&daemon, &registry, "team/tiny:v2", "new");
    until("it is mounted again", || {
        (driver(&daemon, "data") == "new:latest" && fs::read_dir(&place).is_ok()).then_some(())
    });
    until("it has followed", || (told(&daemon, "volume", "update").len() == 1).then_some(()));
    assert_eq!(mounted(&daemon, "data", "r1"), place, "whoever has it has it still");
    assert_eq!(daemon.http().ask("POST", "/plugins/new/disable").status, 409, "it counts on this one now");
    unmount(&daemon, "data", "r1");
    // Once more, by the docker CLI, as people do it.
    let docker = daemon.docker();
    docker.ok(&["plugin", "disable", "-f", "new"]);
    docker.ok(&["plugin", "rm", "-f", "new"]);
    let remote = registry.name("team/tiny:v1");
    docker.ok(&["plugin", "install", "--grant-all-permissions", "--alias", "newer", &remote]);
    assert_eq!(docker.ok(&["volume", "inspect", "--format", "{{.Driver}}", "data"]), "newer:latest");
    until("it has followed", || (told(&daemon, "volume", "update").len() == 2).then_some(()));
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(docker.ok(&["plugin", "disable", "newer"]), "newer");
}

#[test]
fn whoever_only_claims_the_volumes_of_a_plugin_that_is_gone_does_not_get_them() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    for repository in ["team/tiny", "evil/tiny"] {
        publish(&daemon, &registry, repository, "v1");
    }
    install(&daemon, &registry, "team/tiny:v1", "old");
    // From the same place, for something else.
    install(&daemon, &registry, "team/tiny:v1", "beside");
    create(&daemon, "data", "old");
    remove(&daemon, "old");
    let is_nobodys = |what: &str| {
        let gone = daemon.http().ask("GET", "/volumes/data");
        let words = r#"get data: error while checking if volume "data" exists in driver "old:latest": error looking up volume plugin old:latest: plugin "old:latest" not found"#;
        assert_eq!((gone.status, gone.message().as_str()), (404, words), "{what}");
        assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]), "{what}");
        assert_eq!(act(&daemon.http(), "mount", "data", "r1").status, 404, "{what}");
    };
    is_nobodys("a plugin from there that was here before");
    install(&daemon, &registry, "evil/tiny:v1", "evil");
    is_nobodys("a plugin from elsewhere that says that it has it");
    daemon.run("made", &daemon.tiny().mode("remember"));
    is_nobodys("a plugin that was made here");
    install(&daemon, &registry, "team/tiny:v1", "another");
    is_nobodys("one of two from there");
    for plugin in ["beside", "another", "evil", "made"] {
        remove(&daemon, plugin);
    }
    install(&daemon, &registry, "team/tiny:v1", "new");
    assert_eq!(driver(&daemon, "data"), "new:latest");
    // Its old name is free, for whoever the user gives it to.
    daemon.run("old", &daemon.tiny());
    assert_eq!(driver(&daemon, "data"), "new:latest");
}
