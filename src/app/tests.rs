//! The whole daemon, in this process: with a directory, a socket and signals of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Parser as _;

use super::*;
use crate::config::Args;

/// A place for one daemon, and for a second one that is in its way.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration with these names below the place. No plugin is started, so any program is the runtime.
    fn config(&self, data: &str, exec: &str, socket: &str) -> Config {
        std::fs::write(self.path("daemon.json"), "{}").unwrap();
        let flag = |name: &str, value: &str| format!("--{name}={}", self.path(value).display());
        let host = format!("--host=unix://{}", self.path(socket).display());
        let line = [
            "dockplugd".to_owned(),
            flag("config-file", "daemon.json"),
            flag("data-root", data),
            flag("exec-root", exec),
            host,
            "--group=0".to_owned(),
            "--legacy-plugins-dir=".to_owned(),
            "--add-runtime=any=true".to_owned(),
            "--default-runtime=any".to_owned(),
            // Not the machine's, if it has one.
            "--engine=none".to_owned(),
        ];
        Config::resolve(&Args::parse_from(line)).unwrap()
    }

    /// What a client is told.
    async fn ask(&self, socket: &str, path: &str) -> String {
        let (socket, request) = (self.path(socket), format!("GET {path} HTTP/1.0\r\nHost: d\r\n\r\n"));
        let ask = move || {
            let mut client = UnixStream::connect(socket).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }
}

/// The id that `/info` tells.
fn id(info: &str) -> String {
    let (_, body) = info.split_once("\r\n\r\n").unwrap();
    let info: serde_json::Value = serde_json::from_str(body).unwrap();
    info["ID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_daemon_serves_ends_cleanly_and_is_the_same_one_afterwards() {
    let place = Place::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let app = App::start(place.config("data", "exec", "d.sock")).await.unwrap();
        assert!(place.path("exec/dockplugd.pid").exists());
        assert!(place.ask("d.sock", "/_ping").await.ends_with("OK"));
        ids.push(id(&place.ask("d.sock", "/info").await));
        let (end, signals) = mpsc::channel(2);
        end.send("SIGTERM").await.unwrap();
        app.run(signals).await;
        assert!(!place.path("d.sock").exists() && !place.path("exec/dockplugd.pid").exists());
    }
    assert_eq!(ids[0].len(), 2 * ID_BYTES);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let app = App::start(place.config("data", "exec", "d.sock")).await.unwrap();
    // A client that never ends its request keeps the drain waiting.
    let mut client = UnixStream::connect(place.path("d.sock")).unwrap();
    let request = b"POST /plugins/create?name=x HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(request).unwrap();
    let client = tokio::task::spawn_blocking(move || {
        client.read_exact(&mut [0; 12]).unwrap();
        client
    });
    let client = client.await.unwrap();
    let (end, signals) = mpsc::channel(2);
    for signal in ["SIGTERM", "SIGINT"] {
        end.send(signal).await.unwrap();
    }
    app.run(signals).await;
    drop(client);
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_takes_nothing_away() {
    let place = Place::new();
    let _first = App::start(place.config("data", "exec", "d.sock")).await.unwrap();
    for (data, exec, socket, complaint) in [
        ("data", "exec2", "e.sock", "another dockplugd uses"),
        ("data2", "exec2", "d.sock", "answers there; stop it, or listen elsewhere"),
    ] {
        let error = chain(&App::start(place.config(data, exec, socket)).await.unwrap_err());
        assert!(error.contains(complaint), "{error}");
        assert!(!place.path("e.sock").exists());
        assert!(place.ask("d.sock", "/_ping").await.ends_with("OK"));
    }
}

#[tokio::test]
async fn an_address_of_metrics_that_is_taken_is_told_with_what_to_do() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = place.config("data", "exec", "d.sock");
    config.metrics_addr = Some(taken.local_addr().unwrap().to_string().parse().unwrap());
    let error = chain(&App::start(config).await.unwrap_err());
    let expected =
        format!("cannot serve metrics on {}: give --metrics-addr another", taken.local_addr().unwrap());
    assert!(error.starts_with(&expected) && error.contains("Address already in use"), "{error}");
    assert!(!place.path("d.sock").exists() && !place.path("exec/dockplugd.pid").exists());
}

#[tokio::test]
async fn the_roots_are_for_root_alone() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    let _app = App::start(place.config("data", "exec", "d.sock")).await.unwrap();
    for root in ["data", "exec"] {
        let mode = std::fs::metadata(place.path(root)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{root}");
    }
}

#[tokio::test]
async fn without_a_runtime_the_error_says_which() {
    let place = Place::new();
    let mut config = place.config("data", "exec", "d.sock");
    let none = ["dockplugd", "--add-runtime=any=no-such-runtime", "--default-runtime=any"];
    config.runtimes = Config::resolve(&Args::parse_from(none)).unwrap().runtimes;
    let error = chain(&App::start(config).await.unwrap_err());
    assert!(error.contains("no-such-runtime"), "{error}");
    assert!(!place.path("d.sock").exists() && !place.path("exec/dockplugd.pid").exists());
}
