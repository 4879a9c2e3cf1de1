//! One plugin that hangs: who waits for it, for how long, and who does not.

use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::openmetrics::{Exposition, ask};
use crate::support::{process, until};

/// How many ask at a time.
const CLIENTS: usize = 100;
/// How many calls that change something dockplugd sends to a plugin at a time.
const CHANGES_IN_FLIGHT_MAX: usize = 64;
/// How many calls in a row must go without an answer before it leaves a plugin alone.
const TIMEOUTS_TO_OPEN: usize = 3;

fn make_fifo(record: &Path) {
    nix::unistd::mkfifo(&record.join("go"), Mode::S_IRWXU).unwrap();
}

/// Lets the plugin answer what it holds.
fn release(record: &Path) {
    drop(fs::File::options().write(true).open(record.join("go")).unwrap());
}

/// How often the plugins of a daemon have been asked for this call.
fn asked(daemon: &Daemon, call: &str) -> usize {
    let calls = fs::read_to_string(daemon.record().join("calls")).unwrap_or_default();
    calls.matches(&format!("POST /VolumeDriver.{call} ")).count()
}

fn mount(daemon: &Daemon, volume: &str, reference: &str) -> Answer {
    daemon.http().json("POST", &format!("/volumes/{volume}/mount"), &json!({"Reference": reference}))
}

fn unmount(daemon: &Daemon, volume: &str, reference: &str) -> Answer {
    daemon.http().json("POST", &format!("/volumes/{volume}/unmount"), &json!({"Reference": reference}))
}

fn names(list: &Value) -> Vec<&str> {
    list["Volumes"].as_array().unwrap().iter().map(|volume| volume["Name"].as_str().unwrap()).collect()
}

#[test]
fn a_mount_that_hangs_delays_neither_reads_nor_other_plugins() {
    let Some(daemon) = Daemon::ours() else { return };
    make_fifo(&daemon.record());
    daemon.run("tiny", &daemon.tiny().mode("hold=Mount"));
    daemon.run("other", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "else", "Driver": "other"})).status, 201);
    thread::scope(|scope| {
        let mounting = scope.spawn(|| mount(&daemon, "data", "me"));
        until("the plugin is asked to mount", || (asked(&daemon, "Mount") == 1).then_some(()));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let list = daemon.http().look("/volumes");
                    assert_eq!((names(&list), &list["Warnings"]), (vec!["data", "else"], &Value::Null));
                    assert_eq!(daemon.http().look("/plugins").as_array().unwrap().len(), 2);
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(daemon.http().ask("GET", "/volumes/data").status, 200, "it still reads");
        let body = json!({"Name": "more", "Driver": "tiny"});
        assert_eq!(daemon.volume(&body).status, 201, "and changes other volumes");
        assert_eq!(mount(&daemon, "else", "me").status, 200);
        assert_eq!(unmount(&daemon, "else", "me").status, 204);
        assert!(!mounting.is_finished(), "nobody has let it go");
        release(&daemon.record());
        assert_eq!(mounting.join().unwrap().status, 200);
    });
}

#[test]
fn more_changes_than_a_plugin_is_sent_at_a_time_wait_and_reads_do_not() {
    let Some(daemon) = Daemon::ours_with(&["--driver-timeout=remove=1"]) else { return };
    make_fifo(&daemon.record());
    daemon.run("tiny", &daemon.tiny().mode("hold=Mount"));
    let volume = |number: usize| format!("v{number}");
    for number in 0..=CHANGES_IN_FLIGHT_MAX {
        assert_eq!(daemon.volume(&json!({"Name": volume(number), "Driver": "tiny"})).status, 201);
    }
    thread::scope(|scope| {
        let mounting: Vec<_> = (0..CHANGES_IN_FLIGHT_MAX)
            .map(|number| {
                let daemon = &daemon;
                scope.spawn(move || mount(daemon, &volume(number), "me"))
            })
            .collect();
        let all = CHANGES_IN_FLIGHT_MAX;
        until("the plugin is asked for all of them", || (asked(&daemon, "Mount") == all).then_some(()));
        let last = volume(CHANGES_IN_FLIGHT_MAX);
        let refused = daemon.http().ask("DELETE", &format!("/volumes/{last}"));
        let text = format!(
            "remove {last}: VolumeDriver.Remove: plugin tiny:latest is sent at most 64 calls that change something at a \
             time, and has that many to answer (64 VolumeDriver.Mount); this one waited 1 s for its turn"
        );
        assert_eq!((refused.status, refused.message()), (503, text));
        assert_eq!(asked(&daemon, "Remove"), 0);
        assert_eq!(daemon.http().ask("GET", &format!("/volumes/{last}")).status, 200);
        assert_eq!(names(&daemon.http().look("/volumes")).len(), CHANGES_IN_FLIGHT_MAX + 1);
        release(&daemon.record());
        for mounting in mounting {
            assert_eq!(mounting.join().unwrap().status, 200);
        }
    });
    let last = volume(CHANGES_IN_FLIGHT_MAX);
    assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{last}")).status, 204);
}

