//! Plugins that work against their host: they run away, write without end, change what we hold on to, die for ever.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::{process, until};

/// How often a plugin dies at once, by so many plugins at a time.
const DEATHS: usize = 1000;
const AT_A_TIME: usize = 4;

fn look(daemon: &Daemon) -> Value {
    daemon.http().look("/plugins/tiny/json")
}

fn data(daemon: &Daemon) -> Answer {
    daemon.volume(&json!({"Name": "data", "Driver": "tiny"}))
}

/// What runs for a daemon's plugins: their processes and monitors.
fn running(daemon: &Daemon) -> Vec<i32> {
    let mut all = process::in_root_below(daemon.place());
    let place = daemon.place().display().to_string();
    all.extend(process::mentioning(&place).into_iter().filter(|pid| *pid != daemon.pid()));
    all
}

fn mounts(daemon: &Daemon) -> usize {
    let place = daemon.place().display().to_string();
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&place)).count()
}

/// Bytes in the files right below a directory.
fn size(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[test]
fn a_plugin_that_forks_away_has_ended_and_leaves_nothing() {
    let Some(daemon) = Daemon::ours() else { return };
    // With a pid namespace of its own the kernel ends the child; in the host's it is hunted down.
    for host in [false, true] {
        daemon.install("tiny", &daemon.tiny().mode("daemonize").with("pidhost", json!(host)));
        let answer = daemon.enable("tiny");
        if answer.status == 200 {
            // The child listened before the end of its parent was seen.
            assert!(host, "nobody can listen");
            let state = until("its end is seen", || {
                Some(look(&daemon)["State"].clone()).filter(|state| state["ExitCode"] == 0)
            });
            assert!(state["Restarts"].is_number(), "{state}");
            assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
        } else {
            let told = "plugin tiny:latest exited with code 0 before it listened on its socket";
            assert!(answer.message().contains(told), "{}", answer.message());
            assert_eq!(look(&daemon)["State"]["Status"], "failed");
        }
        until("nothing of it runs", || running(&daemon).is_empty().then_some(()));
        assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 200);
        assert_eq!(mounts(&daemon), 0);
    }
}

#[test]
fn a_plugin_that_floods_its_log_fills_no_disk_and_stops_nobody() {
    /// What the README promises, with the line that is being written.
    const LOG_MAX_BYTES: u64 = 10_100_000;
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("flood"));
    let id = look(&daemon)["Id"].as_str().unwrap().to_owned();
    let log = daemon.data_root().join("plugins").join(id).join("log");
    let mut largest = 0;
    // Until the older half was thrown away once: then it has written more than is kept.
    until("it wrote more than is kept", || {
        let now = size(&log);
        assert!(now < LOG_MAX_BYTES, "{now} bytes");
        let is_cut = now < largest;
        largest = largest.max(now);
        is_cut.then_some(())
    });
    assert_eq!(data(&daemon).status, 201);
    assert_eq!(daemon.http().ask("GET", "/plugins/tiny/logs?stdout=1&tail=3").status, 200);
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    until("nothing of it runs", || running(&daemon).is_empty().then_some(()));
    assert!(size(&log) < LOG_MAX_BYTES);
    let peak = process::peak_kib(daemon.pid());
    assert!(peak < 64 * 1024, "the daemon needed {peak} KiB");
}

#[test]
fn a_plugin_that_swaps_its_socket_for_a_link_is_not_followed() {
    let Some(daemon) = Daemon::ours() else { return };
    let host = daemon.place().join("host.sock");
    let listener = UnixListener::bind(&host).unwrap();
    listener.set_nonblocking(true).unwrap();
    daemon.run("tiny", &daemon.tiny().mode(&format!("swap={}", host.display())));
    // It answers the call that makes it do so.
    assert_eq!(data(&daemon).status, 201);
    let answer = daemon.volume(&json!({"Name": "more", "Driver": "tiny"}));
    assert_eq!(answer.status, 500);
    assert!(answer.message().contains("is a symbolic link, not a socket"), "{}", answer.message());
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was connected to");
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    assert!(host.exists());
}

