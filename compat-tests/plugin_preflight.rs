//! What cannot work is told before anything is started: by name, with what was expected and what to do.

use serde_json::{Value, json};

use crate::support::archive::Entry;
use crate::support::daemon::Daemon;
use crate::support::plugin::Context;
use crate::support::process;

/// An ELF header of a 64-bit little-endian program for s390x, which nobody runs these tests on.
const FOREIGN: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x16\0";

/// What enable answers to a plugin that cannot run; it is disabled, and nothing of it was started.
fn refusal(daemon: &Daemon, context: &Context) -> String {
    daemon.install("tiny", context);
    let answer = daemon.enable("tiny");
    assert_eq!(answer.status, 500, "{answer:?}");
    let plugin = daemon.http().look("/plugins/tiny/json");
    assert_eq!(plugin["Enabled"], false);
    assert_eq!(process::in_root_below(daemon.place()), Vec::<i32>::new());
    assert!(!daemon.record().join("report").exists());
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 200);
    answer.message()
}

fn runs(entrypoint: &str) -> Value {
    json!([entrypoint])
}

#[test]
fn a_program_that_cannot_run_here_is_told_with_the_reason() {
    let Some(daemon) = Daemon::ours() else { return };
    let tiny = || daemon.tiny();
    let cases = [
        (
            tiny().with("entrypoint", runs("/nope")),
            "entrypoint \"/nope\": no such file in the plugin's rootfs",
        ),
        (tiny().with("entrypoint", runs("nope")), "in the directories of PATH: "),
        (tiny().with("entrypoint", runs("/etc/mark/x")), "entrypoint \"/etc/mark/x\": no such file"),
        (tiny().with("entrypoint", runs("/etc")), "entrypoint \"/etc\": is a directory"),
        (
            tiny().with("entrypoint", runs("/foreign")).entry(Entry::file("rootfs/foreign", FOREIGN)),
            "entrypoint \"/foreign\": is a program for s390x, this host is ",
        ),
        (
            tiny()
                .with("entrypoint", runs("/run.sh"))
                .entry(Entry::file("rootfs/run.sh", b"#!/bin/no-such-shell\n")),
            "entrypoint \"/run.sh\": its interpreter \"/bin/no-such-shell\": no such file",
        ),
        (
            tiny().with("entrypoint", runs("/out")).entry(Entry::symlink("rootfs/out", "../../../bin/sh")),
            "entrypoint \"/out\": no such file",
        ),
        (
            tiny().with("entrypoint", runs("/etc/mark")),
            "entrypoint \"/etc/mark\": is neither an ELF program nor",
        ),
    ];
    for (context, expected) in cases {
        let message = refusal(&daemon, &context);
        assert!(message.contains(expected), "expected {expected:?} in: {message}");
    }
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    let Some(daemon) = Daemon::ours() else { return };
    let context = daemon
        .tiny()
        .with("entrypoint", runs("/nope"))
        .with(
            "mounts",
            json!([{"name": "keys", "type": "bind", "source": "/no/such/keys", "destination": "/keys",
            "options": ["rbind"], "settable": ["source"]}]),
        )
        .with(
            "linux",
            json!({"capabilities": ["CAP_SYS_ADMIN"], "devices": [{"path": "/dev/no-such-device"}]}),
        );
    let message = refusal(&daemon, &context);
    for expected in [
        "for 3 reasons",
        "mount \"keys\": its source /no/such/keys does not exist on this host: create it, or set another with \
         keys.source=PATH",
        "device \"/dev/no-such-device\": No such file",
        "entrypoint \"/nope\"",
    ] {
        assert!(message.contains(expected), "expected {expected:?} in: {message}");
    }
    assert!(!std::fs::exists("/no/such/keys").unwrap());
}

#[test]
fn a_program_behind_links_and_scripts_runs() {
    let daemon = Daemon::start();
    for (entrypoint, name, entry) in [
        ("/link", "link", Entry::symlink("rootfs/link", "/../tiny")),
        ("/run.sh", "script", Entry::file("rootfs/run.sh", b"#!/tiny\n")),
    ] {
        daemon.run("tiny", &daemon.tiny().with("entrypoint", runs(entrypoint)).entry(entry));
        let made = daemon.volume(&json!({"Name": name, "Driver": "tiny"}));
        assert_eq!(made.status, 201, "{entrypoint}: {made:?}");
        assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    }
}
