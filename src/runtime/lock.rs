//! The lock that proves a monitor alive.
//!
//! The daemon takes the flock, hands the same open file to the monitor as its standard input, and closes its own
//! copy: from before the monitor's first instruction until its death, whatever kills it, the lock is held, and by
//! nobody else. The monitor writes its pid inside; since taking the lock empties the file, a pid in a held lock is
//! its holder's. This file starts and ends nothing.

use super::record::Desk;
use super::spawn::open_pidfd;
use super::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How often a holder that changes under our eyes is looked at again.
const LOOKS: u32 = 4;

/// Who holds the lock of a container.
#[derive(Debug)]
pub(super) enum Holder {
    /// We do now: there is no monitor.
    Us(File),
    /// A living monitor.
    Monitor(OwnedFd),
    /// Somebody who has not written a pid that we can see: a monitor in its first instants.
    Unborn,
}

/// Takes the lock, or finds out who has it.
pub(super) fn take(desk: &Desk) -> Result<Holder> {
    let path = desk.lock();
    let failed = |error| Error::io("lock", &path)(error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    for _ in 0..LOOKS {
        if try_lock(&file).map_err(failed)? {
            file.set_len(0).map_err(failed)?;
            return Ok(Holder::Us(file));
        }
        let Some(pid) = read_pid(&mut file).map_err(failed)? else { return Ok(Holder::Unborn) };
        let Ok(monitor) = open_pidfd(pid) else { continue };
        // Still held, still by that pid: so it lived when the descriptor was made, and the descriptor is its own.
        if !try_lock(&file).map_err(failed)? {
            if read_pid(&mut file).map_err(failed)? == Some(pid) {
                return Ok(Holder::Monitor(monitor));
            }
            continue;
        }
        file.set_len(0).map_err(failed)?;
        return Ok(Holder::Us(file));
    }
    Ok(Holder::Unborn)
}

/// For the monitor: says who holds the lock that was inherited as `file`, after a look that it is that lock.
pub(super) fn sign(file: &mut File, path: &Path, pid: i32) -> io::Result<()> {
    let (ours, named) = (file.metadata()?, path.metadata()?);
    if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) || !try_lock(file)? {
        return Err(io::Error::other(format!("standard input is not the held lock {}", path.display())));
    }
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(pid.to_string().as_bytes())
}

/// Lets the lock go, for all copies of the open file: one may live for a moment in a child that is just being
/// spawned by another thread.
pub(super) fn release(file: &File) {
    let _ = file.unlock();
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_pid(file: &mut File) -> io::Result<Option<i32>> {
    file.rewind()?;
    let mut text = String::new();
    file.take(16).read_to_string(&mut text)?;
    Ok(text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once_and_a_holder_without_a_pid_is_unborn() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::new(dir.path().to_owned());
        let Holder::Us(mut file) = take(&desk).unwrap() else { panic!("a new lock is free") };
        assert!(matches!(take(&desk).unwrap(), Holder::Unborn));
        sign(&mut file, &desk.lock(), i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(matches!(take(&desk).unwrap(), Holder::Monitor(_)));
        release(&file);
        assert!(matches!(take(&desk).unwrap(), Holder::Us(_)));
    }

    #[test]
    fn only_the_lock_itself_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::new(dir.path().to_owned());
        let Holder::Us(mut file) = take(&desk).unwrap() else { panic!("a new lock is free") };
        let other = dir.path().join("other");
        std::fs::write(&other, "").unwrap();
        assert!(sign(&mut file, &other, 1).is_err());
        let mut second = OpenOptions::new().read(true).write(true).open(desk.lock()).unwrap();
        assert!(sign(&mut second, &desk.lock(), 1).is_err());
    }
}
