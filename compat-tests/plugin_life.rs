//! A plugin's life: create, list, inspect, enable, disable, remove, and what is refused on the way.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;

#[test]
fn a_plugin_lives_its_whole_life_through_the_cli() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let context = daemon.place().join("context");
    daemon.tiny().write(&context);

    assert_eq!(docker.ok(&["plugin", "create", "tiny", context.to_str().unwrap()]), "tiny");
    assert_eq!(docker.ok(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]), "tiny:latest false");
    let format = "{{.Name}} {{.Enabled}} {{.Config.Interface.Socket}} {{.Settings.Env}}";
    let shown = docker.ok(&["plugin", "inspect", "--format", format, "tiny"]);
    assert_eq!(shown, "tiny:latest false tiny.sock [MODE= FIXED=1]");
    assert_eq!(docker.ok(&["plugin", "set", "tiny", "MODE=quiet"]), "");
    assert_eq!(docker.ok(&["plugin", "enable", "tiny"]), "tiny");
    assert_eq!(
        docker.ok(&["plugin", "ls", "--filter", "enabled=true", "--format", "{{.Name}}"]),
        "tiny:latest"
    );
    assert_eq!(docker.ok(&["volume", "create", "-d", "tiny", "data"]), "data");
    assert_eq!(docker.ok(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]), "tiny:latest data");
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(docker.ok(&["plugin", "disable", "tiny"]), "tiny");
    assert_eq!(docker.ok(&["plugin", "rm", "tiny"]), "tiny");
    assert_eq!(docker.ok(&["plugin", "ls", "-q"]), "");
}

#[test]
fn inspect_shows_config_and_settings_in_dockers_shape() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let mut shown = daemon.http().look("/plugins/tiny/json");

    let id = shown["Id"].take();
    assert!(
        id.as_str().is_some_and(|id| id.len() == 64 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)))
    );
    let config = shown["Config"].as_object_mut().unwrap();
    assert!(config.remove("DockerVersion").is_some_and(|v| v.is_string()));
    let rootfs = config.remove("rootfs").unwrap();
    assert_eq!(rootfs["type"], "layers");
    assert!(rootfs["diff_ids"][0].as_str().unwrap().starts_with("sha256:"));

    let mount = json!({"Description": "", "Destination": "/record", "Name": "record", "Options": ["rbind"],
        "Settable": ["source"], "Source": daemon.record(), "Type": "bind"});
    let expected = json!({
        "Config": {
            "Args": {"Description": "", "Name": "args", "Settable": ["value"], "Value": []},
            "Description": "tiny",
            "Documentation": "none",
            "Entrypoint": ["/tiny"],
            "Env": [{"Description": "", "Name": "MODE", "Settable": ["value"], "Value": ""},
                {"Description": "", "Name": "FIXED", "Settable": null, "Value": "1"}],
            "Interface": {"Socket": "tiny.sock", "Types": ["docker.volumedriver/1.0"]},
            "IpcHost": false,
            "Linux": {"AllowAllDevices": false, "Capabilities": [], "Devices": []},
            "Mounts": [mount],
            "Network": {"Type": "none"},
            "PidHost": false,
            "PropagatedMount": "/volumes",
            "User": {},
            "WorkDir": "/",
        },
        "Enabled": false,
        "Id": null,
        "Name": "tiny:latest",
        "PluginReference": "tiny:latest",
        "Settings": {"Args": [], "Devices": [], "Env": ["MODE=", "FIXED=1"], "Mounts": [mount]},
    });
    assert_eq!(without_extensions(shown), expected);
}

/// What is ours beyond dockerd's keys is allowed, at the top only.
fn without_extensions(mut plugin: Value) -> Value {
    let dockers = ["Config", "Enabled", "Id", "Name", "PluginReference", "Settings"];
    plugin.as_object_mut().unwrap().retain(|key, _| dockers.contains(&key.as_str()));
    plugin
}

#[test]
fn the_list_and_inspect_tell_the_same() {
    let daemon = Daemon::start();
    assert_eq!(daemon.http().ask("GET", "/plugins").text(), "[]\n");
    daemon.install("tiny", &daemon.tiny());
    assert_eq!(daemon.http().look("/plugins"), json!([daemon.http().look("/plugins/tiny/json")]));
}

#[test]
fn a_plugin_is_found_by_every_form_of_its_name_and_by_its_id() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let id = daemon.http().look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
    let forms = ["tiny:latest", "library/tiny", "docker.io/library/tiny", "docker.io/library/tiny:latest"];
    for selector in forms.into_iter().chain([id.as_str(), &id[..12], &id[..1]]) {
        assert_eq!(daemon.http().look(&format!("/plugins/{selector}/json"))["Id"], id.as_str(), "{selector}");
    }
    for selector in
        ["nope", "tiny:v2", "Tiny", "localhost:5000/a/b:c", "tiny/json", "a/b/c/d", &id.to_uppercase()]
    {
        let answer = daemon.http().ask("GET", &format!("/plugins/{selector}/json"));
        daemon.assert_refused(&answer, 404, &format!("plugin \"{selector}\" not found"));
    }
}

#[test]
fn a_name_with_a_registry_and_a_tag_is_kept_as_it_is() {
    let daemon = Daemon::start();
    daemon.install("localhost:5000/team/tiny:v1", &daemon.tiny());
    let shown = daemon.http().look("/plugins/localhost:5000/team/tiny:v1/json");
    assert_eq!(shown["Name"], "localhost:5000/team/tiny:v1");
    assert_eq!(shown["PluginReference"], "localhost:5000/team/tiny:v1");
    daemon.install("docker.io/library/other", &daemon.tiny());
    assert_eq!(daemon.http().look("/plugins/other/json")["Name"], "other:latest");
}

