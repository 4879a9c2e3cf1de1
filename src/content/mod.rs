//! Blobs by digest: configurations, manifests and layers, as they were received or made.
//!
//! A blob gets its name `blobs/sha256/<hex>` when all of it is on disk and its digest is known to be right; until
//! then it is `ingest/<random>`, and what is left there by a crash is removed at the next start; a download that broke
//! off (`ingest/<hex>.partial`) is kept for a while. Names come from
//! [`Digest`]s only. This room does not know what a blob is for: who still needs one is said by [`Pin`]s, and by
//! the set given to [`Store::collect`].
//!
//! Everything here blocks.

mod error;
mod partial;
mod pins;
mod writer;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::oci::Digest;

pub use error::Error;
use partial::Claims;
pub use pins::Pin;
use pins::Pins;
pub use writer::Writer;

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The mode of directories.
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of blobs: configurations may tell secrets.
const FILE_MODE: u32 = 0o600;

/// The blobs below one directory; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    ingest: PathBuf,
    /// `blobs`, to make names in it durable.
    directory: File,
    pins: Arc<Pins>,
    claims: Claims,
}

/// A blob that is in the store, and stays there while its pin lives.
#[derive(Debug)]
#[must_use = "the blob may be collected when its pin is dropped"]
pub struct Blob {
    /// The sha256 of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// What keeps it; drop it when a record that names the blob is durable and visible to whoever collects.
    pub pin: Pin,
}

impl Store {
    /// Opens the store, or makes it (directories 0700), and removes what a crash has left half-written.
    ///
    /// Only one process may have it open; whoever opens the state file first makes sure of that.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(directory: &Path) -> Result<Self> {
        let blobs = directory.join("blobs").join("sha256");
        let ingest = directory.join("ingest");
        for made in [&blobs, &ingest] {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(made)
                .map_err(Error::io("making the directory", made))?;
        }
        for synced in [directory, &directory.join("blobs")] {
            File::open(synced)
                .and_then(|directory| directory.sync_all())
                .map_err(Error::io("syncing the directory", synced))?;
        }
        sweep(&ingest)?;
        let opened = File::open(&blobs).map_err(Error::io("opening the directory", &blobs))?;
        let (pins, claims) = (Arc::new(Pins::default()), Claims::default());
        Ok(Self(Arc::new(Inner { blobs, ingest, directory: opened, pins, claims })))
    }

    /// Begins a blob. Nothing has a name until [`Writer::commit`]; a writer that is dropped leaves nothing.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Random`].
    pub fn writer(&self) -> Result<Writer> {
        Writer::new(self.clone())
    }

    /// Stores a small blob; durable when this returns.
    ///
    /// # Errors
    /// Those of [`Store::writer`] and [`Writer::commit`].
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let mut writer = self.writer()?;
        io::Write::write_all(&mut writer, bytes)
            .map_err(Error::io("writing a new blob below", &self.0.ingest))?;
        writer.commit(None)
    }

    /// Opens a blob for reading, and tells its size in bytes. The file stays readable even when it is collected.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.path(digest);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((size_bytes, file)) => Ok((file, size_bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { digest: *digest }),
            Err(error) => Err(Error::io("opening the blob", &path)(error)),
        }
    }

    /// All bytes of a blob of at most `limit_bytes`, checked against its digest once more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`], [`Error::Corrupt`], [`Error::Io`].
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>> {
        let (file, size_bytes) = self.open_blob(digest)?;
        if size_bytes > limit_bytes {
            return Err(Error::TooLarge { size_bytes, limit_bytes });
        }
        let mut bytes = Vec::new();
        file.take(limit_bytes)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading the blob", &self.path(digest)))?;
        match Digest::of(&bytes) {
            got if got == *digest => Ok(bytes),
            got => Err(Error::Corrupt { digest: *digest, got }),
        }
    }

    /// Whether the blob is there. Only [`Store::pin`] makes sure that it stays.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// How many bytes the blob has.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { digest: *digest }),
            Err(error) => Err(Error::io("looking at the blob", &path)(error)),
        }
    }

    /// Keeps a blob that is there: it is not collected while the pin lives.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there (any more), [`Error::Io`].
    pub fn pin(&self, digest: &Digest) -> Result<Blob> {
        // First the pin, then the look: the other way round the blob could go in between.
        let pin = Pin::new(Arc::clone(&self.0.pins), *digest);
        let size_bytes = self.size(digest)?;
        Ok(Blob { digest: *digest, size_bytes, pin })
    }

    /// Removes every blob that is neither pinned nor in `keep`, and tells how many bytes that freed.
    ///
    /// `keep` is called once, after the store has begun to note which blobs get pinned: a blob that is pinned before
    /// `keep` looks at the records and unpinned after its record is there is safe. No lock is held during the call.
    /// Half-written blobs are left alone, but for downloads that have waited for a day to go on.
    ///
    /// # Errors
    /// [`Error::Io`], after which some blobs may have been removed.
    pub fn collect(&self, keep: impl FnOnce() -> HashSet<Digest>) -> Result<u64> {
        partial::sweep(&self.0.ingest, &self.0.claims)?;
        let collection = self.0.pins.collect();
        let keep = keep();
        let mut freed_bytes = 0;
        for digest in self.digests()? {
            if keep.contains(&digest) {
                continue;
            }
            let path = self.path(&digest);
            let size_bytes = self.size(&digest)?;
            if let Some(removed) = collection.unless_pinned(&digest, || std::fs::remove_file(&path)) {
                removed.map_err(Error::io("removing the blob", &path))?;
                freed_bytes += size_bytes;
            }
        }
        Ok(freed_bytes)
    }

    /// All blobs, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn digests(&self) -> Result<Vec<Digest>> {
        let failed = || Error::io("listing the directory", &self.0.blobs);
        let mut digests = Vec::new();
        for entry in std::fs::read_dir(&self.0.blobs).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if let Some(Ok(digest)) = name.to_str().map(Digest::from_hex) {
                digests.push(digest);
            } else {
                tracing::warn!(?name, "not a blob, left alone");
            }
        }
        Ok(digests)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.blobs.join(digest.hex())
    }

    fn ingest_path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.ingest.join(name.as_ref())
    }
}

/// Removes what a crash has left half-written.
fn sweep(ingest: &Path) -> Result<()> {
    let failed = || Error::io("sweeping the directory", ingest);
    for entry in std::fs::read_dir(ingest).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if partial::is_kept(&path) {
            continue;
        }
        std::fs::remove_file(&path).map_err(Error::io("removing the half-written blob", &path))?;
        tracing::info!(path = %path.display(), "removed a half-written blob");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
