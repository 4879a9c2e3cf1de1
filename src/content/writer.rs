//! A blob that is being written: hashed on the way, without a name until it is whole and on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::partial::Claim;
use super::{Blob, Error, FILE_MODE, Pin, Result, Store};
use crate::oci::{Descriptor, Hasher};

/// Small writes are gathered up to this; larger ones go to the file as they are.
const BUFFER_BYTES: usize = 256 * 1024;
/// The random part of a name is this long.
const NAME_BYTES: usize = 16;

/// Writes one blob, by [`io::Write`]. Dropped without [`Writer::commit`] it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    file: BufWriter<Unfinished>,
    hasher: Hasher,
    size_bytes: u64,
    limit_bytes: u64,
    /// Of a download that is kept under its digest when it breaks off.
    claim: Option<Claim>,
}

impl Writer {
    pub(super) fn new(store: Store) -> Result<Self> {
        let mut name = [0; NAME_BYTES];
        getrandom::fill(&mut name).map_err(Error::Random)?;
        let path = store.ingest_path(format!("{:032x}", u128::from_ne_bytes(name)));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(Error::io("creating the file", &path))?;
        let unfinished = Unfinished { file, path: Some(path) };
        let file = BufWriter::with_capacity(BUFFER_BYTES, unfinished);
        Ok(Self { store, file, hasher: Hasher::new(), size_bytes: 0, limit_bytes: u64::MAX, claim: None })
    }

    /// A writer behind what `file` (and its path) has already, which `hasher` has seen.
    pub(super) fn going_on(
        store: Store,
        (file, path): (File, PathBuf),
        hasher: Hasher,
        size_bytes: u64,
        claim: Claim,
    ) -> Self {
        let unfinished = Unfinished { file, path: Some(path) };
        let file = BufWriter::with_capacity(BUFFER_BYTES, unfinished);
        Self { store, file, hasher, size_bytes, limit_bytes: u64::MAX, claim: Some(claim) }
    }

    /// Refuses, with [`io::ErrorKind::FileTooLarge`], the write that would go beyond `limit_bytes`: nobody fills the
    /// disk who has promised a size.
    #[must_use]
    pub fn limited(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// How many bytes have been written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Opens what is being written, to read it meanwhile, from its first byte. What was not flushed is not there yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reader(&self) -> Result<File> {
        let path = self.file.get_ref().path.as_deref().unwrap_or(Path::new(""));
        File::open(path).map_err(Error::io("opening the new blob", path))
    }

    /// Breaks off, and leaves what was written for [`Store::resume`] if it came from there.
    ///
    /// # Errors
    /// [`Error::Io`]: then nothing is left.
    pub fn keep(mut self) -> Result<()> {
        let ingest = &self.store.0.ingest;
        self.file.flush().map_err(Error::io("writing a new blob below", ingest))?;
        if self.claim.is_some() {
            self.file.get_mut().path = None;
        }
        Ok(())
    }

    /// Gives the blob its name, if it is the one that is expected. It is on disk when this returns.
    ///
    /// The same content may be stored many times.
    ///
    /// # Errors
    /// [`Error::WrongSize`] and [`Error::WrongDigest`] tell what was got and what was expected; [`Error::Io`].
    pub fn commit(self, expected: Option<&Descriptor>) -> Result<Blob> {
        let Self { store, mut file, hasher, size_bytes, limit_bytes: _, claim: _claim } = self;
        let digest = hasher.finish();
        if let Some(expected) = expected {
            if expected.size != size_bytes {
                return Err(Error::WrongSize { got_bytes: size_bytes, expected_bytes: expected.size });
            }
            if expected.digest != digest {
                return Err(Error::WrongDigest { got: digest, expected: expected.digest });
            }
        }
        let ingest = &store.0.ingest;
        file.flush().map_err(Error::io("writing a new blob below", ingest))?;
        let mut unfinished = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .map_err(Error::io("writing a new blob below", ingest))?;
        unfinished.file.sync_data().map_err(Error::io("syncing a new blob below", ingest))?;
        let pin = Pin::new(Arc::clone(&store.0.pins), digest);
        unfinished.name(&store.path(&digest))?;
        store.0.directory.sync_all().map_err(Error::io("syncing the directory", &store.0.blobs))?;
        Ok(Blob { digest, size_bytes, pin })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.limit_bytes.saturating_sub(self.size_bytes) {
            let message =
                format!("the content has more than the {} bytes that are allowed", self.limit_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size_bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The file, which is removed unless it gets its name.
#[derive(Debug)]
struct Unfinished {
    file: File,
    /// `None` once the file is where it belongs.
    path: Option<PathBuf>,
}

impl Unfinished {
    fn name(&mut self, path: &Path) -> Result<()> {
        if let Some(unfinished) = &self.path {
            std::fs::rename(unfinished, path).map_err(Error::io("naming the blob", path))?;
            self.path = None;
        }
        Ok(())
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            // The next start sweeps it.
            tracing::warn!(path = %path.display(), %error, "cannot remove a half-written blob");
        }
    }
}
