//! The daemon is killed, at any moment: what was acknowledged is there afterwards, and plugins do not notice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::{Connection, Http};
use crate::support::{process, until};

/// How often the daemon is killed in each of the loops.
const ROUNDS: u32 = 12;

/// What a client got an answer for: names of local volumes, of tiny's volumes, of plugins, and of enabled ones.
#[derive(Debug, Default, Clone)]
struct Acknowledged {
    volumes: Vec<String>,
    of_tiny: Vec<String>,
    plugins: Vec<String>,
    enabled: Vec<String>,
}

/// A request to a daemon that may be dying: the status, or `None` when the answer never came.
fn attempt(http: &Http, method: &str, target: &str, content_type: &str, body: &[u8]) -> Option<u16> {
    let mut connection: Connection = http.open().ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write(head.as_bytes()).ok()?;
    connection.write(body).ok()?;
    Some(connection.answer(method).ok()?.status)
}

/// Numbers without an order to speak of, the same in every run.
pub(crate) fn scatter(seed: u32) -> u32 {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(0x9e37_79b9);
    x ^= x << 13;
    x ^= x >> 17;
    x ^ (x << 5)
}

/// Waits until the client has begun so many steps, and then for a moment within the one it is at.
pub(crate) fn until_midway(sent: &AtomicU32, steps: u32, spins: u32) {
    until("the client is far enough", || (sent.load(Ordering::SeqCst) >= steps).then_some(()));
    for _ in 0..spins {
        std::hint::spin_loop();
    }
}

#[test]
fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("keeper", &daemon.tiny());
    let known = Mutex::new(Acknowledged::default());
    for round in 0..ROUNDS {
        let (sent, dead) = (AtomicU32::new(0), AtomicBool::new(false));
        let http = daemon.http();
        let context = daemon.tiny().tar();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0.. {
                    if dead.load(Ordering::SeqCst) {
                        return;
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                    one_step(&http, &context, &known, round, step);
                }
            });
            // At a varying step, and then at a varying moment within it.
            until_midway(&sent, 1 + scatter(round) % 12, scatter(round + 100) % 2_000_000);
            daemon.kill();
            dead.store(true, Ordering::SeqCst);
        });
        daemon.launch();
        check(&daemon, &known.lock().unwrap(), round);
    }
    let known = known.into_inner().unwrap();
    assert!(!known.volumes.is_empty() && !known.plugins.is_empty() && !known.enabled.is_empty(), "{known:?}");
}

fn one_step(http: &Http, context: &[u8], known: &Mutex<Acknowledged>, round: u32, step: u32) {
    let name = format!("n{round}-{step}");
    let json = "application/json";
    match step % 4 {
        0 => {
            let body = json!({"Name": name}).to_string();
            if attempt(http, "POST", "/volumes/create", json, body.as_bytes()) == Some(201) {
                known.lock().unwrap().volumes.push(name);
            }
        }
        1 => {
            let body = json!({"Name": name, "Driver": "keeper"}).to_string();
            if attempt(http, "POST", "/volumes/create", json, body.as_bytes()) == Some(201) {
                known.lock().unwrap().of_tiny.push(name);
            }
        }
        2 => {
            let target = format!("/plugins/create?name={name}");
            if attempt(http, "POST", &target, "application/x-tar", context) == Some(204) {
                known.lock().unwrap().plugins.push(name);
            }
        }
        _ => {
            let Some(name) = known.lock().unwrap().plugins.last().cloned() else { return };
            let target = format!("/plugins/{name}/enable?timeout=0");
            if attempt(http, "POST", &target, json, b"") == Some(200) {
                known.lock().unwrap().enabled.push(name);
            }
        }
    }
}

/// Everything acknowledged is there, and usable.
fn check(daemon: &Daemon, known: &Acknowledged, round: u32) {
    for name in known.volumes.iter().chain(&known.of_tiny) {
        until("the volume can be inspected", || {
            (daemon.http().ask("GET", &format!("/volumes/{name}")).status == 200).then_some(())
        });
    }
    for name in &known.plugins {
        assert_eq!(
            daemon.http().ask("GET", &format!("/plugins/{name}/json")).status,
            200,
            "round {round}: {name} is lost"
        );
    }
    for name in &known.enabled {
        assert_eq!(
            daemon.http().look(&format!("/plugins/{name}/json"))["Enabled"],
            true,
            "round {round}: {name}"
        );
    }
    if let Some(name) = known.enabled.last() {
        until("the plugin can be used", || {
            let body = json!({"Name": format!("of-{name}"), "Driver": name});
            (daemon.volume(&body).status == 201).then_some(())
        });
    }
}

