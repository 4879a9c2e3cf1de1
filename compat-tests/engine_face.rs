//! One face: what a client is told of the two of us, us and the engine, is told as if by one daemon.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::engine_world::{World, command};
use crate::support::http::Connection;
use crate::support::{process, until};

#[test]
fn the_version_is_the_lower_of_both() {
    let Some(world) = World::new() else { return };
    let http = world.daemon.http();
    for method in ["GET", "HEAD"] {
        let ping = http.ask(method, "/_ping");
        // podman 4.3 has no BuildKit, knows no swarm, and calls itself experimental.
        let experimental = if world.engine.is_podman() { "true" } else { "false" };
        for (header, expected) in [
            ("Api-Version", "1.41"),
            ("Builder-Version", "1"),
            ("Docker-Experimental", experimental),
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
    let engine = if world.engine.is_podman() { " Podman Engine:\n" } else { " containerd:\n" };
    // The engine's own word, beside ours above.
    let version =
        format!("1.41 (minimum version {})", if world.engine.is_podman() { "1.24" } else { "1.12" });
    for text in ["Server: Dockplug", " Dockplug:\n", engine, " Engine:\n", &version] {
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
    let straight = world.straight_http().look("/info");
    assert_eq!(
        (&info["Containers"], &info["Images"], &info["Driver"]),
        (&json!(1), &json!(1), &straight["Driver"])
    );
    let driver = info["Driver"].as_str().unwrap();
    assert_ne!(driver, "");
    assert_eq!(info["Plugins"]["Volume"], json!(["local", "tiny:latest"]));
    assert_eq!(info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"], true);
    let warnings = &straight["Warnings"];
    assert_eq!(info["Warnings"], if warnings.is_null() { json!([]) } else { warnings.clone() });
    let said = docker.ok(&["info"]);
    let driver = format!("Storage Driver: {driver}");
    for text in ["Containers: 1", "Volume: local tiny:latest", &driver] {
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
    docker.ok(&["volume", "create", "kept"]);
    let volumes = || docker.ok(&["volume", "ls", "-q"]).lines().count();
    assert_eq!(volumes(), 3);
    let said = docker.ok(&["system", "prune", "-f"]);
    assert!(said.contains("Deleted Containers:"), "{said}");
    assert_eq!((docker.ok(&["ps", "-aq"]), volumes()), (String::new(), 3));
    let said = docker.ok(&["system", "prune", "-f", "--volumes"]);
    assert!(said.contains("Deleted Volumes:") && said.contains("Total reclaimed space:"), "{said}");
    assert_eq!((docker.ok(&["images", "-q"]).lines().count(), world.volumes_of_engine()), (1, String::new()));
    assert_eq!(volumes(), 0, "with this version of the API, all that nobody uses");
    let said = docker.ok(&["system", "prune", "-a", "-f"]);
    assert!(
        said.contains("Deleted Images:\n") && said.contains("\ndeleted: ") && !said.contains(" 0B"),
        "{said}"
    );
    assert_eq!(docker.ok(&["images", "-aq"]), "");
}

/// A stream of events that has begun.
struct Events(Connection, String);

impl Events {
    fn listen(daemon: &Daemon, query: &str) -> Self {
        let mut stream = daemon.http().open().unwrap();
        stream.write(format!("GET /events{query} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(stream.head().unwrap().0, 200);
        Self(stream, String::new())
    }

    /// The next event, as its type, its action, and what it is about; none at the end.
    fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.1.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.1 = rest.to_owned();
                return Some(event);
            }
            self.1 += std::str::from_utf8(&self.0.chunk().unwrap()?).unwrap();
        }
    }

    /// Everything up to an event of this type and action, in short.
    fn up_to(&mut self, last: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|seen| seen != last) {
            seen.push(short(&self.next().expect("the stream goes on")));
        }
        seen
    }
}

fn short(event: &Value) -> String {
    format!("{} {}", event["Type"].as_str().unwrap(), event["Action"].as_str().unwrap())
}

#[test]
fn events_of_both_are_told_as_they_come() {
    let Some(world) = World::new() else { return };
    let mut events = Events::listen(&world.daemon, "");
    let filter = "?filters=%7B%22event%22%3A%5B%22die%22%2C%22mount%22%5D%7D";
    let mut chosen = Events::listen(&world.daemon, filter);
    // Of a volume of its own the engine may tell what it likes.
    world.engine.ok(&["volume", "create", "its-own"]);
    world.docker().ok(&["volume", "create", "data"]);
    assert_eq!(events.up_to("volume create"), ["volume create"]);
    world.run(&["-v", "data:/data", "--name", "one"], "exit 0");
    let told = events.up_to("container die");
    for expected in ["container create", "volume mount", "container start"] {
        assert!(told.iter().any(|told| told == expected), "{expected} in {told:?}");
    }
    assert!(!told.contains(&"volume create".to_owned()), "{told:?}");
    let told = chosen.up_to("container die");
    assert!(told.len() > 1 && told[..told.len() - 1].iter().all(|told| told == "volume mount"), "{told:?}");
}

#[test]
fn the_past_of_both_is_in_the_order_of_time() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    docker.ok(&["volume", "create", "first"]);
    world.run(&["--name", "one"], "exit 0");
    docker.ok(&["volume", "create", "second"]);
    docker.ok(&["rm", "one"]);
    world.engine.ok(&["volume", "create", "its-own"]);
    let until = world.daemon.http().look("/info")["SystemTime"].as_str().unwrap().to_owned();
    docker.ok(&["volume", "create", "third"]);
    let format = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.TimeNano}}";
    let told = docker.ok(&["events", "--since", "1", "--until", &until, "--format", format]);
    let words: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    let times: Vec<i64> = words.iter().map(|words| words[3].parse().unwrap()).collect();
    assert!(times.is_sorted(), "{told}");
    let place = |kind: &str, action: &str, id: &str| {
        let found =
            words.iter().position(|w| w[0] == kind && w[1] == action && (id.is_empty() || w[2] == id));
        found.unwrap_or_else(|| panic!("no {kind} {action} {id} in {told}"))
    };
    let order = [
        place("volume", "create", "first"),
        place("container", "create", ""),
        place("container", "start", ""),
        place("container", "die", ""),
        place("volume", "create", "second"),
        place("container", if world.engine.is_podman() { "remove" } else { "destroy" }, ""),
    ];
    assert!(order.is_sorted(), "{told}");
    assert!(!told.contains("its-own") && !told.contains("third"), "{told}");
    let died = docker.ok(&[
        "events",
        "--since",
        "1",
        "--until",
        &until,
        "--filter",
        "event=die",
        "--filter",
        "container=one",
    ]);
    assert_eq!(died.lines().count(), 1, "{died}");
    assert!(died.contains(" container die "), "{died}");
}

