//! What a container wrote, bounded: one current file and the one before it.
//!
//! A record is a JSON line in the shape of Docker's json-file driver, `{"log":"…\n","stream":"stdout","time":"…"}`;
//! a `log` without a newline is a piece of a longer line. Writing never fails and never blocks on anything but the
//! disk: what cannot be written is dropped. It does not know where the bytes come from.

mod read;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions, rename};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use read::Reader;

/// The most that the two files of one container's log take together.
pub const LOG_TOTAL_BYTES: u64 = 10 * 1000 * 1000;
/// A file that would grow beyond this is rotated.
const FILE_BYTES: u64 = LOG_TOTAL_BYTES / 2;
/// The longest line that is kept in one record; longer ones are cut in pieces.
pub(super) const LINE_BYTES: usize = 16 * 1024;
/// Records are written together up to about this size.
const BATCH_BYTES: usize = 16 * 1024;
/// How far back a reader looks for the last lines.
const TAIL_BYTES: u64 = 64 * 1024;
const CURRENT: &str = "current.log";
const PREVIOUS: &str = "previous.log";

/// Which of the two output streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// The text, with its newline unless the line goes on in the stream's next record. Bytes that are not UTF-8
    /// became U+FFFD.
    pub log: Cow<'a, str>,
    /// Where it was written.
    pub stream: Stream,
    /// When it was read.
    pub time: Timestamp,
}

/// The last lines of the log in `dir`, oldest first, at most `lines` and at most what 64 KiB hold. Nothing when
/// there is no log: this serves error messages, which must not fail themselves.
pub fn tail(dir: &Path, lines: usize) -> Vec<Line<'static>> {
    let mut found = VecDeque::new();
    for name in [CURRENT, PREVIOUS] {
        let Ok(bytes) = last_bytes(&dir.join(name)) else { continue };
        for line in bytes.split(|byte| *byte == b'\n').rev() {
            if found.len() >= lines {
                return found.into();
            }
            if let Ok(line) = serde_json::from_slice(line) {
                found.push_front(line);
            }
        }
    }
    found.into()
}