#[test]
fn a_name_that_is_no_reference_is_refused_in_dockers_words() {
    let daemon = Daemon::start();
    let (hex, long, tag) = ("0".repeat(64), "a".repeat(300), format!("x:{}", "t".repeat(129)));
    let digest = format!("tiny@sha256:{hex}");
    let failed = |name: &str, why: &str| format!("failed to parse reference {name}: {why}");
    let format = "invalid reference format";
    // Which name: said since moby 28.
    let lowercase = if daemon.is_ours() { "repository name (library/Tiny)" } else { "repository name" };
    let lowercase = format!("{format}: {lowercase} must be lowercase");
    let table = [
        ("", failed("", format)),
        ("Tiny", failed("Tiny", &lowercase)),
        ("ti%20ny", failed("ti ny", format)),
        ("..", failed("..", format)),
        ("/x", failed("/x", format)),
        (&tag, failed(&tag, format)),
        (&long, failed(&long, "repository name must not be more than 255 characters")),
        (
            &hex,
            failed(
                &hex,
                &format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
            ),
        ),
        (&digest, "canonical references are not permitted".to_owned()),
    ];
    let context = daemon.tiny().tar();
    for (name, message) in table {
        daemon.assert_refused(&daemon.create(name, &context), 400, &message);
    }
    assert_eq!(daemon.http().look("/plugins"), json!([]));
}

#[test]
fn a_name_that_is_taken_is_refused_before_and_after_enable() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    for name in ["tiny", "library/tiny", "docker.io/tiny:latest"] {
        let answer = daemon.create(name, &daemon.tiny().tar());
        daemon.assert_refused(&answer, 409, "plugin tiny:latest already exists");
    }
    assert_eq!(daemon.enable("tiny").status, 200);
    let answer = daemon.create("tiny", &daemon.tiny().tar());
    daemon.assert_refused(&answer, 409, "plugin tiny:latest already exists");
}

#[test]
fn the_same_content_may_have_two_names() {
    let Some(daemon) = Daemon::ours() else { return };
    let tar = daemon.tiny().tar();
    assert_eq!(daemon.create("one", &tar).status, 204);
    assert_eq!(daemon.create("two", &tar).status, 204);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/one").status, 200);
    assert_eq!(daemon.enable("two").status, 200, "what they share is still there");
}

#[test]
fn enable_and_disable_are_refused_when_there_is_nothing_to_do() {
    let daemon = Daemon::start();
    let http = daemon.http();
    daemon.run("tiny", &daemon.tiny());
    let again = daemon.enable("tiny");
    daemon.assert_refused(&again, 409, "plugin already enabled: plugin tiny:latest is enabled");

    let answer = http.ask("POST", "/plugins/tiny/disable");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(http.look("/plugins/tiny/json")["Enabled"], false);
    let again = http.ask("POST", "/plugins/tiny/disable");
    daemon.assert_refused(&again, 409, "plugin is already disabled: plugin tiny:latest found but disabled");
}

#[test]
fn what_is_not_there_is_not_found() {
    let daemon = Daemon::start();
    for (method, verb) in
        [("POST", "/enable?timeout=0"), ("POST", "/disable"), ("DELETE", ""), ("DELETE", "?force=1")]
    {
        let answer = daemon.http().ask(method, &format!("/plugins/nope{verb}"));
        daemon.assert_refused(&answer, 404, "plugin \"nope\" not found");
    }
}

#[test]
fn a_timeout_that_is_no_number_is_refused() {
    let daemon = Daemon::start();
    daemon.install("tiny", &daemon.tiny());
    let answer = daemon.http().ask("POST", "/plugins/tiny/enable?timeout=x");
    daemon.assert_refused(&answer, 400, "strconv.Atoi: parsing \"x\": invalid syntax");
    assert_eq!(daemon.http().look("/plugins/tiny/json")["Enabled"], false);
}

#[test]
fn an_enabled_plugin_is_removed_only_by_force() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let answer = daemon.http().ask("DELETE", "/plugins/tiny");
    daemon.assert_refused(&answer, 409, "plugin tiny:latest is enabled");
    let answer = daemon.http().ask("DELETE", "/plugins/tiny?force=1");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(daemon.http().look("/plugins"), json!([]));
}

#[test]
fn a_plugin_with_volumes_is_disabled_only_by_force() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    let answer = daemon.http().ask("POST", "/plugins/tiny/disable");
    daemon.assert_refused(&answer, 409, "plugin tiny:latest is in use");
    assert_eq!(daemon.http().look("/plugins/tiny/json")["Enabled"], true);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    let answer = daemon.volume(&json!({"Name": "more", "Driver": "tiny"}));
    let message = "create more: error looking up volume plugin tiny: plugin tiny found but disabled";
    daemon.assert_refused(&answer, 409, message);
}

#[test]
fn a_plugin_can_be_enabled_again_and_finds_its_volumes() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    assert_eq!(daemon.enable("tiny").status, 200);
    assert_eq!(daemon.http().look("/volumes/data")["Driver"], "tiny:latest");
}

#[test]
fn removing_a_plugin_leaves_nothing_behind() {
    let Some(daemon) = Daemon::ours() else { return };
    // Directories that exist once for all plugins may appear with the first.
    daemon.run("first", &daemon.tiny());
    assert_eq!(daemon.http().ask("DELETE", "/plugins/first?force=1").status, 200);
    let before = daemon.tree();
    daemon.run("tiny", &daemon.tiny());
    assert_ne!(daemon.tree(), before);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    assert_eq!(daemon.tree(), before);
}
