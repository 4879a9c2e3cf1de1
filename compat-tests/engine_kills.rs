//! dockplugd is killed at random while containers with volumes are made, started, stopped and removed in front of podman:
//! at the end nothing is mounted, nothing is in use, and no container is there that nobody knows.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::crashes::scatter;
use crate::random_kills::attempt;
use crate::support::engine_world::World;
use crate::support::http::Http;
use crate::support::until;

/// How many operations there are, over all clients.
const OPERATIONS: u32 = 120;
/// How many of them lie between two kills.
const BETWEEN_KILLS: u32 = 10;
const CLIENTS: u32 = 2;
const NAMES_EACH: u32 = 2;

/// One operation on one of a client's containers; whether it worked.
fn operate(http: &Http, client: u32, step: u32) -> bool {
    let draw = |kind: u32, of: u32| scatter(step * 16 + kind + client * 1_000_003) % of;
    let name = format!("c{client}-{}", draw(1, NAMES_EACH));
    let post = |verb: &str| attempt(http, "POST", &format!("/containers/{name}/{verb}"), &Value::Null);
    let driver = if name.ends_with('0') { "local" } else { "tiny" };
    let answer = match draw(0, 9) {
        0..3 => {
            // An empty volume gets what the image has at the second place: busybox.
            let asked = json!({"Image": "box", "Cmd": ["/bin/busybox", "sleep", "1000"], "HostConfig": {
                "NetworkMode": "none", "SecurityOpt": ["seccomp=unconfined"], "VolumeDriver": driver,
                "Binds": [format!("shared-{driver}:/data"), format!("filled-{name}:/bin:ro"), "/own"]}});
            attempt(http, "POST", &format!("/containers/create?name={name}"), &asked)
        }
        3..6 => post("start"),
        6 => post("stop?t=0"),
        _ => attempt(http, "DELETE", &format!("/containers/{name}?force=1&v=1"), &Value::Null),
    };
    // A container that is not there is refused; nothing else is expected of any but an answer or none.
    answer.is_some_and(|answer| matches!(answer.status, 200..300))
}

#[test]
fn after_random_kills_nothing_of_a_container_stays() {
    let Some(mut world) = World::new() else { return };
    world.daemon.run("tiny", &world.daemon.tiny());
    let (begun, worked) = (AtomicU32::new(0), AtomicU32::new(0));
    let http = world.daemon.http();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (http, begun, worked) = (&http, &begun, &worked);
            scope.spawn(move || {
                loop {
                    let step = begun.fetch_add(1, Ordering::SeqCst);
                    if step >= OPERATIONS {
                        return;
                    }
                    if operate(http, client, step) {
                        worked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for kill in 1..OPERATIONS / BETWEEN_KILLS {
            until("the clients are far enough", || {
                (begun.load(Ordering::SeqCst) >= kill * BETWEEN_KILLS).then_some(())
            });
            for _ in 0..scatter(kill) % 10_000_000 {
                std::hint::spin_loop();
            }
            world.daemon.kill();
            world.daemon.launch();
        }
    });
    let worked = worked.into_inner();
    assert!(worked > OPERATIONS / 8, "too little worked: {worked}");
    let list = || http.look("/containers/json?all=1").as_array().unwrap().clone();
    // Until podman has ended what it was asked for by those who were killed: then all that it has is what we show.
    until("podman has no other containers", || {
        let theirs = world.engine.ok(&["ps", "-a", "--no-trunc", "-q"]);
        (theirs.lines().count() == list().len()).then_some(())
    });
    for container in list() {
        let id = container["Id"].as_str().unwrap();
        let answer = http.ask("DELETE", &format!("/containers/{id}?force=1&v=1"));
        assert!(matches!(answer.status, 200 | 204 | 404), "{}", answer.text());
    }
    until("nothing is mounted", || (world.staged() == 0).then_some(()));
    assert_eq!(world.engine.ok(&["ps", "-aq"]), "");
    for volume in http.look("/volumes")["Volumes"].as_array().unwrap() {
        let name = volume["Name"].as_str().unwrap();
        until("nobody uses the volume", || {
            (http.ask("DELETE", &format!("/volumes/{name}")).status == 204).then_some(())
        });
    }
    assert_eq!(world.volumes_of_engine(), "");
}
