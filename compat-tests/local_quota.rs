//! Local volumes with a `size`: how much they hold, whatever becomes of the daemon, its disk, and others on that disk.
//!
//! Each test runs in a kernel of its own that has project quotas, see `support/kernel.rs`. What the file system has
//! written down is read with the tools of XFS.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::support::archive::{Entry, Tar};
use crate::support::daemon::{Daemon, Program};
use crate::support::http::{Answer, Http};
use crate::support::kernel::{Disk, FileSystem, inside};
use crate::support::local::{act, data, make, mounted, unmount};
use crate::support::{process, until};

const MIB: u64 = 1 << 20;
const NO_QUOTA: &str = "quota size requested but no quota support";
const NO_QUOTA_NOW: &str = "size quota requested for volume but no quota support";

/// The daemon that the suite runs against, as it runs in a kernel with few modules.
fn start() -> Daemon {
    match Program::chosen() {
        Program::Dockplugd => Daemon::start(),
        Program::Dockerd => {
            let daemon = Daemon::start_as(Program::Dockerd, &["--storage-driver=vfs"]);
            let image = Tar::new().with(&Entry::directory("data")).with(&Entry::file("data/none", b"")).end();
            let loaded = daemon.http().send(
                "POST",
                "/images/create?fromSrc=-&repo=image",
                "application/x-tar",
                &image,
            );
            assert_eq!(loaded.status, 200, "{}", loaded.text());
            daemon
        }
    }
}

fn create(daemon: &Daemon, name: &str, size: &str) -> Answer {
    daemon.volume(&json!({"Name": name, "DriverOpts": {"size": size}}))
}

fn make_sized(daemon: &Daemon, name: &str, size: &str) -> PathBuf {
    make(daemon, name, &json!({ "size": size }));
    data(daemon, name)
}

/// Lets the daemon use a volume, as it does for a container. dockerd does so when it is created, with something to copy
/// into the volume.
fn try_to_use(daemon: &Daemon, name: &str) -> Answer {
    if daemon.is_ours() {
        return act(&daemon.http(), "mount", name, "user");
    }
    let body = json!({"Image": "image", "Cmd": ["/none"], "HostConfig": {"Binds": [format!("{name}:/data")], "NetworkMode": "none"}});
    daemon.http().json("POST", &format!("/containers/create?name=of-{name}"), &body)
}

/// The same, which must work; then nobody uses it any more.
fn used(daemon: &Daemon, name: &str) -> PathBuf {
    let answer = try_to_use(daemon, name);
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    if daemon.is_ours() {
        unmount(daemon, name, "user");
    } else {
        assert_eq!(daemon.http().ask("DELETE", &format!("/containers/of-{name}")).status, 204);
    }
    data(daemon, name)
}

/// How large the file system is that a directory seems to be on: its project's limit.
fn room(directory: &Path) -> u64 {
    let seen = statvfs(directory).unwrap();
    seen.blocks() * seen.fragment_size()
}

/// Writes until it is stopped; says how many bytes that took, and by which error.
fn write_all(directory: &Path) -> (u64, ErrorKind) {
    let mut file = File::create(directory.join("large")).unwrap();
    let block = vec![1; 4096];
    let mut written = 0;
    loop {
        match file.write(&block) {
            Ok(bytes) => written += u64::try_from(bytes).unwrap(),
            Err(error) => return (written, error.kind()),
        }
    }
}

