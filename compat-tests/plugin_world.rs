//! The world as a plugin sees it: arguments, environment, rights, mounts and namespaces, as dockerd makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::plugin::Context;

/// What tiny reported at its start, by section.
struct World(BTreeMap<String, String>);

impl World {
    fn of(daemon: &Daemon, context: &Context) -> Self {
        daemon.run("tiny", context);
        let text = fs::read_to_string(daemon.record().join("report")).unwrap();
        let sections = text.split("== ").skip(1).filter_map(|s| s.split_once('\n'));
        Self(sections.map(|(title, content)| (title.to_owned(), content.trim_end().to_owned())).collect())
    }

    fn lines(&self, section: &str) -> Vec<&str> {
        self.0[section].lines().collect()
    }

    /// A field of /proc/self/status.
    fn status(&self, field: &str) -> &str {
        let mut lines = self.0["/proc/self/status"].lines();
        lines.find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap().trim()
    }

    /// Mount point to (type, options), the last on each point.
    fn mounts(&self) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
        let mut mounts = BTreeMap::new();
        for line in self.0["/proc/self/mountinfo"].lines() {
            let (before, after) = line.split_once(" - ").unwrap();
            let fields: Vec<&str> = before.split(' ').collect();
            mounts.insert(fields[4], (after.split(' ').next().unwrap(), fields[5].split(',').collect()));
        }
        mounts
    }

    fn namespace(&self, name: &str) -> String {
        let prefix = format!("{name} -> ");
        self.lines("/proc/self/ns").into_iter().find_map(|l| l.strip_prefix(&prefix)).unwrap().to_owned()
    }
}

fn hosts_namespace(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn arguments_environment_and_directory_are_those_of_the_config() {
    let daemon = Daemon::start();
    let context = daemon
        .tiny()
        .with("entrypoint", json!(["/tiny", "from-entrypoint"]))
        .with("args", json!({"name": "args", "value": ["a1", "a 2"], "settable": ["value"]}))
        .with("workdir", json!("/tmp"));
    let world = World::of(&daemon, &context);
    assert_eq!(world.lines("arguments"), ["/tiny", "from-entrypoint", "a1", "a 2"]);
    let environment: BTreeSet<_> =
        world.lines("environment").into_iter().filter(|l| !l.starts_with("HOME=")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(environment, BTreeSet::from([path, "MODE=", "FIXED=1"]));
    assert_eq!(world.lines("directory"), ["/tmp"]);
}

#[test]
fn a_plugin_that_asks_for_nothing_has_a_containers_rights() {
    let daemon = Daemon::start();
    let world = World::of(&daemon, &daemon.tiny());
    for (field, value) in [
        ("Uid", "0\t0\t0\t0"),
        ("Gid", "0\t0\t0\t0"),
        ("Pid", "1"),
        ("CapPrm", "00000000a80425fb"),
        ("CapEff", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert_eq!(world.status(field), value, "{field}");
    }
    assert_eq!(world.status("NoNewPrivs"), if daemon.is_ours() { "1" } else { "0" });
    for name in ["mnt", "pid", "ipc", "uts", "net"] {
        assert_ne!(world.namespace(name), hosts_namespace(name), "{name}");
    }
}

#[test]
fn what_the_config_asks_for_is_granted() {
    let daemon = Daemon::start();
    let linux = json!({"capabilities": ["CAP_SYS_ADMIN"], "devices": [{"path": "/dev/fuse"}]});
    let context = daemon
        .tiny()
        .with("linux", linux)
        .with("network", json!({"type": "host"}))
        .with("pidhost", json!(true))
        .with("ipchost", json!(true));
    let world = World::of(&daemon, &context);
    assert_eq!(world.status("CapEff"), "00000000a82425fb");
    assert_eq!(world.status("NoNewPrivs"), "0");
    assert!(world.lines("/dev")[0].split(' ').any(|name| name == "fuse"), "{:?}", world.lines("/dev"));
    for name in ["pid", "ipc", "net"] {
        assert_eq!(world.namespace(name), hosts_namespace(name), "{name}");
    }
    assert_ne!(world.namespace("mnt"), hosts_namespace("mnt"));
}

#[test]
fn mounts_are_where_plugins_look_for_them() {
    let daemon = Daemon::start();
    let world = World::of(&daemon, &daemon.tiny());
    let mounts = world.mounts();
    for (point, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(mounts.get(point).map(|m| m.0), Some(kind), "{point}");
    }
    for (point, mode) in [
        ("/", "rw"),
        ("/sys", "ro"),
        ("/proc/sys", "ro"),
        ("/volumes", "rw"),
        ("/record", "rw"),
        ("/run/docker/plugins", "rw"),
    ] {
        let options = &mounts.get(point).unwrap_or_else(|| panic!("nothing is mounted at {point}")).1;
        assert!(options.contains(mode), "{point}: {options:?}");
    }
    for masked in ["/proc/keys", "/sys/firmware"] {
        assert!(mounts.contains_key(masked), "{masked} can be read");
    }
    let names: BTreeSet<&str> = world.lines("/dev")[0].split(' ').collect();
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin"] {
        assert!(names.contains(device), "no /dev/{device} in {names:?}");
    }
    assert!(!names.contains("mem") && !names.contains("fuse"), "{names:?}");
}

#[test]
fn only_standard_input_and_output_are_inherited() {
    let daemon = Daemon::start();
    let world = World::of(&daemon, &daemon.tiny());
    let open: Vec<_> =
        world.lines("/proc/self/fd").into_iter().map(|l| l.split(' ').next().unwrap()).collect();
    // 3 is the directory being read.
    assert_eq!(BTreeSet::from_iter(open), BTreeSet::from(["0", "1", "2", "3"]));
}

#[test]
fn missing_places_are_made() {
    let daemon = Daemon::start();
    let record = daemon.record();
    let mounts = json!([
        {"name": "record", "type": "bind", "source": record, "destination": "/record", "options": ["rbind"]},
        {"name": "deep", "type": "bind", "source": record, "destination": "/not/there/yet", "options": ["rbind", "ro"]},
    ]);
    let context = daemon
        .tiny()
        .with("mounts", mounts)
        .with("workdir", json!("/work/dir"))
        .with("propagatedMount", json!("/pm/deep"));
    let world = World::of(&daemon, &context);
    assert_eq!(world.lines("directory"), ["/work/dir"]);
    let mounts = world.mounts();
    assert!(mounts["/not/there/yet"].1.contains("ro"), "{mounts:?}");
    assert!(mounts.contains_key("/pm/deep"), "{mounts:?}");
}
