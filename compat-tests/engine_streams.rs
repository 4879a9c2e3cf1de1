//! What is done to a client's connection is done to the engine's: it is left, kept waiting, and made another protocol.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use serde_json::json;

use crate::support::engine_world::{World, command};
use crate::support::http::Connection;
use crate::support::{process, until};

/// How much is sent through, in bytes.
const LARGE_BYTES: usize = 256 << 20;
/// By how much the daemon may grow for it, in KiB.
const GROWTH_MAX_KIB: u64 = 16 << 10;

fn ask(connection: &mut Connection, request: &str) -> (u16, Vec<(String, String)>) {
    connection.write(format!("{request}\r\n\r\n").as_bytes()).unwrap();
    connection.head().unwrap()
}

#[test]
fn a_client_that_hangs_up_leaves_the_engine_too() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    docker.ok(&command("run", &["-d", "--name", "one"], "echo begun; exec /bin/busybox sleep 1000"));
    until("nobody listens yet", || (world.connections() == 0).then_some(()));
    let open_files = || process::open_files(world.daemon.pid());
    let before = open_files();
    for request in [
        // Silent from now on; and one without an answer as long as it runs.
        "GET /containers/one/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d",
        "POST /containers/one/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0",
        "POST /containers/one/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\
         Connection: Upgrade\r\nUpgrade: tcp",
    ] {
        let mut connection = world.daemon.http().open().unwrap();
        connection.write(format!("{request}\r\n\r\n").as_bytes()).unwrap();
        until("the engine is asked", || (world.connections() == 1).then_some(()));
        if !request.contains("/wait") {
            let (status, _) = connection.head().unwrap();
            assert!(matches!(status, 101 | 200), "{request}: {status}");
        }
        drop(connection);
        until(&format!("all is closed after {request:?}"), || (open_files() <= before).then_some(()));
        // podman 4.3 finds out that nobody is attached any more when there is something to say, straight too.
        if !request.contains("/attach") {
            until("the engine has closed it too", || (world.connections() == 0).then_some(()));
        }
    }
    assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Running}}", "one"]), "true");
}

#[test]
fn large_bodies_leave_memory_flat_and_wait_for_the_slow() {
    let Some(world) = World::new() else { return };
    let (docker, http) = (world.docker(), world.daemon.http());
    let script = format!("/bin/busybox truncate -s {LARGE_BYTES} /large; exec /bin/busybox sleep 1000");
    docker.ok(&command("run", &["-d", "--name", "one"], &script));
    let size = || docker.run(&["exec", "one", "/bin/busybox", "stat", "-c", "%s", "/large"]).out;
    until("there is a large file", || (size() == LARGE_BYTES.to_string()).then_some(()));
    let before = process::peak_kib(world.daemon.pid());

    // A download that is not read. What is taken in for it ends at some time, long before the file does.
    let mut slow = http.open().unwrap();
    let (status, _) = ask(&mut slow, "GET /containers/one/archive?path=/large HTTP/1.1\r\nHost: d");
    assert_eq!(status, 200);
    for _ in 0..200 {
        // Not of the container: dockerd keeps that to itself meanwhile.
        assert_eq!(http.ask("GET", "/images/box/json").status, 200, "others are answered");
    }
    let mut read_bytes = 0;
    while let Some(chunk) = slow.chunk().unwrap() {
        read_bytes += chunk.len();
    }
    assert!(read_bytes > LARGE_BYTES, "{read_bytes}");

    // An upload, of which the engine makes an image.
    let zeros = vec![0; LARGE_BYTES];
    let mut tar = crate::support::archive::Tar::new().open_end();
    tar.extend_from_slice(&crate::support::archive::header(&crate::support::archive::Entry::file(
        "large", &zeros,
    )));
    drop(zeros);
    tar.resize(tar.len() + LARGE_BYTES + 1024, 0);
    let target = "/images/create?fromSrc=-&repo=large";
    let answer = http.send_from("POST", target, "application/x-tar", &mut tar.as_slice(), None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(docker.ok(&["images", "-q", "large"]).len() >= 12);
    let grown = process::peak_kib(world.daemon.pid()) - before;
    assert!(grown < GROWTH_MAX_KIB, "the daemon has grown by {grown} KiB");
}

#[test]
fn a_raw_connection_is_closed_in_one_direction_at_a_time() {
    let Some(world) = World::new() else { return };
    let http = world.daemon.http();
    let body = json!({"Image": "box", "Cmd": ["/bin/busybox", "sh", "-c", "/bin/busybox cat; echo after"],
        "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "Tty": false,
        "NetworkDisabled": true,
        "HostConfig": {"NetworkMode": "none", "SecurityOpt": ["seccomp=unconfined"]}});
    let created = http.json("POST", "/v1.41/containers/create?name=raw", &body);
    assert_eq!(created.status, 201, "{}", created.text());
    let mut connection = http.open().unwrap();
    let (status, headers) = ask(
        &mut connection,
        "POST /v1.41/containers/raw/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: 0",
    );
    assert_eq!(status, 101, "{headers:?}");
    assert_eq!(http.ask("POST", "/v1.41/containers/raw/start").status, 204);
    let mut stream = connection.stream().try_clone().unwrap();
    stream.write_all(b"typed\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let frames = [(1_u8, "typed\n"), (1, "after\n")].map(|(of, text)| {
        [&[of, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    });
    assert_eq!(said, frames.concat(), "{:?}", String::from_utf8_lossy(&said));
}

#[test]
fn a_websocket_is_passed_on() {
    let Some(world) = World::new() else { return };
    world.docker().ok(&command(
        "run",
        &["-d", "--name", "one"],
        "echo over the web; exec /bin/busybox sleep 1000",
    ));
    until("it has spoken", || (world.docker().ok(&["logs", "one"]) == "over the web").then_some(()));
    let request = "GET /v1.41/containers/one/attach/ws?logs=1&stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\
         Origin: http://d\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut through = world.daemon.http().open().unwrap();
    let (status, headers) = ask(&mut through, request);
    if world.engine.is_podman() {
        // It has none.
        let mut straight = Connection::open(&world.engine.socket()).unwrap();
        assert_eq!((status, ask(&mut straight, request).0), (404, 404));
        return;
    }
    assert_eq!(status, 101, "{headers:?}");
    // RFC 6455, 1.3: the answer to this very key.
    let accept = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    assert_eq!(accept.map(|(_, value)| value.as_str()), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    // One frame of text, or of bytes, to its end.
    let mut frame = [0; 15];
    through.read_exact(&mut frame).unwrap();
    assert!(matches!(frame[0], 0x81 | 0x82), "{frame:?}");
    assert_eq!((frame[1], &frame[2..]), (13, &b"over the web\n"[..]));
}
