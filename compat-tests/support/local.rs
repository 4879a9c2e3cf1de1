//! Local volumes with a file system of their own, and what they are made of: a disk, a server that hangs.
//!
//! What is mounted where is read from the kernel's table.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::http::{Answer, Http};
use super::process;

pub(crate) fn make(daemon: &Daemon, name: &str, options: &Value) {
    let made = daemon.volume(&json!({"Name": name, "DriverOpts": options}));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(&made.json()["Options"], options);
}

pub(crate) fn act(http: &Http, verb: &str, volume: &str, reference: &str) -> Answer {
    http.json("POST", &format!("/volumes/{volume}/{verb}"), &json!({ "Reference": reference }))
}

pub(crate) fn mounted(daemon: &Daemon, volume: &str, reference: &str) -> PathBuf {
    let answer = act(&daemon.http(), "mount", volume, reference);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["Mountpoint"].as_str().unwrap().into()
}

pub(crate) fn unmount(daemon: &Daemon, volume: &str, reference: &str) {
    let answer = act(&daemon.http(), "unmount", volume, reference);
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
}

/// What the kernel says of the mounts at a directory: one line each.
pub(crate) fn layers(place: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_here = |line: &&str| line.split(' ').nth(4) == place.to_str();
    table.lines().filter(is_here).map(str::to_owned).collect()
}

/// Where the data of a volume is, as its inspect tells it.
pub(crate) fn data(daemon: &Daemon, volume: &str) -> PathBuf {
    daemon.http().look(&format!("/volumes/{volume}"))["Mountpoint"].as_str().unwrap().into()
}

pub(crate) fn tmpfs() -> Value {
    json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,noexec"})
}

/// A block device with an ext4 file system, in a file.
pub(crate) struct Disk {
    pub(crate) device: String,
}

impl Disk {
    pub(crate) fn new(image: &Path) -> Self {
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
pub(crate) struct Hanging {
    _server: File,
    pub(crate) place: PathBuf,
}

impl Hanging {
    pub(crate) fn new(place: &Path) -> Self {
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
