//! The life of containers with volumes in front of podman: what ends, comes back, is looked into, or cannot start.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::archive::{Entry, Tar};
use crate::support::daemon::{Daemon, Program};
use crate::support::engine_world::{World, command};
use crate::support::{process, until};

fn with_tiny() -> Option<World> {
    let world = World::new()?;
    world.daemon.run("tiny", &world.daemon.tiny());
    world.docker().ok(&["volume", "create", "-d", "tiny", "data"]);
    Some(world)
}

fn unmounted(world: &World) {
    until("nothing is mounted", || (world.staged() == 0).then_some(()));
}

#[test]
fn looking_into_a_container_that_does_not_run_leaves_nothing_mounted() {
    let Some(world) = with_tiny() else { return };
    let docker = world.docker();
    docker.ok(&command("create", &["--name", "one", "-v", "data:/data"], "true"));
    let file = world.daemon.place().join("file");
    fs::write(&file, "text").unwrap();
    docker.ok(&["cp", &file.display().to_string(), "one:/data/file"]);
    unmounted(&world);
    let back = world.daemon.place().join("back");
    docker.ok(&["cp", "one:/data/file", &back.display().to_string()]);
    assert_eq!(fs::read_to_string(back).unwrap(), "text");
    unmounted(&world);
    docker.ok(&["rm", "one"]);
    docker.ok(&["volume", "rm", "data"]);
}

#[test]
fn a_container_that_its_engine_starts_again_keeps_its_volume() {
    let Some(world) = with_tiny() else { return };
    let docker = world.docker();
    let script = "echo x >> /data/runs; [ -f /data/first ] || exit 9; exit 3";
    world.run(&["--rm", "-v", "data:/data"], "echo > /data/first");
    unmounted(&world);
    docker.ok(&command("run", &["-d", "--name", "always", "--restart=always", "-v", "data:/data"], script));
    until("it has run several times", || {
        (docker.ok(&["inspect", "-f", "{{.RestartCount}}", "always"]).parse::<u32>().unwrap() > 4)
            .then_some(())
    });
    let code = || docker.ok(&["inspect", "-f", "{{.State.ExitCode}}", "always"]);
    until("it has ended with its own code", || (code() == "3").then_some(()));
    assert!(world.staged() > 0);
    docker.ok(&["stop", "-t", "0", "always"]);
    unmounted(&world);
    docker.ok(&["rm", "-f", "always"]);
    let runs = || world.run(&["--rm", "-v", "data:/data"], "/bin/busybox wc -l < /data/runs");
    assert!(runs().trim().parse::<u32>().unwrap() > 4);

    // One that runs on, stopped by its user.
    docker.ok(&command(
        "run",
        &["-d", "--name", "long", "--restart=always", "-v", "data:/data"],
        "/bin/busybox sleep 1000",
    ));
    for verb in [&["stop", "-t", "0", "long"][..], &["kill", "long"]] {
        docker.ok(verb);
        unmounted(&world);
        docker.ok(&["start", "long"]);
        assert_eq!(docker.ok(&["exec", "long", "/bin/busybox", "ls", "/data/first"]), "/data/first");
    }
    docker.ok(&["restart", "-t", "0", "long"]);
    assert_eq!(docker.ok(&["exec", "long", "/bin/busybox", "ls", "/data/first"]), "/data/first");
    docker.ok(&["rm", "-f", "long"]);
    unmounted(&world);

    world.run(&["--rm", "-v", "data:/data"], "echo -n > /data/runs");
    docker.ok(&command(
        "run",
        &["-d", "--name", "twice", "--restart=on-failure:2", "-v", "data:/data"],
        script,
    ));
    unmounted(&world);
    assert_eq!(docker.ok(&["inspect", "-f", "{{.RestartCount}} {{.State.ExitCode}}", "twice"]), "2 3");
    assert_eq!(runs().trim(), "3");
}

#[test]
fn an_engine_that_starts_a_container_by_itself_writes_nowhere() {
    let Some(world) = with_tiny() else { return };
    let docker = world.docker();
    docker.ok(&command(
        "create",
        &["--name", "one", "-v", "data:/data"],
        "echo lost > /data/file; /bin/busybox sleep 1000",
    ));
    let said = world.engine.run(&["start", "one"]);
    assert_ne!(said.code, Some(0), "{said:?}");
    let reasons = ["no such file or directory", "bind source path does not exist"];
    assert!(reasons.iter().any(|reason| said.err.contains(reason)), "{said:?}");
    docker.ok(&["start", "one"]);
    assert_eq!(
        until("it has written", || Some(
            docker.run(&["exec", "one", "/bin/busybox", "cat", "/data/file"]).out
        )
        .filter(|out| !out.is_empty())),
        "lost"
    );
    world.engine.ok(&["stop", "-t", "0", "one"]);
    unmounted(&world);
    assert_ne!(world.engine.run(&["start", "one"]).code, Some(0));
    docker.ok(&["rm", "-f", "one"]);
    assert_eq!(world.run(&["--rm", "-v", "data:/data"], "/bin/busybox cat /data/file"), "lost");
}

