//! The daemon is killed while it pulls, upgrades and pushes: afterwards a plugin is one version or the other, whole.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::crashes::{scatter, until_midway};
use crate::support::archive::Entry;
use crate::support::daemon::Daemon;
use crate::support::http::Http;
use crate::support::install;
use crate::support::registry::Registry;

/// How often the daemon is killed in each of the loops.
const ROUNDS: u32 = 10;

/// A registry with `team/tiny:v1` and `:v2`, each of which has its name in its config and in its root file system.
fn published(daemon: &Daemon) -> Registry {
    let registry = Registry::open();
    for version in ["v1", "v2"] {
        let name = registry.name(&format!("team/tiny:{version}"));
        let bulk = [version.as_bytes(), &vec![b'x'; 300_000]].concat();
        let context = daemon
            .tiny()
            .with("description", version.into())
            .entry(Entry::file("rootfs/version", version.as_bytes()))
            .entry(Entry::file("rootfs/bulk", &bulk));
        daemon.install(&name, &context);
        install::push(daemon, &name, &Value::Null).ok();
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
    }
    registry
}

pub(crate) fn granted(daemon: &Daemon) -> Value {
    json!([{"Name": "network", "Value": ["none"]}, {"Name": "mount", "Value": [daemon.record()]}])
}

/// A request to a daemon that may be dying: whether it was done, as far as the answer came.
pub(crate) fn attempt(http: &Http, method: &str, target: &str, body: &Value) -> bool {
    let Ok(mut connection) = http.open() else { return false };
    let request = install::request(method, target, &Value::Null, Some(body));
    let answer = connection.exchange(method, request.as_bytes());
    answer.is_ok_and(|answer| answer.status < 300 && !answer.text().contains("\"error\""))
}

/// Lets `client` make its steps, and kills the daemon at some moment in the midst of one.
pub(crate) fn killed_meanwhile(daemon: &mut Daemon, round: u32, client: impl Fn(&Http, u32) + Sync) {
    let (sent, dead) = (AtomicU32::new(0), AtomicBool::new(false));
    let http = daemon.http();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0.. {
                if dead.load(Ordering::SeqCst) {
                    return;
                }
                sent.fetch_add(1, Ordering::SeqCst);
                client(&http, step);
            }
        });
        until_midway(&sent, 1 + scatter(round) % 4, scatter(round + 100) % 5_000_000);
        daemon.kill();
        dead.store(true, Ordering::SeqCst);
    });
    daemon.launch();
}

/// The version that a plugin says it is; it has to be that in every respect.
fn version(daemon: &Daemon, registry: &Registry, name: &str) -> String {
    let shown = daemon.http().look(&format!("/plugins/{name}/json"));
    let version = shown["Config"]["Description"].as_str().unwrap().to_owned();
    assert_eq!(shown["PluginReference"], registry.name(&format!("team/tiny:{version}")).as_str());
    let rootfs = format!("{}/rootfs/version", shown["Id"].as_str().unwrap());
    let found = daemon.tree().into_iter().find(|path| path.ends_with(&rootfs)).expect("its root file system");
    assert_eq!(std::fs::read_to_string(found).unwrap(), version);
    let answer = daemon.enable(name);
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{name} at {version}");
    assert_eq!(daemon.http().ask("POST", &format!("/plugins/{name}/disable")).status, 200);
    version
}

#[test]
fn an_upgrade_is_done_or_not_done_when_the_daemon_is_killed() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let registry = published(&daemon);
    install::consenting(&daemon, &registry.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    let granted = granted(&daemon);
    let acknowledged = Mutex::new("v1");
    for round in 0..ROUNDS {
        let tried = Mutex::new("");
        killed_meanwhile(&mut daemon, round, |http, _| {
            let next = if *acknowledged.lock().unwrap() == "v1" { "v2" } else { "v1" };
            *tried.lock().unwrap() = next;
            let remote = registry.name(&format!("team/tiny:{next}"));
            if attempt(http, "POST", &format!("/plugins/tiny/upgrade?remote={remote}"), &granted) {
                *acknowledged.lock().unwrap() = next;
            }
        });
        let is = version(&daemon, &registry, "tiny");
        let may_be = [*acknowledged.lock().unwrap(), *tried.lock().unwrap()];
        assert!(may_be.contains(&is.as_str()), "round {round}: {is}, not one of {may_be:?}");
        *acknowledged.lock().unwrap() = if is == "v1" { "v1" } else { "v2" };
    }
    // And it can still be sent on as it was received.
    let version = version(&daemon, &registry, "tiny");
    let second = Registry::open();
    let alias = second.name("tiny:v1");
    install::consenting(&daemon, &registry.name(&format!("team/tiny:{version}")), &alias, &Value::Null).ok();
    install::push(&daemon, &alias, &Value::Null).ok();
    assert_eq!(second.stored("tiny", "v1"), registry.stored("team/tiny", &version));
}

#[test]
fn a_pull_is_done_or_leaves_nothing_when_the_daemon_is_killed() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let registry = published(&daemon);
    let granted = granted(&daemon);
    // Directories that exist once for all plugins may appear with the first.
    daemon.run("first", &daemon.tiny());
    assert_eq!(daemon.http().ask("DELETE", "/plugins/first?force=1").status, 200);
    let before = daemon.tree();
    for round in 0..ROUNDS {
        let known = Mutex::new(vec![]);
        killed_meanwhile(&mut daemon, round, |http, step| {
            let remote = registry.name(&format!("team/tiny:v{}", 1 + step % 2));
            if attempt(http, "POST", &format!("/plugins/pull?remote={remote}&name=p{step}"), &granted) {
                known.lock().unwrap().push(format!("p{step}:latest"));
            }
        });
        let list = daemon.http().look("/plugins");
        let names: Vec<&str> = list.as_array().unwrap().iter().map(|p| p["Name"].as_str().unwrap()).collect();
        for name in known.lock().unwrap().iter() {
            assert!(names.contains(&name.as_str()), "round {round}: {name} is gone; there are {names:?}");
        }
        for name in names {
            version(&daemon, &registry, name);
            assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
        }
    }
    // What a broken pull had fetched may wait for the next one, which ends it.
    for version in ["v1", "v2"] {
        let remote = registry.name(&format!("team/tiny:{version}"));
        install::pull(&daemon, &remote, version, &granted, &Value::Null).ok();
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{version}")).status, 200);
    }
    assert_eq!(daemon.tree(), before);
}
