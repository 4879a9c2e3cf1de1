//! Daemon and plugin are killed at random while volumes are created, mounted, unmounted and removed: at the end the
//! ledger, the kernel and the plugin agree, and whatever was acknowledged is as it was acknowledged.
//!
//! Each client owns its names, so what it was told last about one of them is known. dockerd has no such ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::crashes::scatter;
use crate::support::artifact::digest;
use crate::support::daemon::Daemon;
use crate::support::http::{Answer, Http};
use crate::support::{process, until};

/// How many operations there are, over all clients.
const OPERATIONS: u32 = 500;
/// How many of them lie between two kills.
const BETWEEN_KILLS: u32 = 10;
const CLIENTS: u32 = 4;
const NAMES_EACH: u32 = 4;
const REFERENCES: u32 = 3;

/// What a client was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
    /// The answer never came, or says that nobody knows.
    Nothing,
}

/// What a client knows: of its volumes, and of its references to them.
#[derive(Debug, Default)]
struct Knowledge {
    volumes: BTreeMap<String, Told>,
    mounts: BTreeMap<(String, String), Told>,
}

impl Knowledge {
    /// Sends one operation, and remembers what was said.
    fn operate(&mut self, http: &Http, client: u32, step: u32) {
        let draw = |kind: u32, of: u32| scatter(step * 16 + kind + client * 1_000_003) % of;
        let volume = format!("v{client}-{}", draw(1, NAMES_EACH));
        let reference = format!("r{}", draw(2, REFERENCES));
        let pair = (volume.clone(), reference.clone());
        let act = |verb: &str| {
            attempt(http, "POST", &format!("/volumes/{volume}/{verb}"), &json!({ "Reference": reference }))
        };
        match draw(0, 10) {
            0..3 => {
                // Every fourth name is the built-in driver's.
                let driver = if volume.ends_with("-0") { "local" } else { "tiny" };
                let answer =
                    attempt(http, "POST", "/volumes/create", &json!({"Name": volume, "Driver": driver}));
                let was = self.volumes.get(&volume).copied();
                let now = match answer.map(|answer| answer.status) {
                    Some(201) => Told::Yes,
                    _ if was == Some(Told::Yes) => Told::Yes,
                    _ => Told::Nothing,
                };
                self.volumes.insert(volume, now);
            }
            3..7 => {
                let held = self.mounts.get(&pair) == Some(&Told::Yes);
                let now = match act("mount").map(|answer| answer.status) {
                    Some(200) => Told::Yes,
                    // Once more for who has it already takes nothing from them.
                    _ if held => Told::Yes,
                    Some(_) => Told::No,
                    None => Told::Nothing,
                };
                self.mounts.insert(pair, now);
            }
            7..9 => {
                // Also with an error: it is not in use any more then, and the plugin is told when it is back.
                let now = act("unmount").map_or(Told::Nothing, |_| Told::No);
                self.mounts.insert(pair, now);
            }
            _ => {
                let held = self.is_held(&volume);
                let answer = attempt(http, "DELETE", &format!("/volumes/{volume}"), &Value::Null);
                let now = match answer.map(|answer| answer.status) {
                    Some(204) => {
                        assert!(!held, "{volume} is removed while it is in use");
                        Told::No
                    }
                    Some(409) => return,
                    _ if held => Told::Yes,
                    _ => Told::Nothing,
                };
                self.volumes.insert(volume, now);
            }
        }
    }

    fn is_held(&self, volume: &str) -> bool {
        self.mounts.iter().any(|((name, _), told)| name == volume && *told == Told::Yes)
    }
}

/// A request to a daemon that may be dying: `None` when the answer never came.
pub(crate) fn attempt(http: &Http, method: &str, target: &str, body: &Value) -> Option<Answer> {
    // One that has just been killed is started again: the request is for the next one.
    let mut connection = until("the daemon takes connections", || http.open().ok());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.exchange(method, request.as_bytes()).ok()
}

#[test]
fn after_random_kills_ledger_kernel_and_plugin_agree() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("confess"));
    let begun = AtomicU32::new(0);
    let http = daemon.http();
    let known: Vec<Knowledge> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (http, begun) = (&http, &begun);
                scope.spawn(move || {
                    let mut known = Knowledge::default();
                    loop {
                        let step = begun.fetch_add(1, Ordering::SeqCst);
                        if step >= OPERATIONS {
                            return known;
                        }
                        known.operate(http, client, step);
                        // Else most operations would be for a plugin that waits to be started again.
                        until("the plugin runs", || runs(http).then_some(()));
                    }
                })
            })
            .collect();
        for kill in 1..OPERATIONS / BETWEEN_KILLS {
            until("the clients are far enough", || {
                (begun.load(Ordering::SeqCst) >= kill * BETWEEN_KILLS).then_some(())
            });
            for _ in 0..scatter(kill) % 1_000_000 {
                std::hint::spin_loop();
            }
            let plugin_too = scatter(kill + 500) % 3;
            if plugin_too > 0 {
                kill_plugin(&daemon);
            }
            if plugin_too < 2 {
                daemon.kill();
                daemon.launch();
            }
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    until("the plugin runs", || runs(&http).then_some(()));
    until("ledger, kernel and plugin agree", || disagreement(&daemon).is_none().then_some(()));
    let held = holders(&daemon);
    for known in &known {
        check(&daemon, known, &held);
    }
    let acknowledged = known.iter().flat_map(|known| known.mounts.values().chain(known.volumes.values()));
    assert!(
        acknowledged.filter(|told| **told == Told::Yes).count() > 10,
        "too little was acknowledged: {known:?}"
    );
    take_everything_back(&daemon, &held);
}

