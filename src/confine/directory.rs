//! A directory by descriptor, and what can be done to one component in it.
//!
//! Nothing here resolves a path: an operation sees one [`Name`], acts with an `*at` call on the descriptor, and does
//! not follow a symbolic link in the last place.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{
    Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::attributes::{FileType, Metadata, Pinned, Time, set_xattr};
use super::error::{Error, REMOVE};
use super::name::Name;

type Result<T> = std::result::Result<T, Error>;

/// The mode of what is created, until the caller sets the final one: nobody else can look in meanwhile.
const FIRST_DIRECTORY_MODE: Mode = Mode::S_IRWXU;
const FIRST_FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// A node that `mknod` makes; majors and minors are Linux's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Takes a descriptor that is known to be a directory's.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A second descriptor of the same directory.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn duplicate(&self) -> Result<Self> {
        let clone = self.0.try_clone().map_err(|error| {
            Error::system("duplicate", b".", Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        })?;
        Ok(Self(clone))
    }

    /// Opens a directory in this one; a symbolic link is not followed.
    ///
    /// # Errors
    /// `ENOTDIR` if it is something else, a link included.
    pub fn directory(&self, name: &Name) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.0, name.as_c_str(), flags, Mode::empty())
            .map(Self)
            .map_err(|errno| Error::system("open the directory", name.as_bytes(), errno))
    }

    /// As [`Directory::directory`], but refuses a mount point with `EXDEV`.
    pub(super) fn directory_on_this_mount(&self, name: &Name) -> std::result::Result<Self, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV);
        loop {
            match openat2(&self.0, name.as_c_str(), how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other.map(Self),
            }
        }
    }

    /// Creates a directory with exactly this mode (the umask has no say) and opens it.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken.
    pub fn make_directory(&self, name: &Name, mode: u32) -> Result<Self> {
        mkdirat(&self.0, name.as_c_str(), FIRST_DIRECTORY_MODE)
            .map_err(|errno| Error::system("create the directory", name.as_bytes(), errno))?;
        let directory = self.directory(name)?;
        directory.set_mode(mode)?;
        Ok(directory)
    }

    /// Creates an empty file, mode 0600, open for writing. Never opens what is there already.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, by a link too.
    pub fn create_file(&self, name: &Name) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.0, name.as_c_str(), flags, FIRST_FILE_MODE)
            .map(File::from)
            .map_err(|errno| Error::system("create the file", name.as_bytes(), errno))
    }

    /// Opens a regular file for reading; nothing else is opened, so no pipe can block and no device is touched.
    ///
    /// # Errors
    /// [`Error::Type`] if it is no regular file.
    pub fn open_file(&self, name: &Name) -> Result<File> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // The type is looked at before the open, since opening a device can do things; and again after it.
        self.metadata(name)?.expect(FileType::File, name.as_bytes())?;
        let fd = openat(&self.0, name.as_c_str(), flags, Mode::empty())
            .map_err(|errno| Error::system("open", name.as_bytes(), errno))?;
        let status = fstat(&fd).map_err(|errno| Error::system("examine", name.as_bytes(), errno))?;
        Metadata::of(&status).expect(FileType::File, name.as_bytes())?;
        Ok(File::from(fd))
    }

    /// Creates a symbolic link; its target is text and is not looked at.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, [`Error::Name`] if the target holds a NUL or is empty.
    pub fn symlink(&self, name: &Name, target: &[u8]) -> Result<()> {
        symlinkat(target, &self.0, name.as_c_str())
            .map_err(|errno| Error::system("create the symbolic link", name.as_bytes(), errno))
    }

    /// Makes `name` a second name of `old_name` in `old`; if that is a symbolic link, of the link itself.
    ///
    /// # Errors
    /// `ENOENT` if the old name does not exist, `EPERM` if it is a directory.
    pub fn hard_link(&self, name: &Name, old: &Self, old_name: &Name) -> Result<()> {
        linkat(&old.0, old_name.as_c_str(), &self.0, name.as_c_str(), AtFlags::empty())
            .map_err(|errno| Error::system("create the hard link", name.as_bytes(), errno))
    }

    /// Creates a device or a pipe, mode 0600.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, `EPERM` without `CAP_MKNOD`.
    pub fn make_node(&self, name: &Name, node: Node) -> Result<()> {
        let (kind, device) = match node {
            Node::Char(major, minor) => (SFlag::S_IFCHR, makedev(major.into(), minor.into())),
            Node::Block(major, minor) => (SFlag::S_IFBLK, makedev(major.into(), minor.into())),
            Node::Fifo => (SFlag::S_IFIFO, 0),
        };
        mknodat(&self.0, name.as_c_str(), kind, FIRST_FILE_MODE, device)
            .map_err(|errno| Error::system("create the node", name.as_bytes(), errno))
    }

    /// What the name is; a link is not followed.
    ///
    /// # Errors
    /// `ENOENT` if there is nothing.
    pub fn metadata(&self, name: &Name) -> Result<Metadata> {
        fstatat(&self.0, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map(|status| Metadata::of(&status))
            .map_err(|errno| Error::system("examine", name.as_bytes(), errno))
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is none.
    pub fn read_link(&self, name: &Name) -> Result<PathBuf> {
        readlinkat(&self.0, name.as_c_str())
            .map(|target: OsString| PathBuf::from(target))
            .map_err(|errno| Error::system("read the link", name.as_bytes(), errno))
    }

    /// Holds on to whatever the name is, without opening it: a device is not touched, a link not followed.
    ///
    /// # Errors
    /// `ENOENT` if there is nothing.
    pub fn pin(&self, name: &Name) -> Result<Pinned> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.0, name.as_c_str(), flags, Mode::empty())
            .map(Pinned::new)
            .map_err(|errno| Error::system("open", name.as_bytes(), errno))
    }

    /// Removes a file, link, node or empty directory.
    ///
    /// # Errors
    /// `ENOENT` if there is nothing, `ENOTEMPTY` for a directory with entries.
    pub fn remove(&self, name: &Name) -> Result<()> {
        match unlinkat(&self.0, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => unlinkat(&self.0, name.as_c_str(), UnlinkatFlags::RemoveDir),
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::EBUSY => Error::system(REMOVE, name.as_bytes(), Errno::EXDEV),
            errno => Error::system(REMOVE, name.as_bytes(), errno),
        })
    }

    /// Sets owner and times of an entry that is a symbolic link (or anything else), which is not followed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_owner_and_time(&self, name: &Name, uid: u32, gid: u32, modified: Time) -> Result<()> {
        let refuse = |errno| Error::system("set owner and time of", name.as_bytes(), errno);
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(&self.0, name.as_c_str(), owner, group, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(refuse)?;
        let time = modified.into();
        utimensat(&self.0, name.as_c_str(), &time, &time, UtimensatFlags::NoFollowSymlink).map_err(refuse)
    }

    /// The directory's own metadata.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn own_metadata(&self) -> Result<Metadata> {
        let status = fstat(&self.0).map_err(|errno| Error::system("examine", b".", errno))?;
        Ok(Metadata::of(&status))
    }

    /// Sets the directory's own mode: the lower twelve bits of `mode`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        fchmod(&self.0, Mode::from_bits_truncate(mode))
            .map_err(|errno| Error::system("set the mode of", b".", errno))
    }

    /// Sets the directory's own owner.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        fchown(&self.0, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| Error::system("set the owner of", b".", errno))
    }

    /// Sets the directory's own times, both to `modified`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_time(&self, modified: Time) -> Result<()> {
        let time = modified.into();
        futimens(&self.0, &time, &time).map_err(|errno| Error::system("set the time of", b".", errno))
    }

    /// Sets one of the directory's own extended attributes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_xattr(&self, key: &[u8], value: &[u8]) -> Result<()> {
        set_xattr(self.0.as_fd(), key, value)
    }

    /// Calls `visit` with every name in the directory, in no order; `visit` may remove it.
    ///
    /// # Errors
    /// What the kernel or `visit` says.
    pub fn for_each(&self, mut visit: impl FnMut(&Name) -> Result<()>) -> Result<()> {
        let refuse = |errno| Error::system("list", b".", errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // A descriptor of its own: a duplicate would share the position with other listings.
        let mut listing = Dir::openat(&self.0, c".", flags, Mode::empty()).map_err(refuse)?;
        for entry in listing.iter() {
            let entry = entry.map_err(refuse)?;
            if let Ok(name) = Name::parse(entry.file_name().to_bytes()) {
                visit(&name)?;
            }
        }
        Ok(())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