#[test]
fn a_plugin_that_removes_its_socket_is_an_error_of_the_call() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("vanish=Create"));
    assert_eq!(data(&daemon).status, 201);
    let answer = daemon.volume(&json!({"Name": "more", "Driver": "tiny"}));
    assert_eq!(answer.status, 500);
    let message = answer.message();
    assert!(message.contains("connecting to plugin tiny:latest: opening"), "{message}");
    // A restart heals it.
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable?force=1").status, 200);
    assert_eq!(daemon.enable("tiny").status, 200);
    assert_eq!(daemon.volume(&json!({"Name": "more", "Driver": "tiny"})).status, 201);
}

#[test]
fn a_plugin_that_fills_the_disk_can_be_disabled_and_removed() {
    let Some(mut daemon) = Daemon::ours() else { return };
    assert_eq!(daemon.stop(), Some(0));
    let nothing: Option<&str> = None;
    let root = daemon.data_root();
    mount(nothing, &root, Some("tmpfs"), MsFlags::empty(), Some("size=48m,mode=700")).unwrap();
    daemon.launch();
    daemon.run("tiny", &daemon.tiny().mode("fill"));
    assert_eq!(fs::read_to_string(daemon.record().join("filled")).unwrap(), "Err(StorageFull)");
    assert!(fs::write(root.join("probe"), vec![0; 1 << 16]).is_err(), "there is room");
    let _ = fs::remove_file(root.join("probe"));
    assert_eq!(look(&daemon)["State"]["Status"], "running");
    assert_eq!(daemon.http().ask("GET", "/volumes").status, 200);
    // What needs room is refused in clear words, and leaves nothing.
    let answer = daemon.create("other", &daemon.tiny().tar());
    assert!(answer.status == 507 && answer.message().contains("No space left"), "{}", answer.text());
    for (method, target) in [("POST", "/plugins/tiny/disable"), ("DELETE", "/plugins/tiny")] {
        let answer = daemon.http().ask(method, target);
        assert_eq!(answer.status, 200, "{method}: {}", answer.text());
    }
    assert_eq!(fs::read_dir(root.join("plugins")).unwrap().count(), 0);
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(data(&daemon).status, 201);
}

#[test]
fn who_calls_a_plugin_that_dies_at_it_hears_so_at_once() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny().mode("die-on=Create"));
    let answer = data(&daemon);
    assert_eq!(answer.status, 500);
    let told = "create data: VolumeDriver.Create: the connection to plugin tiny:latest broke";
    assert!(answer.message().starts_with(told), "{}", answer.message());
    until("it is told how it ended", || (look(&daemon)["State"]["ExitCode"] == 7).then_some(()));
}

#[test]
fn a_call_waits_for_a_plugin_that_is_being_started() {
    let Some(daemon) = Daemon::ours() else { return };
    let fifo = daemon.record().join("go");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let open = || drop(fs::File::options().write(true).open(&fifo).unwrap());
    daemon.install("tiny", &daemon.tiny().mode("late=/record/go"));
    std::thread::scope(|scope| {
        scope.spawn(open);
        assert_eq!(daemon.enable("tiny").status, 200);
    });
    assert_eq!(data(&daemon).status, 201);
    let first = look(&daemon)["State"]["Pid"].clone();
    process::send(i32::try_from(first.as_i64().unwrap()).unwrap(), Signal::SIGKILL);
    until("it is being started", || {
        let state = look(&daemon)["State"].clone();
        (state["Status"] == "starting" && state["Pid"].is_number() && state["Pid"] != first).then_some(())
    });
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| daemon.volume(&json!({"Name": "more", "Driver": "tiny"})));
        // A list does not wait: it has what is known, and a warning.
        let list = daemon.http().look("/volumes");
        assert_eq!(list["Volumes"][0]["Name"], "data");
        let warning = list["Warnings"][0].as_str().unwrap();
        assert!(warning.contains("plugin tiny:latest is starting and does not listen yet"), "{warning}");
        assert!(!creating.is_finished());
        open();
        let answer = creating.join().unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    });
}

