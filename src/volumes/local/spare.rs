//! Directories made ahead, so that a create need not wait for them: a file system may take longer to find an inode than
//! to sync a record.
//!
//! A spare has everything a volume's directory has but its name, and lies in `.spare` until it gets one. This file knows
//! neither volumes nor when to make spares. Spares of a daemon that was killed are removed at the next start.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{DATA, DATA_MODE, Error, ROOT_MODE, io, make_directory, open_directory, tree};

/// How many spares are kept.
const SPARES: usize = 32;
/// How few are left when new ones are made.
const SPARES_LOW: usize = 24;
/// Where they lie; no volume's name begins with a dot.
const SPARE: &str = ".spare";
const SPARE_MODE: u32 = 0o700;

/// The spares of a directory of volumes.
#[derive(Debug)]
pub(super) struct Spares {
    path: PathBuf,
    directory: OwnedFd,
    ready: Mutex<Vec<String>>,
    /// How many were ever made: their names.
    made: AtomicU64,
    is_stocking: AtomicBool,
}

impl Spares {
    /// None yet; what is left of earlier ones is removed.
    pub(super) fn open(root: &OwnedFd, root_path: &Path) -> Result<Self, Error> {
        let path = root_path.join(SPARE);
        let (directory, _) = make_directory(root, root_path, SPARE, SPARE_MODE)?;
        for name in tree::names(&directory).map_err(|errno| io(&path, "listing", errno))? {
            let removed = open_directory(&directory, &path, &name).and_then(|spare| {
                let data = unlinkat(&spare, DATA, UnlinkatFlags::RemoveDir);
                let removed = match data {
                    Ok(()) | Err(Errno::ENOENT) => {
                        unlinkat(&directory, name.as_str(), UnlinkatFlags::RemoveDir)
                    }
                    failed => failed,
                };
                removed.map_err(|errno| io(&path.join(&name), "removing", errno))
            });
            if let Err(error) = removed {
                let error = crate::error::chain(&error);
                tracing::warn!(name, error, "a spare directory that is not empty is left alone");
            }
        }
        let ready = Mutex::default();
        // Beyond the names of what was left alone.
        let made = AtomicU64::new(tree::names(&directory).map_or(0, |left| highest(&left)));
        Ok(Self { path, directory, ready, made, is_stocking: AtomicBool::new(false) })
    }

    /// Gives a spare this name; says whether there was one, and nothing had the name.
    pub(super) fn take(&self, root: &OwnedFd, name: &str) -> bool {
        let Some(spare) = self.ready().pop() else { return false };
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.directory, spare.as_str(), root, name, flags) {
            Ok(()) => true,
            Err(Errno::EEXIST) => {
                self.ready().push(spare);
                false
            }
            Err(errno) => {
                tracing::debug!(spare, name, %errno, "a spare directory is of no use");
                false
            }
        }
    }

    /// Whether [`Spares::stock`] has something to do, which nobody does yet.
    pub(super) fn are_low(&self) -> bool {
        self.ready().len() < SPARES_LOW && !self.is_stocking.load(Ordering::Relaxed)
    }

    /// Makes spares until there are enough, unless somebody is at it.
    pub(super) fn stock(&self) -> Result<(), Error> {
        if self.is_stocking.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let done = self.make_all();
        self.is_stocking.store(false, Ordering::Relaxed);
        done
    }

    fn make_all(&self) -> Result<(), Error> {
        while self.ready().len() < SPARES {
            let name = (self.made.fetch_add(1, Ordering::Relaxed) + 1).to_string();
            let (spare, _) = make_directory(&self.directory, &self.path, &name, ROOT_MODE)?;
            make_directory(&spare, &self.path.join(&name), DATA, DATA_MODE)?;
            self.ready().push(name);
        }
        Ok(())
    }

    fn ready(&self) -> MutexGuard<'_, Vec<String>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The highest number among names.
fn highest(names: &[String]) -> u64 {
    names.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0)
}