fn last_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts a stream of bytes into lines of at most [`LINE_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes what was read and hands each whole line, with its newline, to `emit`; a line that is too long goes in
    /// pieces that do not cut a character in two.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let room = LINE_BYTES - self.partial.len();
            let (now, later) = bytes.split_at(end.min(room));
            bytes = later;
            if self.partial.is_empty() && now.ends_with(b"\n") {
                emit(now);
                continue;
            }
            self.partial.extend_from_slice(now);
            if self.partial.ends_with(b"\n") {
                emit(&self.partial);
                self.partial.clear();
            } else if self.partial.len() == LINE_BYTES {
                let cut = whole_characters(&self.partial);
                emit(&self.partial[..cut]);
                self.partial.drain(..cut);
            }
        }
        if self.partial.is_empty() {
            self.partial.shrink_to(0);
        }
    }

    /// Hands over what is left of a stream that ended without a newline.
    pub(super) fn finish(&mut self, emit: impl FnOnce(&[u8])) {
        if !self.partial.is_empty() {
            emit(&std::mem::take(&mut self.partial));
        }
    }
}

/// The length of `bytes` without a UTF-8 character that is cut off at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    for (missing, byte) in (1..4).zip(bytes.iter().rev()) {
        let length = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            0x00..=0x7F => 1,
        };
        return if length > missing { bytes.len() - missing } else { bytes.len() };
    }
    bytes.len()
}

/// The writing end of a log.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    /// The file ends within a record: a full disk or a killed monitor cut it off.
    torn: bool,
    batch: Vec<u8>,
}

impl Log {
    /// A log in `dir`, which exists; goes on after what is there. A file that cannot be opened now is tried again
    /// at each write.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, file: None, size_bytes: 0, torn: false, batch: Vec::new() }
    }

    /// Adds one record; it is on disk after [`Log::flush`] at the latest.
    pub(super) fn add(&mut self, stream: Stream, time: Timestamp, bytes: &[u8]) {
        let line = Line { log: String::from_utf8_lossy(bytes), stream, time };
        let whole = self.batch.len();
        if serde_json::to_writer(&mut self.batch, &line).is_err() {
            self.batch.truncate(whole);
            return;
        }
        self.batch.push(b'\n');
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes what was added. What cannot be written is dropped: the container must go on.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.write().is_err() {
            // Opened anew next time, and looked at: only the disk knows how much of the batch is there.
            self.file = None;
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES);
    }

    fn write(&mut self) -> std::io::Result<()> {
        let bytes = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        if self.file.is_none() {
            self.open(false)?;
        }
        if self.size_bytes.saturating_add(bytes) >= FILE_BYTES {
            self.file = None;
            // When the old file cannot be put aside, the bound is kept by beginning it again.
            let aside = rename(self.dir.join(CURRENT), self.dir.join(PREVIOUS)).is_ok();
            self.open(!aside)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if std::mem::take(&mut self.torn) {
            file.write_all(b"\n")?;
            self.size_bytes += 1;
        }
        file.write_all(&self.batch)?;
        self.size_bytes += bytes;
        Ok(())
    }

    fn open(&mut self, empty: bool) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(CURRENT))?;
        if empty {
            file.set_len(0)?;
        }
        self.size_bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = self.size_bytes.checked_sub(1) {
            file.read_at(&mut last, at)?;
        }
        self.torn = last != [b'\n'];
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.take(chunk, |line| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_are_joined_over_reads_and_cut_at_the_limit() {
        assert_eq!(cut(&[b"a\nb", b"c\n", b"\nd"]), [&b"a\n"[..], b"bc\n", b"\n", b"d"]);
        let long = vec![b'x'; LINE_BYTES + 5];
        assert_eq!(cut(&[&long]).iter().map(Vec::len).collect::<Vec<_>>(), [LINE_BYTES, 5]);
        for lead in 0..4 {
            let mut text = "x".repeat(LINE_BYTES - lead);
            text.push_str("\u{1F600}é\n");
            let pieces = cut(&[text.as_bytes()]);
            let joined: String = pieces.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(joined, text);
        }
    }

    proptest! {
        #[test]
        fn cutting_loses_nothing(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..8)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let pieces = cut(&chunks);
            prop_assert_eq!(pieces.concat(), chunks.concat());
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= LINE_BYTES));
        }
    }

    fn size(dir: &Path) -> u64 {
        [CURRENT, PREVIOUS]
            .iter()
            .filter_map(|name| dir.join(name).metadata().ok())
            .map(|meta| meta.len())
            .sum()
    }

    #[test]
    fn a_log_keeps_its_newest_lines_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let time: Timestamp = "2026-11-01T10:00:00.000000001Z".parse().unwrap();
        let mut log = Log::new(dir.path().to_owned());
        for _ in 0..2 {
            for number in 0..9_000 {
                log.add(Stream::Stderr, time, format!("{number} {}\n", "\u{1}".repeat(120)).as_bytes());
            }
            log.flush();
            // A new monitor goes on in the same files.
            log = Log::new(dir.path().to_owned());
            assert!(size(dir.path()) <= LOG_TOTAL_BYTES && size(dir.path()) > FILE_BYTES);
        }
        log.add(Stream::Stdout, time, b"end\xff");
        log.flush();
        let last = tail(dir.path(), 2);
        assert!(last[0].log.starts_with("8999 ") && last[0].stream == Stream::Stderr && last[0].time == time);
        assert_eq!((last[1].log.as_ref(), last[1].stream), ("end\u{fffd}", Stream::Stdout));
        let file = std::fs::read_to_string(dir.path().join(CURRENT)).unwrap();
        assert_eq!(
            file.lines().last().unwrap(),
            "{\"log\":\"end\u{fffd}\",\"stream\":\"stdout\",\"time\":\"2026-11-01T10:00:00.000000001Z\"}"
        );
    }

    #[test]
    fn what_cannot_be_written_is_dropped_and_the_next_record_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        let mut log = Log::new(place.clone());
        log.add(Stream::Stdout, Timestamp::now(), b"lost\n");
        log.flush();
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink("/dev/full", place.join(CURRENT)).unwrap();
        log.add(Stream::Stdout, Timestamp::now(), b"lost as well\n");
        log.flush();
        std::fs::remove_file(place.join(CURRENT)).unwrap();
        std::fs::write(place.join(CURRENT), "{\"log\":\"torn").unwrap();
        log.add(Stream::Stdout, Timestamp::now(), b"kept\n");
        log.flush();
        let lines: Vec<_> = tail(&place, 10).into_iter().map(|line| line.log.into_owned()).collect();
        assert_eq!(lines, ["kept\n"]);
    }
}
