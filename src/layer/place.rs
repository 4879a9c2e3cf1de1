//! Puts entries below a root, as dockerd's `pkg/archive` (20.10, `diff.go` and `createTarFile`) does after its chroot:
//! names are cleaned by text; links on the way to an entry are followed, inside; what an entry's own name finds
//! is replaced, unless both are directories.
//!
//! Where dockerd sets the times of directories at the end, from a list of all of them, here each keeps its time while
//! entries come and go in it; the result is the same and no list grows with the archive.

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tracing::warn;

use crate::confine::{self, Directory, FileType, Inside, Name, Node, Root, Time, set_xattr, show};

use super::entries::{Entry, EntryType};
use super::error::Error;
use super::limits::Limits;
use super::whiteout::{self, Seen, Whiteout};

type Result<T> = std::result::Result<T, Error>;

/// Puts one entry after the other below a root.
pub(super) struct Placer<'a> {
    root: &'a Root,
    /// The directory of the last entry: the next one mostly lies there too.
    parent: Option<Parent>,
    /// What this archive brought, if opaque whiteouts will have to know; not for a root that was empty.
    seen: Option<Seen>,
    warned: bool,
    /// How many directories, at most, were made though no entry asked for them.
    implied: u64,
    implied_max: u64,
}

/// A directory in which entries are being made.
struct Parent {
    path: Vec<u8>,
    directory: Directory,
    /// Its time before; put back when the work moves on.
    modified: Time,
}

impl<'a> Placer<'a> {
    pub(super) fn new(root: &'a Root, limits: &Limits) -> Result<Self> {
        let mut occupied = false;
        let look = root.top().for_each(|_| {
            occupied = true;
            Ok(())
        });
        look.map_err(|source| Error::Place { entry: show(b""), source })?;
        let seen = occupied.then(Seen::default);
        Ok(Self { root, parent: None, seen, warned: false, implied: 0, implied_max: limits.entries_max })
    }

    /// Makes the entry. `content` writes what a file holds, and is called for files only.
    pub(super) fn place(
        &mut self,
        entry: &Entry,
        content: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let refuse = |source| Error::Place { entry: show(&entry.name), source };
        let path = Inside::parse(&entry.name).map_err(refuse)?;
        match whiteout::of(&path) {
            Some(whiteout) => self.white_out(&whiteout).map_err(refuse),
            None => match path.split() {
                None => self.place_root(entry),
                Some((parent, name)) => {
                    let name = Name::parse(name).map_err(refuse)?;
                    self.enter(parent, entry)?;
                    self.make(entry, &name, content)?;
                    if let Some(seen) = &mut self.seen {
                        seen.insert(path.as_bytes());
                    }
                    Ok(())
                }
            },
        }
    }

    /// Ends the work: the last directory gets its time back.
    pub(super) fn finish(mut self) -> Result<()> {
        self.leave().map_err(|source| Error::Place { entry: show(b""), source })
    }

