//! What can be installed and what cannot: privileges, references, and the shapes a plugin has in registries.

use serde_json::{Value, json};

use crate::support::archive::{Entry, Tar};
use crate::support::artifact::{
    self, Artifact, IMAGE_CONFIG, OCI_INDEX, PLUGIN_CONFIG, SCHEMA2, SCHEMA2_LIST,
};
use crate::support::daemon::Daemon;
use crate::support::install;
use crate::support::registry::{Registry, Stored};

/// Creates the tiny plugin, pushes it as `team/tiny:v1`, and removes it again; what arrived.
fn publish(daemon: &Daemon, registry: &Registry) -> Stored {
    let name = registry.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    install::push(daemon, &name, &Value::Null).ok();
    assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
    registry.stored("team/tiny", "v1")
}

/// Nothing is installed, and, of ours, nothing is left.
#[track_caller]
fn assert_nothing(daemon: &Daemon, before: &std::collections::BTreeSet<std::path::PathBuf>, what: &str) {
    assert_eq!(daemon.http().look("/plugins"), json!([]), "{what}");
    if daemon.is_ours() {
        assert_eq!(daemon.tree(), *before, "{what}");
    }
}

#[test]
fn privileges_are_told_in_dockers_order_and_words() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let name = registry.name("team/greedy:v1");
    let context = daemon
        .tiny()
        .with("network", json!({"type": "host"}))
        .with("ipchost", json!(true))
        .with("pidhost", json!(true))
        .with(
            "linux",
            json!({"capabilities": ["CAP_SYS_ADMIN", "CAP_NET_RAW"], "allowAllDevices": true,
            "devices": [{"name": "fuse", "path": "/dev/fuse", "settable": ["path"]}]}),
        );
    daemon.install(&name, &context);
    install::push(&daemon, &name, &Value::Null).ok();
    let answer = install::privileges(&daemon, &name, &Value::Null);
    assert_eq!(answer.status, 200);
    let expected = json!([
        {"Name": "network", "Description": "permissions to access a network", "Value": ["host"]},
        {"Name": "host ipc namespace", "Description": "allow access to host ipc namespace", "Value": ["true"]},
        {"Name": "host pid namespace", "Description": "allow access to host pid namespace", "Value": ["true"]},
        {"Name": "mount", "Description": "host path to mount", "Value": [daemon.record()]},
        {"Name": "device", "Description": "host device to access", "Value": ["/dev/fuse"]},
        {"Name": "allow-all-devices", "Description": "allow 'rwm' access to all devices", "Value": ["true"]},
        {"Name": "capabilities", "Description": "list of additional capabilities required",
            "Value": ["CAP_SYS_ADMIN", "CAP_NET_RAW"]},
    ]);
    assert_eq!(answer.json(), expected);
}

#[test]
fn a_plugin_that_wants_nothing_asks_for_nothing() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    Artifact::small("modest").put(&registry, "team/x", "v1");
    assert_eq!(install::privileges(&daemon, &registry.name("team/x:v1"), &Value::Null).text(), "null\n");
}

#[test]
fn other_privileges_than_the_plugins_install_nothing() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    publish(&daemon, &registry);
    let before = daemon.tree();
    let mount = json!({"Name": "mount", "Description": "", "Value": [daemon.record()]});
    let network = json!({"Name": "network", "Value": ["none"]});
    let device = json!({"Name": "device", "Value": ["/dev/fuse"]});
    let table = [
        ("none", json!([])),
        ("only one", json!([mount])),
        ("one more", json!([mount, network, device])),
        ("another value", json!([mount, {"Name": "network", "Value": ["host"]}])),
        ("one more value", json!([mount, {"Name": "network", "Value": ["none", "host"]}])),
    ];
    for (what, granted) in table {
        let outcome = install::pull(&daemon, &registry.name("team/tiny:v1"), "tiny", &granted, &Value::Null);
        outcome.incorrect_privileges(what);
        assert_nothing(&daemon, &before, what);
    }
    // What they are described as is nobody's business.
    let granted = json!([{"Name": "mount", "Description": "whatever", "Value": [daemon.record()]}, network]);
    install::pull(&daemon, &registry.name("team/tiny:v1"), "tiny", &granted, &Value::Null).ok();
}

