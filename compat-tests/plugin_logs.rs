//! `GET /plugins/{name}/logs` and `dockplugd logs`, which dockerd does not have: what plugins write, and when it ends.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::{Connection, Http};
use crate::support::process;
use crate::support::until;

/// The pieces of a log: (stream, text).
type Pieces = Vec<(u8, String)>;

/// Takes the multiplexed stream apart; what is not whole is a failure.
fn pieces(mut bytes: &[u8]) -> Pieces {
    let mut pieces = vec![];
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        assert_eq!(head[1..4], [0; 3]);
        let length = u32::from_be_bytes(head[4..].try_into().unwrap());
        let (text, rest) = rest.split_at(usize::try_from(length).unwrap());
        pieces.push((head[0], String::from_utf8(text.to_vec()).unwrap()));
        bytes = rest;
    }
    assert_eq!(bytes, b"");
    pieces
}

fn logs(daemon: &Daemon, query: &str) -> Pieces {
    let answer = daemon.http().ask("GET", &format!("/plugins/tiny/logs?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    pieces(&answer.body)
}

/// A log that is followed.
struct Followed(Connection);

impl Followed {
    fn begin(daemon: &Daemon, query: &str) -> Self {
        let mut stream = daemon.http().open().unwrap();
        let request = format!("GET /plugins/tiny/logs?follow=1&{query} HTTP/1.1\r\nHost: d\r\n\r\n");
        stream.write(request.as_bytes()).unwrap();
        let (status, headers) = stream.head().unwrap();
        assert_eq!(status, 200);
        let kind = "application/vnd.docker.multiplexed-stream".to_owned();
        assert!(headers.contains(&("Content-Type".into(), kind)), "{headers:?}");
        Self(stream)
    }

    /// Reads on until a piece has these words; the pieces until then.
    fn until(&mut self, words: &str) -> Pieces {
        let mut seen = vec![];
        loop {
            let chunk =
                self.0.chunk().unwrap().unwrap_or_else(|| panic!("it ended without {words:?}: {seen:?}"));
            seen.extend(pieces(&chunk));
            if seen.iter().any(|(_, text)| text.contains(words)) {
                return seen;
            }
        }
    }

    /// Reads to the end.
    fn rest(mut self) -> Pieces {
        let mut seen = vec![];
        while let Some(chunk) = self.0.chunk().unwrap() {
            seen.extend(pieces(&chunk));
        }
        seen
    }
}

/// Asks the plugin for a volume that it does not have, which it writes down.
fn ask(daemon: &Daemon, name: &str) {
    assert_eq!(daemon.volume(&json!({"Name": name, "Driver": "tiny"})).status, 201);
}

fn talking() -> Option<Daemon> {
    let daemon = Daemon::ours()?;
    daemon.run("tiny", &daemon.tiny().mode("talk"));
    Some(daemon)
}

fn state(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")["State"].clone()
}

#[test]
fn what_a_plugin_wrote_is_told_by_stream_tail_and_time() {
    let Some(daemon) = talking() else { return };
    ask(&daemon, "one");
    ask(&daemon, "two");
    let all = logs(&daemon, "stdout=1&stderr=1");
    assert_eq!(all[0], (1, "tiny: listening\n".to_owned()));
    let errors = logs(&daemon, "stderr=1");
    assert!(errors.contains(&(2, "tiny: Create one\n".to_owned())), "{errors:?}");
    assert!(errors.iter().all(|(stream, _)| *stream == 2));
    assert_eq!(logs(&daemon, "stdout=1"), all[..1]);
    assert_eq!(logs(&daemon, "stdout=1&stderr=1&tail=2"), all[all.len() - 2..]);
    assert_eq!(logs(&daemon, "stdout=1&stderr=1&tail=0"), []);

    // A time of the log's own divides it.
    let stamped = logs(&daemon, "stderr=1&timestamps=1");
    // Lines that were read from the plugin together have one time.
    let times: Vec<jiff::Timestamp> = stamped
        .iter()
        .zip(&errors)
        .map(|(stamped, plain)| {
            let (time, text) = stamped.1.split_once(' ').unwrap();
            assert_eq!(text, plain.1);
            time.parse().unwrap()
        })
        .collect();
    let time = times[1];
    let first = times.iter().position(|other| *other >= time).unwrap();
    let after = times.iter().position(|other| *other > time).unwrap_or(times.len());
    let seconds = |time: jiff::Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
    assert_eq!(logs(&daemon, &format!("stderr=1&since={}", seconds(time))), errors[first..]);
    assert_eq!(logs(&daemon, &format!("stderr=1&until={}", seconds(time))), errors[..after]);

    let http = daemon.http();
    let refused = http.ask("GET", "/plugins/tiny/logs");
    daemon.assert_refused(&refused, 400, "Bad parameters: you must choose at least one stream");
    assert_eq!(http.ask("GET", "/plugins/nobody/logs?stdout=1").status, 404);
    let old = http.ask("GET", "/v1.41/plugins/tiny/logs?stdout=1");
    assert_eq!(old.header("content-type"), Some("application/vnd.docker.raw-stream"));
    // A disabled one has its log still.
    assert_eq!(http.ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    assert_eq!(logs(&daemon, "stderr=1")[..errors.len()], errors);
}

#[test]
fn following_goes_on_over_restarts_and_ends_with_the_plugin() {
    let Some(daemon) = talking() else { return };
    let mut followed = Followed::begin(&daemon, "stdout=1&stderr=1");
    followed.until("listening");
    ask(&daemon, "one");
    followed.until("Create one");
    let pid = i32::try_from(state(&daemon)["Pid"].as_i64().unwrap()).unwrap();
    process::send(pid, Signal::SIGKILL);
    assert_eq!(followed.until("listening").last().unwrap(), &(1, "tiny: listening\n".to_owned()));
    ask(&daemon, "two");
    followed.until("Create two");
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    followed.rest();
    // There is nothing to wait for with one that does not run.
    let whole = Followed::begin(&daemon, "stdout=1").rest();
    assert_eq!(whole.len(), 2, "{whole:?}");
}

#[test]
fn what_is_written_while_the_daemon_is_dead_is_told_afterwards() {
    let Some(mut daemon) = talking() else { return };
    let pid = state(&daemon)["Pid"].clone();
    daemon.kill();
    // Straight to its socket, whose path is too long for one.
    let id = std::fs::read_dir(daemon.exec_root().join("plugins")).unwrap().next().unwrap().unwrap();
    let short = daemon.place().join("s");
    std::os::unix::fs::symlink(id.path().join("sockets"), &short).unwrap();
    let answer = Http::new(&short.join("tiny.sock")).json(
        "POST",
        "/VolumeDriver.Create",
        &json!({"Name": "meanwhile"}),
    );
    assert_eq!(answer.status, 200);
    daemon.launch();
    until("it is told", || {
        let told = logs(&daemon, "stderr=1");
        told.contains(&(2, "tiny: Create meanwhile\n".to_owned())).then_some(())
    });
    until("it is found", || (state(&daemon)["Pid"] == pid).then_some(()));
    let mut followed = Followed::begin(&daemon, "stderr=1&tail=0");
    ask(&daemon, "after");
    followed.until("Create after");
}

#[test]
fn the_command_keeps_the_streams_apart() {
    let Some(daemon) = talking() else { return };
    ask(&daemon, "one");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(Daemon::program_of_ours());
        command.arg("logs").args(arguments).stdin(Stdio::null());
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run(&["tiny"]);
    assert_eq!((code, out.as_str()), (Some(0), "tiny: listening\n"));
    assert!(err.contains("tiny: Create one\n"), "{err}");
    let (_, _, last) = run(&["-n", "1", "tiny"]);
    assert_eq!(last.lines().count(), 1);
    let (_, out, _) = run(&["-t", "--since", "1h", "tiny"]);
    assert!(out.ends_with("Z tiny: listening\n") && out.starts_with("20"), "{out}");
    assert_eq!(run(&["--until", "1h", "tiny"]), (Some(0), String::new(), String::new()));
    let (code, _, err) = run(&["--since", "soon", "tiny"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot read \"soon\" as a time"), "{err}");
    let (code, _, err) = run(&["nobody"]);
    assert_eq!((code, err.contains("plugin \"nobody\" not found")), (Some(1), true), "{err}");
    // Followed until there is nothing more to come.
    let mut follow = Command::new(Daemon::program_of_ours());
    follow.args(["logs", "-f", "tiny"]).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    let child = follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"tiny: listening\n");
}
