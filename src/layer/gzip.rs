//! The compressed form of a layer, made on all processors: one gzip member whose blocks are deflated apart.
//!
//! As pigz does: each block of the input is deflated on its own and ends on a byte boundary (a sync flush), the pieces
//! follow one another in order, and the checksums are combined. So every gzip reader takes it, also one that stops
//! after the first member. The bytes depend on the input alone, not on timing or on the number of processors.
//!
//! Memory: a fixed number of buffers goes round; who fills them waits when all are under way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::oci::{DiffId, Hasher};

use super::error::Error;

type Result<T> = std::result::Result<T, Error>;

/// What one piece of work holds, in bytes: large against deflate's window of 32 KiB, so that little is lost.
const BLOCK_BYTES: usize = 256 * 1024;
/// Room for what deflate adds to a block it cannot shrink, in bytes.
const SLACK_BYTES: usize = 1024;
/// dockerd's level is 6; 1 is four times as fast and some percent larger.
const LEVEL: u32 = 1;
/// To tell noise, one quarter of each stretch of this many bytes is looked at.
const SAMPLE_EVERY_BYTES: usize = 256;
/// Fewer bytes than this do not tell.
const RANDOM_MIN_BYTES: u64 = 8 * 1024;
/// How much of what looks like noise is deflated to see whether it repeats itself.
const PROBE_BYTES: usize = 16 * 1024;
const WORKERS_MAX: usize = 8;

/// No name, no time; extra flags 4: fastest; operating system 255: unknown. So equal input is equal output.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// A last, empty deflate block.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Takes the layer, compresses it on other threads, and writes it to a blob.
pub(super) struct Gzip<'scope, W> {
    /// The block that is being filled.
    current: Option<Piece>,
    /// How many blocks are under way or done.
    count: u64,
    empty: Receiver<Piece>,
    work: SyncSender<Piece>,
    collector: ScopedJoinHandle<'scope, Result<(DiffId, W)>>,
}

/// A block on its way, in buffers that go round.
struct Piece {
    number: u64,
    raw: Vec<u8>,
    deflated: Vec<u8>,
    crc: Crc,
}

impl<'scope, W: Write + Send + 'scope> Gzip<'scope, W> {
    /// Starts the threads.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, blob: W) -> Result<Self> {
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
        let pieces = 2 * workers + 2;
        let (give_back, empty) = sync_channel(pieces);
        let (work, jobs) = sync_channel(pieces);
        let (done, results) = sync_channel(pieces);
        for _ in 0..pieces {
            let raw = Vec::with_capacity(BLOCK_BYTES);
            let deflated = Vec::with_capacity(BLOCK_BYTES + SLACK_BYTES);
            // The channel holds them all; nobody has hung up yet.
            let _ = give_back.try_send(Piece { number: 0, raw, deflated, crc: Crc::new() });
        }
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..workers {
            let (jobs, done) = (Arc::clone(&jobs), done.clone());
            let work = move || deflate_all(&jobs, &done);
            let builder = thread::Builder::new().name("layer-gzip".to_owned());
            builder.spawn_scoped(scope, work).map_err(Error::Thread)?;
        }
        let collector = thread::Builder::new()
            .name("layer-write".to_owned())
            .spawn_scoped(scope, move || collect(&results, &give_back, blob))
            .map_err(Error::Thread)?;
        Ok(Self { current: None, count: 0, empty, work, collector })
    }

    /// Takes the next bytes of the layer. An error only says that the threads have ended; [`Gzip::finish`] says why.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut piece = match self.current.take() {
                Some(piece) => piece,
                None => self.empty.recv().map_err(gone)?,
            };
            let room = BLOCK_BYTES.saturating_sub(piece.raw.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            piece.raw.extend_from_slice(now);
            bytes = later;
            self.current = Some(piece);
            if now.len() == room {
                self.dispatch()?;
            }
        }
        Ok(())
    }

    /// Waits until all is written. The digest of what came in, and the blob.
    pub(super) fn finish(mut self) -> Result<(DiffId, W)> {
        // If this fails, the collector has the reason.
        let dispatched = self.dispatch();
        let Self { work, empty, collector, .. } = self;
        drop((work, empty));
        let died = |_| Error::Thread(io::Error::other("a thread that compresses a layer died"));
        let result = collector.join().map_err(died)??;
        dispatched.map(|()| result)
    }

    fn dispatch(&mut self) -> Result<()> {
        let Some(mut piece) = self.current.take() else { return Ok(()) };
        piece.number = self.count;
        self.count += 1;
        self.work.send(piece).map_err(gone)
    }
}

fn gone<T>(_: T) -> Error {
    Error::Thread(io::Error::other("the threads that compress a layer have ended"))
}

/// Deflates blocks until there are no more.
fn deflate_all(jobs: &Mutex<Receiver<Piece>>, done: &SyncSender<Piece>) {
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    loop {
        // One of the idle workers waits in the lock for the next block, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut piece) = job else { return };
        if deflate(&mut compress, &mut piece).is_err() || done.send(piece).is_err() {
            return;
        }
    }
}