#[test]
fn every_privilege_is_compared_the_first_one_too() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    publish(&daemon, &registry);
    let network = json!({"Name": "network", "Value": ["none"]});
    for (name, path) in [("mount", "/"), ("capabilities", daemon.record().to_str().unwrap())] {
        let granted = json!([{"Name": name, "Value": [path]}, network]);
        let outcome = install::pull(&daemon, &registry.name("team/tiny:v1"), "tiny", &granted, &Value::Null);
        outcome.incorrect_privileges(name);
    }
}

#[test]
fn the_same_privilege_twice_is_not_the_same_as_once() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    publish(&daemon, &registry);
    let mount = json!({"Name": "mount", "Value": [daemon.record()]});
    let twice = json!([mount, mount, {"Name": "network", "Value": ["none"]}]);
    let instead = json!([mount, mount]);
    for granted in [twice, instead] {
        let outcome = install::pull(&daemon, &registry.name("team/tiny:v1"), "tiny", &granted, &Value::Null);
        outcome.incorrect_privileges(&granted.to_string());
    }
}

#[test]
fn a_body_that_is_no_list_of_privileges_is_refused() {
    let daemon = Daemon::start();
    let http = daemon.http();
    let target = "/plugins/pull?remote=127.0.0.1:1/team/x:v1&name=x";
    let table = [
        ("", "failed to parse privileges: EOF"),
        ("x", "failed to parse privileges: invalid character 'x' looking for beginning of value"),
    ];
    for (body, message) in table {
        daemon.assert_refused(&http.send("POST", target, "application/json", body.as_bytes()), 400, message);
    }
}

#[test]
fn what_the_plugin_is_called_is_told_before_it_is_there() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let artifact = Artifact::small("named");
    artifact.put(&registry, "team/x", "v1");
    artifact.put(&registry, "team/x", "latest");
    let digest = registry.tagged("team/x", "v1").unwrap();
    let (x, at) = (registry.name("team/x"), registry.name(&format!("team/x@{digest}")));
    let table = [
        (x.clone(), "", format!("{x}:latest"), format!("{x}:latest")),
        (format!("{x}:v1"), "", format!("{x}:v1"), format!("{x}:v1")),
        (format!("{x}:v1"), "mine", "mine:latest".to_owned(), format!("{x}:v1")),
        (
            format!("{x}:v1"),
            "docker.io/library/mine:v2",
            "docker.io/library/mine:v2".to_owned(),
            format!("{x}:v1"),
        ),
    ];
    // dockerd 20.10 dies of a digest.
    let by_digest = [
        (at.clone(), "", format!("{x}:latest"), at.clone()),
        (at.clone(), "mine", "mine:latest".to_owned(), at.clone()),
        (format!("{x}:v1@{digest}"), "", format!("{x}:v1"), at.clone()),
    ];
    let table = table.into_iter().chain(by_digest.into_iter().filter(|_| daemon.is_ours()));
    for (remote, name, called, reference) in table {
        let outcome = install::pull(&daemon, &remote, name, &json!([]), &Value::Null).ok();
        assert_eq!(
            outcome.answer.header("docker-plugin-name"),
            Some(called.as_str()),
            "{remote} as {name:?}"
        );
        let shown = daemon.http().look(&format!("/plugins/{called}/json"));
        let short = called.trim_start_matches("docker.io/library/");
        assert_eq!(shown["Name"], short, "{remote} as {name:?}");
        assert_eq!(shown["PluginReference"], reference.as_str(), "{remote} as {name:?}");
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{called}")).status, 200);
    }
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_is_fetched() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    publish(&daemon, &registry);
    daemon.install("taken", &daemon.tiny());
    let target = format!("/plugins/pull?remote={}&name=taken", registry.name("team/tiny:v1"));
    let answer = install::ask(&daemon, "POST", &target, &Value::Null, Some(&json!([])));
    // To a create, dockerd says 409.
    daemon.assert_refused(&answer, 400, "plugin taken:latest already exists");
}

