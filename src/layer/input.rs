//! The bytes of an archive, uncompressed: read and decompressed on a thread of their own, handed over in large
//! buffers that go round, hashed on the way.
//!
//! The compression is found by its first bytes, as dockerd does; the type that a manifest claims is not believed.
//! The thread owns the reader and is not waited for: when an archive turns out to be bad, the caller hears of it even
//! while the other side has stopped sending.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::oci::Hasher;

use super::error::Error;

type Result<T> = std::result::Result<T, Error>;

/// The size of the buffers that go between the threads, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// How many of them there are.
const BUFFERS: usize = 4;
/// What the decoders read at once, in bytes.
const COMPRESSED_BUFFER_BYTES: usize = 64 * 1024;
/// The largest zstd window, as a power of two in bytes: 32 MiB, which is what a stream may make us hold. Levels up to
/// 20 need no more, and those of container tools end far below.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// How many first bytes tell the compression.
const MAGIC_BYTES: usize = 6;

/// An uncompressed archive that arrives piece by piece.
pub(super) struct Input {
    filled: Receiver<Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    position: usize,
    ended: bool,
    hasher: Hasher,
    hashed: bool,
    total_bytes: u64,
    max_bytes: u64,
}

impl Input {
    /// Starts reading. `hashed` says whether [`Input::finish`] will be asked for a digest.
    pub(super) fn start<R: Read + Send + 'static>(reader: R, max_bytes: u64, hashed: bool) -> Result<Self> {
        let (give, filled) = sync_channel(BUFFERS);
        let (empty, take) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel holds them all; nobody has hung up yet.
            let _ = empty.try_send(Vec::with_capacity(BUFFER_BYTES));
        }
        thread::Builder::new()
            .name("layer-read".to_owned())
            .spawn(move || pump(reader, &give, &take))
            .map_err(Error::Thread)?;
        Ok(Self {
            filled,
            empty,
            buffer: Vec::new(),
            position: 0,
            ended: false,
            hasher: Hasher::new(),
            hashed,
            total_bytes: 0,
            max_bytes,
        })
    }

    /// The next bytes, at least one; none at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.position == self.buffer.len() {
            let spent = std::mem::take(&mut self.buffer);
            self.position = 0;
            if spent.capacity() > 0 {
                // Once all is read nobody takes it any more.
                let _ = self.empty.try_send(spent);
            }
            if !self.ended {
                self.buffer = self.filled.recv().map_err(|gone| Error::Thread(io::Error::other(gone)))??;
                self.ended = self.buffer.is_empty();
                self.account()?;
            }
        }
        Ok(self.buffer.get(self.position..).unwrap_or_default())
    }

    /// Marks bytes of the last [`Input::fill`] as used, and gives them.
    pub(super) fn take(&mut self, bytes: usize) -> &[u8] {
        let start = self.position;
        self.position = self.buffer.len().min(start + bytes);
        self.buffer.get(start..self.position).unwrap_or_default()
    }

    /// How many more bytes may come, those that wait here included.
    pub(super) fn room_bytes(&self) -> u64 {
        let waiting = u64::try_from(self.buffer.len() - self.position).unwrap_or_default();
        self.max_bytes.saturating_sub(self.total_bytes) + waiting
    }

    /// Reads up to `target.len()` bytes; fewer only at the end.
    pub(super) fn read(&mut self, target: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let bytes = self.fill()?;
            let count = bytes.len().min(rest.len());
            if count == 0 {
                break;
            }
            if let (Some(to), Some(from)) = (rest.get_mut(..count), bytes.get(..count)) {
                to.copy_from_slice(from);
            }
            self.take(count);
            done += count;
        }
        Ok(done)
    }

    /// Reads on to the end: what follows the archive belongs to the stream, and so to its digest. What saw all bytes,
    /// if that was asked for at the start.
    pub(super) fn finish(mut self) -> Result<Hasher> {
        loop {
            let count = self.fill()?.len();
            if count == 0 {
                return Ok(self.hasher);
            }
            self.take(count);
        }
    }

    fn account(&mut self) -> Result<()> {
        let count = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.total_bytes = self.total_bytes.saturating_add(count);
        if self.total_bytes > self.max_bytes {
            return Err(Error::Limit { what: "bytes when unpacked", limit: self.max_bytes });
        }
        if self.hashed {
            self.hasher.update(&self.buffer);
        }
        Ok(())
    }
}

/// Reads to the end, or until nobody wants more.
fn pump<R: Read>(reader: R, give: &SyncSender<Result<Vec<u8>>>, take: &Receiver<Vec<u8>>) {
    let mut decoder = match Decoder::open(reader) {
        Ok(decoder) => decoder,
        Err(error) => return drop(give.send(Err(error))),
    };
    while let Ok(mut buffer) = take.recv() {
        buffer.clear();
        match decoder.fill(&mut buffer) {
            Ok(()) => {
                // An empty buffer says that this is the end, which a thread that died cannot say.
                let ended = buffer.is_empty();
                if give.send(Ok(buffer)).is_err() || ended {
                    return;
                }
            }
            Err(error) => return drop(give.send(Err(error))),
        }
    }
}

/// Tells errors of the source from those of the decoder that reads it.
struct Source<R>(R);

#[derive(Debug, thiserror::Error)]
#[error("the source failed")]
struct SourceFailed(#[source] io::Error);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| io::Error::other(SourceFailed(error))),
            }
        }
    }
}

type Start<R> = io::Chain<io::Cursor<Vec<u8>>, Source<R>>;

enum Decoder<R: Read> {
    Plain(Start<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Start<R>>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Start<R>>>>),
}

impl<R: Read> Decoder<R> {
    fn open(reader: R) -> Result<Self> {
        let mut source = Source(reader);
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        let first = u64::try_from(MAGIC_BYTES).unwrap_or_default();
        source.by_ref().take(first).read_to_end(&mut magic).map_err(|error| told("plain", error))?;
        let format = format_of(&magic)?;
        let start = io::Cursor::new(magic).chain(source);
        let buffered = |start| BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, start);
        Ok(match format {
            Format::Plain => Self::Plain(start),
            Format::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(start)))),
            Format::Zstd => {
                let mut decoder =
                    ZstdDecoder::with_buffer(buffered(start)).map_err(|error| told("zstd", error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| told("zstd", error))?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// Fills the buffer; leaves room only at the end.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        let room = u64::try_from(BUFFER_BYTES).unwrap_or_default();
        match self {
            Self::Plain(reader) => {
                reader.take(room).read_to_end(buffer).map_err(|error| told("plain", error))
            }
            Self::Gzip(reader) => reader.take(room).read_to_end(buffer).map_err(|error| told("gzip", error)),
            Self::Zstd(reader) => reader.take(room).read_to_end(buffer).map_err(|error| told("zstd", error)),
        }
        .map(drop)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
}

fn format_of(magic: &[u8]) -> Result<Format> {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => Ok(Format::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Format::Zstd),
        [b'B', b'Z', b'h', ..] => Err(Error::Unsupported { format: "bzip2" }),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(Error::Unsupported { format: "xz" }),
        _ => Ok(Format::Plain),
    }
}

fn told(format: &'static str, error: io::Error) -> Error {
    match error.downcast::<SourceFailed>() {
        Ok(SourceFailed(cause)) => Error::Source(cause),
        Err(source) => Error::Compression { format, source },
    }
}
