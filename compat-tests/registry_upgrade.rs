//! `docker plugin upgrade`: a new version under the old name, with what the user has set.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::install;
use crate::support::plugin::Context;
use crate::support::registry::Registry;

/// A registry with `team/tiny:v1`, and a daemon with that installed as `tiny`, disabled.
fn installed() -> (Registry, Daemon) {
    let (registry, daemon) = (Registry::open(), Daemon::start());
    publish(&daemon, &registry, "v1", &daemon.tiny());
    install::consenting(&daemon, &registry.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    (registry, daemon)
}

fn publish(daemon: &Daemon, registry: &Registry, tag: &str, context: &Context) {
    let name = registry.name(&format!("team/tiny:{tag}"));
    daemon.install(&name, context);
    install::push(daemon, &name, &Value::Null).ok();
    assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
}

fn granted(daemon: &Daemon) -> Value {
    json!([{"Name": "network", "Value": ["none"]}, {"Name": "mount", "Value": [daemon.record()]}])
}

#[test]
fn a_plugin_is_upgraded_through_the_cli() {
    let (registry, daemon) = installed();
    let docker = daemon.docker();
    publish(&daemon, &registry, "v2", &daemon.tiny().with("description", json!("newer")));
    let id = daemon.http().look("/plugins/tiny/json")["Id"].clone();
    let v2 = registry.name("team/tiny:v2");
    let said =
        docker.ok(&["plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", "tiny", &v2]);
    assert!(said.ends_with(&format!("Upgraded plugin tiny:latest to {v2}")), "{said}");
    let shown = daemon.http().look("/plugins/tiny/json");
    assert_eq!(shown["Id"], id);
    assert_eq!(shown["Name"], "tiny:latest");
    assert_eq!(shown["PluginReference"], v2.as_str());
    assert_eq!(shown["Config"]["Description"], "newer");
    assert_eq!(shown["Enabled"], false);
    assert_eq!(docker.ok(&["plugin", "enable", "tiny"]), "tiny");
}

#[test]
fn the_users_settings_survive_an_upgrade() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    publish(&daemon, &registry, "v1", &daemon.tiny());
    install::consenting(&daemon, &registry.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    let elsewhere = daemon.place().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let source = format!("record.source={}", elsewhere.display());
    let set = json!(["MODE=mine", "args=a b", source]);
    assert_eq!(daemon.http().json("POST", "/plugins/tiny/set", &set).status, 204);

    let newer = daemon.tiny().with(
        "env",
        json!([{"name": "MODE", "value": "other default", "settable": ["value"]},
            {"name": "EXTRA", "value": "new", "settable": ["value"]}]),
    );
    publish(&daemon, &registry, "v2", &newer);
    install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v2"), &granted(&daemon)).ok();
    let settings = &daemon.http().look("/plugins/tiny/json")["Settings"];
    assert_eq!(settings["Env"], json!(["MODE=mine", "EXTRA=new"]));
    assert_eq!(settings["Args"], json!(["a", "b"]));
    assert_eq!(settings["Mounts"][0]["Source"], elsewhere.to_str().unwrap());
}

#[test]
fn a_setting_that_is_gone_is_dropped_with_a_warning() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    publish(&daemon, &registry, "v1", &daemon.tiny());
    install::consenting(&daemon, &registry.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    assert_eq!(daemon.http().json("POST", "/plugins/tiny/set", &json!(["MODE=mine"])).status, 204);
    let newer = daemon.tiny().with("env", json!([{"name": "FIXED", "value": "2"}]));
    publish(&daemon, &registry, "v2", &newer);
    let outcome = install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v2"), &granted(&daemon)).ok();
    let warned = |line: &Value| line["status"].as_str().is_some_and(|s| s.contains("MODE"));
    assert!(outcome.lines.iter().any(warned), "{outcome:?}");
    assert_eq!(daemon.http().look("/plugins/tiny/json")["Settings"]["Env"], json!(["FIXED=2"]));
}

#[test]
fn an_enabled_plugin_is_not_upgraded() {
    let (registry, daemon) = installed();
    assert_eq!(daemon.enable("tiny").status, 200);
    let error = install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v1"), &granted(&daemon)).failed();
    assert_eq!(error, "plugin must be disabled before upgrading: plugin tiny:latest is enabled");
}

#[test]
fn what_is_not_there_is_not_upgraded() {
    let daemon = Daemon::start();
    let answer = install::ask(
        &daemon,
        "POST",
        "/plugins/nope/upgrade?remote=127.0.0.1:1/team/x",
        &Value::Null,
        Some(&json!([])),
    );
    daemon.assert_refused(&answer, 404, "plugin \"nope:latest\" not found");
}

#[test]
fn a_failed_upgrade_leaves_the_old_version_whole() {
    let (registry, daemon) = installed();
    let newer = daemon.tiny().with("network", json!({"type": "host"}));
    publish(&daemon, &registry, "v2", &newer);
    let (before, tree) = (daemon.http().look("/plugins/tiny/json"), daemon.tree());
    let missing = install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v9"), &granted(&daemon));
    missing.failed();
    // The newer one wants more than what is granted.
    let outcome = install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v2"), &granted(&daemon));
    outcome.incorrect_privileges("v2 wants the network");
    assert_eq!(daemon.http().look("/plugins/tiny/json"), before);
    if daemon.is_ours() {
        assert_eq!(daemon.tree(), tree);
    }
    assert_eq!(daemon.enable("tiny").status, 200);
}

#[test]
fn volumes_survive_an_upgrade() {
    let (registry, daemon) = installed();
    assert_eq!(daemon.enable("tiny").status, 200);
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    publish(&daemon, &registry, "v2", &daemon.tiny());
    install::upgrade(&daemon, "tiny", &registry.name("team/tiny:v2"), &granted(&daemon)).ok();
    assert_eq!(daemon.enable("tiny").status, 200);
    assert_eq!(daemon.http().look("/volumes/data")["Driver"], "tiny:latest");
}
