//! Volumes used without a container engine: mounted for a reference, staged where the plugin cannot swap them, and
//! neither lost nor left behind when the daemon is killed. dockerd has no such routes.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::archive::Entry;
use crate::support::daemon::Daemon;
use crate::support::local::{act, mounted, unmount};
use crate::support::{plugin, process, until};

/// The `Mount` and `Unmount` calls that tiny has had, with their ids.
fn asked(daemon: &Daemon) -> Vec<String> {
    let calls = fs::read_to_string(daemon.record().join("calls")).unwrap_or_default();
    let mut asked = vec![];
    for call in ["Mount", "Unmount"] {
        for part in calls.split(&format!("POST /VolumeDriver.{call} ")).skip(1) {
            let id = part.split("\"ID\":\"").nth(1).unwrap().split('"').next().unwrap();
            asked.push(format!("{call} {id}"));
        }
    }
    asked
}

/// What the kernel has mounted in the directory of staged mounts.
fn staged(daemon: &Daemon) -> usize {
    let directory = format!(" {}/", daemon.exec_root().join("mounts").display());
    fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&directory).count()
}

#[test]
fn a_volume_is_used_by_reference_and_stays_while_it_is_used() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    let place = mounted(&daemon, "data", "unit-1");
    assert_eq!(mounted(&daemon, "data", "unit-1"), place);
    assert!(place.starts_with(daemon.exec_root().join("mounts").canonicalize().unwrap()), "{place:?}");
    fs::write(place.join("file"), "text").unwrap();
    let other = mounted(&daemon, "data", "unit-2");
    assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "text");
    let answer = daemon.http().ask("DELETE", "/volumes/data");
    let text = "remove data: volume is in use - [unit-1, unit-2]";
    assert_eq!((answer.status, answer.message().as_str()), (409, text));
    assert_eq!(
        daemon.http().look("/volumes?filters=%7B%22dangling%22:%5B%22true%22%5D%7D")["Volumes"],
        json!([])
    );
    for reference in ["unit-1", "unit-2", "unit-2"] {
        unmount(&daemon, "data", reference);
    }
    assert_eq!(asked(&daemon), ["Mount unit-1", "Mount unit-2", "Unmount unit-1", "Unmount unit-2"]);
    assert_eq!(staged(&daemon), 0);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

#[test]
fn a_local_volume_is_its_own_directory() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let volume = daemon.volume(&json!({"Name": "data"})).json();
    assert_eq!(json!(mounted(&daemon, "data", "c1")), volume["Mountpoint"]);
    daemon.kill();
    daemon.launch();
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 409);
    let pruned = daemon.http().ask("POST", "/volumes/prune?filters=%7B%22all%22:%5B%22true%22%5D%7D").json();
    assert_eq!(pruned["VolumesDeleted"].as_array().map_or(0, Vec::len), 0, "{pruned}");
    unmount(&daemon, "data", "c1");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

#[test]
fn bad_requests_are_refused() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.volume(&json!({"Name": "data"}));
    for (target, body, status) in [
        ("/volumes/data/mount", json!({}), 400),
        ("/volumes/data/mount", json!({"Reference": 1}), 400),
        ("/volumes/data/mount", json!([]), 400),
        ("/volumes/data/mount", json!({"Reference": "x".repeat(257)}), 400),
        ("/volumes/none/mount", json!({"Reference": "r"}), 404),
        ("/volumes/none/unmount", json!({"Reference": "r"}), 404),
        ("/volumes/data/other", json!({"Reference": "r"}), 404),
        ("/volumes/data", json!({"Reference": "r"}), 404),
    ] {
        let answer = daemon.http().json("POST", target, &body);
        assert_eq!(answer.status, status, "{target} {body}: {}", answer.text());
    }
}

#[test]
fn a_mountpoint_that_leads_out_is_refused() {
    let Some(daemon) = Daemon::ours() else { return };
    for (number, path) in
        ["/", "relative", "/volumes/../../..", "/proc/1/root", "/link", "/etc/mark"].iter().enumerate()
    {
        let (name, volume) = (format!("evil{number}"), format!("data{number}"));
        let link = Entry::symlink("rootfs/link", "/etc");
        daemon.run(&name, &daemon.tiny().mode(&format!("climb={path}")).entry(link));
        assert_eq!(daemon.volume(&json!({"Name": volume, "Driver": name})).status, 201);
        let answer = act(&daemon.http(), "mount", &volume, "r");
        let text = format!(
            "mount {volume}: plugin {name}:latest gave volume {volume} the mountpoint {path:?}, which is refused: "
        );
        assert!(answer.status == 500 && answer.message().starts_with(&text), "{}", answer.text());
        assert_eq!(staged(&daemon), 0);
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{volume}")).status, 204);
    }
}

