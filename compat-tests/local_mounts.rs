//! Local volumes with a file system of their own: mounted at the first use, once, detached after the last, whatever
//! happens to the daemon meanwhile. The mounts, the devices and the directories are real.
//!
//! What a client reads of options is the same on dockerd, where a container uses the volume.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::crashes::{scatter, until_midway};
use crate::support::archive::{Entry, Tar};
use crate::support::daemon::Daemon;
use crate::support::http::{Answer, Http};
use crate::support::{process, until};

/// How often the daemon is killed while volumes are mounted and unmounted.
const ROUNDS: u32 = 8;

fn make(daemon: &Daemon, name: &str, options: &Value) {
    let made = daemon.volume(&json!({"Name": name, "DriverOpts": options}));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(&made.json()["Options"], options);
}

fn act(http: &Http, verb: &str, volume: &str, reference: &str) -> Answer {
    http.json("POST", &format!("/volumes/{volume}/{verb}"), &json!({ "Reference": reference }))
}

fn mounted(daemon: &Daemon, volume: &str, reference: &str) -> PathBuf {
    let answer = act(&daemon.http(), "mount", volume, reference);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["Mountpoint"].as_str().unwrap().into()
}

fn unmount(daemon: &Daemon, volume: &str, reference: &str) {
    let answer = act(&daemon.http(), "unmount", volume, reference);
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
}

/// What the kernel says of the mounts at a directory: one line each.
fn layers(place: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_here = |line: &&str| line.split(' ').nth(4) == place.to_str();
    table.lines().filter(is_here).map(str::to_owned).collect()
}

/// Where the data of a volume is, as its inspect tells it.
fn data(daemon: &Daemon, volume: &str) -> PathBuf {
    daemon.http().look(&format!("/volumes/{volume}"))["Mountpoint"].as_str().unwrap().into()
}

fn tmpfs() -> Value {
    json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,noexec"})
}

/// A block device with an ext4 file system, in a file.
struct Disk {
    device: String,
}

