//! What an inode is and how that is changed without opening it: metadata, and a descriptor that only points.
//!
//! A [`Pinned`] descriptor is `O_PATH`: it names an inode for good, whatever happens to the path. The kernel lets
//! it be used as a path through `/proc/self/fd/N`, which leads to that inode and nowhere else (`symlink(7)`, magic
//! links), even when the inode is a symbolic link.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlink};
use nix::libc;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, major, minor, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::error::{Error, show};

type Result<T> = std::result::Result<T, Error>;

/// A point in time as file systems store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl From<Time> for TimeSpec {
    fn from(time: Time) -> Self {
        Self::new(time.seconds, time.nanoseconds.into())
    }
}

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileType {
    fn of(mode: u32) -> Self {
        match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFLNK => Self::Symlink,
            SFlag::S_IFCHR => Self::Char,
            SFlag::S_IFBLK => Self::Block,
            SFlag::S_IFIFO => Self::Fifo,
            SFlag::S_IFSOCK => Self::Socket,
            _ => Self::File,
        }
    }

    /// The type in words, for error texts.
    pub fn words(self) -> &'static str {
        match self {
            Self::File => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Char => "character device",
            Self::Block => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
        }
    }
}

/// What `lstat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub file_type: FileType,
    /// Permissions with set-user-id, set-group-id and sticky: the lower twelve bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When the content last changed.
    pub modified: Time,
    /// The number of the device it lies on.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// For a device node: major and minor.
    pub node: (u64, u64),
}

impl Metadata {
    pub(super) fn of(status: &FileStat) -> Self {
        Self {
            file_type: FileType::of(status.st_mode),
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            size_bytes: u64::try_from(status.st_size).unwrap_or_default(),
            modified: Time {
                seconds: status.st_mtime,
                nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or_default(),
            },
            device: status.st_dev,
            inode: status.st_ino,
            links: status.st_nlink,
            node: (major(status.st_rdev), minor(status.st_rdev)),
        }
    }

    /// Refuses every other type.
    pub(super) fn expect(&self, expected: FileType, name: &[u8]) -> Result<()> {
        if self.file_type == expected {
            return Ok(());
        }
        Err(Error::Type { name: show(name), got: self.file_type.words(), expected: expected.words() })
    }
}

/// A descriptor that only points at an inode (`O_PATH`).
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl Pinned {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A path that leads to this inode as long as `self` lives, for calls that want a path: `/proc/self/fd/N`.
    /// In another process it leads nowhere; see [`Pinned::host_path`].
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(proc_path(self.0.as_fd()))
    }

    /// Where the inode is at present, as a path of this mount namespace. Handed to another process, it is followed
    /// by name: only for places that nobody else can change meanwhile.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn host_path(&self) -> Result<PathBuf> {
        readlink(proc_path(self.0.as_fd()).as_str())
            .map(PathBuf::from)
            .map_err(|errno| Error::system("find the path of", b".", errno))
    }

    /// What it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn metadata(&self) -> Result<Metadata> {
        let status = fstat(&self.0).map_err(|errno| Error::system("examine", b".", errno))?;
        Ok(Metadata::of(&status))
    }

    /// Sets the owner. The kernel then takes set-user-id and file capabilities away: mode and xattrs come after.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(&self.0, c"", owner, group, AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| Error::system("set the owner of", b".", errno))
    }

    /// Sets the mode: the lower twelve bits.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a symbolic link, which has none.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        let path = proc_path(self.0.as_fd());
        fchmodat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            Mode::from_bits_truncate(mode),
            FchmodatFlags::FollowSymlink,
        )
        .map_err(|errno| Error::system("set the mode of", b".", errno))
    }

    /// Sets both times to `modified`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_time(&self, modified: Time) -> Result<()> {
        let (path, time) = (proc_path(self.0.as_fd()), modified.into());
        utimensat(nix::fcntl::AT_FDCWD, path.as_str(), &time, &time, UtimensatFlags::FollowSymlink)
            .map_err(|errno| Error::system("set the time of", b".", errno))
    }

    /// Sets one extended attribute.
    ///
    /// # Errors
    /// `ENOTSUP` if the file system has none of that kind, `EPERM` for `user.*` on anything but files and directories.
    pub fn set_xattr(&self, key: &[u8], value: &[u8]) -> Result<()> {
        set_xattr(self.0.as_fd(), key, value)
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets one extended attribute of whatever the descriptor points at, a symbolic link included.
///
/// # Errors
/// [`Error::Name`] if the key holds a NUL; else what the kernel says.
pub fn set_xattr(fd: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let Ok(name) = CString::new(key) else {
        return Err(Error::Name { name: show(key), problem: "holds a NUL byte" });
    };
    let Ok(path) = CString::new(proc_path(fd)) else { return Err(Error::Kernel) };
    Errno::result(raw_set_xattr(&path, &name, value))
        .map(drop)
        .map_err(|errno| Error::system("set the extended attribute", key, errno))
}

#[allow(
    unsafe_code,
    reason = "nix has no setxattr; both strings end in NUL and the value's length is its own"
)]
fn raw_set_xattr(path: &CString, name: &CString, value: &[u8]) -> libc::c_int {
    // SAFETY: the kernel reads the two strings up to their NUL and exactly `value.len()` bytes of the value.
    unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }
}

pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
