//! Secrets of plugins: settings that are references to files, and variables whose values are not shown.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;

/// A plugin that ends with what its variable says.
fn exiting(daemon: &Daemon) {
    daemon.install(
        "tiny",
        &daemon.tiny().with("env", json!([{"name": "MODE", "settable": ["value"], "value": ""}])),
    );
}

fn env(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")["Settings"]["Env"].clone()
}

/// Whether a file below a directory has these bytes in it.
fn is_below(place: &std::path::Path, words: &str) -> bool {
    fs::read_dir(place).into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => is_below(&entry.path(), words),
        Ok(kind) if kind.is_file() => {
            fs::read(entry.path()).unwrap().windows(words.len()).any(|window| window == words.as_bytes())
        }
        _ => false,
    })
}

#[test]
fn a_reference_is_read_at_each_start_and_is_all_that_is_kept() {
    let Some(mut daemon) = Daemon::ours() else { return };
    exiting(&daemon);
    let docker = daemon.docker();
    let file = daemon.place().join("mode");
    let reference = format!("MODE=@file:{}", file.display());
    docker.ok(&["plugin", "set", "tiny", &reference]);

    let error = docker.fails(&["plugin", "enable", "tiny"]);
    let expected =
        format!("the setting env MODE is to be read from {}, which cannot be read", file.display());
    assert!(error.contains(&expected), "{error}");

    fs::write(&file, "exit=41 very-secret\n").unwrap();
    let error = docker.fails(&["plugin", "enable", "tiny"]);
    assert!(error.contains("exited with code 41"), "{error}");
    assert!(!error.contains("very-secret"), "{error}");

    fs::write(&file, "very-secret\n").unwrap();
    docker.ok(&["plugin", "enable", "tiny"]);
    assert_eq!(env(&daemon), json!([reference]));
    assert!(!docker.ok(&["plugin", "inspect", "tiny"]).contains("very-secret"));
    let now = jiff::Timestamp::now();
    let until = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let told = daemon.http().ask("GET", &format!("/events?since=0&until={until}")).text();
    assert!(told.contains("\"start\"") && !told.contains("very-secret"), "{told}");
    assert!(!is_below(&daemon.data_root(), "very-secret"));
    assert!(is_below(&daemon.data_root(), &file.display().to_string()), "the reference itself is kept");
    assert!(!daemon.log().contains("very-secret"));

    // It outlives the daemon as what it is.
    daemon.kill();
    daemon.launch();
    assert_eq!(env(&daemon), json!([reference]));
    docker.ok(&["plugin", "disable", "tiny"]);
    assert!(!is_below(&daemon.exec_root(), "very-secret"));
}

#[test]
fn values_of_names_that_match_are_not_shown_and_are_used() {
    let Some(daemon) = Daemon::ours_with(&["--redact-env", "M*E"]) else { return };
    exiting(&daemon);
    let docker = daemon.docker();
    docker.ok(&["plugin", "set", "tiny", "MODE=exit=43"]);
    assert_eq!(env(&daemon), json!(["MODE=********"]));
    assert_eq!(daemon.http().look("/plugins")[0]["Settings"]["Env"], json!(["MODE=********"]));
    let error = docker.fails(&["plugin", "enable", "tiny"]);
    assert!(error.contains("exited with code 43"), "{error}");
}
