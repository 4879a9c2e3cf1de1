//! A plugin that runs, upgraded with a restart: the new version if it works, or the old one again, whole.

use std::process::{Command, Stdio};
use std::{fs, thread};

use serde_json::{Value, json};

use crate::crashes::scatter;
use crate::support::archive::Entry;
use crate::support::daemon::Daemon;
use crate::support::http::Http;
use crate::support::install;
use crate::support::plugin::Context;
use crate::support::registry::Registry;
use crate::support::{process, until};

/// How often the daemon is killed while it upgrades.
const ROUNDS: u32 = 10;

/// A tiny plugin that says which version it is, in its config and in its root file system.
fn version(daemon: &Daemon, version: &str) -> Context {
    let file = Entry::file("rootfs/version", version.as_bytes());
    daemon.tiny().with("description", version.into()).entry(file)
}

fn publish(daemon: &Daemon, registry: &Registry, tag: &str, context: &Context) {
    let name = registry.name(&format!("team/tiny:{tag}"));
    daemon.install(&name, context);
    install::push(daemon, &name, &Value::Null).ok();
    assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
}

/// `tiny` at version `v1`, running, with a setting and a volume; what does not listen is given up after a second.
fn started() -> Option<(Registry, Daemon)> {
    let daemon = Daemon::ours()?;
    let registry = Registry::open();
    publish(&daemon, &registry, "v1", &version(&daemon, "v1"));
    install::consenting(&daemon, &registry.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    assert_eq!(daemon.http().json("POST", "/plugins/tiny/set", &json!(["args=a b"])).status, 204);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/enable?timeout=1").status, 200);
    assert_eq!(daemon.volume(&json!({"Name": "kept", "Driver": "tiny"})).status, 201);
    Some((registry, daemon))
}

fn granted(daemon: &Daemon) -> Value {
    json!([{"Name": "network", "Value": ["none"]}, {"Name": "mount", "Value": [daemon.record()]}])
}

fn upgrade(daemon: &Daemon, registry: &Registry, tag: &str) -> install::Outcome {
    let remote = registry.name(&format!("team/tiny:{tag}&restart=1"));
    install::upgrade(daemon, "tiny", &remote, &granted(daemon))
}

fn running(daemon: &Daemon) -> Option<Value> {
    Some(daemon.http().look("/plugins/tiny/json")).filter(|plugin| plugin["State"]["Status"] == "running")
}

fn pid(plugin: &Value) -> i32 {
    i32::try_from(plugin["State"]["Pid"].as_i64().unwrap()).unwrap()
}

/// The version that the plugin is, in every respect; it runs, alone, and answers.
fn runs_as(daemon: &Daemon, registry: &Registry) -> String {
    let plugin = until("the plugin runs", || running(daemon));
    let version = plugin["Config"]["Description"].as_str().unwrap().to_owned();
    assert_eq!(plugin["PluginReference"], registry.name(&format!("team/tiny:{version}")).as_str());
    assert_eq!((&plugin["Enabled"], &plugin["State"]["Error"]), (&json!(true), &Value::Null));
    assert_eq!(plugin["Settings"]["Args"], json!(["a", "b"]));
    let seen = fs::read_to_string(format!("/proc/{}/root/version", pid(&plugin))).unwrap();
    assert_eq!(seen, version, "the process has another root file system");
    let others = || process::in_root_below(daemon.place()).into_iter().any(|other| other != pid(&plugin));
    until("no other process is left", || (!others()).then_some(()));
    assert_eq!(daemon.http().look("/volumes/kept")["Status"], json!({"kept": "here"}));
    version
}

/// What an upgrade may leave nothing of: root file systems that are not used, and blobs.
fn kept(daemon: &Daemon) -> Vec<String> {
    let plugins = fs::read_dir(daemon.data_root().join("plugins")).unwrap().flatten();
    let inside = plugins.flat_map(|plugin| fs::read_dir(plugin.path()).unwrap().flatten());
    let blobs = fs::read_dir(daemon.data_root().join("content/blobs/sha256")).unwrap().flatten();
    let mut names: Vec<_> =
        inside.chain(blobs).map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_version_works_at_once_and_its_volumes_stay() {
    let Some((registry, daemon)) = started() else { return };
    let mounted = daemon.http().json("POST", "/volumes/kept/mount", &json!({"Reference": "me"})).json();
    let file = format!("{}/file", mounted["Mountpoint"].as_str().unwrap());
    fs::write(&file, "mine").unwrap();
    let before = running(&daemon).unwrap();
    publish(&daemon, &registry, "v2", &version(&daemon, "v2"));
    let outcome = upgrade(&daemon, &registry, "v2").ok();
    assert!(outcome.says("Restarting tiny:latest with the new version"), "{outcome:?}");
    // There is nothing to wait for: it listens.
    let after = running(&daemon).unwrap();
    assert_eq!(runs_as(&daemon, &registry), "v2");
    assert_eq!(after["Id"], before["Id"]);
    assert_ne!(pid(&after), pid(&before));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let names = kept(&daemon);
    assert_eq!(names.iter().filter(|name| name.starts_with("rootfs")).count(), 1, "{names:?}");
    // A config, a manifest and a layer.
    assert_eq!(names.iter().filter(|name| name.len() == 64).count(), 3, "{names:?}");

    // Back again, by command, to where it came from now.
    let mut command = Command::new(Daemon::program_of_ours());
    let v1 = registry.name("team/tiny:v1");
    command.args(["upgrade", "--restart", "--grant-all-permissions", "tiny", &v1]).stdin(Stdio::null());
    let output =
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display())).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = format!("Upgraded plugin tiny:latest to {v1}\n");
    assert!(said.contains("Restarting tiny:latest") && said.ends_with(&last), "{said}");
    assert_eq!(runs_as(&daemon, &registry), "v1");
}