fn plugin_state(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")["State"].clone()
}

/// Whether the daemon answers that the plugin runs.
fn runs(http: &Http) -> bool {
    let answer = attempt(http, "GET", "/plugins/tiny/json", &Value::Null);
    answer.is_some_and(|answer| answer.json()["State"]["Status"] == "running")
}

fn kill_plugin(daemon: &Daemon) {
    if let Some(pid) = plugin_state(daemon)["Pid"].as_i64().filter(|pid| *pid > 0) {
        process::send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
    }
}

/// Who holds which volume, by the ledger: a remove is refused with their names.
fn holders(daemon: &Daemon) -> BTreeSet<(String, String)> {
    let mut held = BTreeSet::new();
    for volume in daemon.http().look("/volumes?filters=%7B%22dangling%22:%5B%22false%22%5D%7D")["Volumes"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = volume["Name"].as_str().unwrap();
        let refusal = daemon.http().ask("DELETE", &format!("/volumes/{name}"));
        assert_eq!(refusal.status, 409, "{name}: {}", refusal.text());
        let message = refusal.message();
        let references = message.split('[').nth(1).unwrap().trim_end_matches(']').split(", ");
        held.extend(references.map(|reference| (name.to_owned(), reference.to_owned())));
    }
    held
}

/// What the ledger, the kernel and the plugin do not agree on, if anything.
fn disagreement(daemon: &Daemon) -> Option<String> {
    let mut held = holders(daemon);
    // Local volumes have neither a staged mount nor a plugin.
    held.retain(|(volume, _)| !volume.ends_with("-0"));
    let expected: BTreeSet<String> = held
        .iter()
        .map(|(volume, reference)| {
            let id = digest(format!("{}:{volume}{reference}", volume.len()).as_bytes());
            id.trim_start_matches("sha256:").to_owned()
        })
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let staged = format!(" {}/", daemon.exec_root().join("mounts").display());
    let mounted: Vec<String> = mounts
        .lines()
        .filter_map(|line| line.split_once(&staged)?.1.split([' ', '/']).next().map(str::to_owned))
        .collect();
    if mounted.iter().cloned().collect::<BTreeSet<_>>() != expected || mounted.len() != expected.len() {
        return Some(format!("held {held:?}, mounted {mounted:?}"));
    }
    let in_plugin = last_calls(daemon);
    (in_plugin != held).then(|| format!("held {held:?}, by the plugin's calls {in_plugin:?}"))
}

/// What the plugin was asked to mount and did not refuse, and was not asked to unmount after that.
fn last_calls(daemon: &Daemon) -> BTreeSet<(String, String)> {
    let calls = fs::read_to_string(daemon.record().join("calls")).unwrap_or_default();
    let mut mounted = BTreeSet::new();
    for call in calls.split("\n\n").map(str::trim) {
        let name = call.strip_prefix("POST /VolumeDriver.").and_then(|rest| rest.split(' ').next());
        let name = name.or(call.starts_with("REFUSED").then_some("REFUSED"));
        let Some(name @ ("Mount" | "Unmount" | "REFUSED")) = name else { continue };
        let body: Value = serde_json::from_str(&call[call.find('{').unwrap()..]).unwrap();
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        let pair = (text("Name"), text("ID"));
        if name == "Mount" {
            mounted.insert(pair)
        } else {
            mounted.remove(&pair)
        };
    }
    mounted
}

/// Everything is as its client was told last.
fn check(daemon: &Daemon, known: &Knowledge, held: &BTreeSet<(String, String)>) {
    for (volume, told) in &known.volumes {
        let status = daemon.http().ask("GET", &format!("/volumes/{volume}")).status;
        match told {
            Told::Yes => assert_eq!(status, 200, "{volume} is lost"),
            Told::No => assert_eq!(status, 404, "{volume} is back"),
            Told::Nothing => assert!(matches!(status, 200 | 404), "{volume}: {status}"),
        }
    }
    for (pair, told) in &known.mounts {
        match told {
            Told::Yes => assert!(held.contains(pair), "{pair:?} is lost"),
            Told::No => assert!(!held.contains(pair), "{pair:?} is back"),
            Told::Nothing => {}
        }
    }
}

/// Once nobody uses anything, everything can be removed, and nothing stays.
fn take_everything_back(daemon: &Daemon, held: &BTreeSet<(String, String)>) {
    for (volume, reference) in held {
        let body = json!({ "Reference": reference });
        let answer = daemon.http().json("POST", &format!("/volumes/{volume}/unmount"), &body);
        assert_eq!(answer.status, 204, "{volume} {reference}: {}", answer.text());
    }
    for volume in daemon.http().look("/volumes")["Volumes"].as_array().unwrap() {
        let name = volume["Name"].as_str().unwrap();
        let answer = daemon.http().ask("DELETE", &format!("/volumes/{name}"));
        assert_eq!(answer.status, 204, "{name}: {}", answer.text());
    }
    assert_eq!(disagreement(daemon), None);
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
}
