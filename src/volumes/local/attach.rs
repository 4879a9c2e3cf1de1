//! Mounting what a volume's options ask for in its own directory, and detaching it. By descriptors: the directory is
//! opened below the open root, one name after the other and through no link, and the kernel is given that descriptor.
//!
//! Whether something is mounted is told by the kernel's table; no file system is asked, for it may hang. Each call here
//! may wait for as long as a server or a device lets it: whoever calls has a thread for that. It does not know who uses
//! the volume.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::options::{Mount, Step};
use super::{DATA, Error, Local, Wanted, mounts, open_directory};

/// Only points at a directory: the file system in it is not asked.
const POINT: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const NONE: Option<&str> = None;

/// What the kernel says, in dockerd's words: those of the C library, without a capital and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(Errno);

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from(self.0).to_string();
        let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words);
        let mut letters = text.chars();
        match (letters.next(), letters.clone().next()) {
            (Some(first), Some(second)) if second.is_ascii_lowercase() => {
                write!(f, "{}{}", first.to_ascii_lowercase(), letters.as_str())
            }
            _ => f.write_str(text),
        }
    }
}

impl Local {
    /// Whether something is mounted on the directory that containers see.
    pub(in crate::volumes) fn is_mounted(&self, name: &str) -> Result<bool, Error> {
        Ok(mounts::at(&self.mountpoint(name))?.is_some())
    }

    /// Whether what is wanted is mounted there. A read-only bind takes two calls: one that a kill has come between, and
    /// that can be written to, does not count.
    pub(in crate::volumes) fn is_attached(&self, name: &str, wanted: &Wanted) -> Result<bool, Error> {
        let point = mounts::at(&self.mountpoint(name))?;
        Ok(point.is_some_and(|point| point.is_read_only || !wanted.is_read_only_bind()))
    }

    /// The volumes that have something mounted there.
    pub(in crate::volumes) fn mounted(&self) -> Result<Vec<String>, Error> {
        let name = |point: &std::path::Path| {
            let below = point.strip_prefix(&self.path).ok()?;
            let volume = below.parent().filter(|_| below.ends_with(DATA))?.to_str()?;
            (!volume.is_empty() && !volume.contains('/')).then(|| volume.to_owned())
        };
        Ok(mounts::points()?.iter().filter_map(|point| name(&point.path)).collect())
    }

    /// Mounts what is wanted, in the place of what is mounted there. Nothing is when it fails.
    pub(in crate::volumes) fn attach(&self, name: &str, wanted: &Wanted) -> Result<(), Error> {
        let resolved = wanted.resolved(lookup)?;
        // Somebody may have taken its directory away, which holds nothing.
        self.create(name)?;
        self.detach(name, wanted)?;
        let volume = open_directory(&self.root, &self.path, name)?;
        for step in resolved.steps() {
            // Opened for each call: after the first one, what was mounted stands there.
            let place = openat(&volume, DATA, POINT, Mode::empty());
            let done = place.and_then(|place| take(step, &resolved, &place));
            if let Err(errno) = done {
                if step != Step::Mount {
                    self.detach(name, wanted)?;
                }
                let attempt = resolved.attempt(step, &self.mountpoint(name).to_string_lossy());
                return Err(Error::Mount { attempt, reason: Refusal(errno) });
            }
        }
        Ok(())
    }

    /// Detaches everything that is mounted there; what still uses it keeps it. Nothing is fine.
    pub(in crate::volumes) fn detach(&self, name: &str, wanted: &Wanted) -> Result<(), Error> {
        let volume = open_directory(&self.root, &self.path, name)?;
        // A name in an open directory: unlike a descriptor of what is mounted, it does not ask the file system.
        let place = format!("/proc/self/fd/{}/{DATA}", volume.as_raw_fd());
        while self.is_mounted(name)? {
            detach_one(&place, wanted).map_err(|errno| {
                let attempt = format!("umount {}", self.mountpoint(name).display());
                Error::Unmount { attempt, reason: Refusal(errno) }
            })?;
        }
        Ok(())
    }
}

/// Detaches the topmost mount.
fn detach_one(place: &str, wanted: &Wanted) -> nix::Result<()> {
    if wanted.is_bind() {
        // Otherwise, where the host's directory is shared, what is mounted below it there would go as well.
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(NONE, place, NONE, private, NONE)?;
    }
    umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// One call of the kernel.
fn take(step: Step, wanted: &Mount, place: &OwnedFd) -> nix::Result<()> {
    let (place, flags) = (format!("/proc/self/fd/{}", place.as_raw_fd()), wanted.flags_of(step));
    match step {
        Step::Mount => {
            // Some file systems refuse data that is there and empty.
            let data = Some(wanted.data.as_str()).filter(|data| !data.is_empty());
            mount(Some(wanted.device.as_str()), place.as_str(), Some(wanted.kind.as_str()), flags, data)
        }
        Step::Propagation | Step::ReadOnly => mount(NONE, place.as_str(), NONE, flags, NONE),
    }
}

/// The address of a host, the first IPv4 one if it has any, as dockerd takes it. Or why there is none.
fn lookup(host: &str) -> Result<IpAddr, String> {
    let found = (host, 0).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        let reason = text.rsplit(": ").next().unwrap_or_default();
        match reason {
            "Name or service not known" | "No address associated with hostname" => no_host(host),
            other => format!("lookup {host}: {other}"),
        }
    })?;
    let addresses: Vec<_> = found.map(|address| address.ip()).collect();
    let four = addresses.iter().find(|address| address.is_ipv4());
    four.or(addresses.first()).copied().ok_or_else(|| no_host(host))
}

fn no_host(host: &str) -> String {
    format!("lookup {host}: no such host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_speaks_as_go_does() {
        for (errno, text) in [
            (Errno::ENOENT, "no such file or directory"),
            (Errno::ENODEV, "no such device"),
            (Errno::EINVAL, "invalid argument"),
            (Errno::ENOTBLK, "block device required"),
            (Errno::EIO, "input/output error"),
            (Errno::EBUSY, "device or resource busy"),
            (Errno::ECONNREFUSED, "connection refused"),
        ] {
            assert_eq!(Refusal(errno).to_string(), text);
        }
    }

    #[test]
    fn names_are_looked_up_and_addresses_are_themselves() {
        assert_eq!(lookup("192.0.2.7"), Ok([192, 0, 2, 7].into()));
        assert_eq!(lookup("localhost"), Ok([127, 0, 0, 1].into()));
        assert_eq!(lookup("2001:db8::7"), Ok("2001:db8::7".parse().unwrap()));
        assert!(lookup("nope.invalid").unwrap_err().starts_with("lookup nope.invalid: "));
    }
}