#[test]
fn an_engine_that_restarts_is_missed_and_found_again() {
    let Some(mut world) = World::new() else { return };
    let (docker, http) = (world.docker(), world.daemon.http());
    world.daemon.run("tiny", &world.daemon.tiny());
    let mut events =
        Events::listen(&world.daemon, "?filters=%7B%22event%22%3A%5B%22die%22%2C%22create%22%5D%7D");
    let before = docker.ok(&command("create", &[], "exit 0"));
    assert_eq!(events.up_to("container create"), ["container create"]);
    world.engine.kill();

    let refused = http.ask("GET", "/v1.41/containers/json");
    assert_eq!(refused.status, 503);
    assert!(refused.message().contains(world.address().trim_start_matches("unix://")), "{}", refused.text());
    assert_eq!(http.ask("GET", "/_ping").header("Api-Version"), Some("1.41"), "as before");
    let version = http.look("/version");
    assert_eq!(
        (&version["ApiVersion"], version["Components"].as_array().unwrap().len()),
        (&json!("1.41"), 1)
    );
    let info = http.look("/info");
    let socket = world.engine.socket().display().to_string();
    assert!(info["Warnings"][0].as_str().unwrap().contains(&socket), "{info}");
    assert_eq!(http.ask("GET", "/system/df").status, 503);
    assert!(docker.ok(&["plugin", "ls"]).contains("tiny"));
    docker.ok(&["volume", "create", "-d", "tiny", "data"]);
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(events.up_to("volume create"), ["volume create"]);
    if !world.engine.is_podman() {
        // Nothing happens without dockerd.
        world.engine.launch();
        assert!(docker.ok(&["ps", "-aq", "--no-trunc"]).contains(&before));
        assert_eq!(world.run(&["--rm", "-v", "data:/data"], "echo hello"), "hello");
        assert_eq!(events.up_to("container die"), ["container create", "container die"]);
        return;
    }
    // Something happens while nobody serves.
    world.engine.shell(&["--name", "between"], "exit 0");

    world.engine.launch();
    assert!(docker.ok(&["ps", "-aq", "--no-trunc"]).contains(&before));
    assert_eq!(events.up_to("container die"), ["container create", "container die"], "what was missed");
    assert_eq!(world.run(&["--rm", "-v", "data:/data"], "echo hello"), "hello");
    assert_eq!(events.up_to("container die"), ["container create", "container die"]);
}

#[test]
fn an_engine_that_hangs_keeps_nobody() {
    let Some(world) = World::new() else { return };
    let http = world.daemon.http();
    http.look("/info");
    process::send(world.engine.pid(), Signal::SIGSTOP);
    // Also the first of these comes to an end; there is no other way for it to.
    assert_eq!(http.ask("GET", "/_ping").header("Api-Version"), Some("1.41"));
    let info = http.look("/info");
    assert!(info["Warnings"][0].as_str().unwrap().contains("does not answer"), "{info}");
    assert_eq!(http.look("/version")["ApiVersion"], "1.41");
    assert_eq!(http.ask("GET", "/volumes").status, 200);
    process::send(world.engine.pid(), Signal::SIGCONT);
    until("the engine is heard again", || (http.look("/info")["Warnings"] == json!([])).then_some(()));
}

#[test]
fn a_head_reaches_the_engine_where_it_has_one() {
    let Some(world) = World::new() else { return };
    world.docker().ok(&command("create", &["--name", "one"], "exit 0"));
    let told = world.daemon.http().ask("HEAD", "/v1.41/containers/one/archive?path=/bin");
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.header("X-Docker-Container-Path-Stat").is_some(), "{told:?}");
    let out = world.daemon.place().join("out");
    world.docker().ok(&["cp", "-L", "one:/bin/busybox", &out.display().to_string()]);
    assert!(out.is_file());
}