#[test]
fn a_setting_is_the_last_acknowledged_or_the_one_under_way() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.install("tiny", &daemon.tiny());
    let (mut acknowledged, mut count) = (0_u32, 0_u32);
    for round in 0..ROUNDS {
        let sent = AtomicU32::new(count);
        let done = AtomicU32::new(acknowledged);
        let http = daemon.http();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                loop {
                    let value = sent.fetch_add(1, Ordering::SeqCst) + 1;
                    let body = json!([format!("MODE={value}")]).to_string();
                    match attempt(&http, "POST", "/plugins/tiny/set", "application/json", body.as_bytes()) {
                        Some(204) => done.store(value, Ordering::SeqCst),
                        Some(other) => panic!("set: {other}"),
                        None => return,
                    }
                }
            });
            until_midway(&sent, count + 1 + scatter(round) % 20, scatter(round + 7) % 500_000);
            daemon.kill();
            client.join().unwrap();
        });
        (acknowledged, count) = (done.into_inner(), sent.into_inner());
        daemon.launch();
        let env = daemon.http().look("/plugins/tiny/json")["Settings"]["Env"][0].as_str().unwrap().to_owned();
        let value: u32 = env.trim_start_matches("MODE=").parse().unwrap();
        assert!(
            (acknowledged..=count).contains(&value),
            "{acknowledged} was acknowledged, {count} sent, {value} is there"
        );
        acknowledged = value;
    }
}

/// The one process of the one plugin.
fn process_of(daemon: &Daemon) -> i32 {
    let all = process::in_root_below(daemon.place());
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn enabled(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")["Enabled"].clone()
}

#[test]
fn a_plugin_outlives_its_daemon_and_is_found_again() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    let plugin = process_of(&daemon);
    for end in [Daemon::kill, |daemon: &mut Daemon| assert_eq!(daemon.stop(), Some(0))] {
        end(&mut daemon);
        assert!(process::lives(plugin));
        daemon.launch();
        assert_eq!(enabled(&daemon), true);
        until("its volumes can be used", || {
            (daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status == 201).then_some(())
        });
        assert_eq!(process_of(&daemon), plugin, "it is the same process still");
    }
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    assert!(!process::lives(plugin));
    // The volume still counts on it, as in dockerd.
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 409);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data?force=1").status, 204);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 200);
}

#[test]
fn a_plugin_that_dies_while_the_daemon_is_away_is_started_again() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    let plugin = process_of(&daemon);
    daemon.kill();
    process::send(plugin, nix::sys::signal::Signal::SIGKILL);
    until("it is gone", || (!process::lives(plugin)).then_some(()));
    daemon.launch();
    until("its volumes can be used", || {
        (daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status == 201).then_some(())
    });
    assert_ne!(process_of(&daemon), plugin);
    assert_eq!(enabled(&daemon), true);
}

#[test]
fn without_live_restore_plugins_end_with_the_daemon_and_start_with_it() {
    let Some(mut daemon) = Daemon::ours_with(&["--live-restore=false"]) else { return };
    daemon.run("tiny", &daemon.tiny());
    let plugin = process_of(&daemon);
    assert_eq!(daemon.stop(), Some(0));
    assert!(!process::lives(plugin));
    daemon.launch();
    until("its volumes can be used", || {
        (daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status == 201).then_some(())
    });
    assert_eq!(enabled(&daemon), true);
}

#[test]
fn half_an_upload_leaves_nothing_after_a_kill() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.install("keeper", &daemon.tiny());
    daemon.stop();
    daemon.launch();
    let before = daemon.tree();
    let tar = daemon.tiny().tar();
    let mut connection = daemon.http().open().unwrap();
    let head = format!(
        "POST /plugins/create?name=half HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n",
        tar.len()
    );
    connection.write(head.as_bytes()).unwrap();
    connection.write(&tar[..tar.len() / 2]).unwrap();
    until("the daemon has begun to store it", || (daemon.tree() != before).then_some(()));
    daemon.kill();
    daemon.launch();
    until("what was half is swept away", || (daemon.tree() == before).then_some(()));
    assert_eq!(daemon.http().look("/plugins").as_array().unwrap().len(), 1);
}
