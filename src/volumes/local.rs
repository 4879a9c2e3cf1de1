//! The built-in driver: a volume is a directory, `<root>/<name>/_data`, in which its options may have something mounted.
//!
//! ```text
//! <root>/                    0701, as dockerd's
//!   <name>/                  0701
//!     _data/                 0755: what containers see
//!   .spare/<number>/         0701: what has no name yet, with a _data
//!   .trash/<random>/         0700: what is being removed; no volume's name begins with a dot. `<random>.<project>`
//!                            if the volume has a limit
//!     <name>/                a removed volume, with everything in it
//!     .deep-<n>/             a directory that lay so deep that it was moved up to be emptied
//! ```
//!
//! This file does not know records: it is told at [`Local::open`] which volumes there are, and puts the disk in order.
//! Every path is one component below an open directory, and what is mounted in a volume is never looked into: its server
//! may be gone. `options` says what is to be mounted, `attach` does it; who uses it is not known here.
//! Facts are from moby `volume/local`. All of it blocks.

mod attach;
mod error;
mod flags;
mod mounts;
pub(super) mod options;
mod quota;
mod secret;
mod spare;
mod tree;
mod unc;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::Texts;
use crate::confine::quota::ProjectId;
pub use attach::Refusal;
pub use error::Error;
pub(super) use options::Wanted;
pub(super) use quota::Limit;
use quota::Projects;
use spare::Spares;

/// The built-in driver's name.
pub const LOCAL_DRIVER: &str = "local";
/// What containers see of a volume.
const DATA: &str = "_data";
/// Where volumes go that are being removed.
const TRASH: &str = ".trash";
const ROOT_MODE: u32 = 0o701;
const DATA_MODE: u32 = 0o755;
const TRASH_MODE: u32 = 0o700;
/// How many links a directory has that has one directory in it.
const WHOLE_LINKS: u64 = 3;
/// The directory of all local volumes.
#[derive(Debug)]
pub(super) struct Local {
    path: PathBuf,
    root: OwnedFd,
    trash: OwnedFd,
    spares: Spares,
    projects: Projects,
}

/// Which directories a create has made, as opposed to found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    volume: bool,
    data: bool,
}

/// A volume that is out of the way: the name of its place in the trash, with its project if that is its alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Discarded(String);

impl Discarded {
    fn project(&self) -> Option<ProjectId> {
        self.0.split_once('.')?.1.parse().ok()
    }
}

