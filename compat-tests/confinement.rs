//! What holds plugins back: system calls, memory, processors, processes, and what inspect tells of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::plugin::Context;
use crate::support::until;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// The errno of each call that a plugin tries.
fn tried(daemon: &Daemon, context: &Context) -> BTreeMap<String, i32> {
    daemon.run("tiny", context);
    let text = fs::read_to_string(daemon.record().join("tried")).unwrap();
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    let lines = text.lines().map(|line| line.split_once(": ").unwrap());
    lines.map(|(call, errno)| (call.to_owned(), errno.parse().unwrap())).collect()
}

fn set(daemon: &Daemon, settings: &[&str]) -> Answer {
    daemon.http().json("POST", "/plugins/tiny/set?restart=1", &json!(settings))
}

fn look(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")
}

fn admin(context: Context) -> Context {
    context.with("linux", json!({"capabilities": ["CAP_SYS_ADMIN"]}))
}

#[test]
fn a_call_that_the_profile_forbids_fails_and_works_with_the_capability() {
    let daemon = Daemon::start();
    let plain = tried(&daemon, &daemon.tiny().mode("try"));
    let all = tried(&daemon, &admin(daemon.tiny()).mode("try"));
    for (call, forbidden) in
        [("umount2", EPERM), ("keyctl", EPERM), ("socket AF_ALG", EPERM), ("clone3", ENOSYS)]
    {
        if daemon.is_ours() {
            assert_eq!(plain[call], forbidden, "{call}");
        } else {
            assert_eq!(plain[call], all[call], "{call}");
        }
        assert_ne!(all[call], forbidden, "{call} with CAP_SYS_ADMIN");
    }
    assert_eq!(all["umount2"], ENOENT);
    for allowed in ["socket AF_UNIX", "unshare"] {
        assert_eq!((plain[allowed], all[allowed]), (0, 0), "{allowed}");
    }
}

#[test]
fn another_profile_or_none_can_be_chosen() {
    let Some(daemon) = Daemon::ours_with(&["--seccomp-profile=unconfined"]) else { return };
    let free = tried(&daemon, &daemon.tiny().mode("try"));
    assert_eq!(free["umount2"], ENOENT);
    daemon.install("tiny", &daemon.tiny());
    assert_eq!(look(&daemon)["Confinement"]["Seccomp"], "unconfined");

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("profile.json");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []}],
        "syscalls": [{"names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                      "excludes": {"caps": ["CAP_SYS_ADMIN"]}}],
    });
    fs::write(&path, profile.to_string()).unwrap();
    let flag = format!("--seccomp-profile={}", path.display());
    let Some(daemon) = Daemon::ours_with(&[&flag]) else { return };
    assert_eq!(tried(&daemon, &daemon.tiny().mode("try"))["umount2"], 77);
    assert_eq!(tried(&daemon, &admin(daemon.tiny()).mode("try"))["umount2"], ENOENT);
    daemon.install("tiny", &daemon.tiny());
    assert_eq!(look(&daemon)["Confinement"]["Seccomp"], json!(path));
}

#[test]
fn inspect_tells_what_the_process_has() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &admin(daemon.tiny()));
    let shown = look(&daemon)["Confinement"].clone();
    let report = fs::read_to_string(daemon.record().join("report")).unwrap();
    let section =
        |title: &str| report.split(&format!("== {title}\n")).nth(1).unwrap().split("\n== ").next().unwrap();
    let score: Value = section("/proc/self/oom_score_adj").trim().parse::<i32>().unwrap().into();
    assert!(shown["OomScoreAdj"] == score || shown["OomScoreAdj"].is_null(), "{shown} {score}");
    let status = |field: &str| {
        let mut lines = section("/proc/self/status").lines();
        lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).unwrap()
    };
    let mask = u64::from_str_radix(status("CapEff"), 16).unwrap();
    let capabilities = shown["Capabilities"].as_array().unwrap();
    assert_eq!(capabilities.len(), usize::try_from(mask.count_ones()).unwrap(), "{capabilities:?}");
    assert!(capabilities.contains(&json!("CAP_SYS_ADMIN")), "{capabilities:?}");
    assert_eq!((&shown["NoNewPrivileges"], status("NoNewPrivs")), (&json!(false), "0"));
    assert_eq!((&shown["Seccomp"], status("Seccomp")), (&json!("builtin"), "2"));
    assert_eq!(
        (&shown["PidsLimit"], &shown["Memory"], &shown["NanoCpus"]),
        (&json!(4096), &json!(0), &json!(0))
    );
}

