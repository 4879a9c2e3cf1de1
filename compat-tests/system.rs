//! The daemon itself: ping, versions, routes, and clients that behave oddly.

use std::fs::{self, File};
use std::net::Shutdown;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::until;

fn highest_version(daemon: &Daemon) -> String {
    daemon.http().ask("GET", "/_ping").header("Api-Version").unwrap().to_owned()
}

#[test]
fn ping_answers_and_tells_the_version() {
    let daemon = Daemon::start();
    for (method, body) in [("GET", "OK"), ("HEAD", "")] {
        let answer = daemon.http().ask(method, "/_ping");
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
        assert_eq!(answer.header("Pragma"), Some("no-cache"));
        assert_eq!(answer.header("Ostype"), Some("linux"));
        assert_eq!(answer.header("Docker-Experimental"), Some("false"));
        assert!(answer.header("Server").is_some());
        assert!(answer.header("Api-Version").unwrap().starts_with("1."));
        assert!(answer.header("Date").is_some());
    }
}

#[test]
fn version_and_info_have_what_the_cli_prints() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let version = daemon.http().look("/version");
    for key in
        ["Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion", "GitCommit", "GoVersion"]
    {
        assert!(version[key].is_string(), "{key} in {version}");
    }
    assert_eq!(version["Os"], "linux");
    assert_eq!(version["ApiVersion"], highest_version(&daemon));
    let info = daemon.http().look("/info");
    assert_eq!(info["DockerRootDir"], daemon.data_root().to_str().unwrap());
    assert!(info["Plugins"]["Volume"].as_array().unwrap().contains(&json!("local")), "{info}");
    let format = "{{.Client.Version}}|{{.Server.APIVersion}}";
    let shown = daemon.docker().ok(&["version", "--format", format]);
    assert!(shown.ends_with(&format!("|{}", highest_version(&daemon))), "{shown}");
    assert!(daemon.docker().ok(&["info"]).contains("Server:"));
}

#[test]
fn every_answer_says_who_answers() {
    let daemon = Daemon::start();
    for target in ["/plugins", "/volumes", "/plugins/nope/json", "/nope"] {
        let answer = daemon.http().ask("GET", target);
        for header in ["Api-Version", "Ostype", "Server", "Docker-Experimental"] {
            // dockerd forgets them where it knows no route.
            let forgotten = !daemon.is_ours() && target == "/nope";
            assert!(answer.header(header).is_some() || forgotten, "{header} of {target}");
        }
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{target}");
        assert!(answer.text().ends_with('\n'), "{target}: {}", answer.text());
    }
}

#[test]
fn versions_are_accepted_within_their_limits() {
    let daemon = Daemon::start();
    let max = highest_version(&daemon);
    for version in ["1.24", "1.40", max.as_str()] {
        assert_eq!(daemon.http().ask("GET", &format!("/v{version}/volumes")).status, 200, "{version}");
    }
    for version in ["1.999", "2.0"] {
        let answer = daemon.http().ask("GET", &format!("/v{version}/plugins"));
        let message = format!("client version {version} is too new. Maximum supported API version is {max}");
        daemon.assert_refused(&answer, 400, &message);
    }
    let answer = daemon.http().ask("GET", "/v1.0/plugins");
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(text.contains("client version 1.0 is too old. Minimum supported API version is 1."), "{text}");
}

#[test]
fn the_cli_agrees_on_an_older_version() {
    let daemon = Daemon::start();
    assert_eq!(daemon.volume(&json!({"Name": "data"})).status, 201);
    let answer = daemon.http().ask("GET", "/v1.24/volumes/data");
    assert_eq!(answer.json()["Name"], "data");
    assert_eq!(daemon.docker().ok(&["volume", "ls", "-q"]), "data");
}

#[test]
fn routes_nobody_knows_are_not_found() {
    let daemon = Daemon::start();
    let not_found = |answer: &Answer, what: &str| {
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{what}");
    };
    for target in
        ["/", "/nope", "/v1.41", "/v1.41/", "/v1.41/nope", "/vx/plugins", "/plugins/", "/plugins/create"]
    {
        not_found(&daemon.http().ask("GET", target), target);
    }
    let methods = [
        ("PUT", "/plugins"),
        ("POST", "/plugins"),
        ("DELETE", "/plugins"),
        ("POST", "/volumes"),
        ("DELETE", "/volumes"),
        ("PATCH", "/volumes"),
        ("POST", "/_ping"),
        ("FOO", "/_ping"),
    ];
    for (method, target) in methods {
        not_found(&daemon.http().ask(method, target), &format!("{method} {target}"));
    }
}

