//! Directories made ahead, so that a create need not wait for them: a file system may take longer to find an inode than
//! to sync a record.
//!
//! A spare has everything a volume's directory has but its name, and lies in `.spare` until it gets one. They are made
//! when none was wanted for a while, earlier they would be in the way of what they are for, and as many as the last burst of
//! creates would have liked to have. This file knows no volumes.
//! Spares of a daemon that was killed are removed at the next start.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{DATA, DATA_MODE, Error, ROOT_MODE, io, make_directory, open_directory, tree};

/// How many spares are kept at least, and at most: as many as were wanted without a lull, the last time.
const SPARES_MIN: usize = 64;
const SPARES_MAX: usize = 1024;
/// How long nobody wants one before new ones are made.
const LULL: Duration = Duration::from_millis(20);
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
    /// Whether somebody waits for a lull, or makes spares.
    is_stocking: AtomicBool,
    /// How many there shall be.
    goal: AtomicUsize,
    /// How many were wanted since spares were made.
    wanted: AtomicUsize,
    /// That one is wanted.
    want: Notify,
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
        Ok(Self {
            path,
            directory,
            ready,
            made,
            is_stocking: AtomicBool::new(false),
            goal: AtomicUsize::new(SPARES_MIN),
            wanted: AtomicUsize::new(0),
            want: Notify::new(),
        })
    }

    /// Gives a spare this name; says whether there was one, and nothing had the name.
    pub(super) fn take(&self, root: &OwnedFd, name: &str) -> bool {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        self.want.notify_one();
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

    /// Whether there are few; then whoever asked waits for the [`Spares::lull`] and calls [`Spares::stock`].
    pub(super) fn are_low(&self) -> bool {
        self.ready().len() < self.goal.load(Ordering::Relaxed) / 4 * 3
            && !self.is_stocking.swap(true, Ordering::Relaxed)
    }

    /// Waits until none is wanted for a while.
    pub(super) async fn lull(&self) {
        while timeout(LULL, self.want.notified()).await.is_ok() {}
    }

    /// Makes spares until there are enough.
    pub(super) fn stock(&self) -> Result<(), Error> {
        let goal = self.wanted.swap(0, Ordering::Relaxed).clamp(SPARES_MIN, SPARES_MAX);
        self.goal.store(goal, Ordering::Relaxed);
        let done = self.make(goal);
        self.is_stocking.store(false, Ordering::Relaxed);
        done
    }

    /// Makes spares until there are `goal`, or one is wanted.
    fn make(&self, goal: usize) -> Result<(), Error> {
        while self.ready().len() < goal && self.wanted.load(Ordering::Relaxed) == 0 {
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
