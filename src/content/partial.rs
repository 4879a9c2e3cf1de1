//! Downloads that broke off: kept for a while under the digest they are to have, so that they can go on.
//!
//! What is kept is believed by nobody: it is hashed again from its first byte when it goes on, and has no name among
//! the blobs until the digest is right. One writer at a time has it; a second one for the same digest begins a file
//! of its own.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;

use super::{Error, FILE_MODE, Result, Store, Writer};
use crate::oci::{Digest, Hasher};

/// How long a download that broke off is kept.
const KEPT: Duration = Duration::from_hours(24);
/// Behind the 64 digits of the digest.
const SUFFIX: &str = ".partial";
/// How much is hashed at a time when a download goes on, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// The digests whose downloads some writer has.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<Digest>>>);

/// A digest whose download nobody else has while this lives.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    digest: Digest,
}

impl Store {
    /// Goes on with the blob `digest` where [`Writer::keep`] left it ([`Writer::size_bytes`] tells), or begins it. What
    /// was kept has at most `limit_bytes`, or is thrown away.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Random`].
    pub fn resume(&self, digest: &Digest, limit_bytes: u64) -> Result<Writer> {
        let Some(claim) = self.0.claims.claim(digest) else { return self.writer() };
        let path = self.ingest_path(format!("{}{SUFFIX}", digest.hex()));
        let opened = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)?;
            if file.metadata()?.len() > limit_bytes {
                file.set_len(0)?;
            }
            let (hasher, size_bytes) = hash(&mut file)?;
            Ok((file, hasher, size_bytes))
        };
        let (file, hasher, size_bytes) = opened().map_err(Error::io("going on with the download", &path))?;
        Ok(Writer::going_on(self.clone(), (file, path.clone()), hasher, size_bytes, claim))
    }
}

impl Claims {
    fn claim(&self, digest: &Digest) -> Option<Claim> {
        self.locked().insert(*digest).then(|| Claim { claims: self.clone(), digest: *digest })
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<Digest>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.locked().remove(&self.digest);
    }
}

/// Removes the downloads that have waited too long to go on.
pub(super) fn sweep(ingest: &Path, claims: &Claims) -> Result<()> {
    let failed = || Error::io("sweeping the directory", ingest);
    for entry in std::fs::read_dir(ingest).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let Some(digest) = name.to_str().and_then(digest_of) else { continue };
        let path = entry.path();
        // Held while it is removed, so that nobody begins to go on with it.
        let claimed = claims.locked();
        if !claimed.contains(&digest) && !is_fresh(&path) {
            std::fs::remove_file(&path).map_err(Error::io("removing the old download", &path))?;
        }
    }
    Ok(())
}

/// Whether this file in `ingest` is a download that may still go on.
pub(super) fn is_kept(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(digest_of).is_some() && is_fresh(path)
}

fn digest_of(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_suffix(SUFFIX)?).ok()
}

fn is_fresh(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    // One from the future counts as old: a clock that was wrong keeps nothing for ever.
    let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age < KEPT)
}

fn hash(file: &mut File) -> io::Result<(Hasher, u64)> {
    let (mut hasher, mut size_bytes) = (Hasher::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((hasher, size_bytes)),
            Ok(read) => {
                hasher.update(piece.get(..read).unwrap_or_default());
                size_bytes += u64::try_from(read).unwrap_or(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::oci::{Descriptor, MediaType};

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    fn ingest(directory: &tempfile::TempDir) -> usize {
        std::fs::read_dir(directory.path().join("ingest")).unwrap().count()
    }

    #[test]
    fn what_was_kept_goes_on_and_is_hashed_whole() {
        let (directory, store) = store();
        let digest = Digest::of(b"hello, world");
        let mut writer = store.resume(&digest, 12).unwrap();
        writer.write_all(b"hello, ").unwrap();
        writer.keep().unwrap();
        // Also after a restart of the daemon.
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.resume(&digest, 12).unwrap();
        assert_eq!(writer.size_bytes(), 7);
        writer.write_all(b"world").unwrap();
        let expected = Descriptor { media_type: MediaType::OciLayer, digest, size: 12 };
        let blob = writer.commit(Some(&expected)).unwrap();
        assert_eq!(blob.digest, digest);
        assert_eq!(store.read(&digest, 12).unwrap(), b"hello, world");
        assert_eq!(ingest(&directory), 0);
    }

    #[test]
    fn what_is_not_kept_or_wrong_or_too_long_is_gone() {
        let (directory, store) = store();
        let digest = Digest::of(b"abc");
        let mut writer = store.resume(&digest, 3).unwrap();
        writer.write_all(b"ab").unwrap();
        drop(writer);
        assert_eq!(ingest(&directory), 0);
        let mut writer = store.resume(&digest, 3).unwrap();
        writer.write_all(b"abd").unwrap();
        let expected = Descriptor { media_type: MediaType::OciLayer, digest, size: 3 };
        assert!(matches!(writer.commit(Some(&expected)), Err(Error::WrongDigest { .. })));
        assert_eq!(ingest(&directory), 0);
        let mut writer = store.resume(&digest, 3).unwrap();
        writer.write_all(b"abcd").unwrap();
        writer.keep().unwrap();
        assert_eq!(store.resume(&digest, 3).unwrap().size_bytes(), 0);
    }

    #[test]
    fn one_writer_has_it_and_a_second_one_begins_anew() {
        let (_directory, store) = store();
        let digest = Digest::of(b"abc");
        let mut first = store.resume(&digest, 3).unwrap();
        first.write_all(b"abc").unwrap();
        let mut second = store.resume(&digest, 3).unwrap();
        assert_eq!(second.size_bytes(), 0);
        second.write_all(b"abc").unwrap();
        let blobs = [first.commit(None).unwrap(), second.commit(None).unwrap()];
        assert_eq!(blobs.map(|blob| blob.digest), [digest, digest]);
    }

    #[test]
    fn old_ones_are_swept() {
        let (directory, store) = store();
        let mut paths = Vec::new();
        for (content, age) in [(&b"old"[..], KEPT * 2), (b"new", Duration::ZERO)] {
            let digest = Digest::of(content);
            let mut writer = store.resume(&digest, 9).unwrap();
            writer.write_all(b"x").unwrap();
            writer.keep().unwrap();
            let path = directory.path().join("ingest").join(format!("{}{SUFFIX}", digest.hex()));
            File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            paths.push(path);
        }
        store.collect(HashSet::new).unwrap();
        assert_eq!(paths.iter().map(|path| path.exists()).collect::<Vec<_>>(), [false, true]);
    }
}