    /// The root's own entry: its attributes, and nothing else.
    fn place_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.what != EntryType::Directory {
            let problem = format!("a {} cannot take the place of the root directory", entry.what.words());
            return Err(Error::Entry { entry: show(&entry.name), problem: problem.into() });
        }
        let refuse = |source| Error::Place { entry: show(&entry.name), source };
        self.leave().map_err(refuse)?;
        self.dress_directory(entry, self.root.top()).map_err(refuse)
    }

    fn make(
        &mut self,
        entry: &Entry,
        name: &Name,
        content: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let refuse = |source| Error::Place { entry: show(&entry.name), source };
        match entry.what {
            EntryType::File => {
                let mut file = self.replacing(name, |parent| parent.create_file(name)).map_err(refuse)?;
                content(&mut file)?;
                self.dress_file(entry, &file)
            }
            EntryType::Directory => {
                let directory = self.make_directory(name).map_err(refuse)?;
                self.dress_directory(entry, &directory).map_err(refuse)
            }
            EntryType::Symlink => {
                self.replacing(name, |parent| parent.symlink(name, &entry.link)).map_err(refuse)?;
                self.dress_in_place(entry, name).map_err(refuse)
            }
            EntryType::HardLink => {
                self.hard_link(entry, name)?;
                self.dress_in_place(entry, name).map_err(refuse)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (major, minor) = entry.device;
                let node = match entry.what {
                    EntryType::Char => Node::Char(major, minor),
                    EntryType::Block => Node::Block(major, minor),
                    _ => Node::Fifo,
                };
                self.replacing(name, |parent| parent.make_node(name, node)).map_err(refuse)?;
                self.dress_in_place(entry, name).map_err(refuse)
            }
        }
    }

    /// Opens the directory the next entry goes to; directories that are missing are made, as many as there may be
    /// entries: names can be far longer than what it costs to repeat them.
    fn enter(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if self.parent.as_ref().is_some_and(|parent| parent.path == path) {
            return Ok(());
        }
        let refuse = |source| Error::Place { entry: show(&entry.name), source };
        self.leave().map_err(refuse)?;
        let inside = Inside::parse(path).map_err(refuse)?;
        let directory = match self.root.directory(&inside) {
            Err(error) if error.is(Errno::ENOENT) => {
                self.implied += u64::try_from(inside.components().count()).unwrap_or(u64::MAX);
                if self.implied > self.implied_max {
                    let what = "directories that no entry is for";
                    return Err(Error::Limit { what, limit: self.implied_max });
                }
                self.root.make_directories(&inside)
            }
            other => other,
        }
        .map_err(refuse)?;
        let modified = directory.own_metadata().map_err(refuse)?.modified;
        self.parent = Some(Parent { path: path.to_vec(), directory, modified });
        Ok(())
    }

    /// Lets go of the present directory. Whatever is removed or replaced may be on the way to it, so that its path
    /// could now lead elsewhere.
    fn leave(&mut self) -> confine::Result<()> {
        match self.parent.take() {
            Some(parent) => parent.directory.set_time(parent.modified),
            None => Ok(()),
        }
    }

    fn directory(&self) -> &Directory {
        self.parent.as_ref().map_or(self.root.top(), |parent| &parent.directory)
    }

    /// Makes something; if the name is taken, after removing what has it.
    fn replacing<T>(
        &mut self,
        name: &Name,
        make: impl Fn(&Directory) -> confine::Result<T>,
    ) -> confine::Result<T> {
        match make(self.directory()) {
            Err(error) if error.is(Errno::EEXIST) => {
                self.directory().remove_tree(name)?;
                make(self.directory())
            }
            other => other,
        }
    }

    fn make_directory(&mut self, name: &Name) -> confine::Result<Directory> {
        match self.directory().make_directory(name, 0o700) {
            Err(error) if error.is(Errno::EEXIST) => {}
            other => return other,
        }
        if self.directory().metadata(name)?.file_type == FileType::Directory {
            return self.directory().directory(name);
        }
        self.directory().remove(name)?;
        self.directory().make_directory(name, 0o700)
    }

    fn hard_link(&mut self, entry: &Entry, name: &Name) -> Result<()> {
        let refuse = |source| Error::Place { entry: show(&entry.name), source };
        let missing = |source: confine::Error| {
            if !(source.is(Errno::ENOENT) || source.is(Errno::ENOTDIR)) {
                return refuse(source);
            }
            let problem = format!("it is a hard link to {}, which is not in the archive", show(&entry.link));
            Error::Entry { entry: show(&entry.name), problem: problem.into() }
        };
        let target = Inside::parse(&entry.link).map_err(refuse)?;
        let Some((parent, old_name)) = target.split() else {
            let problem = "it is a hard link to the root directory".into();
            return Err(Error::Entry { entry: show(&entry.name), problem });
        };
        let old_name = Name::parse(old_name).map_err(refuse)?;
        let elsewhere = match &self.parent {
            Some(open) if open.path == parent => None,
            _ => Some(self.root.directory(&Inside::parse(parent).map_err(refuse)?).map_err(missing)?),
        };
        self.replacing(name, |directory| {
            directory.hard_link(name, elsewhere.as_ref().unwrap_or(directory), &old_name)
        })
        .map_err(missing)
    }

    fn white_out(&mut self, whiteout: &Whiteout) -> confine::Result<()> {
        let (Whiteout::Entry { parent, .. } | Whiteout::Opaque { parent }) = whiteout else { return Ok(()) };
        self.leave()?;
        let directory = match self.root.directory(parent) {
            // There is nothing to take away.
            Err(error) if error.is(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        let modified = directory.own_metadata()?.modified;
        match (whiteout, &self.seen) {
            (Whiteout::Entry { name, .. }, _) => directory.remove_tree(&Name::parse(name)?)?,
            (Whiteout::Opaque { parent }, Some(seen)) => seen.clear_others(parent.as_bytes(), &directory)?,
            // All that is there came with this very archive.
            _ => {}
        }
        directory.set_time(modified)
    }

    /// Owner, then xattrs (a change of owner takes file capabilities away), then mode (it takes set-user-id away),
    /// then times.
    fn dress_file(&mut self, entry: &Entry, file: &File) -> Result<()> {
        let refuse = |source| Error::Write { entry: show(&entry.name), source };
        fchown(file, Some(entry.uid), Some(entry.gid)).map_err(refuse)?;
        self.set_xattrs(entry, |key, value| set_xattr(std::os::fd::AsFd::as_fd(file), key, value))
            .map_err(|source| Error::Place { entry: show(&entry.name), source })?;
        file.set_permissions(std::fs::Permissions::from_mode(entry.mode)).map_err(refuse)?;
        let time = system_time(entry.modified).map_err(refuse)?;
        file.set_times(FileTimes::new().set_accessed(time).set_modified(time)).map_err(refuse)
    }

    fn dress_directory(&mut self, entry: &Entry, directory: &Directory) -> confine::Result<()> {
        directory.set_owner(entry.uid, entry.gid)?;
        self.set_xattrs(entry, |key, value| directory.set_xattr(key, value))?;
        directory.set_mode(entry.mode)?;
        directory.set_time(entry.modified)
    }

    fn dress_in_place(&mut self, entry: &Entry, name: &Name) -> confine::Result<()> {
        let is_link = match entry.what {
            EntryType::Symlink => true,
            // A second name of a symbolic link is one.
            EntryType::HardLink => self.directory().metadata(name)?.file_type == FileType::Symlink,
            _ => false,
        };
        if is_link && entry.xattrs.is_empty() {
            return self.directory().set_owner_and_time(name, entry.uid, entry.gid, entry.modified);
        }
        let pinned = self.directory().pin(name)?;
        pinned.set_owner(entry.uid, entry.gid)?;
        self.set_xattrs(entry, |key, value| pinned.set_xattr(key, value))?;
        if !is_link {
            pinned.set_mode(entry.mode)?;
        }
        pinned.set_time(entry.modified)
    }

    fn set_xattrs(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> confine::Result<()>,
    ) -> confine::Result<()> {
        for (key, value) in &entry.xattrs {
            match set(key, value) {
                // As dockerd: a file system without them is no reason to fail.
                Err(error) if error.is(Errno::ENOTSUP) || error.is(Errno::EPERM) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        let (entry, key) = (show(&entry.name), show(key));
                        warn!(entry, key, "extended attributes that cannot be set are left out");
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn system_time(time: Time) -> io::Result<SystemTime> {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        .ok_or_else(|| io::Error::other("its time is out of range"))
}
