//! Shapes and words that dockerd 20.10 has answered with.

use super::*;

/// What dockerd 20.10 was given, and answered with.
const TINY: &str = r#"{"description": "tiny", "documentation": "none",
    "interface": {"socket": "tiny.sock", "types": ["docker.volumedriver/1.0"]},
    "linux": {"capabilities": [], "devices": []}, "network": {"type": "none"}, "entrypoint": ["/tiny"], "workdir": "/",
    "args": {"name": "args", "value": [], "settable": ["value"]},
    "env": [{"name": "MODE", "value": "", "settable": ["value"]}, {"name": "FIXED", "value": "1"}],
    "mounts": [{"name": "record", "source": "/r", "destination": "/record", "type": "bind", "options": ["rbind"],
                "settable": ["source"]}],
    "propagatedMount": "/volumes", "DockerVersion": "20.10.24",
    "rootfs": {"diff_ids": ["sha256:00"], "type": "layers"}}"#;
const TINY_ANSWER: &str = concat!(
    r#"{"Args":{"Description":"","Name":"args","Settable":["value"],"Value":[]},"Description":"tiny","#,
    r#""DockerVersion":"20.10.24","Documentation":"none","Entrypoint":["/tiny"],"#,
    r#""Env":[{"Description":"","Name":"MODE","Settable":["value"],"Value":""},"#,
    r#"{"Description":"","Name":"FIXED","Settable":null,"Value":"1"}],"#,
    r#""Interface":{"Socket":"tiny.sock","Types":["docker.volumedriver/1.0"]},"IpcHost":false,"#,
    r#""Linux":{"AllowAllDevices":false,"Capabilities":[],"Devices":[]},"#,
    r#""Mounts":[{"Description":"","Destination":"/record","Name":"record","Options":["rbind"],"#,
    r#""Settable":["source"],"Source":"/r","Type":"bind"}],"Network":{"Type":"none"},"PidHost":false,"#,
    r#""PropagatedMount":"/volumes","User":{},"WorkDir":"/","#,
    r#""rootfs":{"diff_ids":["sha256:00"],"type":"layers"}}"#,
);
const EMPTY_ANSWER: &str = concat!(
    r#"{"Args":{"Description":"","Name":"","Settable":null,"Value":null},"Description":"","Documentation":"","#,
    r#""Entrypoint":null,"Env":null,"Interface":{"Socket":"","Types":null},"IpcHost":false,"#,
    r#""Linux":{"AllowAllDevices":false,"Capabilities":null,"Devices":null},"Mounts":null,"#,
    r#""Network":{"Type":""},"PidHost":false,"PropagatedMount":"","User":{},"WorkDir":""}"#,
);

fn decoded(json: &str) -> PluginConfig {
    PluginConfig::decode(json.as_bytes()).unwrap()
}

fn answer(config: &PluginConfig) -> String {
    serde_json::to_string(config).unwrap()
}

#[test]
fn the_answer_has_the_shape_of_dockerd() {
    assert_eq!(answer(&decoded(TINY)), TINY_ANSWER);
    assert_eq!(answer(&decoded("{}")), EMPTY_ANSWER);
    assert_eq!(answer(&decoded("null")), EMPTY_ANSWER);
    assert_eq!(decoded(TINY_ANSWER), decoded(TINY));
}

#[test]
fn keys_of_any_case_nulls_and_unknown_fields_are_fine() {
    let config = decoded(
        r#"{"ARGS":null,"Entrypoint":["/a"],"entrypoint":["/b"],"propagatedmount":"/p","User":{},"manifestVersion":"v0",
            "Linux":{"Devices":null,"AllowAllDevices":true},"linux":{"CAPABILITIES":["CAP_SYS_ADMIN"]},
            "Env":[{"Name":"A","Value":null,"Settable":null}],"Interface":{"Types":null,"Socket":"x.sock"}}"#,
    );
    assert_eq!(*config.entrypoint, ["/b"]);
    assert_eq!(config.propagated_mount, "/p");
    assert!(config.linux.allow_all_devices);
    assert_eq!(*config.linux.capabilities, ["CAP_SYS_ADMIN"]);
    assert_eq!(config.env[0].value, None);
    assert!(config.interface.types.is_empty());
}

#[test]
fn what_is_stored_is_what_dockerd_stores() {
    let config = decoded(r#"{"description":"a<b>&c \u2028 é"}"#);
    let stored = String::from_utf8(config.encode().unwrap()).unwrap();
    assert!(stored.contains(r#""Description":"a\u003cb\u003e\u0026c \u2028 é""#), "{stored}");
    assert!(stored.ends_with("\"WorkDir\":\"\"}\n"), "{stored}");
    assert_eq!(decoded(&stored), config);
}

#[test]
fn a_wrong_type_is_told_in_the_words_of_dockerd() {
    let cases = [
        ("[]", "json: cannot unmarshal array into Go value of type types.PluginConfig"),
        (
            r#"{"entrypoint":"x"}"#,
            "json: cannot unmarshal string into Go struct field PluginConfig.Entrypoint of type []string",
        ),
        (
            r#"{"linux":[]}"#,
            "json: cannot unmarshal array into Go struct field PluginConfig.Linux of type types.PluginConfigLinux",
        ),
        (
            r#"{"linux":{"devices":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PluginConfigLinux.Linux.Devices of type []types.PluginDevice",
        ),
        (
            r#"{"env":[{"name":1}]}"#,
            "json: cannot unmarshal number into Go struct field PluginEnv.Env.Name of type string",
        ),
        (r#"{"interface":{"types":[1]}}"#, "\"number\" is not a plugin interface type"),
    ];
    for (json, expected) in cases {
        let error = PluginConfig::decode(json.as_bytes()).unwrap_err();
        assert_eq!(crate::error::chain(&error), format!("failed to parse config: {expected}"));
    }
}

#[test]
fn an_interface_type_has_three_parts() {
    let cases = [
        ("docker.volumedriver/1.0", ("docker", "volumedriver", "1.0")),
        ("docker.volumedriver/2.0", ("docker", "volumedriver", "2.0")),
        ("a.b.c/1", ("a.b", "c", "1")),
        ("docker.volumedriver", ("docker", "volumedriver", "")),
        ("volumedriver/1.0", ("", "volumedriver", "1.0")),
        ("", ("", "", "")),
    ];
    for (text, expected) in cases {
        let kind = InterfaceType(text.to_owned());
        assert_eq!((kind.prefix(), kind.capability(), kind.version()), expected, "{text}");
        assert_eq!(kind.to_string(), text);
    }
}

#[test]
fn only_what_docker_defines_counts_as_implemented() {
    let config = decoded(r#"{"interface":{"types":["docker.volumedriver/2.0","acme.logdriver/1.0"]}}"#);
    assert!(config.implements("volumedriver"));
    assert!(!config.implements("logdriver"));
    assert!(!config.implements("volumedriver/2.0"));
}