impl Disk {
    fn new(image: &Path) -> Self {
        File::create(image).unwrap().set_len(8 << 20).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        Self { device: run("losetup", &["--find", "--show", image.to_str().unwrap()]) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new(process::program("losetup")).args(["--detach", &self.device]).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(process::program(program)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file system whose server never answers: every path in it hangs until this is dropped.
struct Hanging {
    _server: File,
    place: PathBuf,
}

impl Hanging {
    fn new(place: &Path) -> Self {
        fs::create_dir(place).unwrap();
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("hanging"), place, Some("fuse"), MsFlags::empty(), Some(data.as_str())).unwrap();
        Self { _server: server, place: place.to_owned() }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

#[test]
fn every_kind_of_file_system_is_mounted_once_and_keeps_its_data() {
    let Some(daemon) = Daemon::ours() else { return };
    let place = daemon.place().to_owned();
    for directory in ["host", "lower", "upper", "work"] {
        fs::create_dir(place.join(directory)).unwrap();
    }
    fs::write(place.join("lower/below"), "lower").unwrap();
    let disk = Disk::new(&place.join("image"));
    let overlay = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", place.display());
    let table = [
        ("scratch", tmpfs(), "tmpfs", "size=1024k", None),
        (
            "bound",
            json!({"type": "none", "device": place.join("host"), "o": "bind"}),
            "",
            "",
            Some("host/file"),
        ),
        (
            "layered",
            json!({"type": "overlay", "device": "overlay", "o": overlay}),
            "overlay",
            "upperdir=",
            Some("upper/file"),
        ),
        ("disk", json!({"type": "ext4", "device": disk.device, "o": "noatime"}), "ext4", "noatime", None),
    ];
    for (volume, options, kind, word, file) in table {
        make(&daemon, volume, &options);
        let own = data(&daemon, volume);
        assert!(layers(&own).is_empty(), "nothing is mounted before the first use");
        assert_eq!(mounted(&daemon, volume, "one"), own);
        assert_eq!(mounted(&daemon, volume, "two"), own);
        let line = layers(&own).join("\n");
        assert!(line.lines().count() == 1 && line.contains(kind) && line.contains(word), "{volume}: {line}");
        fs::write(own.join("file"), volume).unwrap();
        let refused = daemon.http().ask("DELETE", &format!("/volumes/{volume}?force=1"));
        let text = format!("remove {volume}: volume is in use - [one, two]");
        assert_eq!((refused.status, refused.message()), (409, text));
        unmount(&daemon, volume, "one");
        assert_eq!(fs::read_to_string(own.join("file")).unwrap(), volume);
        unmount(&daemon, volume, "two");
        assert!(layers(&own).is_empty() && !own.join("file").exists());
        if let Some(file) = file {
            assert_eq!(fs::read_to_string(place.join(file)).unwrap(), volume);
        }
    }
    let again = mounted(&daemon, "disk", "one");
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "disk");
    unmount(&daemon, "disk", "one");
    for volume in ["scratch", "bound", "layered", "disk"] {
        daemon.docker().ok(&["volume", "rm", volume]);
    }
    assert_eq!(fs::read_to_string(place.join("host/file")).unwrap(), "bound");
    assert_eq!(fs::read_to_string(place.join("lower/below")).unwrap(), "lower");
}

#[test]
fn neither_df_nor_prune_looks_into_what_is_mounted() {
    let daemon = Daemon::start();
    fs::create_dir(daemon.place().join("host")).unwrap();
    fs::write(daemon.place().join("host/precious"), "x").unwrap();
    make(&daemon, "bound", &json!({"type": "none", "device": daemon.place().join("host"), "o": "bind"}));
    make(&daemon, "plain", &json!({}));
    let usage = daemon.http().look("/v1.41/system/df");
    let names: Vec<_> = usage["Volumes"].as_array().unwrap().iter().map(|volume| &volume["Name"]).collect();
    assert_eq!(names, ["plain"]);
    let pruned = daemon.http().ask("POST", "/v1.41/volumes/prune").json();
    assert_eq!(pruned["VolumesDeleted"], json!(["plain"]));
    assert_eq!(daemon.http().ask("DELETE", "/volumes/bound").status, 204);
    assert!(daemon.place().join("host/precious").exists());
}

#[test]
fn options_are_refused_as_dockerd_refuses_them() {
    let daemon = Daemon::start();
    for (options, message) in [
        (json!({"color": "red"}), r#"invalid option: "color""#),
        (json!({"type": "nfs"}), r#"missing required option: "device""#),
        (json!({"device": "/x"}), r#"missing required option: "type""#),
        (json!({"o": "password=hunter2", "device": "/x"}), r#"missing required option: "type""#),
        (json!({"size": "hello"}), "invalid size: 'hello'"),
        (json!({"size": "1m"}), "quota size requested but no quota support"),
    ] {
        let answer = daemon.volume(&json!({"Name": "data", "DriverOpts": options}));
        daemon.assert_refused(&answer, 400, &format!("create data: {message}"));
    }
    make(&daemon, "data", &json!({"size": "0"}));
}

/// What is said when the volume `data` is used for the first time. dockerd uses it for a container.
fn refusal(daemon: &Daemon) -> String {
    if daemon.is_ours() {
        let answer = act(&daemon.http(), "mount", "data", "one");
        assert_eq!(answer.status, 500, "{}", answer.text());
        let message = answer.message();
        return message.strip_prefix("mount data: ").unwrap_or(&message).to_owned();
    }
    let docker = daemon.docker();
    let container = docker.ok(&["create", "--network=none", "-v", "data:/data", "image", "/none"]);
    let said = docker.fails(&["start", &container]);
    docker.ok(&["rm", &container]);
    let said = said.lines().next().unwrap_or_default();
    said.split_once("_data': ").map_or(said, |(_, reason)| reason).to_owned()
}

#[test]
fn errors_are_dockerds_and_tell_no_password() {
    let daemon = Daemon::start();
    if !daemon.is_ours() {
        let image = daemon.place().join("image.tar");
        fs::write(&image, Tar::new().with(&Entry::file("none", b"")).end()).unwrap();
        daemon.docker().ok(&["import", image.to_str().unwrap(), "image"]);
    }
    let begin = "failed to mount local volume: mount ";
    for (kind, device, o, expected) in [
        ("none", "/nowhere", "bind,ro", ("/nowhere", ", flags: 0x1001: no such file or directory")),
        ("none", "/proc/version", "bind", ("/proc/version", ", flags: 0x1000: not a directory")),
        ("nope", "x", "", ("x", ": no such device")),
        ("tmpfs", "tmpfs", "size=x,ro", ("tmpfs", ", flags: 0x1, data: size=x: invalid argument")),
        ("tmpfs", "tmpfs", "defaults", ("tmpfs", ", data: defaults: invalid argument")),
        ("ext4", "/dev/nope", "", ("/dev/nope", ": no such file or directory")),
        (
            "overlay",
            "overlay",
            "lowerdir=/nope",
            ("overlay", ", data: lowerdir=/nope: no such file or directory"),
        ),
        // What the kernel says then depends on whether it has an NFS client, and on who listens.
        ("nfs", ":/path", "addr=localhost,rw,soft", (":/path", ", data: addr=127.0.0.1,soft: ")),
    ] {
        make(&daemon, "data", &json!({"type": kind, "device": device, "o": o}));
        let own = data(&daemon, "data");
        let expected = format!("{begin}{}:{}{}", expected.0, own.display(), expected.1);
        let said = refusal(&daemon);
        let is_whole = kind != "nfs";
        assert!(if is_whole { said == expected } else { said.starts_with(&expected) }, "{said}\n{expected}");
        assert!(layers(&own).is_empty());
        assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    }
    make(&daemon, "data", &json!({"type": "nfs", "device": ":/path", "o": "addr=nope.invalid"}));
    let said = refusal(&daemon);
    let begin = "error resolving passed in network volume address: lookup nope.invalid";
    assert!(said.starts_with(begin), "{said}");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    make(&daemon, "data", &json!({"type": "tmpfs", "device": "", "o": ""}));
    assert_eq!(refusal(&daemon), "missing device in volume options");
}

#[test]
fn no_password_is_told_anywhere() {
    let Some(daemon) = Daemon::ours_with(&["--debug"]) else { return };
    let options =
        json!({"type": "cifs", "device": "//me:hunter2@127.0.0.1/s", "o": "pass=hunter2,password=hunter2"});
    make(&daemon, "data", &options);
    let said = refusal(&daemon);
    assert!(
        said.contains("//me:********@127.0.0.1/s") && said.contains("pass=********,password=********"),
        "{said}"
    );
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let events = daemon.http().ask("GET", &format!("/events?since=1&until={until}")).text();
    assert!(events.contains("destroy"), "{events}");
    for told in [said, daemon.log(), events] {
        assert!(!told.contains("hunter2"), "{told}");
    }
}

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

#[test]
fn commands_tell_where_the_data_is() {
    let Some(daemon) = Daemon::ours() else { return };
    make(&daemon, "data", &tmpfs());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(Daemon::program_of_ours());
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    };
    let place = run(&["mount", "data"]);
    assert_eq!(place, data(&daemon, "data"));
    assert!(layers(&place).join("").contains("tmpfs"));
    run(&["umount", "data"]);
    assert!(layers(&place).is_empty());
}
