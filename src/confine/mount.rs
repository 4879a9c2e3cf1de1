//! Mounts below a root, made on descriptors: the place cannot be swapped for a link between looking and mounting.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::attributes::{Pinned, proc_path};
use super::error::Error;
use super::{Result, Root};

/// No file system type, no options: a bind mount takes neither.
const NONE: Option<&str> = None;

impl Pinned {
    /// Mounts what `self` points at over `target`; both are directories or neither is.
    ///
    /// `recursive` takes along what is mounted below `self`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind_onto(&self, target: &Self, recursive: bool) -> Result<()> {
        let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
        let (from, onto) = (proc_path(self.as_fd()), proc_path(target.as_fd()));
        mount(Some(from.as_str()), onto.as_str(), NONE, flags, NONE)
            .map_err(|errno| Error::system("bind a mount onto", describe(target).as_bytes(), errno))
    }

    /// Makes the mount that `self` is the root of exchange mounts with its peers (`shared`, all of it below too) or
    /// not (`private`).
    ///
    /// # Errors
    /// `EINVAL` if it is not the root of a mount.
    pub fn set_shared(&self, shared: bool) -> Result<()> {
        let kind = if shared { MsFlags::MS_SHARED } else { MsFlags::MS_PRIVATE };
        let here = proc_path(self.as_fd());
        mount(NONE, here.as_str(), NONE, kind | MsFlags::MS_REC, NONE)
            .map_err(|errno| Error::system("set the propagation of", describe(self).as_bytes(), errno))
    }
}

impl Root {
    /// Holds on to a directory below the root, to be bound elsewhere. Unlike [`Root::follow`], where `..` and absolute
    /// links count from the root, a path or a link that leads out of it is refused.
    ///
    /// # Errors
    /// `EXDEV` if it leads out, `ENOTDIR` if it is no directory; as [`Root::follow`].
    pub fn beneath(&self, path: &[u8]) -> Result<Pinned> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let name = if path.is_empty() { b".".as_slice() } else { path };
        loop {
            match openat2(self.as_fd(), name, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("resolve beneath its own tree", name, errno)),
                Ok(fd) => return Ok(Pinned::new(fd)),
            }
        }
    }
}

/// Detaches the topmost mount that `place` is the root of; what still uses it keeps it.
///
/// # Errors
/// `EINVAL` if it is not the root of a mount.
pub fn unmount(place: &Pinned) -> Result<()> {
    let here = proc_path(place.as_fd());
    umount2(here.as_str(), MntFlags::MNT_DETACH)
        .map_err(|errno| Error::system("unmount", describe(place).as_bytes(), errno))
}

/// Detaches every mount at `path` below `root`, one on top of the other, until none is left.
///
/// # Errors
/// As [`Root::follow`], and what the kernel says.
pub fn unmount_stack(root: &Root, path: &[u8]) -> Result<()> {
    loop {
        // Opened anew each time: the descriptor of the mount that has gone still points at it.
        match unmount(&root.follow(path)?) {
            Ok(()) => {}
            Err(error) if error.is(Errno::EINVAL) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn describe(place: &Pinned) -> String {
    place.host_path().map_or_else(|_| "a directory".to_owned(), |path| path.to_string_lossy().into_owned())
}
