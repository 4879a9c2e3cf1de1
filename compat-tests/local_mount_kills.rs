//! Local volumes with a file system of their own, when something breaks: the daemon is killed, a mount is lost, a server
//! does not answer. dockerd has no ledger of mounts.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::crashes::{scatter, until_midway};
use crate::support::daemon::Daemon;
use crate::support::http::{Answer, Http};
use crate::support::local::{Hanging, act, data, layers, make, mounted, tmpfs, unmount};
use crate::support::until;

/// How often the daemon is killed while volumes are mounted and unmounted.
const ROUNDS: u32 = 8;

#[test]
fn after_a_kill_the_kernel_agrees_with_the_ledger() {
    let Some(mut daemon) = Daemon::ours() else { return };
    for volume in ["kept", "lost", "orphan"] {
        make(&daemon, volume, &tmpfs());
    }
    let (kept, lost) = (mounted(&daemon, "kept", "one"), mounted(&daemon, "lost", "one"));
    fs::write(kept.join("file"), "text").unwrap();
    let orphan = data(&daemon, "orphan");
    daemon.kill();
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "text", "nobody who uses it notices");
    umount2(&lost, MntFlags::MNT_DETACH).unwrap();
    mount(Some("tmpfs"), &orphan, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    daemon.launch();
    until("the kernel agrees", || (layers(&lost).len() == 1 && layers(&orphan).is_empty()).then_some(()));
    assert_eq!((layers(&kept).len(), fs::read_to_string(kept.join("file")).unwrap().as_str()), (1, "text"));
    for volume in ["kept", "lost"] {
        let refused = daemon.http().ask("DELETE", &format!("/volumes/{volume}"));
        assert_eq!(refused.message(), format!("remove {volume}: volume is in use - [one]"));
        unmount(&daemon, volume, "one");
        assert!(layers(&data(&daemon, volume)).is_empty());
    }
    for volume in ["kept", "lost", "orphan"] {
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{volume}")).status, 204);
    }
}

#[test]
fn what_could_not_be_mounted_again_at_the_start_is_as_soon_as_it_can() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let (here, away) = (daemon.place().join("here"), daemon.place().join("away"));
    fs::create_dir(&here).unwrap();
    make(&daemon, "data", &json!({"type": "none", "device": here, "o": "bind"}));
    let own = mounted(&daemon, "data", "one");
    daemon.kill();
    umount2(&own, MntFlags::MNT_DETACH).unwrap();
    fs::rename(&here, &away).unwrap();
    daemon.launch();
    let status = || daemon.http().look("/volumes/data")["Status"]["MountError"].as_str().map(str::to_owned);
    let told = until("it is told", status);
    assert!(told.ends_with("no such file or directory"), "{told}");
    fs::rename(&away, &here).unwrap();
    until("it is mounted again", || (layers(&own).len() == 1).then_some(()));
    until("nothing is wrong any more", || status().is_none().then_some(()));
    unmount(&daemon, "data", "one");
    assert!(layers(&own).is_empty());
}