#[test]
fn a_reference_that_is_none_is_refused() {
    let daemon = Daemon::start();
    // Which name: said since moby 28.
    let lowercase = if daemon.is_ours() {
        "invalid reference format: repository name (library/Bad) must be lowercase"
    } else {
        "invalid reference format: repository name must be lowercase"
    };
    for (remote, why) in
        [("", "invalid reference format"), ("Bad", lowercase), ("a%20b", "invalid reference format")]
    {
        daemon.assert_refused(&install::privileges(&daemon, remote, &Value::Null), 400, why);
        let target = format!("/plugins/pull?remote={remote}&name=x");
        let answer = install::ask(&daemon, "POST", &target, &Value::Null, Some(&json!([])));
        daemon.assert_refused(&answer, 400, why);
    }
}

#[test]
fn what_is_not_in_the_registry_is_not_found() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    Artifact::small("there").put(&registry, "team/there", "v1");
    let before = daemon.tree();
    for missing in ["team/there:v2", "team/missing:v1", &format!("team/there@sha256:{}", "0".repeat(64))] {
        let remote = registry.name(missing);
        let error = install::pull(&daemon, &remote, "x", &json!([]), &Value::Null).failed();
        assert_nothing(&daemon, &before, missing);
        let answer = install::privileges(&daemon, &remote, &Value::Null);
        if daemon.is_ours() {
            // dockerd swallows the error here, so that its clients ask nobody for consent, and talks of https there.
            assert_eq!(answer.status, 404, "{missing}: {}", answer.text());
            for text in [&error, &answer.message()] {
                assert!(text.contains("not found") && text.contains("unknown"), "{missing}: {text}");
            }
        }
    }
}

#[test]
fn an_image_is_no_plugin() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let mut image = Artifact::small("image");
    image.config.media_type = IMAGE_CONFIG.to_owned();
    image.put(&registry, "team/image", "v1");
    let before = daemon.tree();
    let remote = registry.name("team/image:v1");
    let error = install::pull(&daemon, &remote, "x", &json!([]), &Value::Null).failed();
    let answer = install::privileges(&daemon, &remote, &Value::Null);
    if daemon.is_ours() {
        for text in [error, answer.message()] {
            assert!(text.contains("image"), "{text}");
        }
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    } else {
        assert_eq!(error, "fetched plugin image but plugin config is missing");
        let missing = format!("did not find plugin config for specified reference {remote}");
        assert_eq!(answer.message(), missing);
    }
    assert_nothing(&daemon, &before, "an image");
}

#[test]
fn a_plugin_installs_from_a_manifest_in_ocis_words() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let tiny = Artifact::of(&registry, &publish(&daemon, &registry));
    tiny.in_oci("gzip").put(&registry, "team/oci", "v1");
    install::consenting(&daemon, &registry.name("team/oci:v1"), "tiny", &Value::Null).ok();
    assert_eq!(daemon.enable("tiny").status, 200);
}

#[test]
fn layers_may_be_compressed_in_any_way_or_not_at_all() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let tiny = Artifact::of(&registry, &publish(&daemon, &registry));
    for packing in ["zstd", "plain"] {
        tiny.clone().in_oci(packing).put(&registry, packing, "v1");
        install::consenting(&daemon, &registry.name(&format!("{packing}:v1")), packing, &Value::Null).ok();
        assert_eq!(daemon.enable(packing).status, 200, "{packing}");
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{packing}?force=1")).status, 200);
    }
}