#[test]
fn paths_that_climb_reach_nothing() {
    let daemon = Daemon::start();
    for target in
        ["/volumes/%2e%2e", "/plugins/..%2f..%2fetc/json", "/volumes/..%2f..%2fetc", "/volumes/a%2fb"]
    {
        for method in ["GET", "DELETE"] {
            let answer = daemon.http().ask(method, target);
            assert!(matches!(answer.status, 301 | 400 | 404), "{method} {target}: {answer:?}");
        }
    }
    assert!(Path::new("/etc").exists());
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    let daemon = Daemon::start();
    let request = b"GET /volumes HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let answer = daemon.http().raw(request, true).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"Volumes\":[],\"Warnings\":null}\n"));
    let request = b"GET /_ping HTTP/1.0\r\n\r\n";
    assert_eq!(daemon.http().raw(request, true).unwrap().text(), "OK");
}

#[test]
fn a_client_that_hangs_up_does_not_cancel_what_it_asked_for() {
    let Some(daemon) = Daemon::ours() else { return };
    let body = "{\"Name\":\"data\"}";
    let request = format!(
        "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = daemon.http().open().unwrap();
    connection.write(request.as_bytes()).unwrap();
    connection.stream().shutdown(Shutdown::Both).unwrap();
    until("the volume is there", || (daemon.http().ask("GET", "/volumes/data").status == 200).then_some(()));
}

#[test]
fn one_connection_carries_many_requests() {
    let daemon = Daemon::start();
    let mut connection = daemon.http().open().unwrap();
    for _ in 0..3 {
        let answer = connection.exchange("GET", b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        assert_eq!(answer.text(), "OK");
        let answer = connection.exchange("GET", b"GET /volumes/nope HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        assert_eq!(answer.status, 404);
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let daemon = Daemon::start();
    let mut connection = daemon.http().open().unwrap();
    let head = b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n\
                 Expect: 100-continue\r\nContent-Length: 15\r\nConnection: close\r\n\r\n";
    connection.write(head).unwrap();
    assert_eq!(connection.head().unwrap().0, 100);
    assert_eq!(connection.exchange("POST", b"{\"Name\":\"data\"}").unwrap().status, 201);
}

#[test]
fn bytes_that_are_no_http_harm_nobody() {
    let daemon = Daemon::start();
    let long = [b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Long: ".as_slice(), &vec![b'a'; 2 << 20], b"\r\n\r\n"]
        .concat();
    let table: [&[u8]; 6] = [
        b"\x00\x01\x02\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /_ping HTTP/9.9\r\nHost: d\r\n\r\n",
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: -2\r\n\r\n{}",
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        &long,
    ];
    for bytes in table {
        // No answer at all is fine too, as long as it is no success.
        if let Some(answer) = daemon.http().raw(bytes, true) {
            assert!(answer.status >= 400, "{answer:?}");
        }
        assert_eq!(daemon.http().ask("GET", "/_ping").status, 200);
    }
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
}

#[test]
fn options_are_answered_where_there_is_something() {
    let daemon = Daemon::start();
    for target in ["/_ping", "/plugins"] {
        let answer = daemon.http().ask("OPTIONS", target);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{target}");
    }
}

/// Starts another dockplugd, which must refuse to run; what it said on stderr.
fn rival(daemon: &Daemon, socket: &Path, data_root: &Path) -> String {
    let (place, said) = (daemon.place(), daemon.place().join("rival.log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockplugd"));
    command.arg("-H").arg(format!("unix://{}", socket.display())).arg("--data-root").arg(data_root);
    command.arg("--exec-root").arg(place.join("exec2")).arg("--pidfile").arg(place.join("pid2"));
    let mut child = command.stderr(File::create(&said).unwrap()).stdout(Stdio::null()).spawn().unwrap();
    // One that runs after all is ended with the daemon's directory.
    let status = until("the other daemon gives up", || child.try_wait().unwrap());
    assert!(!status.success());
    let said = fs::read_to_string(said).unwrap();
    assert!(!said.is_empty() && !said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let Some(daemon) = Daemon::ours() else { return };
    let said = rival(&daemon, &daemon.place().join("second.sock"), &daemon.data_root());
    assert!(said.contains(daemon.data_root().to_str().unwrap()), "{said}");
    assert_eq!(daemon.http().ask("GET", "/_ping").status, 200);
}

#[test]
fn a_living_socket_is_not_stolen_and_a_dead_one_is_replaced() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let said = rival(&daemon, &daemon.socket(), &daemon.place().join("data2"));
    assert!(said.contains(daemon.socket().to_str().unwrap()), "{said}");
    assert_eq!(daemon.http().ask("GET", "/_ping").status, 200);
    daemon.kill();
    assert!(daemon.socket().exists(), "the socket of a killed daemon stays");
    daemon.launch();
}