/// A mount or an unmount of a daemon that may be dying: its answer, if there is one.
fn attempt(http: &Http, verb: &str, volume: &str, reference: &str) -> Option<Answer> {
    let body = json!({ "Reference": reference }).to_string();
    let head = format!(
        "POST /volumes/{volume}/{verb} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = http.open().ok()?;
    connection.write(head.as_bytes()).ok()?;
    connection.answer("POST").ok()
}

#[test]
fn killed_at_any_moment_what_is_mounted_is_what_is_in_use() {
    let Some(mut daemon) = Daemon::ours() else { return };
    make(&daemon, "data", &tmpfs());
    let own = data(&daemon, "data");
    // Whether each reference has the volume; `None` when the answer never came.
    let known = Mutex::new([Some(false); 3]);
    for round in 0..ROUNDS {
        let (sent, dead, http) = (AtomicU32::new(0), AtomicBool::new(false), daemon.http());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0_u32.. {
                    if dead.load(Ordering::SeqCst) {
                        return;
                    }
                    let which = usize::try_from(scatter(round * 1000 + step) % 3).unwrap();
                    let verb = if step % 2 == 0 { "mount" } else { "unmount" };
                    sent.fetch_add(1, Ordering::SeqCst);
                    known.lock().unwrap()[which] = None;
                    let answer = attempt(&http, verb, "data", ["one", "two", "three"][which]);
                    known.lock().unwrap()[which] = answer.map(|answer| {
                        assert!(matches!(answer.status, 200 | 204), "{verb}: {}", answer.text());
                        verb == "mount"
                    });
                }
            });
            until_midway(&sent, 1 + scatter(round) % 20, scatter(round + 100) % 1_000_000);
            daemon.kill();
            dead.store(true, Ordering::SeqCst);
        });
        daemon.launch();
        let known = *known.lock().unwrap();
        let in_use = || {
            let list = daemon.http().look("/volumes?filters=%7B%22dangling%22:%5B%22false%22%5D%7D");
            !list["Volumes"].as_array().unwrap().is_empty()
        };
        until("the kernel agrees", || (layers(&own).len() == usize::from(in_use())).then_some(()));
        if known.contains(&Some(true)) {
            assert!(in_use(), "round {round}: an acknowledged mount is gone");
        }
        if known == [Some(false); 3] {
            assert!(!in_use(), "round {round}: an acknowledged unmount came back");
        }
    }
    for reference in ["one", "two", "three"] {
        unmount(&daemon, "data", reference);
    }
    assert!(layers(&own).is_empty());
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

#[test]
fn a_server_that_does_not_answer_delays_nobody_else() {
    let Some(mut daemon) = Daemon::ours() else { return };
    let hanging = Hanging::new(&daemon.place().join("hanging"));
    make(&daemon, "stuck", &json!({"type": "none", "device": hanging.place.join("x"), "o": "bind"}));
    make(&daemon, "fine", &tmpfs());
    let waiting = |daemon: &Daemon| {
        let http = daemon.http();
        let pid = daemon.pid();
        let waiter = std::thread::spawn(move || attempt(&http, "mount", "stuck", "one"));
        let is_mount = |name: String| name.trim() == "mount";
        until("a thread of the daemon waits for the kernel", || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            let names =
                threads.map(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default());
            names.into_iter().any(is_mount).then_some(())
        });
        waiter
    };
    let first = waiting(&daemon);
    for reference in ["one", "two"] {
        mounted(&daemon, "fine", reference);
    }
    assert_eq!(daemon.http().look("/volumes")["Volumes"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.http().look("/volumes/stuck")["Name"], "stuck");
    daemon.http().look("/system/df");
    daemon.kill();
    assert!(first.join().unwrap().is_none());
    daemon.launch();
    let second = waiting(&daemon);
    drop(hanging);
    let answer = second.join().unwrap().unwrap();
    assert!(
        answer.status == 500 && answer.message().contains("failed to mount local volume"),
        "{}",
        answer.text()
    );
    for reference in ["one", "two"] {
        unmount(&daemon, "fine", reference);
    }
    for volume in ["stuck", "fine"] {
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{volume}")).status, 204);
    }
}

#[test]
fn many_at_once_have_one_mount_and_leave_none() {
    let Some(daemon) = Daemon::ours() else { return };
    make(&daemon, "data", &tmpfs());
    let own = data(&daemon, "data");
    let all_at_once = |verb: &str, status: u16| {
        std::thread::scope(|scope| {
            for number in 0..16 {
                let http = daemon.http();
                scope.spawn(move || {
                    let answer = act(&http, verb, "data", &format!("c{number}"));
                    assert_eq!(answer.status, status, "{}", answer.text());
                });
            }
        });
    };
    all_at_once("mount", 200);
    assert_eq!(layers(&own).len(), 1);
    all_at_once("unmount", 204);
    assert!(layers(&own).is_empty());
}
