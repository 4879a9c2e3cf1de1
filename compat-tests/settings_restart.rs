//! Settings of a plugin that runs, changed with a restart: new ones that work, or the old ones again.

use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::until;

fn set(daemon: &Daemon, settings: &[&str]) -> Answer {
    daemon.http().json("POST", "/plugins/tiny/set?restart=1", &json!(settings))
}

fn look(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")
}

fn running(daemon: &Daemon) -> Option<Value> {
    Some(look(daemon)).filter(|plugin| plugin["State"]["Status"] == "running")
}

/// A plugin that runs, with a volume.
fn started() -> Option<Daemon> {
    let daemon = Daemon::ours()?;
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "kept", "Driver": "tiny"})).status, 201);
    Some(daemon)
}

#[test]
fn new_settings_work_at_once_and_its_volumes_stay() {
    let Some(daemon) = started() else { return };
    let before = running(&daemon).unwrap();
    let answer = set(&daemon, &["MODE=talk"]);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let after = running(&daemon).unwrap();
    assert_ne!(after["State"]["Pid"], before["State"]["Pid"]);
    assert_eq!((&after["Enabled"], &after["Settings"]["Env"][0]), (&json!(true), &json!("MODE=talk")));
    assert_eq!(daemon.http().look("/volumes/kept")["Driver"], "tiny:latest");
    // It goes to the log through a pipe.
    until("the plugin says what it was asked", || {
        let log = daemon.http().ask("GET", "/plugins/tiny/logs?stderr=1").text();
        log.contains("tiny: Get kept").then_some(())
    });

    // dockerd's refusal is the default, and what cannot be set restarts nothing.
    let refused = daemon.http().json("POST", "/plugins/tiny/set", &json!(["MODE="]));
    daemon.assert_refused(&refused, 409, "cannot set on an active plugin, disable plugin before setting");
    let refused = set(&daemon, &["FIXED=2"]);
    daemon.assert_refused(&refused, 400, "\"FIXED\" is not settable");
    assert_eq!(look(&daemon), after);

    let mut command = Command::new(Daemon::program_of_ours());
    command.args(["set", "--restart", "tiny", "MODE=", "record.source=/"]).stdin(Stdio::null());
    let output =
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last = running(&daemon).unwrap();
    assert_eq!(last["Settings"]["Env"][0], "MODE=");
    assert_eq!(last["Settings"]["Mounts"][0]["Source"], "/");
}

#[test]
fn settings_that_do_not_work_are_taken_back() {
    let Some(daemon) = started() else { return };
    let before = running(&daemon).unwrap();
    for (mode, expected) in [("exit=9", "exited with code 9"), ("link=/run/other.sock", "symbolic link")] {
        let answer = set(&daemon, &[&format!("MODE={mode}")]);
        assert_eq!(answer.status, 500, "{mode}");
        let message = answer.message();
        let told = "plugin tiny:latest does not start with these settings and has those from before again, with which it runs: ";
        assert!(message.starts_with(told) && message.contains(expected), "{message}");
        let after = running(&daemon).unwrap();
        assert_eq!(after["Settings"], before["Settings"]);
        assert_eq!((&after["Enabled"], &after["State"]["Error"]), (&json!(true), &Value::Null));
        assert_eq!(daemon.http().look("/volumes/kept")["Status"], json!({"kept": "here"}));
    }
    let source = "/nowhere/at/all";
    let answer = set(&daemon, &[&format!("record.source={source}")]);
    assert!(answer.message().contains("its source /nowhere/at/all does not exist"), "{}", answer.message());
    assert_eq!(running(&daemon).unwrap()["Settings"], before["Settings"]);
}

#[test]
fn a_daemon_that_is_killed_in_the_midst_leaves_the_old_settings() {
    let Some(mut daemon) = started() else { return };
    let before = running(&daemon).unwrap();
    for mode in ["silent", "late=/volumes/never"] {
        let http = daemon.http();
        let mode = format!("MODE={mode}");
        let asking = thread::spawn(move || {
            let mut connection = http.open().unwrap();
            let body = json!([mode]).to_string();
            let head =
                "POST /plugins/tiny/set?restart=1 HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n";
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            connection.exchange("POST", request.as_bytes()).is_err()
        });
        let trial = until("the new one is on trial", || {
            let state = look(&daemon)["State"].clone();
            (state["Status"] == "starting").then(|| state["Pid"].as_i64())?
        });
        daemon.kill();
        assert!(asking.join().unwrap(), "it was never answered");
        // Twice: what was put right stays so.
        for _ in 0..2 {
            daemon.launch();
            let after = until("it runs", || running(&daemon));
            assert_eq!(after["Settings"], before["Settings"]);
            assert_ne!(after["State"]["Pid"], json!(trial));
            assert_eq!(daemon.http().look("/volumes/kept")["Status"], json!({"kept": "here"}));
            daemon.kill();
        }
        daemon.launch();
        until("it runs", || running(&daemon));
    }
}

#[test]
fn a_disabled_plugin_is_only_set() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.install("tiny", &daemon.tiny());
    assert_eq!(set(&daemon, &["MODE=exit=9"]).status, 204);
    let plugin = look(&daemon);
    assert_eq!((&plugin["Enabled"], &plugin["State"]["Status"]), (&json!(false), &json!("stopped")));
    assert_eq!(plugin["Settings"]["Env"][0], "MODE=exit=9");
}
