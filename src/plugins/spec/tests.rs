//! What the runtime is told, for one wish of a plugin after the other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::seccomp::Profile;
use super::*;
use crate::error::chain;
use crate::plugins::resources::Resources;
use oci_spec::runtime::LinuxDeviceType;

/// A host with some paths and one device.
struct Fake;

impl Host for Fake {
    fn exists(&self, path: &Path) -> bool {
        ["/m", "/dev", "/etc/hosts", "/shm"].contains(&path.to_str().unwrap())
    }

    fn devices(&self, path: &Path) -> io::Result<Vec<DeviceNode>> {
        if path != Path::new("/dev/fuse") {
            return Err(io::Error::from_raw_os_error(2));
        }
        let (major, minor) = (10, 229);
        let kind = LinuxDeviceType::C;
        Ok(vec![DeviceNode { path: path.to_owned(), kind, major, minor, mode: 0o666, uid: 0, gid: 7 }])
    }

    fn architecture(&self) -> &'static str {
        "x86_64"
    }

    fn interprets(&self, _head: &[u8]) -> bool {
        false
    }
}

fn try_build(config: &str, set: &[&str]) -> Result<Value, Error> {
    let config = PluginConfig::decode(config.as_bytes()).unwrap();
    let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
    let settings = crate::plugins::settable::set(&config, &Settings::initial(&config), &set).unwrap();
    let places = Places {
        rootfs: "/d/rootfs".into(),
        propagated_mount: "/d/propagated-mount".into(),
        sockets: "/e/sockets".into(),
    };
    let id = "ab".repeat(32).parse().unwrap();
    let kernel = Kernel {
        version: (6, 1),
        has_seccomp: true,
        limits_swap: false,
        oom_score_adj: 0,
        lowers_oom_score: true,
    };
    let confinement = Confinement::new(&config, Resources::default(), Profile::Builtin, &kernel);
    let spec = build(&id, &config, &settings, &confinement, &places, &Fake);
    spec.map(|spec| serde_json::to_value(spec).unwrap())
}

fn built(config: &str) -> Value {
    try_build(config, &[]).unwrap()
}

