//! A real legacy plugin: rclone as a service of its own, on a socket or a port, with FUSE mounts on the host.
//!
//! It knows nothing of who uses it. Whatever it does is below one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, umount2};

use super::{patiently, process, until};

/// `rclone serve docker`; ended when it is dropped, with what it has mounted.
#[derive(Debug)]
pub(crate) struct Rclone {
    child: Option<Child>,
    place: PathBuf,
    address: String,
}

impl Rclone {
    /// Starts it on `address`, the path of a socket or `HOST:PORT`, with everything else below `place`, and waits until it
    /// listens.
    pub(crate) fn start(place: &Path, address: &str) -> Self {
        let mut rclone = Self { child: None, place: place.to_owned(), address: address.to_owned() };
        for directory in [rclone.volumes(), place.join("cache")] {
            fs::create_dir_all(directory).unwrap();
        }
        rclone.launch();
        rclone
    }

    /// Starts it (again), and waits until it listens.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(process::program("rclone"));
        command.args(["serve", "docker", "--no-spec", "--socket-addr", &self.address]);
        command.arg("--base-dir").arg(self.volumes()).arg("--cache-dir").arg(self.place.join("cache"));
        command.env("RCLONE_CONFIG", self.place.join("rclone.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let listens = || {
            if self.address.starts_with('/') {
                std::os::unix::net::UnixStream::connect(&self.address).is_ok()
            } else {
                std::net::TcpStream::connect(&self.address).is_ok()
            }
        };
        until("rclone listens", || listens().then_some(()));
    }

    /// Kills it; what it has mounted is dead then, and taken away as a service manager would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let volumes = format!("{}/", self.volumes().display());
        let _ = patiently(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
            let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
            let point = points.find(|point| point.starts_with(&volumes));
            point.map(|point| umount2(point, MntFlags::MNT_DETACH)).is_none().then_some(())
        });
    }

    /// Where it mounts volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.place.join("volumes")
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        self.kill();
    }
}
