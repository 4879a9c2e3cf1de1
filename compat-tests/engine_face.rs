//! One face: what a client is told of the two of us, us and the engine, is told as if by one daemon.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::engine_world::{World, command};

#[test]
fn the_version_is_the_lower_of_both() {
    let Some(world) = World::new() else { return };
    let http = world.daemon.http();
    for method in ["GET", "HEAD"] {
        let ping = http.ask(method, "/_ping");
        // podman 4.3 has no BuildKit, and knows no swarm.
        for (header, expected) in [
            ("Api-Version", "1.41"),
            ("Builder-Version", "1"),
            ("Docker-Experimental", "true"),
            ("Ostype", "linux"),
            ("Swarm", "inactive"),
        ] {
            assert_eq!(ping.header(header), Some(expected), "{method}: {header}");
        }
    }
    let told = http.look("/version");
    assert_eq!((&told["ApiVersion"], &told["MinAPIVersion"]), (&json!("1.41"), &json!("1.24")));
    for target in ["/v1.42/volumes", "/v1.42/info", "/v1.42/_ping", "/v1.42/containers/json"] {
        let refused = http.ask("GET", target);
        let message = "client version 1.42 is too new. Maximum supported API version is 1.41";
        assert_eq!((refused.status, refused.message().as_str()), (400, message), "{target}");
    }
    for target in ["/v1.41/volumes", "/v1.24/containers/json", "/v1.41/info"] {
        let answer = http.ask("GET", target);
        assert_eq!((answer.status, answer.header("Api-Version")), (200, Some("1.41")), "{target}");
    }
    let said = world.docker().ok(&["version"]);
    for text in
        ["Server: Dockplug", " Dockplug:\n", " Podman Engine:\n", " Engine:\n", "1.41 (minimum version 1.24)"]
    {
        assert!(said.contains(text), "{text:?} in {said}");
    }
}

#[test]
fn a_version_is_refused_also_before_anybody_asked_for_one() {
    let Some(world) = World::new() else { return };
    let Some(fresh) = Daemon::ours_with(&["--engine", &world.address()]) else { return };
    fresh.http().ask("GET", "/volumes");
    // The daemon's start was waited for with a ping; the engine's word does not depend on it.
    let refused = fresh.http().ask("GET", "/v1.42/containers/json");
    assert_eq!((refused.status, refused.header("Api-Version")), (400, Some("1.41")), "{refused:?}");
}

#[test]
fn info_is_of_the_engine_and_its_volume_plugins_are_ours() {
    let Some(world) = World::new() else { return };
    let (docker, daemon) = (world.docker(), &world.daemon);
    daemon.run("tiny", &daemon.tiny());
    docker.ok(&command("create", &[], "exit 0"));
    let info = daemon.http().look("/info");
    assert_eq!(
        (&info["Containers"], &info["Images"], &info["Driver"]),
        (&json!(1), &json!(1), &json!("vfs"))
    );
    assert_eq!(info["Plugins"]["Volume"], json!(["local", "tiny:latest"]));
    assert_eq!(info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"], true);
    assert_eq!(info["Warnings"], json!([]));
    let said = docker.ok(&["info"]);
    for text in ["Containers: 1", "Volume: local tiny:latest", "Storage Driver: vfs"] {
        assert!(said.contains(text), "{text:?} in {said}");
    }
}

#[test]
fn disk_usage_is_of_both() {
    let Some(world) = World::new() else { return };
    let (docker, http) = (world.docker(), world.daemon.http());
    docker.ok(&command("create", &["--name", "one", "-v", "data:/data"], "exit 0"));
    let usage = http.look("/system/df");
    assert_eq!(usage["Images"].as_array().unwrap().len(), 1);
    assert_eq!(usage["Containers"].as_array().unwrap().len(), 1);
    assert_eq!(usage["Volumes"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&usage["Volumes"][0]["Name"], &usage["Volumes"][0]["UsageData"]["RefCount"]),
        (&json!("data"), &json!(1))
    );
    assert!(usage["LayersSize"].as_u64().unwrap() > 0, "{usage}");
    let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}";
    let said = docker.ok(&["system", "df", "--format", format]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("Images 1 1 ") && !lines[0].ends_with(" 0B"), "{said}");
    assert!(lines[1].starts_with("Containers 1 "), "{said}");
    assert_eq!(&lines[2..], ["Local Volumes 1 1 0B", "Build Cache 0 0 0B"]);
}

#[test]
fn a_system_prune_takes_from_both() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    docker.ok(&command("run", &["--name", "over", "-v", "data:/data", "-v", "/own"], "exit 0"));
    docker.ok(&["network", "create", "net"]);
    docker.ok(&["volume", "create", "kept"]);
    let volumes = || docker.ok(&["volume", "ls", "-q"]).lines().count();
    assert_eq!(volumes(), 3);
    let said = docker.ok(&["system", "prune", "-f"]);
    assert!(said.contains("Deleted Containers:") && said.contains("Deleted Networks:\nnet"), "{said}");
    assert_eq!((docker.ok(&["ps", "-aq"]), volumes()), (String::new(), 3));
    let said = docker.ok(&["system", "prune", "-f", "--volumes"]);
    assert!(said.contains("Deleted Volumes:") && said.contains("Total reclaimed space:"), "{said}");
    assert_eq!((docker.ok(&["images", "-q"]).lines().count(), world.volumes_of_podman()), (1, String::new()));
    assert_eq!(volumes(), 0, "with this version of the API, all that nobody uses");
    docker.ok(&["system", "prune", "-a", "-f"]);
    assert_eq!(docker.ok(&["images", "-q"]), "");
}
