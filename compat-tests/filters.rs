//! Filters of plugin and volume lists: what they let through, and the words for those nobody knows.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;

/// What a query string may hold: everything else as %XX.
fn quoted(text: &str) -> String {
    let quote =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(quote).collect()
}

/// Sorted names, since dockerd's lists are in no order.
fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<_> =
        list.as_array().unwrap().iter().map(|p| p["Name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn plugins_are_filtered_by_state_and_capability() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let types = json!({"socket": "o.sock", "types": ["docker.logdriver/1.0"]});
    daemon.install("other", &daemon.tiny().with("interface", types));
    let (tiny, other): (&[&str], &[&str]) = (&["tiny:latest"], &["other:latest"]);
    let table: [(&str, &[&str]); 8] = [
        (r"{}", &["other:latest", "tiny:latest"]),
        ("", &["other:latest", "tiny:latest"]),
        (r#"{"enabled":["true"]}"#, tiny),
        (r#"{"enabled":{"true":true}}"#, tiny),
        (r#"{"enabled":["false"]}"#, other),
        (r#"{"capability":["volumedriver"]}"#, tiny),
        (r#"{"capability":["nope"]}"#, &[]),
        (r#"{"enabled":["false"],"capability":["volumedriver"]}"#, &[]),
    ];
    for (filters, expected) in table {
        let list = daemon.http().look(&format!("/plugins?filters={}", quoted(filters)));
        assert_eq!(names(&list), expected, "{filters}");
    }
    if daemon.is_ours() {
        // dockerd loses a plugin that is not enabled when it filters by capability.
        let list =
            daemon.http().look(&format!("/plugins?filters={}", quoted(r#"{"capability":["logdriver"]}"#)));
        assert_eq!(names(&list), other);
    }
}

#[test]
fn unknown_filters_of_plugins_are_refused_in_dockers_words() {
    let daemon = Daemon::start();
    let table = [
        (r#"{"enabled":["x"]}"#, "Invalid filter 'enabled=[x]'"),
        (r#"{"enabled":["1"]}"#, "Invalid filter 'enabled=[1]'"),
        (r#"{"enable":["true"]}"#, "Invalid filter 'enable'"),
        (r#"{"name":["tiny"]}"#, "Invalid filter 'name'"),
        ("{nope", "invalid character 'n' looking for beginning of object key string"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]map[string]bool"),
    ];
    for (filters, message) in table {
        let answer = daemon.http().ask("GET", &format!("/plugins?filters={}", quoted(filters)));
        daemon.assert_refused(&answer, 400, message);
    }
}

#[test]
fn volumes_are_filtered_by_name_driver_label_and_use() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    for body in [
        json!({"Name": "v1"}),
        json!({"Name": "v2", "Labels": {"a": "1", "b": "2"}}),
        json!({"Name": "t1", "Driver": "tiny"}),
    ] {
        assert_eq!(daemon.volume(&body).status, 201, "{body}");
    }
    let table: [(&str, &[&str]); 21] = [
        ("", &["t1", "v1", "v2"]),
        (r#"{"name":["v1"]}"#, &["v1"]),
        (r#"{"name":["v"]}"#, &["v1", "v2"]),
        (r#"{"name":["1"]}"#, &["t1", "v1"]),
        (r#"{"name":["^v1$"]}"#, &["v1"]),
        (r#"{"name":["v2","t1"]}"#, &["t1", "v2"]),
        (r#"{"name":["zzz"]}"#, &[]),
        (r#"{"name":{"v1":true}}"#, &["v1"]),
        (r#"{"driver":["local"]}"#, &["v1", "v2"]),
        (r#"{"driver":["tiny:latest"]}"#, &["t1"]),
        (r#"{"driver":["nope"]}"#, &[]),
        (r#"{"driver":["local","tiny:latest"]}"#, &["t1", "v1", "v2"]),
        (r#"{"label":["a"]}"#, &["v2"]),
        (r#"{"label":["a=1"]}"#, &["v2"]),
        (r#"{"label":["a=2"]}"#, &[]),
        (r#"{"label":["a","b"]}"#, &["v2"]),
        (r#"{"label":["a","x"]}"#, &[]),
        (r#"{"dangling":["true"]}"#, &["t1", "v1", "v2"]),
        (r#"{"dangling":["1"]}"#, &["t1", "v1", "v2"]),
        (r#"{"dangling":["false"]}"#, &[]),
        (r#"{"name":["v1"],"driver":["tiny:latest"]}"#, &[]),
    ];
    for (filters, expected) in table {
        let list = daemon.http().look(&format!("/volumes?filters={}", quoted(filters)));
        assert_eq!(names(&list["Volumes"]), expected, "{filters}");
        assert_eq!(list["Warnings"], Value::Null, "{filters}");
    }
}

#[test]
fn unknown_filters_of_volumes_are_refused_in_dockers_words() {
    let daemon = Daemon::start();
    let broken = |what: &str| format!("error reading volume filters: {what}");
    let table = [
        ("GET", "/volumes", r#"{"nope":["x"]}"#, "Invalid filter 'nope'".to_owned()),
        ("GET", "/volumes", r#"{"scope":["local"]}"#, "Invalid filter 'scope'".to_owned()),
        ("GET", "/volumes", r#"{"dangling":["yes"]}"#, "Invalid filter 'dangling=[yes]'".to_owned()),
        (
            "GET",
            "/volumes",
            "{bad",
            broken("invalid character 'b' looking for beginning of object key string"),
        ),
        (
            "GET",
            "/volumes",
            "[]",
            broken("json: cannot unmarshal array into Go value of type map[string]map[string]bool"),
        ),
        ("POST", "/volumes/prune", r#"{"nope":["x"]}"#, "Invalid filter 'nope'".to_owned()),
        ("POST", "/volumes/prune", r#"{"dangling":["true"]}"#, "Invalid filter 'dangling'".to_owned()),
    ];
    for (method, target, filters, message) in table {
        let answer = daemon.http().ask(method, &format!("{target}?filters={}", quoted(filters)));
        daemon.assert_refused(&answer, 400, &message);
    }
}

#[test]
fn the_cli_shows_the_refusal() {
    let daemon = Daemon::start();
    for object in ["plugin", "volume"] {
        let said = daemon.docker().fails(&[object, "ls", "--filter", "nope=1"]);
        assert_eq!(said.to_lowercase(), "invalid filter 'nope'");
    }
}
