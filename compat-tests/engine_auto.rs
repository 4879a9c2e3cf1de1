//! `--engine auto` where none listens: podman is started, kept, taken over and ended.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::engine_world::command;
use crate::support::podman::Podman;
use crate::support::{process, until};

/// Whether the machine has an engine that runs: that one is taken then, and none is started.
fn machine_has_an_engine() -> bool {
    let sockets = ["/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock"];
    sockets.iter().any(|socket| UnixStream::connect(socket).is_ok())
}

fn place() -> TempDir {
    tempfile::Builder::new().prefix("engine").tempdir().unwrap()
}

/// The machine's programs, after those in a directory.
fn path_with(first: &Path) -> OsString {
    let mut path = first.as_os_str().to_owned();
    path.push(":");
    path.push(process::search_path());
    path
}

/// The process of the engine that a daemon has started, if there is one.
fn engine_of(daemon: &Daemon) -> Option<i32> {
    let socket = daemon.exec_root().join("engine.sock").display().to_string();
    process::mentioning(&format!("system service --time=0 unix://{socket}"))
        .into_iter()
        .find(|pid| process::lives(*pid))
}

/// A daemon that finds the program of this podman, and no engine that listens; `None` where one does.
fn with_podman(place: &TempDir) -> Option<(Daemon, Podman)> {
    if machine_has_an_engine() {
        return None;
    }
    let podman = Podman::new(place.path(), &[]);
    let (directory, mut environment) = podman.as_program();
    environment.push(("PATH", path_with(&directory)));
    Some((Daemon::ours_in(&["--engine", "auto"], environment)?, podman))
}

#[test]
fn podman_is_started_and_kept_and_ended() {
    let place = place();
    let Some((mut daemon, podman)) = with_podman(&place) else { return };
    let docker = daemon.docker();
    assert_eq!(daemon.http().ask("GET", "/_ping").header("Api-Version"), Some("1.41"), "podman's");
    assert_eq!(docker.ok(&command("run", &["--rm", "-v", "data:/data"], "echo hello")), "hello");
    assert_eq!(podman.ok(&["volume", "ls", "-q"]), "");
    let first = engine_of(&daemon).unwrap();
    assert_eq!(fs::metadata(daemon.exec_root()).unwrap().permissions().mode() & 0o777, 0o700);

    // It dies: the next one is another.
    process::send(first, Signal::SIGKILL);
    until("it serves again", || (docker.run(&["ps"]).code == Some(0)).then_some(()));
    let second = engine_of(&daemon).unwrap();
    assert_ne!(first, second);

    // We die: it stays, and is taken over.
    daemon.kill();
    assert_eq!(engine_of(&daemon), Some(second));
    daemon.launch();
    assert!(docker.ok(&["images"]).contains("box"));
    assert_eq!(engine_of(&daemon), Some(second));

    // We end: it does too.
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(engine_of(&daemon), None);
}

#[test]
fn one_that_is_not_wanted_any_more_is_ended() {
    let place = place();
    let Some((mut daemon, _podman)) = with_podman(&place) else { return };
    daemon.docker().ok(&["ps"]);
    daemon.kill();
    assert!(engine_of(&daemon).is_some());
    daemon.set_flags(&["--engine", "none"]);
    daemon.launch();
    until("it has ended", || engine_of(&daemon).is_none().then_some(()));
}

#[test]
fn one_that_does_not_start_is_told_of() {
    if machine_has_an_engine() {
        return;
    }
    let place = place();
    let script = place.path().join("podman");
    fs::write(&script, "#!/bin/sh\necho 'first words' >&2\necho 'no room left for engines' >&2\nexit 125\n")
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let environment = vec![("PATH", path_with(place.path()))];
    let Some(daemon) = Daemon::ours_in(&["--engine", "auto"], environment) else { return };
    let http = daemon.http();
    for _ in 0..3 {
        let refused = http.ask("GET", "/containers/json");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(
            refused.message().contains("podman") && refused.message().contains("no room left for engines"),
            "{refused:?}"
        );
        assert_eq!(http.ask("GET", "/_ping").status, 200);
    }
    let info = http.look("/info");
    assert!(info["Warnings"][0].as_str().unwrap().contains("no room left for engines"), "{info}");
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(
        daemon.docker().ok(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]),
        "tiny:latest true"
    );
}

#[test]
fn without_podman_there_is_none() {
    if machine_has_an_engine() {
        return;
    }
    let place = place();
    let environment = vec![("PATH", place.path().as_os_str().to_owned())];
    let Some(daemon) = Daemon::ours_in(&["--engine", "auto"], environment) else { return };
    let http = daemon.http();
    let refused = http.ask("GET", "/containers/json");
    assert_eq!(refused.status, 503);
    assert!(refused.message().contains("none was found"), "{refused:?}");
    assert_eq!(http.look("/info")["Warnings"], serde_json::json!([]));
    assert_eq!(http.look("/system/df")["Images"], serde_json::json!([]));
    assert!(daemon.docker().ok(&["version"]).contains("Server: Dockplug"));
}
