//! Plugins that die, cannot start, are many, or are in use while the daemon is killed: what comes back, and by itself.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Http;
use crate::support::{plugin, process, until};

/// The first wait before a plugin is started again, in nanoseconds; each next one is twice as long.
const FIRST_WAIT_NS: i64 = 100_000_000;

fn state(daemon: &Daemon, name: &str) -> Value {
    daemon.http().look(&format!("/plugins/{name}/json"))["State"].clone()
}

fn is_running(daemon: &Daemon, name: &str) -> Option<Value> {
    Some(state(daemon, name)).filter(|state| state["Status"] == "running")
}

/// The mounts below a directory.
fn mounts_below(place: &Path) -> Vec<String> {
    let below = format!(" {}/", place.display());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&below)).map(str::to_owned).collect()
}

#[test]
fn a_plugin_that_is_killed_five_times_comes_back_each_time_and_later_each_time() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    for restarts in 1..=5 {
        let pid = state(&daemon, "tiny")["Pid"].as_i64().unwrap();
        process::send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
        let back = until("it is back", || {
            is_running(&daemon, "tiny").filter(|state| state["Restarts"] == json!(restarts))
        });
        assert_ne!(back["Pid"], json!(pid));
        assert_eq!(back["ExitCode"], 137);
    }
    assert_eq!(daemon.http().look("/plugins/tiny/json")["Enabled"], true);
    let now = jiff::Timestamp::now();
    let until = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let told = daemon.http().ask("GET", &format!("/events?since=0&until={until}")).text();
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let times = |action: &str| -> Vec<i64> {
        let all = events.iter().filter(|event| event["Action"] == action);
        all.map(|event| event["timeNano"].as_i64().unwrap()).collect()
    };
    let waits: Vec<i64> =
        times("restart").iter().zip(times("die")).map(|(restart, die)| restart - die).collect();
    assert_eq!(waits.len(), 5);
    // No wait is shorter than it should be; how much longer it is, is the machine's affair.
    for (place, wait) in waits.iter().enumerate() {
        assert!(*wait >= FIRST_WAIT_NS << place, "{waits:?}");
    }
}

#[test]
fn a_plugin_that_cannot_start_at_boot_comes_up_once_its_cause_is_gone() {
    let Some(mut daemon) = Daemon::ours_with(&["--live-restore=false"]) else { return };
    let source = daemon.place().join("source");
    fs::create_dir(&source).unwrap();
    let mount = json!([{"name": "data", "type": "bind", "source": source, "destination": "/data", "options": ["bind"]}]);
    daemon.run("tiny", &daemon.tiny().with("mounts", mount));
    assert_eq!(daemon.stop(), Some(0));
    fs::remove_dir(&source).unwrap();
    daemon.launch();
    let waiting = until("it is tried again", || {
        Some(state(&daemon, "tiny"))
            .filter(|state| state["Status"] == "backing off" && state["Restarts"] != json!(0))
    });
    let error = waiting["Error"].as_str().unwrap();
    assert!(error.contains(&format!("its source {} does not exist", source.display())), "{error}");
    assert_eq!(daemon.http().look("/plugins/tiny/json")["Enabled"], true);
    // Meanwhile a volume of it says what is wrong, at once.
    let refused = daemon.volume(&json!({"Name": "v1", "Driver": "tiny"}));
    assert!(refused.status >= 400, "{}", refused.text());
    fs::create_dir(&source).unwrap();
    until("it runs", || is_running(&daemon, "tiny"));
    assert_eq!(daemon.volume(&json!({"Name": "v1", "Driver": "tiny"})).status, 201);
}

#[test]
fn the_daemon_answers_while_many_plugins_start_with_it() {
    const MANY: usize = 24;
    let Some(mut daemon) = Daemon::ours_with(&["--live-restore=false"]) else { return };
    for number in 0..MANY {
        daemon.run(&format!("p{number}"), &daemon.tiny().with("mounts", json!([])));
    }
    assert_eq!(daemon.stop(), Some(0));
    daemon.launch();
    let statuses = || {
        let all = daemon.http().look("/plugins");
        let statuses = all.as_array().unwrap().iter().map(|plugin| plugin["State"]["Status"].clone());
        statuses.collect::<Vec<_>>()
    };
    // The first look is answered before all of them run: nobody had to wait for them.
    let first = statuses();
    assert_eq!(first.len(), MANY);
    assert!(first.iter().any(|status| status != "running"), "{first:?}");
    assert_eq!(daemon.volume(&json!({"Name": "v1"})).status, 201);
    until("all run", || statuses().iter().all(|status| status == "running").then_some(()));
    for plugin in daemon.http().look("/plugins").as_array().unwrap() {
        assert_eq!((&plugin["State"]["Restarts"], &plugin["Enabled"]), (&json!(0), &json!(true)));
    }
}