#[test]
fn a_new_version_that_does_not_work_is_taken_back() {
    let Some((registry, daemon)) = started() else { return };
    let left = kept(&daemon);
    let lacking = json!([{"name": "record", "type": "bind", "source": "/no/such/place", "destination": "/record",
        "options": ["rbind"]}]);
    let back = "is back and runs";
    let cases = [
        ("silent", version(&daemon, "silent").mode("silent"), back, "did not listen on its socket"),
        ("exit", version(&daemon, "exit").mode("exit=9"), back, "exited with code 9"),
        ("link", version(&daemon, "link").mode("link=/run/other.sock"), back, "symbolic link"),
        ("nope", version(&daemon, "nope").with("entrypoint", json!(["/nope"])), "was not stopped", "/nope"),
        ("lacking", version(&daemon, "lacking").with("mounts", lacking), "was not stopped", "/no/such/place"),
    ];
    for (tag, context, instead, expected) in cases {
        publish(&daemon, &registry, tag, &context);
        let before = running(&daemon).unwrap();
        let remote = registry.name(&format!("team/tiny:{tag}"));
        let asked = install::privileges(&daemon, &remote, &Value::Null).json();
        let outcome = install::upgrade(&daemon, "tiny", &format!("{remote}&restart=1"), &asked);
        let error = outcome.failed();
        let told = format!("plugin tiny:latest was not upgraded; its version from before {instead}: ");
        assert!(error.starts_with(&told) && error.contains(expected), "{tag}: {error}");
        let after = running(&daemon).unwrap();
        assert_eq!(pid(&after) == pid(&before), instead == "was not stopped", "{tag}");
        assert_eq!(runs_as(&daemon, &registry), "v1", "{tag}");
        assert_eq!((&after["Config"], &after["Settings"]), (&before["Config"], &before["Settings"]));
        assert_eq!(kept(&daemon), left, "{tag}");
    }
}