impl Local {
    /// Opens the directory, or makes it, and puts it in order for the volumes that there are: what was being removed
    /// is put back if its volume still is one, and is deleted otherwise; missing directories are made again; empty
    /// directories of no volume are removed, others are left alone and logged.
    pub(super) fn open(path: &Path, volumes: &BTreeSet<&str>) -> Result<Self, Error> {
        let failed = |source| Error::Io { step: "opening", path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(ROOT_MODE).create(path).map_err(failed)?;
        // Mount points are looked up by this path, and the kernel tells them without links.
        let path = path.canonicalize().map_err(failed)?;
        let root =
            nix::fcntl::open(&path, DIRECTORY, Mode::empty()).map_err(|errno| io(&path, "opening", errno))?;
        let mode = Mode::from_bits_truncate(ROOT_MODE);
        fchmod(&root, mode).map_err(|errno| io(&path, "changing the mode of", errno))?;
        let trash = make_directory(&root, &path, TRASH, TRASH_MODE)?.0;
        let spares = Spares::open(&root, &path)?;
        let local = Self { path, root, trash, spares, projects: Projects::default() };
        local.empty_trash(volumes)?;
        let mut names = tree::names(&local.root).map_err(|errno| io(&local.path, "listing", errno))?;
        local.make_missing(volumes, &names)?;
        names.retain(|name| !name.starts_with('.') && !volumes.contains(name.as_str()));
        local.look_for_strangers(&names);
        Ok(local)
    }

    /// Where a volume's data is.
    pub(super) fn mountpoint(&self, name: &str) -> PathBuf {
        self.path.join(name).join(DATA)
    }

    /// Makes a volume's directories, or finds them. Syncs nothing.
    pub(super) fn create(&self, name: &str) -> Result<Made, Error> {
        if self.spares.take(&self.root, name) {
            return Ok(Made { volume: true, data: true });
        }
        let (volume, made) = make_directory(&self.root, &self.path, name, ROOT_MODE)?;
        let volume_path = self.path.join(name);
        let data = if made {
            make_directory(&volume, &volume_path, DATA, DATA_MODE)?.1
        } else {
            make_data(&volume, &volume_path)?
        };
        Ok(Made { volume: made, data })
    }

    /// Whether directories should be made ahead; then whoever asked waits for the [`Local::lull`] and calls
    /// [`Local::stock`].
    pub(super) fn needs_stock(&self) -> bool {
        self.spares.are_low()
    }

    /// Waits until no volume was created for a while.
    pub(super) async fn lull(&self) {
        self.spares.lull().await;
    }

    /// Makes directories ahead, for the next creates.
    pub(super) fn stock(&self) -> Result<(), Error> {
        self.spares.stock()
    }

    /// Removes the directories that a create has made, if they are empty still.
    pub(super) fn take_back(&self, name: &str, made: Made) -> Result<(), Error> {
        if made.data {
            let volume = open_directory(&self.root, &self.path, name)?;
            if let Ok(data) = openat(&volume, DATA, DIRECTORY, Mode::empty()) {
                self.release_alone(&data);
            }
            unlinkat(&volume, DATA, UnlinkatFlags::RemoveDir)
                .map_err(|errno| io(&self.mountpoint(name), "removing", errno))?;
        }
        if made.volume {
            unlinkat(&self.root, name, UnlinkatFlags::RemoveDir)
                .map_err(|errno| io(&self.path.join(name), "removing", errno))?;
        }
        Ok(())
    }

    /// Moves a volume out of the way, for good when this returns; one that had this limit with its project, which is its
    /// alone. One that is gone already is fine.
    pub(super) fn discard(&self, name: &str, limit: Option<Limit>) -> Result<Discarded, Error> {
        let volume = self.path.join(name);
        if mounts::any_below(&volume)? {
            return Err(Error::Mounted);
        }
        let mut place =
            super::name::made_up().map_err(|_| io(&volume, "making up a place for", Errno::EIO))?;
        if limit.is_some()
            && let Some(project) = self.project(name)?
        {
            place = format!("{place}.{project}");
        }
        let (directory, _) = make_directory(&self.trash, &self.path.join(TRASH), &place, TRASH_MODE)?;
        match renameat(&self.root, name, &directory, name) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(io(&volume, "moving away", errno)),
        }
        // Otherwise a power cut may bring the data back under a name that is free, and a new volume would have it.
        fsync(&self.root).map_err(|errno| io(&self.path, "syncing", errno))?;
        Ok(Discarded(place))
    }

    /// Undoes [`Local::discard`].
    pub(super) fn put_back(&self, name: &str, discarded: &Discarded) -> Result<(), Error> {
        let trash = self.path.join(TRASH);
        let place = open_directory(&self.trash, &trash, &discarded.0)?;
        renameat(&place, name, &self.root, name)
            .map_err(|errno| io(&self.path.join(name), "putting back", errno))?;
        unlinkat(&self.trash, discarded.0.as_str(), UnlinkatFlags::RemoveDir)
            .map_err(|errno| io(&trash.join(&discarded.0), "removing", errno))
    }

    /// Deletes what is out of the way; says how many bytes that freed.
    pub(super) fn sweep(&self, discarded: &Discarded) -> Result<u64, Error> {
        if let Some(project) = discarded.project() {
            self.release(project);
        }
        tree::remove(&self.trash, &discarded.0)
            .map_err(|errno| io(&self.path.join(TRASH).join(&discarded.0), "deleting", errno))
    }

    /// How many bytes a volume's files take.
    pub(super) fn measure(&self, name: &str) -> Result<u64, Error> {
        let failed = |errno| io(&self.mountpoint(name), "measuring", errno);
        let volume = open_directory(&self.root, &self.path, name)?;
        let data = openat(&volume, DATA, DIRECTORY, Mode::empty()).map_err(failed)?;
        tree::measure(&data).map_err(failed)
    }