/// One command of `xfs_quota(8)`, on the file system with this directory.
fn xfs_quota(directory: &Path, command: &str) -> String {
    // -f: other file systems too.
    let arguments = ["-f", "-x", "-c", command];
    let output = Command::new(process::program("xfs_quota")).args(arguments).arg(directory).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Which projects have a limit on their blocks, and what it is, in KiB.
fn limits(disk: &Disk) -> BTreeMap<u32, u64> {
    let report = xfs_quota(&disk.place, "report -p -b -n -N");
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        Some((fields.first()?.strip_prefix('#')?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    report.lines().filter_map(row).filter(|(_, limit)| *limit > 0).collect()
}

/// The project of a directory.
fn project(directory: &Path) -> u32 {
    let output = Command::new("lsattr").arg("-pd").arg(directory).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

fn status(daemon: &Daemon, name: &str) -> Value {
    daemon.http().look(&format!("/volumes/{name}"))["Status"].clone()
}

fn names(daemon: &Daemon) -> BTreeSet<String> {
    let list = daemon.http().look("/volumes");
    let volumes = list["Volumes"].as_array().cloned().unwrap_or_default();
    volumes.iter().map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_writer_is_stopped_at_the_size() {
    inside(FileSystem::Xfs, "local_quota::a_writer_is_stopped_at_the_size", |_| {
        let daemon = start();
        for (number, size) in ["1m", "1.5g", "5 kib", "1p", "0", "0.5b"].into_iter().enumerate() {
            make_sized(&daemon, &format!("good-{number}"), size);
        }
        for size in ["abc", "-1", "", " 5k", "9e", "16e"] {
            daemon.assert_refused(
                &create(&daemon, "bad", size),
                400,
                &format!("create bad: invalid size: '{size}'"),
            );
        }
        let answer = daemon.volume(&json!({"Name": "bad", "DriverOpts": {"size": "1m", "color": "red"}}));
        daemon.assert_refused(&answer, 400, r#"create bad: invalid option: "color""#);
        let plain = make_sized(&daemon, "free", "0");
        used(&daemon, "free");
        assert!(room(&plain) > 100 * MIB);
        for (name, size, bytes) in [("one", "1m", MIB), ("two", "2.5m", 5 * MIB / 2)] {
            make_sized(&daemon, name, size);
            let place = used(&daemon, name);
            assert_eq!(room(&place), bytes);
            let (written, error) = write_all(&place);
            assert_eq!((written, error), (bytes, ErrorKind::StorageFull));
        }
        fs::write(plain.join("beside"), vec![1; 4 << 20]).unwrap();
        if daemon.is_ours() {
            // Of dockerd, no limit at all.
            let place = make_sized(&daemon, "tiny", "1");
            let refused = fs::write(place.join("file"), "").unwrap_err();
            assert_eq!((room(&place), refused.kind()), (4096, ErrorKind::StorageFull));
        }
    });
}

#[test]
fn a_size_on_ext4_stops_who_must_keep_to_it() {
    inside(FileSystem::Ext4, "local_quota::a_size_on_ext4_stops_who_must_keep_to_it", |_| {
        let daemon = start();
        make_sized(&daemon, "small", "1m");
        let place = used(&daemon, "small");
        assert_eq!(room(&place), MIB);
        // As containers are, without the capability; this process has it.
        let write = ["--bounding-set=-sys_resource", "dd", "if=/dev/zero", "bs=64k", "count=64"];
        let to = format!("of={}", place.join("file").display());
        let stopped = Command::new("setpriv").args(write).arg(to).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8_lossy(&stopped.stderr);
        assert!(said.contains("Disk quota exceeded"), "{said}");
        assert!(fs::metadata(place.join("file")).unwrap().len() <= MIB);
        fs::write(place.join("more"), vec![1; 2 << 20]).unwrap();
    });
}

#[test]
fn a_disk_without_quotas_keeps_the_volumes_and_refuses_their_use() {
    let name = "local_quota::a_disk_without_quotas_keeps_the_volumes_and_refuses_their_use";
    inside(FileSystem::Xfs, name, |disk| {
        let mut daemon = start();
        make_sized(&daemon, "old", "1m");
        let place = used(&daemon, "old");
        daemon.stop();
        disk.mount_again("noquota");
        daemon.launch();
        assert_eq!(names(&daemon), ["old".to_owned()].into());
        let told = if daemon.is_ours() { json!({ "QuotaError": NO_QUOTA_NOW }) } else { Value::Null };
        assert_eq!(status(&daemon, "old"), told);
        let refused = try_to_use(&daemon, "old");
        assert_eq!(refused.status, 500, "{}", refused.text());
        assert!(refused.message().ends_with(NO_QUOTA_NOW), "{}", refused.message());
        daemon.assert_refused(&create(&daemon, "new", "1m"), 400, &format!("create new: {NO_QUOTA}"));
        make_sized(&daemon, "free", "0");
        used(&daemon, "free");
        assert_eq!(names(&daemon), ["free", "old"].map(String::from).into());
        assert_eq!([status(&daemon, "old"), status(&daemon, "free")], [told, Value::Null]);
        if !daemon.is_ours() {
            // It has refused to create the container, and keeps it.
            daemon.http().ask("DELETE", "/containers/of-old");
        }
        daemon.stop();
        disk.mount_with_quotas();
        daemon.launch();
        assert_eq!(status(&daemon, "old"), Value::Null);
        used(&daemon, "old");
        assert_eq!((room(&place), write_all(&place).0), (MIB, MIB));
    });
}

#[test]
fn projects_are_nobody_elses_and_given_back() {
    inside(FileSystem::Xfs, "local_quota::projects_are_nobody_elses_and_given_back", |disk| {
        let Some(mut daemon) = Daemon::ours() else { return };
        let other = disk.place.join("other");
        fs::create_dir(&other).unwrap();
        xfs_quota(&disk.place, &format!("project -s -p {} 2", other.display()));
        xfs_quota(&disk.place, "limit -p bhard=7m 1");
        xfs_quota(&disk.place, "limit -p ihard=7 4");
        let places = ["one", "two"].map(|name| make_sized(&daemon, name, "1m"));
        assert_eq!(places.each_ref().map(|place| project(place)), [3, 5]);
        let before = [(1, 7 * 1024), (3, 1024), (5, 1024)].into();
        assert_eq!(limits(disk), before);

        // A restart keeps them, and sets again what somebody has lifted.
        daemon.stop();
        xfs_quota(&disk.place, "limit -p bsoft=0 bhard=0 3");
        daemon.launch();
        assert_eq!(limits(disk), before);
        // What somebody else has made of a plain volume is not ours.
        make(&daemon, "plain", &json!({}));
        xfs_quota(&disk.place, &format!("project -s -p {} 9", data(&daemon, "plain").display()));
        xfs_quota(&disk.place, "limit -p bhard=9m 9");
        let third = make_sized(&daemon, "three", "3m");
        assert_eq!((project(&third), limits(disk)[&6]), (6, 3 * 1024));

        // Each removal gives back its own, and a name that is free again is limited anew.
        for name in ["one", "two", "three", "plain"] {
            assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{name}")).status, 204);
        }
        assert_eq!(limits(disk), [(1, 7 * 1024), (9, 9 * 1024)].into());
        let again = make_sized(&daemon, "one", "2m");
        assert_eq!((room(&again), write_all(&again).0), (2 * MIB, 2 * MIB));
    });
}

#[test]
fn a_directory_that_comes_from_elsewhere_is_counted_at_its_next_use() {
    let name = "local_quota::a_directory_that_comes_from_elsewhere_is_counted_at_its_next_use";
    inside(FileSystem::Xfs, name, |disk| {
        let Some(mut daemon) = Daemon::ours() else { return };
        let places = ["restored", "gone"].map(|name| make_sized(&daemon, name, "1m"));
        fs::create_dir_all(places[0].join("deep/er")).unwrap();
        fs::write(places[0].join("deep/er/file"), vec![1; 512 << 10]).unwrap();
        std::os::unix::fs::symlink("/", places[0].join("deep/link")).unwrap();
        nix::unistd::mkfifo(&places[0].join("deep/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        daemon.stop();
        // As a backup does it.
        let copy = disk.place.join("copy");
        let copied = Command::new("cp").arg("-a").args([&places[0], &copy]).status().unwrap();
        assert!(copied.success());
        fs::remove_dir_all(&places[0]).unwrap();
        fs::rename(&copy, &places[0]).unwrap();
        fs::remove_dir_all(places[1].parent().unwrap()).unwrap();
        daemon.launch();
        for (name, place) in ["restored", "gone"].into_iter().zip(&places) {
            assert_eq!(project(place), 0);
            let reason = status(&daemon, name)["QuotaError"].as_str().unwrap().to_owned();
            assert!(reason.starts_with("its files are not counted yet"), "{reason}");
            mounted(&daemon, name, "user");
            assert_eq!((status(&daemon, name), room(place)), (Value::Null, MIB));
        }
        let (written, _) = write_all(&places[0]);
        assert_eq!(written, MIB / 2, "what was there counts");
        assert_eq!(write_all(&places[1]).0, MIB);
        assert_ne!(project(&places[0]), project(&places[1]));
    });
}

/// One client of the kills: makes volumes, and removes every other one, until the daemon is gone. `kept` are those that it
/// may count on.
fn come_and_go(http: &Http, prefix: &str, kept: &Mutex<BTreeSet<String>>, answers: &AtomicUsize) {
    let ask = |line: &str, body: &str| {
        let head = "Host: d\r\nConnection: close\r\nContent-Type: application/json";
        let request = format!("{line} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        http.raw(request.as_bytes(), false)
    };
    for number in 0.. {
        let name = format!("{prefix}-{number}");
        let body = json!({"Name": name, "DriverOpts": {"size": "1m"}}).to_string();
        let Some(created) = ask("POST /volumes/create", &body) else { return };
        assert_eq!(created.status, 201, "{}", created.text());
        if number % 2 == 0 {
            let Some(removed) = ask(&format!("DELETE /volumes/{name}"), "") else { return };
            assert_eq!(removed.status, 204, "{}", removed.text());
        } else {
            kept.lock().unwrap().insert(name);
        }
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_kill_leaves_a_volume_without_its_limit_or_a_limit_without_its_volume() {
    const KILLS: usize = 8;
    let name = "local_quota::no_kill_leaves_a_volume_without_its_limit_or_a_limit_without_its_volume";
    inside(FileSystem::Xfs, name, |disk| {
        let Some(mut daemon) = Daemon::ours() else { return };
        let (kept, answers) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
        for round in 0..KILLS {
            let http = daemon.http();
            let goal = answers.load(Ordering::Relaxed) + 5 + round;
            thread::scope(|scope| {
                for client in 0..3 {
                    let (http, kept, answers) = (&http, &kept, &answers);
                    scope.spawn(move || come_and_go(http, &format!("v-{round}-{client}"), kept, answers));
                }
                until("some are answered", || (answers.load(Ordering::Relaxed) >= goal).then_some(()));
                daemon.kill();
            });
            daemon.launch();
            let there = names(&daemon);
            assert!(there.is_superset(&kept.lock().unwrap()), "{there:?}");
            let places: Vec<_> = there.iter().map(|name| data(&daemon, name)).collect();
            assert!(places.iter().all(|place| room(place) == MIB));
            let projects: BTreeSet<_> = places.iter().map(|place| project(place)).collect();
            assert_eq!(projects.len(), there.len(), "each has its own");
            assert_eq!(limits(disk).into_keys().collect::<BTreeSet<_>>(), projects);
        }
    });
}
