//! Plugins that die, hang, lie or climb: the call that needs them fails in clear words, and nobody else notices.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::{process, until};

/// The program of the plugins of a daemon, as processes: in their own mounts, so found by what is mounted there.
fn processes(daemon: &Daemon) -> Vec<i32> {
    process::in_root_below(daemon.place())
}

fn enabled(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")["Enabled"].clone()
}

#[test]
fn a_plugin_that_dies_at_once_is_an_error_with_its_exit_code_and_last_words() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny().mode("exit=3"));
    let answer = daemon.enable("tiny");
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(enabled(&daemon), false);
    assert_eq!(processes(&daemon), Vec::<i32>::new());
    if daemon.is_ours() {
        let message = answer.message();
        assert!(message.contains('3'), "no exit code in: {message}");
        assert!(message.contains("cannot reach the storage at 192.0.2.1"), "no last words in: {message}");
        // Cured, it runs. dockerd sometimes thinks that it runs already.
        assert_eq!(daemon.http().json("POST", "/plugins/tiny/set", &json!(["MODE="])).status, 204);
        assert_eq!(daemon.enable("tiny").status, 200);
    }
}

#[test]
fn a_plugin_that_never_listens_is_given_up_and_ended() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny().mode("silent"));
    let answer = daemon.http().ask("POST", "/plugins/tiny/enable?timeout=1");
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(enabled(&daemon), false);
    until("its process is gone", || processes(&daemon).is_empty().then_some(()));
}

#[test]
fn a_plugin_that_listens_late_is_waited_for() {
    let daemon = Daemon::start();
    let fifo = daemon.record().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    daemon.install("tiny", &daemon.tiny().mode("late=/record/go"));
    std::thread::scope(|scope| {
        let enabling = scope.spawn(|| daemon.http().ask("POST", "/plugins/tiny/enable?timeout=60"));
        until("the plugin runs", || daemon.record().join("report").exists().then_some(()));
        // Opening the other end lets it go on; until then it cannot have been enabled.
        assert!(!enabling.is_finished());
        drop(fs::File::options().write(true).open(&fifo).unwrap());
        assert_eq!(enabling.join().unwrap().status, 200);
    });
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny().with("entrypoint", json!(["/nope"])));
    let answer = daemon.enable("tiny");
    assert!(answer.status >= 400 && answer.message().contains("/nope"), "{}", answer.text());
    assert_eq!(enabled(&daemon), false);
}

#[test]
fn a_mount_source_that_is_not_there_is_named() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    assert_eq!(
        daemon.http().json("POST", "/plugins/tiny/set", &json!(["record.source=/no/such/place"])).status,
        204
    );
    let answer = daemon.enable("tiny");
    assert!(answer.status >= 400 && answer.message().contains("/no/such/place"), "{}", answer.text());
    assert_eq!(enabled(&daemon), false);
    assert!(!fs::exists("/no/such/place").unwrap());
}

#[test]
fn a_plugin_that_cannot_be_terminated_is_ended_all_the_same() {
    let daemon = Daemon::start();
    for mode in ["deaf", "ignore-term"] {
        daemon.run("tiny", &daemon.tiny().mode(mode));
        assert_eq!(processes(&daemon).len(), 1, "{mode}");
        assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable").status, 200, "{mode}");
        until("its process is gone", || processes(&daemon).is_empty().then_some(()));
        assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 200, "{mode}");
    }
}

#[test]
fn a_plugin_that_refuses_is_quoted() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny().mode("refuse=Create"));
    let answer = daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
    assert!(answer.status >= 400, "{answer:?}");
    let message = answer.message();
    assert!(
        message.starts_with("create data: ") && message.ends_with("VolumeDriver.Create: tiny refuses Create"),
        "{message}"
    );
    assert_eq!(daemon.http().ask("GET", "/volumes/data").status, 404);
}

