//! In front of a real engine: it runs the containers, and knows nothing of volumes; they are ours.

use std::fs;

use serde_json::{Value, json};

use crate::support::engine_world::{World, command};
use crate::support::{plugin, until};

#[test]
fn what_is_not_ours_goes_to_the_engine() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    assert!(docker.ok(&["images"]).contains("box"), "{}", docker.ok(&["images"]));
    assert_eq!(world.run(&["--rm"], "echo hello; exit 0"), "hello");
    // Without --rm: podman tells 0 of what it has removed.
    let said = docker.run(&command("run", &[], "echo out; echo err >&2; exit 7"));
    assert_eq!((said.code, said.out.as_str()), (Some(7), "out"));
    assert!(said.err.contains("err"), "{said:?}");
    let id = docker.ok(&command("run", &["-d", "--name", "long"], "echo begun; /bin/busybox sleep 1000"));
    assert!(docker.ok(&["ps", "-q", "--no-trunc"]).contains(&id));
    until("it has begun", || docker.ok(&["logs", "long"]).contains("begun").then_some(()));
    assert_eq!(docker.ok(&["exec", "long", "/bin/busybox", "echo", "in it"]), "in it");
    fs::write(world.daemon.place().join("file"), "text").unwrap();
    docker.ok(&["cp", &world.daemon.place().join("file").display().to_string(), "long:/file"]);
    assert_eq!(docker.ok(&["exec", "long", "/bin/busybox", "cat", "/file"]), "text");
    docker.ok(&["stop", "-t", "0", "long"]);
    docker.ok(&["rm", "long"]);
}

#[test]
fn a_container_uses_a_plugins_volume_and_the_engine_knows_none() {
    let Some(world) = World::new() else { return };
    let (docker, daemon) = (world.docker(), &world.daemon);
    daemon.run("tiny", &daemon.tiny());
    world.run(&["--rm", "-v", "data:/data", "--volume-driver", "tiny"], "echo text > /data/file");
    assert_eq!(docker.ok(&["volume", "inspect", "-f", "{{.Driver}}", "data"]), "tiny:latest");
    assert_eq!(
        world.run(&["--rm", "--mount", "type=volume,src=data,dst=/d,readonly"], "/bin/busybox cat /d/file"),
        "text"
    );
    assert_eq!(world.volumes_of_engine(), "");
    until("it is unmounted", || (world.staged() == 0).then_some(()));

    let id = docker.ok(&command(
        "run",
        &["-d", "--name", "user", "-v", "data:/data:ro"],
        "/bin/busybox sleep 1000",
    ));
    let refusal = docker.fails(&["volume", "rm", "data"]);
    assert_eq!(refusal, format!("remove data: volume is in use - [{id}]"));
    assert!(docker.fails(&["plugin", "disable", "tiny"]).contains("in use"));
    let mounts: Value =
        serde_json::from_str(&docker.ok(&["inspect", "-f", "{{json .Mounts}}", "user"])).unwrap();
    assert_eq!(
        (&mounts[0]["Type"], &mounts[0]["Name"], &mounts[0]["RW"]),
        (&json!("volume"), &json!("data"), &json!(false))
    );
    assert_eq!(docker.ok(&["inspect", "-f", "{{json .HostConfig.Binds}}", "user"]), r#"["data:/data:ro"]"#);
    assert_eq!(docker.ok(&["ps", "-q", "--no-trunc", "--filter", "volume=data"]), id);
    assert_eq!(docker.ok(&["ps", "-q", "--filter", "volume=other"]), "");
    docker.ok(&["stop", "-t", "0", "user"]);
    until("it is unmounted", || (world.staged() == 0).then_some(()));
    assert!(
        docker.fails(&["volume", "rm", "data"]).contains(&id),
        "a container that is stopped still has it"
    );
    docker.ok(&["start", "user"]);
    assert_eq!(docker.ok(&["exec", "user", "/bin/busybox", "cat", "/data/file"]), "text");
    docker.ok(&["rm", "-f", "user"]);
    until("nobody uses it", || (docker.run(&["volume", "rm", "data"]).code == Some(0)).then_some(()));
    assert_eq!(world.staged(), 0);
}

#[test]
fn local_and_anonymous_volumes_are_ours_too() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    world.run(&["--rm", "-v", "here:/data"], "echo text > /data/file");
    docker.ok(&command(
        "create",
        &["--name", "one", "-v", "here:/data", "-v", "/own"],
        "/bin/busybox cat /data/file",
    ));
    assert_eq!(docker.ok(&["start", "-a", "one"]), "text");
    let own: Vec<String> = docker.ok(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert_eq!(
        world.run(&["--rm", "--volumes-from", "one"], "/bin/busybox cat /data/file; [ -d /own ]"),
        "text"
    );
    docker.ok(&["rm", "-v", "one"]);
    until("its own volume is gone", || (docker.ok(&["volume", "ls", "-q"]) == "here").then_some(()));
    world.run(&["--rm", "-v", "/own"], "echo x > /own/x");
    until("its own volume is gone", || (docker.ok(&["volume", "ls", "-q"]) == "here").then_some(()));
    assert_eq!(world.volumes_of_engine(), "");
    assert_eq!(docker.ok(&["volume", "rm", "here"]), "here");
}

#[test]
fn rclone_serves_a_container() {
    let Some(world) = World::new() else { return };
    let (docker, daemon) = (world.docker(), &world.daemon);
    let context = daemon.place().join("rclone");
    plugin::write_rclone(&context);
    docker.ok(&["plugin", "create", "rclone", &context.display().to_string()]);
    let directories = ["config", "cache"].map(|name| daemon.place().join(name));
    for directory in &directories {
        fs::create_dir(directory).unwrap();
    }
    let [config, cache] = directories.map(|directory| directory.display().to_string());
    docker.ok(&[
        "plugin",
        "set",
        "rclone",
        &format!("config.source={config}"),
        &format!("cache.source={cache}"),
    ]);
    docker.ok(&["plugin", "enable", "rclone"]);
    docker.ok(&["volume", "create", "-d", "rclone", "-o", "type=memory", "data"]);
    let said =
        world.run(&["--rm", "-v", "data:/data"], "echo text > /data/file && /bin/busybox cat /data/file");
    assert_eq!(said, "text");
    until("nobody uses it", || (docker.run(&["volume", "rm", "data"]).code == Some(0)).then_some(()));
}

#[test]
fn a_daemon_that_is_killed_knows_its_containers_again() {
    let Some(mut world) = World::new() else { return };
    let docker = world.docker();
    world.daemon.run("tiny", &world.daemon.tiny());
    let id = docker.ok(&command(
        "run",
        &["-d", "--name", "user", "-v", "data:/data", "--volume-driver", "tiny"],
        "echo text > /data/file; /bin/busybox sleep 1000",
    ));
    until("it has written", || {
        (docker.run(&["exec", "user", "/bin/busybox", "cat", "/data/file"]).out == "text").then_some(())
    });
    world.daemon.kill();
    world.daemon.launch();
    assert_eq!(docker.ok(&["exec", "user", "/bin/busybox", "cat", "/data/file"]), "text");
    assert!(docker.fails(&["volume", "rm", "data"]).contains(&id));
    world.daemon.kill();
    // Ends while nobody listens.
    world.straight().ok(&["rm", "-f", "user"]);
    world.daemon.launch();
    until("nobody uses it", || (docker.run(&["volume", "rm", "data"]).code == Some(0)).then_some(()));
    assert_eq!(world.staged(), 0);
}