#[test]
fn after_a_kill_ledger_kernel_and_plugin_agree() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
    let (kept, lost) = (mounted(&daemon, "data", "kept"), mounted(&daemon, "data", "lost"));
    fs::write(kept.join("file"), "text").unwrap();
    daemon.kill();
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "text", "nobody who uses it notices");
    umount2(&lost, MntFlags::MNT_DETACH).unwrap();
    let orphan = lost.with_file_name("orphan");
    fs::create_dir(&orphan).unwrap();
    mount(Some(Path::new("/etc")), &orphan, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    daemon.launch();
    until("what was lost is mounted again", || lost.join("file").exists().then_some(()));
    assert!(!orphan.exists());
    assert_eq!(staged(&daemon), 2);
    assert_eq!(asked(&daemon), ["Mount kept", "Mount lost", "Mount lost"]);
    let text = "remove data: volume is in use - [kept, lost]";
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").message(), text);
    unmount(&daemon, "data", "kept");
    unmount(&daemon, "data", "lost");
    assert_eq!(staged(&daemon), 0);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

/// An rclone plugin with the volume `data`; says where on the host its files lie.
fn run_rclone(daemon: &Daemon) -> PathBuf {
    let cache = plugin::run_rclone(daemon, "rclone");
    fs::create_dir(cache.join("store")).unwrap();
    // Of a volume with a type and a path, rclone forgets the path, and with it the volume, when it is started anew.
    let options = json!({"type": "local", "path": "/data/cache/store"});
    let made = daemon.volume(&json!({"Name": "data", "Driver": "rclone", "DriverOpts": options}));
    assert_eq!(made.status, 201, "{}", made.text());
    cache.join("store")
}

#[test]
fn rclone_is_written_through_the_staged_path_while_the_daemon_dies() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let store = run_rclone(&daemon);
    let place = mounted(&daemon, "data", "r1");
    fs::write(place.join("before"), "one").unwrap();
    daemon.kill();
    fs::write(place.join("meanwhile"), "two").unwrap();
    daemon.launch();
    until("the plugin is there again", || {
        (act(&daemon.http(), "mount", "data", "r1").status == 200).then_some(())
    });
    for (file, text) in [("before", "one"), ("meanwhile", "two")] {
        assert_eq!(fs::read_to_string(place.join(file)).unwrap(), text);
        assert_eq!(fs::read_to_string(store.join(file)).unwrap(), text);
    }
    assert_eq!(daemon.http().look("/volumes/data")["Status"]["Mounts"], json!(["r1"]));
    unmount(&daemon, "data", "r1");
    assert_eq!(daemon.http().look("/volumes/data")["Status"]["Mounts"], json!([]));
    assert_eq!(staged(&daemon), 0);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

#[test]
fn a_volume_whose_plugin_has_died_is_mounted_again_when_it_is_back() {
    let Some(daemon) = Daemon::ours() else { return };
    let store = run_rclone(&daemon);
    let place = mounted(&daemon, "data", "r1");
    fs::write(place.join("before"), "one").unwrap();
    for round in 1..=2 {
        let pid = daemon.http().look("/plugins/rclone/json")["State"]["Pid"].as_i64().unwrap();
        process::send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
        // Nobody asks for it: it is the daemon that notices.
        until("its files are there again", || fs::read_to_string(place.join("before")).ok());
        let file = format!("after-{round}");
        fs::write(place.join(&file), "two").unwrap();
        assert_eq!(fs::read_to_string(store.join(&file)).unwrap(), "two");
        assert_eq!(mounted(&daemon, "data", "r1"), place);
        assert_eq!(staged(&daemon), 1);
    }
    assert_eq!(daemon.http().look("/volumes/data")["Status"]["Mounts"], json!(["r1"]));
    unmount(&daemon, "data", "r1");
    assert_eq!(staged(&daemon), 0);
    daemon.docker().ok(&["volume", "rm", "data"]);
    daemon.docker().ok(&["plugin", "disable", "rclone"]);
    let data = daemon.data_root().display().to_string();
    let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains(&data), "{left}");
}

#[test]
fn commands_mount_a_volume_for_whoever_has_no_engine() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(Daemon::program_of_ours());
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, place, error) = run(&["mount", "data"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    fs::write(format!("{place}/file"), "x").unwrap();
    assert_eq!(run(&["mount", "--reference", "other", "data"]).0, Some(0));
    assert_eq!(run(&["umount", "data"]), (Some(0), String::new(), String::new()));
    let refused = daemon.docker().fails(&["volume", "rm", "data"]);
    assert!(refused.contains("volume is in use - [other]"), "{refused}");
    assert_eq!(run(&["umount", "--reference", "other", "data"]).0, Some(0));
    daemon.docker().ok(&["volume", "rm", "data"]);
    let (code, out, error) = run(&["mount", "data"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("no such volume"), "{error}");
}