fn destinations(spec: &Value) -> Vec<&str> {
    spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> &'a Value {
    spec["mounts"].as_array().unwrap().iter().rfind(|mount| mount["destination"] == destination).unwrap()
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// The calls that the filter has a rule for.
fn filtered(spec: &Value) -> BTreeSet<&str> {
    let rules = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    rules.iter().flat_map(|rule| names(&rule["names"])).collect()
}

#[test]
fn a_plugin_that_asks_for_nothing_gets_the_defaults() {
    let spec = built(r#"{"entrypoint":["/p"]}"#);
    assert_eq!(spec["root"], json!({"path": "/d/rootfs", "readonly": false}));
    assert_eq!(spec["process"]["args"], json!(["/p"]));
    assert_eq!(spec["process"]["cwd"], "/");
    assert_eq!(spec["process"]["env"], json!([PATH]));
    assert_eq!(spec["process"]["user"], json!({"uid": 0, "gid": 0}));
    assert_eq!(spec["process"]["terminal"], false);
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    assert_eq!(spec["process"]["oomScoreAdj"], -100);
    assert_eq!(spec["linux"]["resources"]["pids"], json!({"limit": 4096}));
    assert_eq!(spec["linux"]["resources"]["memory"], Value::Null);
    assert_eq!(spec["linux"]["seccomp"]["architectures"][0], "SCMP_ARCH_X86_64");
    assert!(!filtered(&spec).contains("mount") && filtered(&spec).contains("chroot"));
    let capabilities = &spec["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(names(&capabilities[set]).len(), 14, "{set}");
        assert!(names(&capabilities[set]).contains("CAP_CHOWN"), "{set}");
    }
    assert_eq!(capabilities["inheritable"], json!([]));
    let expected =
        ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm", SOCKETS_IN_PLUGIN];
    assert_eq!(destinations(&spec), expected);
    assert_eq!(
        *mount(&spec, SOCKETS_IN_PLUGIN),
        json!({"destination": SOCKETS_IN_PLUGIN, "type": "bind", "source": "/e/sockets",
               "options": ["rbind", "rw", "rprivate"]})
    );
    let linux = &spec["linux"];
    let kinds: BTreeSet<_> =
        linux["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["ipc", "mount", "network", "pid", "uts"]));
    assert_eq!(linux["cgroupsPath"], format!("/dockplug/{}", "ab".repeat(32)));
    assert_eq!(linux["rootfsPropagation"], Value::Null);
    assert_eq!(linux["devices"], json!([]));
    let rules = linux["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules[0], json!({"allow": false, "access": "rwm"}));
    assert_eq!(rules[7], json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    assert_eq!(linux["maskedPaths"].as_array().unwrap().len(), 11);
    assert_eq!(linux["readonlyPaths"].as_array().unwrap().len(), 5);
}

#[test]
fn arguments_variables_and_directory_are_those_of_the_settings() {
    let config = r#"{"entrypoint":["/p","serve"],"workdir":"/data","args":{"name":"args","settable":["value"]},
        "env":[{"name":"A","value":"1","settable":["value"]},{"name":"B"}]}"#;
    let spec = try_build(config, &["args=-x y", "A=2"]).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/p", "serve", "-x", "y"]));
    assert_eq!(spec["process"]["env"], json!([PATH, "A=2"]));
    assert_eq!(spec["process"]["cwd"], "/data");
}

#[test]
fn capabilities_and_devices_are_added_when_asked_for() {
    let spec = built(
        r#"{"linux":{"capabilities":["CAP_SYS_ADMIN","CAP_NONSENSE","CAP_CHOWN"],"devices":[{"path":"/dev/fuse"}]}}"#,
    );
    let capabilities = &spec["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(names(&capabilities[set]).len(), 15, "{set}");
        assert!(names(&capabilities[set]).contains("CAP_SYS_ADMIN"), "{set}");
    }
    assert_eq!(names(&capabilities["inheritable"]), BTreeSet::from(["CAP_CHOWN", "CAP_SYS_ADMIN"]));
    assert!(filtered(&spec).contains("mount"));
    let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 7});
    assert_eq!(spec["linux"]["devices"], json!([fuse]));
    let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules[8], json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    let spec = built(r#"{"linux":{"allowAllDevices":true}}"#);
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    let error = try_build(r#"{"linux":{"devices":[{"path":"/dev/nope"}]}}"#, &[]).unwrap_err();
    assert!(
        chain(&error).starts_with(
            "error gathering device information while adding custom device \"/dev/nope\": No such file"
        ),
        "{}",
        chain(&error)
    );
}

#[test]
fn namespaces_of_the_host_are_shared_when_asked_for() {
    let cases = [
        (r#"{"network":{"type":"host"}}"#, "network"),
        (r#"{"pidhost":true}"#, "pid"),
        (r#"{"ipchost":true}"#, "ipc"),
    ];
    for (config, shared) in cases {
        let spec = built(config);
        let kinds = spec["linux"]["namespaces"].as_array().unwrap().iter();
        assert_eq!(kinds.clone().count(), 4, "{config}");
        assert!(kinds.clone().all(|namespace| namespace["type"] != shared), "{config}");
    }
    for kind in ["none", "bridge", "seaweed"] {
        let spec = built(&format!(r#"{{"network":{{"type":"{kind}"}}}}"#));
        assert!(spec["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == "network"));
    }
}

#[test]
fn a_plugin_with_a_network_sees_the_names_of_the_host() {
    for kind in ["host", "none", "bridge"] {
        let spec = built(&format!(r#"{{"network":{{"type":"{kind}"}}}}"#));
        assert_eq!(mount(&spec, "/etc/hosts")["options"], json!(["rbind", "ro"]));
        assert!(!destinations(&spec).contains(&"/etc/resolv.conf"), "the host has none");
    }
    assert!(!destinations(&built(r#"{"network":{"type":""}}"#)).contains(&"/etc/hosts"));
}

#[test]
fn the_propagated_mount_is_shared_with_the_host() {
    let spec =
        built(r#"{"propagatedMount":"/mnt","mounts":[{"source":"/m","destination":"/mnt","type":"bind"}]}"#);
    assert_eq!(spec["linux"]["rootfsPropagation"], "rshared");
    let at = destinations(&spec).iter().position(|destination| *destination == "/mnt").unwrap();
    let first = &spec["mounts"][at];
    assert_eq!(first["source"], "/d/propagated-mount");
    assert_eq!(first["options"], json!(["rbind", "rw", "rshared"]));
    assert_eq!(mount(&spec, "/mnt")["source"], "/m");
}

#[test]
fn mounts_are_those_of_the_settings() {
    let config = r#"{"mounts":[{"name":"m","source":"","destination":"/data","type":"none","options":["bind","ro"],
                                "settable":["source"]},
                               {"destination":"/t","type":"tmpfs","options":["mode=700"]},
                               {"source":"/m","destination":"/b","type":"bind"}]}"#;
    let spec = built(config);
    assert!(!destinations(&spec).contains(&"/data"), "its source was never set");
    assert_eq!(
        *mount(&spec, "/t"),
        json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]})
    );
    assert_eq!(mount(&spec, "/b")["options"], json!(["rbind"]));
    let spec = try_build(config, &["m.source=/m"]).unwrap();
    assert_eq!(
        *mount(&spec, "/data"),
        json!({"destination": "/data", "type": "bind", "source": "/m", "options": ["bind", "ro"]})
    );
    let cases = [
        (
            "m=/no/such",
            "mount \"m\": its source /no/such does not exist on this host: create it, or set another with \
             m.source=PATH while the plugin is disabled",
        ),
        ("m=relative", "mount \"m\": got the source \"relative\", expected an absolute path"),
    ];
    for (set, expected) in cases {
        assert_eq!(try_build(config, &[set]).unwrap_err().to_string(), expected);
    }
    let fixed = r#"{"mounts":[{"source":"/no","destination":"/data","type":"bind"}]}"#;
    let error = try_build(fixed, &[]).unwrap_err().to_string();
    assert_eq!(error, "mount \"/data\": its source /no does not exist on this host: create it");
}

#[test]
fn a_mount_in_dev_replaces_the_default_one_and_dev_stays_fresh() {
    let spec = built(
        r#"{"mounts":[{"source":"/dev","destination":"/dev","type":"bind","options":["rbind"]},
                      {"source":"/shm","destination":"/dev/shm/","type":"bind"}]}"#,
    );
    let all = destinations(&spec);
    assert_eq!(all.iter().filter(|destination| **destination == "/dev").count(), 2);
    assert_eq!(spec["mounts"][1]["type"], "tmpfs");
    assert!(!all.contains(&"/dev/shm"));
    assert_eq!(mount(&spec, "/dev/shm/")["source"], "/shm");
}

#[test]
fn everything_that_cannot_work_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let rootfs = Root::open(directory.path()).unwrap();
    let check = |text: &str| {
        let config = PluginConfig::decode(text.as_bytes()).unwrap();
        check(&config, &Settings::initial(&config), &rootfs, &Fake).map_err(|error| chain(&error))
    };
    let source = "mount \"/a\": its source /no does not exist on this host: create it";
    let capability =
        "got the capability \"CAP_FLY\", expected the name of a Linux capability, like CAP_SYS_ADMIN";
    let program = "entrypoint \"/p\": no such file in the plugin's rootfs: put it there, or correct \"entrypoint\" in \
                   config.json";
    assert_eq!(check(r#"{"entrypoint":["/p"]}"#), Err(program.to_owned()));
    assert!(check("{}").unwrap_err().starts_with("there is nothing to run"));
    let all = check(
        r#"{"entrypoint":["/p"],"mounts":[{"source":"/no","destination":"/a","type":"bind"},
            {"source":"","destination":"/unset","type":"bind"},{"source":"/m","destination":"/b","type":"bind"}],
            "linux":{"capabilities":["CAP_FLY","CAP_SYS_ADMIN"],"devices":[{"path":"/dev/nope"},{"path":"/dev/fuse"}]}}"#,
    );
    let all = all.unwrap_err();
    assert!(
        all.starts_with(&format!("the plugin cannot run, for 4 reasons: {source}; error gathering")),
        "{all}"
    );
    assert!(all.contains("\"/dev/nope\": No such file"), "{all}");
    assert!(all.ends_with(&format!("; {capability}; {program}")), "{all}");
    // What is mounted over the program's place is not known here.
    assert_eq!(
        check(r#"{"entrypoint":["/b/p"],"mounts":[{"source":"/m","destination":"/b","type":"bind"}]}"#),
        Ok(())
    );
}
