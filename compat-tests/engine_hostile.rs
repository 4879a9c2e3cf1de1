//! What a client could write so that a named volume would reach the engine past us, or so that a body means two things.
//! Whatever is answered, podman has no volume afterwards.

use std::fmt::Write as _;
use std::fs;
use std::net::Shutdown;

use serde_json::json;

use crate::support::engine_world::World;
use crate::support::http::Answer;

/// The limit on a create request, in bytes.
const CREATE_MAX_BYTES: usize = 4 << 20;

fn request(method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a request as it is written; none when there is no answer.
fn send(world: &World, method: &str, target: &str, body: &str) -> Option<Answer> {
    world.daemon.http().raw(request(method, target, body).as_bytes(), false)
}

fn create_with(host: &str) -> String {
    format!(r#"{{"Image": "box", "Cmd": ["/bin/busybox", "true"], "HostConfig": {host}}}"#)
}

/// Every volume that podman has, or that one of its containers has.
fn assert_podman_has_none(world: &World, what: &str) {
    assert_eq!(world.volumes_of_engine(), "", "{what}");
    for id in world.engine.ok(&["ps", "-aq"]).lines() {
        let mounts = world.engine.ok(&["inspect", "-f", "{{range .Mounts}}{{.Type}} {{end}}", id]);
        assert!(!mounts.contains("volume"), "{what}: {mounts}");
    }
}

#[test]
fn no_path_leads_a_volume_past_us() {
    let Some(world) = World::new() else { return };
    let body = create_with(r#"{"Binds": ["leak:/data"]}"#);
    for target in [
        "//containers/create",
        "/v1.41//containers/create",
        "//v1.41/containers/create",
        "/v1.41/../containers/create",
        "/v1.41/plugins/../containers/create",
        "/plugins/../containers/create",
        "/volumes/../containers/create",
        "/containers/x/../create",
        "/containers/./create",
        "/containers/create/",
        "/containers/create/.",
        "/containers/%2e%2e/containers/create",
        "/containers/x/%2e%2e/create",
        "/containers/x%2f..%2fcreate",
        "/containers%2fcreate",
        "/images/%2e%2e/containers/create",
        "/images/..%2f..%2fcontainers/create",
        "/images/x/../../containers/create",
        "/libpod/containers/create",
        "/v4.0.0/libpod/containers/create",
        "/v1.41/libpod/volumes/create",
        "/images/../libpod/containers/create",
        "/containers/create%00",
        "/containers/create;x",
        "/containers/create%3fname=x",
        "http://d/v1.41/containers//create",
        "http://d//containers/create",
    ] {
        if let Some(answer) = send(&world, "POST", target, &body) {
            assert!((300..600).contains(&answer.status), "{target}: {answer:?}");
        }
        assert_podman_has_none(&world, target);
    }
    // These are the route, in another spelling: they are rewritten.
    for target in [
        "/containers/%63reate",
        "/v1.24/containers/create",
        "/v1.41/containers/create?name=a%2e",
        "http://d/v1.41/containers/create",
    ] {
        let answer = send(&world, "POST", target, &body).unwrap();
        assert_eq!(answer.status, 201, "{target}: {}", answer.text());
        assert_podman_has_none(&world, target);
    }
    assert_eq!(world.docker().ok(&["volume", "ls", "-q"]), "leak");
    // The engine's own volumes are out of reach too.
    for (method, target, body) in [
        ("POST", "/volumes/create", r#"{"Name": "ours"}"#),
        ("POST", "/containers/../volumes/create", r#"{"Name": "its"}"#),
        ("POST", "/images/%2e%2e/volumes/create", r#"{"Name": "its"}"#),
    ] {
        drop(send(&world, method, target, body));
        assert_podman_has_none(&world, target);
    }
}

#[test]
fn no_spelling_of_a_body_leads_a_volume_past_us() {
    let Some(world) = World::new() else { return };
    for host in [
        r#"{"Binds": [], "Binds": ["leak:/data"]}"#,
        r#"{"Binds": ["leak:/data"], "Binds": []}"#,
        r#"{"Binds": [], "binds": ["leak:/data"]}"#,
        r#"{"bindS": ["leak:/data"]}"#,
        r#"{"\u0042inds": ["leak:/data"]}"#,
        r#"{"Bind\u017f": ["leak:/data"]}"#,
        r#"{"Mounts": [{"Type": "bind", "type": "volume", "Source": "leak", "Target": "/data"}]}"#,
        r#"{"Mounts": [{"Type": "Volume", "Source": "leak", "Target": "/data"}]}"#,
        r#"{"Mounts": [{"TYPE": "volume", "SOURCE": "leak", "TARGET": "/data"}]}"#,
        r#"{"Mounts": [{"Source": "leak", "Target": "/data"}]}"#,
        r#"{"Mounts": [{"Type": "", "Source": "leak", "Target": "/data"}]}"#,
        r#"{"mounts": [{"Type": "volume", "Target": "/data"}], "Mounts": []}"#,
        r#"{"Mounts": {"0": {"Type": "volume", "Source": "leak", "Target": "/data"}}}"#,
        r#"{"Binds": ["./leak:/data"]}"#,
        r#"{"Binds": ["leak:/data:rw,O"]}"#,
        r#"{"Binds": ["/data"]}"#,
        r#"{"Binds": "leak:/data"}"#,
    ] {
        drop(send(&world, "POST", "/v1.41/containers/create", &create_with(host)));
        assert_podman_has_none(&world, host);
    }
    for body in [
        r#"{"Image": "box", "HostConfig": {}, "HostConfig": {"Binds": ["leak:/data"]}}"#,
        r#"{"Image": "box", "hostconfig": {"Binds": ["leak:/data"]}}"#,
        r#"{"Image": "box", "Host\u0043onfig": {"Binds": ["leak:/data"]}}"#,
        r#"{"Image": "box", "HostConfig": {}, "hostConfig": {"Binds": ["leak:/data"]}}"#,
        r#"{"Image": "box"}{"Image": "box", "HostConfig": {"Binds": ["leak:/data"]}}"#,
        r#"{"Image": "box", "Volumes": {"/data": {}}, "volumes": {"/data": {}}}"#,
        r#"{"Image": "box", "volumes": {"/data": {}}}"#,
        r#"{"Image": "box", "Volumes": ["/data"]}"#,
    ] {
        drop(send(&world, "POST", "/v1.41/containers/create", body));
        assert_podman_has_none(&world, body);
    }
}

#[test]
fn an_old_client_is_rewritten_as_well() {
    let Some(world) = World::new() else { return };
    let body = create_with(r#"{"Binds": ["data:/data"], "NetworkMode": "none"}"#);
    let answer = world.daemon.http().send(
        "POST",
        "/v1.24/containers/create?name=old",
        "application/json",
        body.as_bytes(),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_podman_has_none(&world, "v1.24");
    let inspected = world.daemon.http().look("/v1.24/containers/old/json");
    assert_eq!(inspected["HostConfig"]["Binds"], json!(["data:/data"]));
    assert_eq!(inspected["Mounts"][0]["Name"], "data");
}

#[test]
fn a_create_that_is_too_large_is_refused_unread() {
    let Some(world) = World::new() else { return };
    let http = world.daemon.http();
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        CREATE_MAX_BYTES + 1
    );
    // Not a byte of the body is sent.
    let answer = http.open().unwrap().exchange("POST", head.as_bytes()).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    let message = format!("request body too large: expected at most {CREATE_MAX_BYTES} bytes");
    assert_eq!(answer.message(), message);
    // One that does not say how large it is.
    let large = create_with(&json!({"Binds": ["leak:/data"], "x": "y".repeat(CREATE_MAX_BYTES)}).to_string());
    let answer =
        http.send_from("POST", "/containers/create", "application/json", &mut large.as_bytes(), None);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(world.docker().ok(&["ps", "-aq"]), "");
    assert_podman_has_none(&world, "a large one");
}

/// Breaks off a chunked request in the middle of its body.
fn break_off(world: &World, head: &str, body: &[u8]) {
    let mut connection = world.daemon.http().open().unwrap();
    let mut text = format!("{head}Host: d\r\nTransfer-Encoding: chunked\r\n\r\n");
    write!(text, "{:x}\r\n", body.len()).unwrap();
    connection.write(text.as_bytes()).unwrap();
    connection.write(body).unwrap();
    connection.write(b"\r\n").unwrap();
    // No last chunk.
    connection.stream().shutdown(Shutdown::Write).unwrap();
    if let Ok(answer) = connection.answer("POST") {
        assert!(answer.status >= 400, "{answer:?}");
    }
}

#[test]
fn a_body_that_breaks_off_is_not_a_whole_one_to_the_engine() {
    let Some(world) = World::new() else { return };
    let body = create_with(r#"{"Binds": ["leak:/data"]}"#);
    let head = "POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n";
    break_off(&world, head, body.as_bytes());
    // All of an archive, were the end of what came the end of the body.
    let file = world.daemon.place().join("saved.tar");
    world.engine.ok(&["save", "-o", &file.display().to_string(), "box"]);
    world.engine.ok(&["rmi", "-f", "box"]);
    let archive = fs::read(&file).unwrap();
    break_off(&world, "POST /images/load HTTP/1.1\r\nContent-Type: application/x-tar\r\n", &archive);
    assert_eq!(
        (world.docker().ok(&["images", "-aq"]), world.docker().ok(&["ps", "-aq"])),
        Default::default()
    );
    // The same, to its end, is one.
    let whole = world.daemon.http().send_from(
        "POST",
        "/images/load",
        "application/x-tar",
        &mut archive.as_slice(),
        None,
    );
    assert_eq!(
        (whole.status, world.docker().ok(&["images", "-aq"]).lines().count()),
        (200, 1),
        "{}",
        whole.text()
    );
}
