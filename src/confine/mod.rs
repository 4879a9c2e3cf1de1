//! The one room through which a path from outside reaches a disk.
//!
//! A [`Root`] is the descriptor of a directory. Every operation takes a path as bytes - of an archive, of a plugin's
//! answer, of its config - and resolves the parent with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: `..` stops
//! at the root, an absolute symbolic link starts at the root, and `/proc`'s magic links lead nowhere. Then it acts
//! on one component, with `*at` calls, on the descriptor. So a name that changes its meaning half-way cannot lead
//! outside. Mounts are made on descriptors too.
//!
//! The room refuses to know what the files are for. Facts: `openat2(2)`, `symlink(7)`, `path_resolution(7)`.

mod attributes;
mod directory;
mod error;
mod mount;
mod mounted;
mod name;
pub mod quota;
mod remove;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

pub use attributes::{FileType, Metadata, Pinned, Time, set_xattr};
pub use directory::{Directory, Node};
pub use error::{Error, show};
pub use mount::{unmount, unmount_stack};
pub use mounted::{MOUNTINFO, MountPoint, mount_points};
pub use name::{Inside, NAME_MAX_BYTES, Name, PATH_MAX_BYTES};

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The mode of directories that nobody asked for, made on the way to a file.
const IMPLIED_DIRECTORY_MODE: u32 = 0o755;

/// A directory that nothing below it can lead out of.
#[derive(Debug)]
pub struct Root(Directory);

