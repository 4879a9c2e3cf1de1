//! Removing trees: by descriptors, through no link, over no mount point, and in constant memory however deep and
//! wide the tree is. A plugin may have built it to hurt whoever deletes it.

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::Directory;
use super::error::{Error, REMOVE};
use super::name::Name;

type Result<T> = std::result::Result<T, Error>;

/// How many directories are held open on the way down; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

impl Directory {
    /// Removes whatever the name is, with everything below it. Nothing there is fine.
    ///
    /// # Errors
    /// [`Error::Mounted`] if a mount point is in the way: what is mounted there stays as it is. Other parts of the
    /// tree may be gone by then.
    pub fn remove_tree(&self, name: &Name) -> Result<()> {
        match self.remove(name) {
            Ok(()) => return Ok(()),
            Err(error) if error.is(Errno::ENOENT) => return Ok(()),
            Err(error) if error.is(Errno::ENOTEMPTY) || error.is(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        let inner = self
            .directory_on_this_mount(name)
            .map_err(|errno| Error::system(REMOVE, name.as_bytes(), errno))?;
        inner.clear()?;
        self.remove(name)
    }

    /// Removes everything in the directory, not the directory itself.
    ///
    /// # Errors
    /// As [`Directory::remove_tree`].
    pub fn clear(&self) -> Result<()> {
        let mut moved = 0;
        // Moving deep directories up adds names here, so look until there are none.
        while empty(self, self, 0, &mut moved)? {}
        Ok(())
    }
}

/// Removes what is in `directory`; says whether it saw anything.
fn empty(top: &Directory, directory: &Directory, depth: usize, moved: &mut u64) -> Result<bool> {
    let mut seen = false;
    directory.for_each(|name| {
        seen = true;
        let refuse = |errno| match errno {
            Errno::EBUSY => Error::system(REMOVE, name.as_bytes(), Errno::EXDEV),
            errno => Error::system(REMOVE, name.as_bytes(), errno),
        };
        match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EISDIR) => {}
            Err(errno) => return Err(refuse(errno)),
        }
        match unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(errno) => return Err(refuse(errno)),
        }
        if depth >= DEPTH_MAX {
            return move_up(top, directory, name, moved);
        }
        let inner = directory.directory_on_this_mount(name).map_err(refuse)?;
        while empty(top, &inner, depth + 1, moved)? {}
        match unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(refuse(errno)),
        }
    })?;
    Ok(seen)
}

/// Gives a directory that lies too deep a new name at the top, where a later round finds it.
fn move_up(top: &Directory, directory: &Directory, name: &Name, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        let new = Name::parse(format!(".removing-{moved}").as_bytes())?;
        match renameat2(directory, name.as_c_str(), top, new.as_c_str(), RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(Errno::EBUSY) => return Err(Error::system(REMOVE, name.as_bytes(), Errno::EXDEV)),
            Err(errno) => return Err(Error::system(REMOVE, name.as_bytes(), errno)),
        }
    }
}
