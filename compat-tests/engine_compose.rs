//! docker-compose in front of dockplugd: its volumes are a plugin's, its containers the engine's.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::cli::Said;
use crate::support::engine_world::World;
use crate::support::{process, until};

/// What it is asked for: a service that writes, and one that reads, each in a container. The driver has its whole name:
/// docker-compose 1.29 compares it, at the next `up`, with the one that the volume has.
const FILE: &str = r#"
version: "2.4"
services:
  writer: &service
    image: box
    command: ["/bin/busybox", "sh", "-c", "echo text > /data/file; exec /bin/busybox sleep 1000"]
    network_mode: none
    security_opt: ["seccomp=unconfined"]
    stop_grace_period: 0s
    volumes: ["data:/data", "/own"]
  reader:
    <<: *service
    command: ["/bin/busybox", "sleep", "1000"]
    depends_on: [writer]
    volumes: ["data:/data:ro"]
volumes:
  data:
    driver: "tiny:latest"
"#;

#[test]
fn a_project_uses_a_plugins_volume_and_takes_it_away() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    world.daemon.run("tiny", &world.daemon.tiny());
    let file = world.daemon.place().join("docker-compose.yml");
    fs::write(&file, FILE).unwrap();
    let compose = |arguments: &[&str]| {
        let mut command: Command = docker.another(&process::program("docker-compose"));
        command.arg("-f").arg(&file).args(["-p", "project"]).args(arguments);
        let said = Said::of(&command.output().unwrap());
        assert_eq!(said.code, Some(0), "docker-compose {}: {said:?}", arguments.join(" "));
        said.out
    };
    compose(&["up", "-d"]);
    let volume = docker.ok(&["volume", "inspect", "-f", "{{.Driver}} {{json .Labels}}", "project_data"]);
    let (driver, labels) = volume.split_once(' ').unwrap();
    let labels: Value = serde_json::from_str(labels).unwrap();
    assert_eq!((driver, &labels["com.docker.compose.project"]), ("tiny:latest", &"project".into()));
    assert_eq!(compose(&["ps", "-q"]).lines().count(), 2);
    until("the one reads what the other has written", || {
        let read = [
            "exec",
            "-T",
            "reader",
            "/bin/busybox",
            "sh",
            "-c",
            "[ -e /data/file ] && /bin/busybox cat /data/file; :",
        ];
        (compose(&read) == "text").then_some(())
    });
    assert_eq!(world.volumes_of_engine(), "");
    // Nothing has changed: everything stays as it is.
    let before = compose(&["ps", "-q"]);
    compose(&["up", "-d"]);
    assert_eq!(compose(&["ps", "-q"]), before);
    compose(&["stop"]);
    compose(&["start"]);
    assert_eq!(compose(&["exec", "-T", "reader", "/bin/busybox", "cat", "/data/file"]), "text");
    compose(&["down", "-v"]);
    assert_eq!(
        (docker.ok(&["ps", "-aq"]), docker.ok(&["volume", "ls", "-q"])),
        (String::new(), String::new())
    );
    until("nothing is mounted", || (world.staged() == 0).then_some(()));
}