#[test]
fn a_start_that_fails_leaves_nothing_mounted_and_says_why() {
    let Some(world) = with_tiny() else { return };
    let docker = world.docker();
    docker.ok(&[
        "create",
        "--network",
        "none",
        "--name",
        "bad",
        "-v",
        "data:/data",
        "box",
        "/no/such/program",
    ]);
    docker.fails(&["start", "bad"]);
    unmounted(&world);
    docker.ok(&["rm", "bad"]);
    docker.ok(&command("create", &["--name", "good", "-v", "data:/data"], "true"));
    docker.ok(&["plugin", "disable", "-f", "tiny"]);
    let refusal = docker.fails(&["start", "good"]);
    assert!(refusal.contains("tiny:latest"), "{refusal}");
    docker.ok(&["plugin", "enable", "tiny"]);
    docker.ok(&["start", "-a", "good"]);
    unmounted(&world);
    // Without the image nothing is made.
    let answer = world.daemon.http().json(
        "POST",
        "/containers/create",
        &json!({"Image": "none", "HostConfig": {"Binds": ["typo:/x"]}}),
    );
    assert_eq!((answer.status, answer.message().as_str()), (404, "No such image: none:latest"));
    assert!(!docker.ok(&["volume", "ls", "-q"]).contains("typo"));
}

#[test]
fn an_engine_may_go_and_come_back() {
    let Some(mut world) = with_tiny() else { return };
    let docker = world.docker();
    docker.ok(&command(
        "run",
        &["-d", "--name", "user", "-v", "data:/data"],
        "echo text > /data/file; /bin/busybox sleep 1000",
    ));
    until("it has written", || {
        (docker.run(&["exec", "user", "/bin/busybox", "cat", "/data/file"]).out == "text").then_some(())
    });
    world.engine.kill();
    assert!(docker.fails(&["ps"]).contains("nobody listens on"));
    assert!(world.staged() > 0);
    world.engine.launch();
    assert_eq!(docker.ok(&["exec", "user", "/bin/busybox", "cat", "/data/file"]), "text");
    let pid: i32 = docker.ok(&["inspect", "-f", "{{.State.Pid}}", "user"]).parse().unwrap();
    world.engine.kill();
    // Ends while the engine does not tell.
    process::send(pid, Signal::SIGKILL);
    world.engine.launch();
    docker.ok(&["ps"]);
    unmounted(&world);
}

#[test]
fn an_image_made_of_a_container_tells_nothing_of_ours() {
    let Some(world) = with_tiny() else { return };
    let docker = world.docker();
    docker.ok(&command("create", &["--name", "one", "-v", "data:/data", "-l", "mine=1"], "true"));
    docker.ok(&["rename", "one", "two"]);
    assert_eq!(docker.ok(&["ps", "-a", "--format", "{{.Mounts}} {{.Names}} {{.Labels}}"]), "data two mine=1");

    // This podman makes no image of a container without a policy in a directory of the machine.
    let dockerd = Daemon::start_as(Program::Dockerd, &[]);
    let address = format!("unix://{}", dockerd.socket().display());
    let Some(daemon) = Daemon::ours_with(&["--engine", &address]) else { return };
    let http = daemon.http();
    let image = Tar::new().with(&Entry::directory("srv")).with(&Entry::file("srv/x", b"x")).end();
    let answer = http.send("POST", "/v1.41/images/create?fromSrc=-&repo=one", "application/x-tar", &image);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = json!({"Image": "one", "Cmd": ["/none"], "Labels": {"mine": "1"},
        "HostConfig": {"NetworkMode": "none", "Binds": ["data:/srv"]}});
    let answer = http.json("POST", "/v1.41/containers/create?name=two", &asked);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let data = http.look("/volumes/data")["Mountpoint"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(Path::new(&data).join("x")).unwrap(), "x");
    let answer = http.json("POST", "/v1.41/commit?container=two&repo=made", &json!({}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let config = &http.look("/v1.41/images/made/json")["Config"];
    assert_eq!(config["Labels"], json!({"mine": "1", "io.dockplug.container": ""}));
    assert!(config["Volumes"].is_null(), "{config}");
    assert_eq!(http.ask("DELETE", "/v1.41/containers/two").status, 204);
    let list = |path: &str| dockerd.http().look(path);
    assert_eq!(list("/v1.41/containers/json?all=1"), json!([]));
    assert_eq!(list("/v1.41/volumes")["Volumes"], json!([]));
}
