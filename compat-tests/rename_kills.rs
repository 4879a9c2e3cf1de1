//! The daemon is killed while plugins get other names: afterwards every volume is its plugin's, and none is lost.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::registry_crashes::{attempt, granted, killed_meanwhile};
use crate::support::daemon::Daemon;
use crate::support::install;
use crate::support::local::{mounted, unmount};
use crate::support::registry::Registry;
use crate::support::until;

/// How often the daemon is killed in each of the loops.
const ROUNDS: u32 = 12;
/// How many volumes follow at each change of a name.
const VOLUMES: u32 = 30;

/// The volumes, made.
fn volumes(daemon: &Daemon, driver: &str) -> Vec<String> {
    let names: Vec<_> = (0..VOLUMES).map(|number| format!("v{number}")).collect();
    for name in &names {
        assert_eq!(daemon.volume(&json!({"Name": name, "Driver": driver})).status, 201);
    }
    names
}

/// The name of the only plugin, if there is one.
fn plugin(daemon: &Daemon) -> Option<String> {
    let plugins = daemon.http().look("/plugins");
    let plugins = plugins.as_array().unwrap();
    assert!(plugins.len() <= 1, "{plugins:?}");
    Some(plugins.first()?["Name"].as_str().unwrap().to_owned())
}

/// Every volume is told to be of this plugin by it, and by its record: also in a list.
fn all_are_of(daemon: &Daemon, names: &[String], plugin: &str, round: u32) {
    for name in names {
        let volume = until("the volume can be inspected", || {
            let answer = daemon.http().ask("GET", &format!("/volumes/{name}"));
            (answer.status == 200).then(|| answer.json())
        });
        assert_eq!(volume["Driver"], plugin, "round {round}: {name}");
    }
    until("all are listed under its name", || {
        let filters = format!("%7B%22driver%22:%5B%22{plugin}%22%5D%7D");
        let listed = daemon.http().look(&format!("/volumes?filters={filters}"));
        (listed["Volumes"].as_array().unwrap().len() == names.len()).then_some(())
    });
}

#[test]
fn volumes_are_of_their_plugin_when_the_daemon_is_killed_while_it_is_renamed() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("n0", &daemon.tiny());
    let names = volumes(&daemon, "n0");
    let place = mounted(&daemon, "v0", "r1");
    fs::write(place.join("file"), "text").unwrap();
    let (at, renamed) = (AtomicU32::new(0), AtomicU32::new(0));
    for round in 0..ROUNDS {
        killed_meanwhile(&mut daemon, round, |http, _| {
            let now = at.load(Ordering::SeqCst);
            // Names come again, so that those from before must be forgotten.
            let target = format!("/plugins/n{}/rename?name=n{}", now % 5, (now + 1) % 5);
            if attempt(http, "POST", &target, &Value::Null) {
                at.store(now + 1, Ordering::SeqCst);
                renamed.fetch_add(1, Ordering::SeqCst);
            }
        });
        let now = plugin(&daemon).expect("a plugin is never lost");
        let acknowledged = at.load(Ordering::SeqCst);
        let may_be = [acknowledged, acknowledged + 1].map(|number| format!("n{}:latest", number % 5));
        assert!(may_be.contains(&now), "round {round}: {now}, not one of {may_be:?}");
        if now == may_be[1] {
            at.store(acknowledged + 1, Ordering::SeqCst);
        }
        all_are_of(&daemon, &names, &now, round);
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "text", "it stayed mounted");
    }
    assert!(renamed.into_inner() > 0, "at least one was acknowledged");
    unmount(&daemon, "v0", "r1");
    let calls = fs::read_to_string(daemon.record().join("calls")).unwrap();
    let asked = |call: &str| calls.matches(&format!("POST /VolumeDriver.{call} ")).count();
    assert_eq!((asked("Mount"), asked("Unmount")), (1, 1), "the plugin has heard nothing of it");
}

#[test]
fn volumes_follow_when_the_daemon_is_killed_while_their_plugin_is_installed_anew() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let remote = registry.name("team/tiny:v1");
    daemon.install(&remote, &daemon.tiny().mode("remember"));
    install::push(&daemon, &remote, &Value::Null).ok();
    assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{remote}")).status, 200);
    let granted = granted(&daemon);
    let pull = |number: u32| format!("/plugins/pull?remote={remote}&name=n{}", number % 5);
    install::pull(&daemon, &remote, "n0", &granted, &Value::Null).ok();
    assert_eq!(daemon.enable("n0").status, 200);
    let names = volumes(&daemon, "n0");
    let (at, installed) = (AtomicU32::new(0), AtomicU32::new(0));
    for round in 0..ROUNDS {
        killed_meanwhile(&mut daemon, round, |http, _| {
            let now = at.load(Ordering::SeqCst);
            attempt(http, "DELETE", &format!("/plugins/n{}?force=1", now % 5), &Value::Null);
            if attempt(http, "POST", &pull(now + 1), &granted) {
                at.store(now + 1, Ordering::SeqCst);
                installed.fetch_add(1, Ordering::SeqCst);
            }
        });
        let now = plugin(&daemon).unwrap_or_else(|| {
            // It was removed, and what was to come was not there yet: whatever it is called.
            let number = at.load(Ordering::SeqCst) + 2;
            let alias = format!("n{}", number % 5);
            install::pull(&daemon, &remote, &alias, &granted, &Value::Null).ok();
            format!("{alias}:latest")
        });
        let number = now.strip_prefix('n').and_then(|rest| rest.strip_suffix(":latest")).unwrap();
        at.store(number.parse().unwrap(), Ordering::SeqCst);
        // Whether it was enabled when the daemon died, or is being started, or not.
        until("it runs", || {
            daemon.enable(&now);
            (daemon.http().look(&format!("/plugins/{now}/json"))["Enabled"] == true).then_some(())
        });
        all_are_of(&daemon, &names, &now, round);
    }
    assert!(installed.into_inner() > 0, "at least one was acknowledged");
}