#[test]
fn layers_are_applied_in_their_order() {
    // dockerd applies them as they arrive.
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let mut tiny = Artifact::of(&registry, &publish(&daemon, &registry));
    // The second layer spoils what the first one says, the third has the last word; both arrive before the first.
    let mut config: Value = serde_json::from_slice(&tiny.config.bytes).unwrap();
    let mut layer = |entry| {
        let tar = Tar::new().with(&entry).end();
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(artifact::digest(&tar).into());
        tiny.layers.push(artifact::Blob::new(artifact::SCHEMA2_LAYER, artifact::gzip(&tar)));
    };
    layer(Entry::symlink("etc/mark", "nowhere"));
    layer(Entry::file("etc/mark", b"the last word"));
    tiny.config = artifact::Blob::new(PLUGIN_CONFIG, config.to_string());
    tiny.put(&registry, "team/layered", "v1");
    install::consenting(&daemon, &registry.name("team/layered:v1"), "tiny", &Value::Null).ok();
    let id = daemon.http().look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
    let found = daemon.tree().into_iter().find(|p| p.ends_with(format!("{id}/rootfs/etc/mark"))).unwrap();
    assert_eq!(std::fs::read_to_string(found).unwrap(), "the last word");
}

#[test]
fn an_index_is_resolved_by_this_machines_platform() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let (good, bad) = (Artifact::small("good"), Artifact::small("bad"));
    let here = artifact::here();
    for (name, media_type, good, bad) in [
        ("list", SCHEMA2_LIST, good.clone(), bad.clone()),
        ("index", OCI_INDEX, good.clone().in_oci("gzip"), bad.clone().in_oci("zstd")),
    ] {
        good.put(&registry, name, "good");
        bad.put(&registry, name, "bad");
        let index = |entries: &[Value]| {
            json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string()
        };
        let both =
            index(&[bad.entry("linux", "s390x"), good.entry("linux", here), bad.entry("windows", here)]);
        registry.put_manifest(name, "both", media_type, both.as_bytes());
        install::consenting(&daemon, &registry.name(&format!("{name}:both")), "x", &Value::Null).ok();
        assert_eq!(daemon.http().look("/plugins/x/json")["Config"]["Description"], "good");
        assert_eq!(daemon.http().ask("DELETE", "/plugins/x").status, 200);

        let none = index(&[bad.entry("linux", "s390x"), bad.entry("windows", here)]);
        registry.put_manifest(name, "none", media_type, none.as_bytes());
        let remote = registry.name(&format!("{name}:none"));
        let error = install::pull(&daemon, &remote, "x", &json!([]), &Value::Null).failed();
        for platform in [format!("linux/{here}"), "linux/s390x".to_owned(), format!("windows/{here}")] {
            assert!(error.contains(&platform), "{error}");
        }
    }
}

#[test]
fn an_artifact_type_of_a_plugin_does_not_matter() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let artifact = Artifact::small("artifact").in_oci("gzip").lying(|manifest| {
        manifest["artifactType"] = "application/vnd.example.plugin".into();
        manifest["annotations"] = json!({"org.example": "x"});
    });
    artifact.put(&registry, "team/x", "v1");
    install::consenting(&daemon, &registry.name("team/x:v1"), "x", &Value::Null).ok();
    let again = Registry::open();
    install::consenting(&daemon, &registry.name("team/x:v1"), &again.name("x:v1"), &Value::Null).ok();
    install::push(&daemon, &again.name("x:v1"), &Value::Null).ok();
    assert_eq!(again.stored("x", "v1"), registry.stored("team/x", "v1"));
}

#[test]
fn what_was_schema2_stays_schema2() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let stored = publish(&daemon, &registry);
    let manifest: Value = serde_json::from_slice(&stored.manifest).unwrap();
    assert_eq!(manifest["mediaType"], SCHEMA2);
    assert_eq!(manifest["config"]["mediaType"], PLUGIN_CONFIG);
    assert_eq!(manifest["layers"][0]["mediaType"], artifact::SCHEMA2_LAYER);
}