/// A process that writes a number into a file and reads it back, again and again, and says so.
struct User {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl User {
    fn start(file: &Path) -> Self {
        let script = r#"
            i=0
            while :; do
                i=$((i + 1))
                echo $i > "$1" || exit 1
                read x < "$1" || exit 2
                [ "$x" = "$i" ] || exit 3
                echo $i || exit 4
            done"#;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits for so many rounds more.
    #[track_caller]
    fn goes_on(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            assert!(line.ends_with('\n'), "it has ended: {:?}", self.child.wait());
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An enabled rclone with a volume that is mounted as a container engine would; where.
fn mounted(daemon: &Daemon) -> PathBuf {
    let docker = daemon.docker();
    let context = daemon.place().join("rclone");
    plugin::write_rclone(&context);
    docker.ok(&["plugin", "create", "rclone", context.to_str().unwrap()]);
    for name in ["config", "cache"] {
        let source = daemon.place().join(name);
        fs::create_dir(&source).unwrap();
        docker.ok(&["plugin", "set", "rclone", &format!("{name}.source={}", source.display())]);
    }
    docker.ok(&["plugin", "enable", "rclone"]);
    docker.ok(&["volume", "create", "-d", "rclone", "-o", "type=memory", "data"]);
    let id = daemon.http().look("/plugins/rclone/json")["Id"].as_str().unwrap().to_owned();
    // The socket's own path is too long for one.
    let short = daemon.place().join("s");
    std::os::unix::fs::symlink(daemon.exec_root().join("plugins").join(&id).join("sockets"), &short).unwrap();
    let socket = Http::new(&short.join("rclone.sock"));
    let answer = socket.json("POST", "/VolumeDriver.Mount", &json!({"Name": "data", "ID": "user"}));
    assert_eq!(
        (answer.status, &answer.json()["Mountpoint"]),
        (200, &json!("/mnt/data")),
        "{}",
        answer.text()
    );
    daemon.data_root().join("plugins").join(&id).join("propagated-mount/data")
}

#[test]
fn a_volume_in_use_does_not_notice_that_the_daemon_is_killed() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let place = mounted(&daemon);
    let before = is_running(&daemon, "rclone").unwrap();
    let mut user = User::start(&place.join("file"));
    user.goes_on(5);
    for kill in [true, false] {
        if kill {
            daemon.kill();
        } else {
            assert_eq!(daemon.stop(), Some(0));
        }
        user.goes_on(20);
        daemon.launch();
        user.goes_on(5);
        let after = until("it is found", || is_running(&daemon, "rclone"));
        for key in ["Pid", "StartedAt", "Restarts"] {
            assert_eq!(after[key], before[key], "{key}");
        }
    }
    let logs = daemon.http().ask("GET", "/plugins/rclone/logs?stdout=1&stderr=1");
    assert_eq!(logs.status, 200);
    assert_eq!(daemon.docker().ok(&["volume", "ls", "-q"]), "data");

    // In use it is let go only by force; then nothing of it stays, though somebody is still there.
    assert!(daemon.docker().fails(&["plugin", "disable", "rclone"]).contains("in use"));
    daemon.docker().ok(&["plugin", "disable", "-f", "rclone"]);
    assert!(mounts_below(&daemon.data_root()).is_empty(), "{:?}", mounts_below(&daemon.data_root()));
    let ended = user.child.wait().unwrap();
    assert!(!ended.success());
    daemon.docker().ok(&["plugin", "rm", "-f", "rclone"]);
    assert_eq!(fs::read_dir(daemon.data_root().join("plugins")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(daemon.exec_root().join("plugins")).unwrap().count(), 0);
}

#[test]
fn without_live_restore_a_volume_ends_with_its_plugin_and_the_plugin_starts_again() {
    let Some(mut daemon) = Daemon::ours_with(&["--live-restore=false"]) else { return };
    let place = mounted(&daemon);
    let pid = is_running(&daemon, "rclone").unwrap()["Pid"].as_i64().unwrap();
    fs::write(place.join("file"), "x").unwrap();
    assert_eq!(daemon.stop(), Some(0));
    assert!(mounts_below(&daemon.data_root()).is_empty(), "{:?}", mounts_below(&daemon.data_root()));
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
    daemon.launch();
    let again = until("it runs", || is_running(&daemon, "rclone"));
    assert_ne!(again["Pid"], json!(pid));
}