#[test]
fn a_call_to_a_plugin_that_is_backing_off_says_why_and_until_when() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    let plugin = look(&daemon);
    let rootfs = daemon.data_root().join("plugins").join(plugin["Id"].as_str().unwrap()).join("rootfs");
    fs::rename(rootfs.join("tiny"), rootfs.join("gone")).unwrap();
    let pid = i32::try_from(plugin["State"]["Pid"].as_i64().unwrap()).unwrap();
    process::send(pid, Signal::SIGKILL);
    until("it was tried again", || (look(&daemon)["State"]["Restarts"] != 0).then_some(()));
    // While it is tried it is waited for, and then it backs off.
    let answer = data(&daemon);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let message = answer.message();
    let told = "create data: VolumeDriver.Get: plugin tiny:latest is backing off and is started again at 20";
    assert!(message.starts_with(told) && message.contains("Z: ") && message.contains("/tiny"), "{message}");
    fs::rename(rootfs.join("gone"), rootfs.join("tiny")).unwrap();
    until("it runs again", || (data(&daemon).status == 201).then_some(()));
}

#[test]
fn two_plugins_with_one_socket_name_do_not_meet() {
    let daemon = Daemon::start();
    for name in ["one", "two"] {
        daemon.run(name, &daemon.tiny().mode("forgetful"));
        let volume = json!({"Name": format!("of-{name}"), "Driver": name});
        assert_eq!(daemon.volume(&volume).status, 201);
    }
    let driver = |name: &str| daemon.http().look(&format!("/volumes/{name}"))["Driver"].clone();
    assert_eq!(daemon.http().ask("POST", "/plugins/one/disable?force=1").status, 200);
    assert_eq!(driver("of-two"), "two:latest");
    let answer = daemon.volume(&json!({"Name": "more", "Driver": "one"}));
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(daemon.enable("one").status, 200);
    assert_eq!((driver("of-one"), driver("of-two")), (json!("one:latest"), json!("two:latest")));
    for name in ["one", "two"] {
        let id = daemon.http().look(&format!("/plugins/{name}/json"))["Id"].as_str().unwrap().to_owned();
        let own = daemon.tree().into_iter().filter(|path| path.to_string_lossy().contains(&id));
        let volumes: Vec<_> = own.filter(|path| path.to_string_lossy().contains("/of-")).collect();
        assert!(volumes.iter().all(|path| path.ends_with(format!("of-{name}"))), "{volumes:?}");
        assert!(!volumes.is_empty(), "{name}");
    }
}

#[test]
fn a_thousand_deaths_leave_nothing() {
    let Some(daemon) = Daemon::ours() else { return };
    let names: Vec<String> = (0..AT_A_TIME).map(|number| format!("dies{number}")).collect();
    for name in &names {
        // Each with a place of its own to write down what it sees.
        daemon.install(name, &daemon.tiny().mode("exit=3").with("mounts", json!([])));
    }
    let die = |times: usize| {
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| {
                    for _ in 0..times {
                        let answer = daemon.enable(name);
                        assert!(answer.message().contains("exited with code 3"), "{}", answer.text());
                    }
                });
            }
        });
        until("nothing of them runs", || running(&daemon).is_empty().then_some(()));
    };
    // What is made once, for all.
    die(1);
    let counts = || (daemon.tree(), mounts(&daemon));
    let (before, files) = (counts(), process::open_files(daemon.pid()));
    die(DEATHS / AT_A_TIME);
    assert_eq!(counts(), before);
    // Connections of clients that have gone may still be being closed.
    until("no file is left open", || (process::open_files(daemon.pid()) <= files).then_some(()));
    assert_eq!(daemon.http().ask("GET", "/_ping").status, 200);
}