fn deflate(compress: &mut Compress, piece: &mut Piece) -> std::result::Result<(), flate2::CompressError> {
    piece.crc.reset();
    piece.crc.update(&piece.raw);
    if looks_random(&piece.raw) && !shrinks(compress, piece)? {
        store(&piece.raw, &mut piece.deflated);
        return Ok(());
    }
    piece.deflated.clear();
    compress.reset();
    loop {
        let used = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = piece.raw.get(used..).unwrap_or_default();
        compress.compress_vec(rest, &mut piece.deflated, FlushCompress::Sync)?;
        // Room that is left says that everything, the flush too, has come out.
        if piece.deflated.len() < piece.deflated.capacity() {
            return Ok(());
        }
        piece.deflated.reserve(SLACK_BYTES);
    }
}

/// Whether the bytes of a block occur about equally often, as in noise and in what is compressed already. A quarter of
/// them tells.
fn looks_random(block: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for stretch in block.chunks(SAMPLE_EVERY_BYTES) {
        for &byte in stretch.iter().take(SAMPLE_EVERY_BYTES / 4) {
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count += 1;
            }
        }
    }
    let total: u64 = counts.iter().sum();
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    // Equal counts give total²/256, text gives ten times as much.
    total >= RANDOM_MIN_BYTES && squares * 256 * 20 < total * total * 21
}

/// Whether the start of a block gets smaller by repetitions, if not by its bytes.
fn shrinks(compress: &mut Compress, piece: &mut Piece) -> std::result::Result<bool, flate2::CompressError> {
    let probe = piece.raw.get(..PROBE_BYTES).unwrap_or(&piece.raw);
    piece.deflated.clear();
    compress.reset();
    compress.compress_vec(probe, &mut piece.deflated, FlushCompress::Sync)?;
    Ok(piece.deflated.len() < probe.len() - probe.len() / 32)
}

/// Writes a block as it is, in deflate's stored blocks, which begin and end on byte boundaries.
fn store(raw: &[u8], target: &mut Vec<u8>) {
    target.clear();
    for part in raw.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        target.push(0);
        target.extend_from_slice(&length.to_le_bytes());
        target.extend_from_slice(&(!length).to_le_bytes());
        target.extend_from_slice(part);
    }
}

/// Puts the blocks in order, hashes what came in, writes what goes out.
fn collect<W: Write>(
    results: &Receiver<Piece>,
    give_back: &SyncSender<Piece>,
    mut blob: W,
) -> Result<(DiffId, W)> {
    let (mut hasher, mut crc) = (Hasher::new(), Crc::new());
    let (mut early, mut next) = (BTreeMap::new(), 0_u64);
    blob.write_all(&HEADER).map_err(Error::Blob)?;
    while let Ok(piece) = results.recv() {
        early.insert(piece.number, piece);
        while let Some(mut piece) = early.remove(&next) {
            next += 1;
            blob.write_all(&piece.deflated).map_err(Error::Blob)?;
            hasher.update(&piece.raw);
            crc.combine(&piece.crc);
            piece.raw.clear();
            // When the last block has been sent nobody takes it any more.
            let _ = give_back.try_send(piece);
        }
    }
    if !early.is_empty() {
        return Err(gone(early));
    }
    blob.write_all(&LAST_BLOCK).map_err(Error::Blob)?;
    blob.write_all(&crc.sum().to_le_bytes()).map_err(Error::Blob)?;
    blob.write_all(&crc.amount().to_le_bytes()).map_err(Error::Blob)?;
    Ok((DiffId(hasher.finish()), blob))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn squeeze(data: &[u8], step: usize) -> Vec<u8> {
        thread::scope(|scope| {
            let mut gzip = Gzip::start(scope, Vec::new()).unwrap();
            for piece in data.chunks(step) {
                gzip.write(piece).unwrap();
            }
            let (diff_id, blob) = gzip.finish().unwrap();
            assert_eq!(diff_id.0, crate::oci::Digest::of(data));
            blob
        })
    }

    #[test]
    fn one_member_whatever_the_pieces() {
        let mut noise = 1_u32;
        let data: Vec<u8> = (0..3 * BLOCK_BYTES + 17)
            .map(|at| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at < BLOCK_BYTES { noise.to_be_bytes()[0] } else { b"text "[at % 5] }
            })
            .collect();
        let whole = squeeze(&data, data.len());
        assert_eq!(squeeze(&data, 4097), whole);
        let mut out = Vec::new();
        let mut reader = flate2::bufread::GzDecoder::new(whole.as_slice());
        reader.read_to_end(&mut out).unwrap();
        assert!(out == data);
        assert!(reader.into_inner().is_empty(), "one member is all there is");
    }

    #[test]
    fn nothing_is_a_member_too() {
        let mut out = Vec::new();
        flate2::bufread::GzDecoder::new(squeeze(b"", 1).as_slice()).read_to_end(&mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn a_blob_that_fails_says_why() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = thread::scope(|scope| {
            let mut gzip = Gzip::start(scope, Full).unwrap();
            let block = vec![0; BLOCK_BYTES];
            while gzip.write(&block).is_ok() {}
            gzip.finish().map(drop)
        });
        assert!(matches!(result, Err(Error::Blob(error)) if error.kind() == io::ErrorKind::StorageFull));
    }
}