#[test]
fn a_plugin_that_is_broken_is_healed_by_a_new_version_and_a_disabled_one_stays_disabled() {
    let Some((registry, daemon)) = started() else { return };
    publish(&daemon, &registry, "v2", &version(&daemon, "v2"));
    let plugin = running(&daemon).unwrap();
    let rootfs = daemon.data_root().join("plugins").join(plugin["Id"].as_str().unwrap()).join("rootfs");
    fs::remove_file(rootfs.join("tiny")).unwrap();
    process::send(pid(&plugin), nix::sys::signal::Signal::SIGKILL);
    let status = || daemon.http().look("/plugins/tiny/json")["State"]["Status"].clone();
    until("it cannot be started", || (status() == "backing off").then_some(()));
    upgrade(&daemon, &registry, "v2").ok();
    assert_eq!(runs_as(&daemon, &registry), "v2");

    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    let outcome = upgrade(&daemon, &registry, "v1").ok();
    assert!(!outcome.says("Restarting tiny:latest with the new version"), "{outcome:?}");
    let plugin = daemon.http().look("/plugins/tiny/json");
    assert_eq!((&plugin["Enabled"], &plugin["Config"]["Description"]), (&json!(false), &json!("v1")));
    assert_eq!(status(), "stopped");
    assert_eq!(daemon.enable("tiny").status, 200);
    assert_eq!(runs_as(&daemon, &registry), "v1");
}

#[test]
fn a_version_that_asks_for_more_is_refused_with_the_difference() {
    let Some((registry, daemon)) = started() else { return };
    let before = running(&daemon).unwrap();
    let linux = json!({"capabilities": ["CAP_SYS_ADMIN"], "devices": []});
    publish(
        &daemon,
        &registry,
        "v2",
        &version(&daemon, "v2").with("network", json!({"type": "host"})).with("linux", linux),
    );
    let error = upgrade(&daemon, &registry, "v2").failed();
    assert_eq!(
        error,
        "incorrect privileges: the plugin asks for capabilities [CAP_SYS_ADMIN], network [host], which was not granted; \
         network [none] was granted, which the plugin does not ask for"
    );
    assert_eq!(running(&daemon).unwrap(), before);
}

/// Asks for an upgrade that is not answered.
fn begin(http: Http, registry: &Registry, tag: &str, granted: &Value) -> thread::JoinHandle<bool> {
    let target =
        format!("/plugins/tiny/upgrade?restart=1&remote={}", registry.name(&format!("team/tiny:{tag}")));
    let request = install::request("POST", &target, &Value::Null, Some(granted));
    thread::spawn(move || {
        let Ok(mut connection) = http.open() else { return false };
        let answer = connection.exchange("POST", request.as_bytes());
        answer.is_ok_and(|answer| answer.status == 200 && !answer.text().contains("\"error\""))
    })
}

#[test]
fn a_daemon_that_ends_during_the_trial_leaves_the_old_version() {
    let Some((registry, mut daemon)) = started() else { return };
    let left = kept(&daemon);
    // Nobody ever opens it: the new version is on trial for as long as a plugin may take.
    publish(&daemon, &registry, "v2", &version(&daemon, "v2").mode("late=/volumes/never"));
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    assert_eq!(daemon.enable("tiny").status, 200);
    let polite = |daemon: &mut Daemon| assert_eq!(daemon.stop(), Some(0));
    // In the second round the next daemon is killed too, before and while it puts things right.
    let ends: [fn(&mut Daemon); 3] = [Daemon::kill, Daemon::kill, polite];
    for (end, again) in ends.into_iter().zip([0, 4, 0]) {
        let asking = begin(daemon.http(), &registry, "v2", &granted(&daemon));
        let trial = until("the new one is on trial", || {
            let plugin = daemon.http().look("/plugins/tiny/json");
            (plugin["State"]["Status"] == "starting" && plugin["Config"]["Description"] == "v2")
                .then(|| plugin["State"]["Pid"].as_i64())?
        });
        end(&mut daemon);
        assert!(!asking.join().unwrap(), "it was done");
        for _ in 0..again {
            daemon.launch();
            daemon.kill();
        }
        // Twice: what was put right stays so.
        for _ in 0..2 {
            daemon.launch();
            assert_eq!(runs_as(&daemon, &registry), "v1");
            assert!(!process::lives(i32::try_from(trial).unwrap()));
            daemon.kill();
        }
        daemon.launch();
        assert_eq!(runs_as(&daemon, &registry), "v1");
        until("nothing is left of it", || (kept(&daemon) == left).then_some(()));
    }
}