#[test]
fn answers_that_are_none_are_errors_of_that_call_alone() {
    let daemon = Daemon::start();
    for mode in ["garbage=Create", "nonsense=Create", "die-on=Create"] {
        daemon.run("tiny", &daemon.tiny().mode(mode));
        let answer = daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
        assert!(answer.status >= 400 && !answer.message().is_empty(), "{mode}: {answer:?}");
        assert_eq!(daemon.volume(&json!({"Name": "mine"})).status, 201, "{mode}");
        assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200, "{mode}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off_in_little_memory() {
    let Some(daemon) = Daemon::ours() else { return };
    for call in ["Create", "Get", "List"] {
        daemon.run("tiny", &daemon.tiny().mode(&format!("endless={call}")));
        let answer = daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
        assert!(answer.status >= 400 || call == "List", "{call}: {answer:?}");
        assert_eq!(daemon.http().ask("GET", "/volumes").status, 200, "{call}");
        assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200, "{call}");
    }
    let peak = process::peak_kib(daemon.pid());
    assert!(peak < 64 * 1024, "the daemon needed {peak} KiB");
}

#[test]
fn while_a_plugin_hangs_everything_else_answers() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("hang=all"));
    assert_eq!(daemon.volume(&json!({"Name": "mine"})).status, 201);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| daemon.volume(&json!({"Name": "data", "Driver": "tiny"})));
        let calls = daemon.record().join("calls");
        until("the plugin has been asked", || calls.exists().then_some(()));
        let volumes = daemon.http().look("/volumes");
        let names: Vec<_> =
            volumes["Volumes"].as_array().unwrap().iter().map(|v| v["Name"].clone()).collect();
        assert!(names.contains(&json!("mine")), "{volumes}");
        for target in ["/plugins", "/plugins/tiny/json", "/_ping", "/info", "/volumes/mine", "/system/df"] {
            assert_eq!(daemon.http().ask("GET", target).status, 200, "{target}");
        }
        assert_eq!(daemon.volume(&json!({"Name": "another"})).status, 201);
        assert!(!creating.is_finished(), "the plugin hangs, and the call that needs it waits");
        // Force ends the plugin, and with it the wait.
        assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
        assert!(creating.join().unwrap().status >= 400);
    });
}

#[test]
fn a_socket_that_is_a_link_is_not_followed() {
    let Some(daemon) = Daemon::ours() else { return };
    // To a socket that answers: the daemon's own, which the plugin could not reach by itself.
    let mode = format!("link={}", daemon.socket().display());
    daemon.install("tiny", &daemon.tiny().mode(&mode));
    let answer = daemon.http().ask("POST", "/plugins/tiny/enable?timeout=1");
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(enabled(&daemon), false);
}

#[test]
fn a_mountpoint_that_climbs_is_not_believed() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("climb=/volumes/../../../../../../../../etc"));
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    let list = daemon.http().look("/volumes");
    let mountpoint = list["Volumes"][0]["Mountpoint"].as_str().unwrap_or_default();
    let inside = mountpoint.is_empty()
        || fs::canonicalize(mountpoint).is_ok_and(|p| p.starts_with(daemon.data_root()));
    assert!(inside || !fs::exists(mountpoint).unwrap() || mountpoint.starts_with("/volumes"), "{list}");
}

#[test]
fn a_plugin_that_is_killed_comes_back() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let first = processes(&daemon);
    assert_eq!(first.len(), 1);
    process::send(first[0], nix::sys::signal::Signal::SIGKILL);
    until("another process is there", || {
        processes(&daemon).iter().any(|pid| !first.contains(pid)).then_some(())
    });
    until("its volumes can be used", || {
        (daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status == 201).then_some(())
    });
    assert_eq!(enabled(&daemon), true);
}

#[test]
fn files_for_a_socket_with_a_slash_are_refused() {
    let Some(daemon) = Daemon::ours() else { return };
    for socket in ["../x.sock", "a/b.sock", "", "..", "."] {
        let types = json!({"socket": socket, "types": ["docker.volumedriver/1.0"]});
        let answer = daemon.create("tiny", &daemon.tiny().with("interface", types).tar());
        if answer.status == 204 {
            assert!(daemon.http().ask("POST", "/plugins/tiny/enable?timeout=1").status >= 400, "{socket:?}");
            assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
        } else {
            assert!(answer.status < 500, "{socket:?}: {answer:?}");
        }
    }
}