impl Root {
    /// Opens a directory of ours. The path is trusted and followed by name, except for its last component.
    ///
    /// # Errors
    /// `ENOENT`, or `ENOTDIR` if it is no directory (a link to one included).
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty()).map_err(|errno| {
            Error::system("open the directory", path.as_os_str().as_encoded_bytes(), errno)
        })?;
        Ok(Self(Directory::new(fd)))
    }

    /// Opens a directory below this one as a root of its own.
    ///
    /// # Errors
    /// As [`Root::directory`].
    pub fn narrow(&self, path: &[u8]) -> Result<Self> {
        self.directory(&Inside::parse(path)?).map(Self)
    }

    /// The root itself as a directory.
    pub fn top(&self) -> &Directory {
        &self.0
    }

    /// Opens a directory; links on the way, the last included, are followed below the root.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, or `ELOOP` for a circle of links.
    pub fn directory(&self, path: &Inside) -> Result<Directory> {
        if path.is_root() {
            return self.0.duplicate();
        }
        self.resolve(path.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(Directory::new)
    }

    /// Opens a directory and makes those that are missing, mode 0755, on the way to it. The times of the directory
    /// that gets a new entry by that stay as they are.
    ///
    /// # Errors
    /// `ENOTDIR` if something on the way is no directory; `ENOENT` if it is a link to nowhere.
    pub fn make_directories(&self, path: &Inside) -> Result<Directory> {
        match self.directory(path) {
            Err(error) if error.is(Errno::ENOENT) => {}
            other => return other,
        }
        let mut here = self.0.duplicate()?;
        let mut prefix = Vec::with_capacity(path.as_bytes().len());
        for component in path.components() {
            if !prefix.is_empty() {
                prefix.push(b'/');
            }
            prefix.extend_from_slice(component);
            let name = Name::parse(component)?;
            here = match here.directory(&name) {
                Ok(directory) => directory,
                Err(error) if error.is(Errno::ENOENT) => {
                    let modified = here.own_metadata()?.modified;
                    let new = here.make_directory(&name, IMPLIED_DIRECTORY_MODE)?;
                    here.set_time(modified)?;
                    new
                }
                // A link, perhaps, whose target counts from the root.
                Err(error) if error.is(Errno::ENOTDIR) || error.is(Errno::ELOOP) => {
                    self.directory(&Inside::parse(&prefix)?)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(here)
    }

    /// The parent directory, opened, and the name in it.
    ///
    /// # Errors
    /// [`Error::Name`] for the root itself; else as [`Root::directory`].
    pub fn entry(&self, path: &[u8]) -> Result<(Directory, Name)> {
        let inside = Inside::parse(path)?;
        let Some((parent, name)) = inside.split() else {
            return Err(Error::Name { name: show(path), problem: "is the root itself" });
        };
        Ok((self.directory(&Inside::parse(parent)?)?, Name::parse(name)?))
    }

    /// Creates a file, see [`Directory::create_file`].
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; as [`Root::entry`].
    pub fn create_file(&self, path: &[u8]) -> Result<File> {
        let (parent, name) = self.entry(path)?;
        parent.create_file(&name)
    }

    /// Opens a regular file for reading, see [`Directory::open_file`].
    ///
    /// # Errors
    /// [`Error::Type`] if it is no regular file, a link included; as [`Root::entry`].
    pub fn open_file(&self, path: &[u8]) -> Result<File> {
        let (parent, name) = self.entry(path)?;
        parent.open_file(&name)
    }

    /// Creates one directory with exactly this mode.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; as [`Root::entry`].
    pub fn make_directory(&self, path: &[u8], mode: u32) -> Result<Directory> {
        let (parent, name) = self.entry(path)?;
        parent.make_directory(&name, mode)
    }

    /// Creates a symbolic link at `path` with the text `target`.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; as [`Root::entry`].
    pub fn symlink(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let (parent, name) = self.entry(path)?;
        parent.symlink(&name, target)
    }

    /// Makes `path` a second name of `old`, both below this root; a link as `old` is not followed.
    ///
    /// # Errors
    /// `ENOENT` if `old` does not exist; as [`Root::entry`].
    pub fn hard_link(&self, path: &[u8], old: &[u8]) -> Result<()> {
        let (parent, name) = self.entry(path)?;
        let (old_parent, old_name) = self.entry(old)?;
        parent.hard_link(&name, &old_parent, &old_name)
    }

    /// Creates a device or a pipe.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; as [`Root::entry`].
    pub fn make_node(&self, path: &[u8], node: Node) -> Result<()> {
        let (parent, name) = self.entry(path)?;
        parent.make_node(&name, node)
    }

    /// What the path is; a link in the last place is not followed.
    ///
    /// # Errors
    /// As [`Root::entry`].
    pub fn metadata(&self, path: &[u8]) -> Result<Metadata> {
        if Inside::parse(path)?.is_root() {
            return self.0.own_metadata();
        }
        let (parent, name) = self.entry(path)?;
        parent.metadata(&name)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is none; as [`Root::entry`].
    pub fn read_link(&self, path: &[u8]) -> Result<PathBuf> {
        let (parent, name) = self.entry(path)?;
        parent.read_link(&name)
    }

    /// Holds on to what the path is, to change its owner, mode, times or xattrs; a link in the last place is not
    /// followed.
    ///
    /// # Errors
    /// As [`Root::entry`].
    pub fn pin(&self, path: &[u8]) -> Result<Pinned> {
        if Inside::parse(path)?.is_root() {
            return self.follow(path);
        }
        let (parent, name) = self.entry(path)?;
        parent.pin(&name)
    }

    /// Holds on to what the path leads to: links are followed, below the root.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`.
    pub fn follow(&self, path: &[u8]) -> Result<Pinned> {
        let inside = Inside::parse(path)?;
        let name = if inside.is_root() { b".".as_slice() } else { inside.as_bytes() };
        self.resolve(name, OFlag::O_PATH).map(Pinned::new)
    }

    /// Removes a file, link, node or empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTEMPTY`, [`Error::Mounted`]; as [`Root::entry`].
    pub fn remove(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.entry(path)?;
        parent.remove(&name)
    }

    /// Removes whatever the path is with everything below it, see [`Directory::remove_tree`]. Nothing there is fine.
    ///
    /// # Errors
    /// [`Error::Mounted`] if a mount point is in the way.
    pub fn remove_tree(&self, path: &[u8]) -> Result<()> {
        match self.entry(path) {
            Ok((parent, name)) => parent.remove_tree(&name),
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes everything below the root, not the root: the end of an operation that failed half-way.
    ///
    /// # Errors
    /// [`Error::Mounted`] if a mount point is in the way.
    pub fn clear(&self) -> Result<()> {
        self.0.clear()
    }

    /// Writes everything of this file system to the disk, and waits for it: one call for a whole tree.
    ///
    /// # Errors
    /// What the kernel says, `EIO` or `ENOSPC` if earlier writes failed.
    pub fn sync(&self) -> Result<()> {
        syncfs(self.0.as_fd()).map_err(|errno| Error::system("sync the file system of", b".", errno))
    }

    fn resolve(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            match openat2(self.0.as_fd(), path, how) {
                // Somebody renames at this moment, and the kernel is not sure that `..` stayed inside: again.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other.map_err(|errno| Error::system("resolve", path, errno)),
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