    fn empty_trash(&self, volumes: &BTreeSet<&str>) -> Result<(), Error> {
        let trash = self.path.join(TRASH);
        let listed =
            |directory: &OwnedFd| tree::names(directory).map_err(|errno| io(&trash, "listing", errno));
        for place in listed(&self.trash)? {
            let discarded = Discarded(place);
            let inside = listed(&open_directory(&self.trash, &trash, &discarded.0)?)?;
            match inside.iter().find(|name| volumes.contains(name.as_str()) && !self.exists(name)) {
                Some(name) => {
                    tracing::warn!(volume = name, "a volume that was not removed to the end is put back");
                    self.put_back(name, &discarded)?;
                }
                None => {
                    if let Err(error) = self.sweep(&discarded) {
                        let error = crate::error::chain(&error);
                        tracing::warn!(error, "files of a removed volume are left for the next start");
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes again what a power cut has taken; `names` are those of the directories that there are, sorted.
    fn make_missing(&self, volumes: &BTreeSet<&str>, names: &[String]) -> Result<(), Error> {
        for name in volumes {
            let is_there = names.binary_search_by(|there| there.as_str().cmp(name)).is_ok();
            if is_there && self.is_whole(name) {
                continue;
            }
            if self.create(name)?.data {
                tracing::warn!(volume = name, "the volume's directory was missing and is made again, empty");
            }
        }
        Ok(())
    }

    fn look_for_strangers(&self, names: &[String]) {
        for name in names {
            let made = Made { volume: true, data: self.has_data(name) };
            match self.take_back(name, made) {
                Ok(()) => tracing::info!(name, "the empty directory of an unfinished create is removed"),
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(name, error, "in the volumes' directory, but of no volume; left alone");
                }
            }
        }
    }

    /// Whether a volume has its data directory for sure, found out with a single look, since there may be very many: a
    /// directory has a link for its name, one for `.`, and one for each directory in it, of which there is but one. Some
    /// file systems count otherwise, and then it is not sure.
    fn is_whole(&self, name: &str) -> bool {
        fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|status| tree::is_directory(&status) && status.st_nlink == WHOLE_LINKS)
    }

    fn exists(&self, name: &str) -> bool {
        fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    fn has_data(&self, name: &str) -> bool {
        let volume = open_directory(&self.root, &self.path, name);
        volume.is_ok_and(|volume| fstatat(&volume, DATA, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok())
    }
}

/// How directories are opened here: never through a link.
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens a directory in another, by its one name.
fn open_directory(parent: &OwnedFd, parent_path: &Path, name: &str) -> Result<OwnedFd, Error> {
    openat(parent, name, DIRECTORY, Mode::empty())
        .map_err(|errno| io(&parent_path.join(name), "opening", errno))
}

/// Makes a directory or finds it, and opens it; says whether it was made. A new one gets the mode whatever the umask.
fn make_directory(
    parent: &OwnedFd,
    parent_path: &Path,
    name: &str,
    mode: u32,
) -> Result<(OwnedFd, bool), Error> {
    let mode = Mode::from_bits_truncate(mode);
    let new = match mkdirat(parent.as_fd(), name, mode) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(io(&parent_path.join(name), "making", errno)),
    };
    let directory = open_directory(parent, parent_path, name)?;
    if new {
        let failed = |errno| io(&parent_path.join(name), "changing the mode of", errno);
        let has = Mode::from_bits_truncate(fstat(&directory).map_err(failed)?.st_mode);
        if has != mode {
            fchmod(&directory, mode).map_err(failed)?;
        }
    }
    Ok((directory, new))
}

/// Makes what containers see of a volume, or finds it; says whether it was made. What is mounted there is not opened.
fn make_data(volume: &OwnedFd, volume_path: &Path) -> Result<bool, Error> {
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(volume, DATA, OpenHow::new().flags(DIRECTORY).resolve(resolve)) {
        Ok(_) | Err(Errno::EXDEV) => Ok(false),
        Err(Errno::ENOENT) => make_directory(volume, volume_path, DATA, DATA_MODE).map(|(_, new)| new),
        Err(errno) => Err(io(&volume_path.join(DATA), "opening", errno)),
    }
}

fn io(path: &Path, step: &'static str, errno: Errno) -> Error {
    Error::Io { step, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests;
