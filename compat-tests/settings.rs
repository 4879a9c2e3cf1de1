//! `docker plugin set`: what may be set, what the plugin then gets, and the words for what may not.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;

fn set(daemon: &Daemon, arguments: &Value) -> Answer {
    daemon.http().json("POST", "/plugins/tiny/set", arguments)
}

/// Arguments, environment, and the source of the one mount.
fn settings(daemon: &Daemon) -> Value {
    let shown = &daemon.http().look("/plugins/tiny/json")["Settings"];
    json!([shown["Args"], shown["Env"], shown["Mounts"][0]["Source"]])
}

#[test]
fn settings_change_as_in_docker() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let record = daemon.record();
    let table = [
        (json!(["MODE=x y"]), json!([[], ["MODE=x y", "FIXED=1"], record])),
        (json!(["MODE.value=q=r"]), json!([[], ["MODE=q=r", "FIXED=1"], record])),
        (json!(["MODE"]), json!([[], ["MODE=", "FIXED=1"], record])),
        (json!(["MODE=a", "MODE=b"]), json!([[], ["MODE=b", "FIXED=1"], record])),
        (json!([]), json!([[], ["MODE=b", "FIXED=1"], record])),
        (json!(["args=a b"]), json!([["a", "b"], ["MODE=b", "FIXED=1"], record])),
        (json!(["args.value=z"]), json!([["z"], ["MODE=b", "FIXED=1"], record])),
        (json!(["record.source=/nowhere"]), json!([["z"], ["MODE=b", "FIXED=1"], "/nowhere"])),
        (json!(["record=/else"]), json!([["z"], ["MODE=b", "FIXED=1"], "/else"])),
    ];
    for (arguments, expected) in table {
        let answer = set(&daemon, &arguments);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{arguments}");
        assert_eq!(settings(&daemon), expected, "{arguments}");
    }
}

#[test]
fn what_is_not_settable_is_refused_in_dockers_words() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let before = settings(&daemon);
    let table = [
        ("FIXED=2", "\"FIXED\" is not settable"),
        ("NOPE=1", "setting \"NOPE\" not found in the plugin configuration"),
        ("record.destination=/x", "\"record.destination\" is not settable"),
        ("record.nope=/x", "\"record.nope\" is not settable"),
        ("MODE.settable=q", "\"MODE.settable\" is not settable"),
        ("network=host", "setting \"network\" not found in the plugin configuration"),
        ("workdir=/x", "setting \"workdir\" not found in the plugin configuration"),
        ("=x", "invalid format, must be <name>[.<field>][=<value>]"),
        ("", "setting \"\" not found in the plugin configuration"),
    ];
    for (argument, message) in table {
        daemon.assert_refused(&set(&daemon, &json!([argument])), 400, message);
    }
    assert_eq!(settings(&daemon), before);
}

#[test]
fn a_refused_set_changes_nothing_at_all() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.install("tiny", &daemon.tiny());
    let before = settings(&daemon);
    let answer = set(&daemon, &json!(["MODE=a", "NOPE=1"]));
    daemon.assert_refused(&answer, 400, "setting \"NOPE\" not found in the plugin configuration");
    assert_eq!(settings(&daemon), before);
}

#[test]
fn a_body_that_is_no_list_of_strings_is_a_bad_request() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let table = [
        ("{}", "json: cannot unmarshal object into Go value of type []string"),
        ("\"x\"", "json: cannot unmarshal string into Go value of type []string"),
        ("[nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("", "got EOF while reading request body"),
    ];
    for (body, message) in table {
        let answer = daemon.http().send("POST", "/plugins/tiny/set", "application/json", body.as_bytes());
        daemon.assert_refused(&answer, 400, message);
    }
}

#[test]
fn an_enabled_plugin_is_not_set() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let answer = set(&daemon, &json!(["MODE=x"]));
    let text = answer.message();
    assert!(text.contains("cannot set on an active plugin, disable plugin before setting"), "{text}");
    assert!(answer.status == 409 || answer.status == 400 || !daemon.is_ours(), "{}", answer.status);
    let answer = daemon.http().json("POST", "/plugins/nope/set", &json!(["MODE=x"]));
    daemon.assert_refused(&answer, 404, "plugin \"nope\" not found");
}

#[test]
fn the_plugin_gets_what_was_set() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let elsewhere = daemon.place().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let source = format!("record.source={}", elsewhere.display());
    assert_eq!(set(&daemon, &json!(["MODE=quiet please", "args=one two", source])).status, 204);
    assert_eq!(daemon.enable("tiny").status, 200);
    let report = std::fs::read_to_string(elsewhere.join("report")).unwrap();
    assert!(report.contains("\nMODE=quiet please\n"), "{report}");
    assert!(report.starts_with("== arguments\n/tiny\none\ntwo\n=="), "{report}");
}