/// A file of the cgroup in which a process is for a controller; of version 1, or of version 2.
fn cgroup(pid: &Value, controller: &str, files: [&str; 2]) -> String {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut lines = cgroups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let v1 = lines.find(|fields| fields[1].split(',').any(|one| one == controller));
    let (root, place, file) = match &v1 {
        Some(fields) => (Path::new("/sys/fs/cgroup").join(controller), fields[2].to_owned(), files[0]),
        None => {
            (PathBuf::from("/sys/fs/cgroup"), cgroups.trim().rsplit(':').next().unwrap().to_owned(), files[1])
        }
    };
    let path = root.join(place.trim_start_matches('/')).join(file);
    let content = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    content.trim().to_owned()
}

#[test]
fn resources_are_set_beside_the_settings_and_hold() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    let before = look(&daemon);
    let settings = ["x-dockplug.memory=64m", "x-dockplug.cpus=1.5", "x-dockplug.pids=512", "MODE=talk"];
    let answer = set(&daemon, &settings);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let limits = |plugin: &Value| {
        let shown = &plugin["Confinement"];
        json!([shown["Memory"], shown["NanoCpus"], shown["PidsLimit"]])
    };
    let after = look(&daemon);
    assert_eq!(limits(&after), json!([64 << 20, 1_500_000_000, 512]));
    let mut expected = before["Settings"].clone();
    expected["Env"][0] = json!("MODE=talk");
    assert_eq!(after["Settings"], expected);
    let pid = &after["State"]["Pid"];
    assert_eq!(cgroup(pid, "memory", ["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(cgroup(pid, "pids", ["pids.max", "pids.max"]), "512");
    let quota = cgroup(pid, "cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("150000"));

    // One that is refused takes the others with it, and what does not work is taken back.
    for (setting, expected) in [
        ("x-dockplug.memory=1m", "x-dockplug.memory: got \"1m\", expected a number of bytes of at least 6m"),
        ("x-dockplug.cpus=many", "x-dockplug.cpus: got \"many\", expected a number of processors"),
        ("x-dockplug.pids=1.5", "x-dockplug.pids: got \"1.5\", expected a number of processes"),
        ("x-dockplug.mem=1g", "got the setting \"x-dockplug.mem\", expected x-dockplug.memory"),
        ("NOPE=1", "setting \"NOPE\" not found in the plugin configuration"),
    ] {
        let refused = set(&daemon, &["x-dockplug.pids=", setting]);
        assert_eq!(refused.status, 400, "{setting}");
        assert!(refused.message().starts_with(expected), "{}", refused.message());
    }
    assert_eq!(set(&daemon, &["x-dockplug.pids=-1", "MODE=exit=3"]).status, 500);
    assert_eq!(limits(&look(&daemon)), limits(&after));

    // They are durable, and go away with an empty value.
    daemon.kill();
    daemon.launch();
    assert_eq!(limits(&look(&daemon)), limits(&after));
    let clear = ["x-dockplug.memory=", "x-dockplug.cpus", "x-dockplug.pids="];
    assert_eq!(set(&daemon, &clear).status, 204);
    assert_eq!(limits(&look(&daemon)), json!([0, 0, 4096]));
}

#[test]
fn a_plugin_that_uses_more_memory_than_it_may_is_ended_and_says_so() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("eat=Create"));
    assert_eq!(daemon.volume(&json!({"Name": "v1", "Driver": "tiny"})).status, 201);
    assert_eq!(look(&daemon)["State"]["OOMKilled"], false);
    assert_eq!(set(&daemon, &["x-dockplug.memory=32m"]).status, 204);
    let refused = daemon.volume(&json!({"Name": "v2", "Driver": "tiny"}));
    assert!(refused.status >= 400, "{}", refused.text());
    let died = until("it is back", || {
        Some(look(&daemon)["State"].clone())
            .filter(|state| state["Restarts"] != json!(0) && state["Status"] == "running")
    });
    assert_eq!((&died["OOMKilled"], &died["ExitCode"]), (&json!(true), &json!(137)));
    assert!(daemon.log().contains("plugin tiny:latest ran out of memory"), "{}", daemon.log());
}