/// What a text has between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[test]
fn a_plugin_that_answers_nothing_is_left_alone_until_it_is_started_again() {
    let flags = ["--metrics-addr=127.0.0.1:0", "--driver-timeout=get=1", "--driver-timeout=list=1"];
    let Some(daemon) = Daemon::ours_with(&flags) else { return };
    let log = daemon.log();
    let (_, metrics) = log.lines().find_map(|line| line.split_once("metrics listen on address=")).unwrap();
    let open = |calls: &str| {
        let scraped = Exposition::parse(&ask(metrics, "GET", "/metrics").text());
        let labels = [("driver", "tiny:latest"), ("calls", calls)];
        scraped.count("dockplug_volume_driver_breaker_open", &labels)
    };
    daemon.run("tiny", &daemon.tiny().mode("hang=all"));
    assert_eq!((open("lists"), open("others")), (0, 0));
    let create = || daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
    let at_once = |what: &(dyn Fn() -> Answer + Sync)| -> Vec<Answer> {
        thread::scope(|scope| {
            let all: Vec<_> = (0..TIMEOUTS_TO_OPEN).map(|_| scope.spawn(what)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };

    let late = "list tiny:latest: the driver did not answer within 1 s, its volumes may be missing";
    for answer in at_once(&|| daemon.http().ask("GET", "/volumes")) {
        assert_eq!((answer.status, &answer.json()["Warnings"]), (200, &json!([late])));
    }
    let lists = asked(&daemon, "List");
    let list = daemon.http().look("/volumes");
    let warning = list["Warnings"][0].as_str().unwrap();
    // What was left of the second after the list had begun.
    let within: f64 =
        between(warning, "(the last was VolumeDriver.List, within ", " s); the next one is sent at ")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_else(|| panic!("{warning}"));
    assert!(
        warning.starts_with(
            "list tiny:latest: VolumeDriver.List: plugin tiny:latest is sent no calls for lists since "
        ) && within > 0.5
            && within <= 1.0,
        "{warning}"
    );
    assert_eq!((open("lists"), open("others")), (1, 0));
    assert_eq!(asked(&daemon, "List"), lists, "it was not asked");

    for _ in 0..TIMEOUTS_TO_OPEN {
        let message = create().message();
        assert!(message.ends_with("plugin tiny:latest did not answer within 1 s"), "{message}");
    }
    let gets = asked(&daemon, "Get");
    let refused = create();
    let message = refused.message();
    assert!(
        refused.status == 503
            && message
                .starts_with("create data: VolumeDriver.Get: plugin tiny:latest is sent no calls since ")
            && message.contains("(the last was VolumeDriver.Get, within 1 s); the next one is sent at "),
        "{refused:?}"
    );
    assert_eq!((open("lists"), open("others")), (1, 1));
    assert_eq!(asked(&daemon, "Get"), gets, "it was not asked");
    assert_eq!(daemon.volume(&json!({"Name": "mine"})).status, 201);

    let pid = daemon.http().look("/plugins/tiny/json")["State"]["Pid"].as_i64().unwrap();
    process::send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
    until("it is asked again", || {
        create();
        (asked(&daemon, "Get") > gets).then_some(())
    });
    assert_eq!((open("lists"), open("others")), (0, 0));
}

#[test]
fn timeouts_are_told_in_help_and_checked() {
    let Some(daemon) = Daemon::ours() else { return };
    drop(daemon);
    let run = |flags: &[&str]| {
        let output = std::process::Command::new(Daemon::program_of_ours()).args(flags).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.success(), text)
    };
    let (fine, help) = run(&["--help"]);
    assert!(fine && help.contains("--driver-timeout <CALL=SECONDS>"), "{help}");
    let (fine, error) = run(&["--config-file=/dev/null", "--driver-timeout=mount=never"]);
    assert!(
        !fine && error.contains("invalid driver timeout \"mount=never\": expected CALL=SECONDS"),
        "{error}"
    );
}
