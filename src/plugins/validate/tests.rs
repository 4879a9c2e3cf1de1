//! One table of what is refused, one of what real plugins say and is not.

use super::*;

/// A configuration that is fine, with one field changed.
fn changed(pointer: &str, value: serde_json::Value) -> Result<(), Error> {
    let mut json = serde_json::json!({
        "entrypoint": ["/p"], "workdir": "/", "propagatedMount": "/mnt", "network": {"type": "host"},
        "interface": {"socket": "p.sock", "types": ["docker.volumedriver/1.0"], "protocolScheme": ""},
        "args": {"name": "args", "value": ["a"], "settable": ["value"]},
        "env": [{"name": "A", "value": "1", "settable": ["value"]}],
        "mounts": [{"name": "m", "source": "/m", "destination": "/m", "type": "bind", "options": ["rbind"],
                    "settable": ["source"]}],
        "linux": {"capabilities": ["CAP_SYS_ADMIN"], "devices": [{"path": "/dev/fuse", "settable": ["path"]}]},
    });
    *json.pointer_mut(pointer).unwrap() = value;
    PluginConfig::decode(&serde_json::to_vec(&json).unwrap()).unwrap().validate()
}

#[test]
fn what_is_wrong_is_told_with_the_field_and_both_values() {
    use serde_json::json;
    let cases = [
        ("/entrypoint", json!([]), "entrypoint: got nothing, expected the program"),
        ("/entrypoint", json!(null), "entrypoint: got nothing"),
        ("/entrypoint", json!([""]), "entrypoint: got an empty string"),
        ("/entrypoint", json!(["/p", "a\0b"]), r#"entrypoint[1]: got "a\0b", expected no NUL"#),
        ("/workdir", json!("data"), r#"workdir: got "data", expected an absolute path"#),
        ("/interface/socket", json!(""), r#"interface.socket: got "", expected the name of a socket"#),
        ("/interface/socket", json!("../x.sock"), r#"interface.socket: got "../x.sock""#),
        ("/interface/socket", json!(".."), r#"interface.socket: got "..""#),
        ("/interface/socket", json!("a\0"), r#"interface.socket: got "a\0""#),
        (
            "/interface/types/0",
            json!("docker.volumedriver"),
            r#"interface.types[0]: got "docker.volumedriver""#,
        ),
        ("/interface/types/0", json!("volumedriver/1.0"), "expected prefix.capability/version"),
        ("/interface/types/0", json!("docker./1.0"), "interface.types[0]"),
        ("/interface/types/0", json!("docker.volume driver/1.0"), "interface.types[0]"),
        ("/interface/types/0", json!("docker.volumedriver/1.0/2"), "interface.types[0]"),
        ("/args/value", json!(["\0"]), "args.value[0]"),
        ("/args/settable", json!(["name"]), r#"args.settable: got "name", expected "value""#),
        ("/env/0/name", json!(""), r#"env[0].name: got "", expected the name of a variable"#),
        ("/env/0/name", json!("A=B"), r#"env[0].name: got "A=B""#),
        ("/env/0/value", json!("\0"), "env[0].value"),
        ("/env/0/settable", json!(["value", "source"]), r#"env[0].settable: got "source""#),
        ("/mounts/0/destination", json!(""), r#"mounts[0].destination: got """#),
        ("/mounts/0/destination", json!("data"), r#"mounts[0].destination: got "data""#),
        (
            "/mounts/0/destination",
            json!("/"),
            r#"mounts[0].destination: got "/", expected a directory below /"#,
        ),
        ("/mounts/0/destination", json!("//"), "mounts[0].destination"),
        ("/mounts/0/destination", json!("/a/../.."), "expected a path without .."),
        ("/mounts/0/source", json!("relative"), r#"mounts[0].source: got "relative""#),
        ("/mounts/0/settable", json!(["destination"]), "mounts[0].settable"),
        ("/linux/capabilities/0", json!("CAP_EVERYTHING"), r#"linux.capabilities[0]: got "CAP_EVERYTHING""#),
        ("/linux/capabilities/0", json!("SYS_ADMIN"), "expected the name of a Linux capability"),
        ("/linux/devices/0/path", json!("fuse"), r#"linux.devices[0].path: got "fuse""#),
        ("/linux/devices/0/path", json!(null), "linux.devices[0].path: got nothing"),
        ("/linux/devices/0/settable", json!(["value"]), "linux.devices[0].settable"),
        ("/propagatedMount", json!("/"), "propagatedMount"),
        ("/propagatedMount", json!("mnt"), "propagatedMount"),
        ("/propagatedMount", json!("/../etc"), "propagatedMount"),
        ("/network/type", json!("\0"), "network.type"),
    ];
    for (pointer, value, expected) in cases {
        let shown = format!("{pointer} = {value}");
        let error = changed(pointer, value).expect_err(&shown).to_string();
        assert!(error.contains(expected) && error.starts_with("config.json: "), "{shown}: {error}");
    }
}

#[test]
fn what_real_configurations_contain_is_fine() {
    use serde_json::json;
    let cases = [
        ("/mounts/0/source", json!("")),
        ("/mounts/0/source", json!(null)),
        ("/mounts/0/source", json!("/var/lib/docker/plugins/")),
        ("/mounts/0/type", json!("none")),
        ("/mounts/0/type", json!("")),
        ("/mounts/0/options", json!(["bind", "ro", "private"])),
        ("/mounts/0", json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs"})),
        ("/mounts/0/destination", json!("/mnt")),
        ("/mounts", json!([])),
        ("/env/0/value", json!(null)),
        ("/args", json!(null)),
        ("/interface/types", json!(null)),
        ("/interface/types/0", json!("docker.volumedriver/2.0")),
        ("/interface/types/0", json!("docker.csicontroller/1.0")),
        ("/interface/socket", json!("s".repeat(SOCKET_MAX_BYTES))),
        (
            "/linux/capabilities",
            json!(["CAP_SYS_RESOURCE", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_CHECKPOINT_RESTORE"]),
        ),
        ("/linux/devices/0/path", json!("")),
        ("/linux", json!({"allowAllDevices": true})),
        ("/network/type", json!("")),
        ("/network/type", json!("none")),
        ("/network/type", json!("bridge")),
        ("/network/type", json!("seaweed")),
        ("/network", json!(null)),
        ("/propagatedMount", json!("")),
        ("/propagatedMount", json!("/var/lib/..data/x")),
        ("/workdir", json!("")),
    ];
    for (pointer, value) in cases {
        let shown = format!("{pointer} = {value}");
        changed(pointer, value).expect(&shown);
    }
}

#[test]
fn lengths_are_limited() {
    use serde_json::json;
    let cases = [
        ("/interface/socket", json!("s".repeat(SOCKET_MAX_BYTES + 1))),
        ("/entrypoint", json!(vec!["/p"; LIST_MAX + 1])),
        ("/mounts/0/destination", json!(format!("/{}", "m".repeat(PATH_MAX_BYTES)))),
        ("/env/0/value", json!("v".repeat(STRING_MAX_BYTES + 1))),
        ("/args/value", json!(vec!["a"; LIST_MAX + 1])),
        ("/linux/capabilities", json!(vec!["CAP_CHOWN"; LIST_MAX + 1])),
    ];
    for (pointer, value) in cases {
        let error = changed(pointer, value).expect_err(pointer).to_string();
        assert!(error.len() < 512, "{pointer}: {} bytes", error.len());
    }
}

#[test]
fn every_capability_is_known_to_the_runtime_specification() {
    for name in CAPABILITIES {
        assert!(name.parse::<oci_spec::runtime::Capability>().is_ok(), "{name}");
    }
}
