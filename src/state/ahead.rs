//! The file under the database, with room ahead of what is written.
//!
//! A block that a file system has never written costs a transaction of its journal at the next fdatasync, ten times what
//! writing over an old block costs. So before the database writes where nothing was, zeros are written there and for
//! [`STEP_BYTES`] after it: one slow change in hundreds. Behind the end of the file [`SPARE_BYTES`] are kept, so that a disk
//! that others have filled does not keep what fills it from being disabled and removed. Neither is needed: what there is
//! no room for is left out. This file knows no record; it passes everything on to redb's own backend.

use std::fs::File;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};
use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// How much is written ahead at a time.
const STEP_BYTES: u64 = 1024 * 1024;
/// How much room on the disk is taken behind the end of the file.
const SPARE_BYTES: u64 = 4 * 1024 * 1024;
/// How many zeros are written in one call.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

type Result<T> = std::result::Result<T, std::io::Error>;
type Locked = std::result::Result<bool, BackendError>;

/// redb's backend for a file, which writes ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    inner: FileBackend,
    /// The same open file, for what redb's backend has no call for.
    file: File,
    /// Nothing is missing below this offset. Held while zeros are written, so that they never fall on data.
    written_to: Mutex<u64>,
}

impl Ahead {
    /// Takes the file over, which is locked against other processes.
    ///
    /// # Errors
    /// Another process has it.
    pub(super) fn new(file: File) -> std::result::Result<Self, DatabaseError> {
        let kept = file.try_clone().map_err(|error| DatabaseError::Storage(error.into()))?;
        let inner = FileBackend::new(file)?;
        let length = kept.metadata().map_or(0, |metadata| metadata.len());
        reserve(&kept, length);
        Ok(Self { inner, file: kept, written_to: Mutex::new(length) })
    }

    /// Before a write up to `end`: fills what is missing until there, and a step more.
    fn go_ahead(&self, end: u64) {
        let mut written_to = self.written_to();
        if end <= *written_to {
            return;
        }
        let length = self.inner.len().unwrap_or(end);
        let to = end.next_multiple_of(STEP_BYTES).min(length).max(end);
        // What is leapt over is left as it is when it is much.
        let from = (*written_to).max(end.saturating_sub(STEP_BYTES));
        if let Err(error) = self.fill(from, to) {
            tracing::debug!(%error, from, to, "no room ahead in the state file");
        }
        *written_to = to;
    }

    fn written_to(&self) -> MutexGuard<'_, u64> {
        self.written_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, from: u64, to: u64) -> Result<()> {
        for offset in (from..to).step_by(ZEROS.len()) {
            let count = usize::try_from(to - offset).unwrap_or(usize::MAX).min(ZEROS.len());
            self.inner.write(offset, &ZEROS[..count])?;
        }
        Ok(())
    }
}

/// Takes room on the disk behind the end of the file. Where that cannot be had it works without, as long as there is any.
fn reserve(file: &File, length: u64) {
    let bytes = i64::try_from(length.saturating_add(SPARE_BYTES)).unwrap_or(i64::MAX);
    if let Err(error) = fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes) {
        tracing::debug!(%error, bytes, "no room on the disk is reserved for the state file");
    }
}

impl StorageBackend for Ahead {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)?;
        let mut written_to = self.written_to();
        *written_to = len.min(*written_to);
        // To shorten a file gives back what was kept behind it.
        reserve(&self.file, len);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.go_ahead(offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX)));
        self.inner.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    fn open(path: &std::path::Path) -> Ahead {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        Ahead::new(file).unwrap()
    }

    #[test]
    fn what_is_written_stays_and_what_is_not_is_zero() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let ahead = open(&path);
        let (step, length) = (STEP_BYTES, 5 * STEP_BYTES);
        ahead.set_len(length).unwrap();
        let writes = [
            (10, 1_u8),
            (step - 1, 2),
            (step + 5, 3),
            (20, 4),
            (4 * step, 5),
            (2 * step, 6),
            (length - 2, 7),
        ];
        for (offset, byte) in writes {
            ahead.write(offset, &[byte, byte]).unwrap();
            assert_eq!(ahead.len().unwrap(), length);
        }
        let mut expected = vec![0; usize::try_from(length).unwrap()];
        for (offset, byte) in writes {
            let offset = usize::try_from(offset).unwrap();
            expected[offset..offset + 2].fill(byte);
        }
        assert!(std::fs::read(&path).unwrap() == expected);

        ahead.set_len(step).unwrap();
        ahead.set_len(2 * step).unwrap();
        ahead.write(step + 100, b"x").unwrap();
        let mut found = vec![9; 200];
        File::open(&path).unwrap().read_exact_at(&mut found, step).unwrap();
        assert!(found.iter().enumerate().all(|(at, byte)| *byte == if at == 100 { b'x' } else { 0 }));
        ahead.close().unwrap();
    }

    #[test]
    fn room_is_kept_behind_the_end_however_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let ahead = open(&path);
        for length in [4096, STEP_BYTES, 8192] {
            ahead.set_len(length).unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), length);
            assert!(
                metadata.blocks() * 512 >= length + SPARE_BYTES,
                "{length}: {} blocks",
                metadata.blocks()
            );
        }
    }
}