#[test]
fn killed_at_any_moment_it_is_one_version_or_the_other() {
    let Some((registry, mut daemon)) = started() else { return };
    publish(&daemon, &registry, "v2", &version(&daemon, "v2"));
    let granted = granted(&daemon);
    let mut is = "v1".to_owned();
    let mut seen = [0, 0];
    for round in 0..ROUNDS {
        let next = if is == "v1" { "v2" } else { "v1" };
        let asking = begin(daemon.http(), &registry, next, &granted);
        // From the fetch over the old one's end to the new one's first answer.
        let moment = scatter(round) % 4;
        until("that far", || {
            let status = daemon.http().look("/plugins/tiny/json")["State"]["Status"].clone();
            let is_there = match moment {
                0 => true,
                1 => status != "running",
                2 => status == "starting",
                _ => asking.is_finished(),
            };
            (is_there || asking.is_finished()).then_some(())
        });
        for _ in 0..scatter(round + 50) % 3_000_000 {
            std::hint::spin_loop();
        }
        daemon.kill();
        let is_done = asking.join().unwrap();
        daemon.launch();
        let now = runs_as(&daemon, &registry);
        assert!(now == next || (now == is && !is_done), "round {round}: {now}, acknowledged: {is_done}");
        seen[usize::from(now == next)] += 1;
        is = now;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "it was never killed in the midst, or always: {seen:?}");
}

#[test]
fn a_source_and_a_device_that_were_set_survive_restarts_of_the_daemon_and_of_the_plugin() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let device = json!({"name": "disk", "path": "/dev/null", "settable": ["path"]});
    daemon.install("tiny", &daemon.tiny().with("linux", json!({"capabilities": [], "devices": [device]})));
    let elsewhere = daemon.place().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    // Neither is a privilege that anybody was asked for: as in dockerd, who sets it grants it.
    let set = json!([format!("record.source={}", elsewhere.display()), "disk.path=/dev/loop-control"]);
    assert_eq!(daemon.http().json("POST", "/plugins/tiny/set", &set).status, 204);
    assert_eq!(daemon.enable("tiny").status, 200);
    let report = elsewhere.join("report");
    let check = |daemon: &Daemon| {
        let settings = daemon.http().look("/plugins/tiny/json")["Settings"].clone();
        assert_eq!(settings["Mounts"][0]["Source"], elsewhere.to_str().unwrap());
        assert_eq!(settings["Devices"][0]["Path"], "/dev/loop-control");
        let text = until("it reports where it was told to", || fs::read_to_string(&report).ok());
        assert!(text.contains(" loop-control "), "{text}");
        fs::remove_file(&report).unwrap();
    };
    check(&daemon);
    let first = pid(&running(&daemon).unwrap());
    process::send(first, nix::sys::signal::Signal::SIGKILL);
    check(&daemon);
    daemon.kill();
    daemon.launch();
    let second = pid(&until("it was found again", || running(&daemon)));
    process::send(second, nix::sys::signal::Signal::SIGKILL);
    check(&daemon);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable").status, 200);
    assert_eq!(daemon.enable("tiny").status, 200);
    check(&daemon);
}
