//! Reading a log from its oldest line, or its last ones, to its end, and on as it grows.
//!
//! The writer is another process, which moves the current file aside when it is full and begins a new one. So the
//! files are held open, and at the end of the newest it is looked whether there is a newer one. What was cut off in
//! the midst is passed over. Blocking; it does not know when there is more, only whether.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{CURRENT, LINE_BYTES, Line, PREVIOUS};

/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// No record is longer, in bytes: each byte of a line may need six in JSON (`\u0001`), and there is a little around it.
const RECORD_MAX_BYTES: usize = LINE_BYTES * 6 + 1024;

/// A log that is being read.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    /// Oldest first; the last is the current file, or was.
    files: VecDeque<File>,
    /// How far the first of them is read, in bytes.
    position: u64,
    /// What was read, from `start` on not yet given.
    buffer: Vec<u8>,
    start: usize,
    /// How many records are still to be passed over.
    skip: u64,
}

impl Reader {
    /// Opens the log in `dir`, at its oldest record, or at the last `tail` ones. It may be empty, or not be there.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    pub fn open(dir: &Path, tail: Option<u64>) -> io::Result<Self> {
        let mut files = VecDeque::new();
        // The current one first: should they be moved in between, it is the previous one that is found twice.
        for name in [CURRENT, PREVIOUS] {
            if let Some(file) = open(&dir.join(name))?
                && !files.front().map_or(Ok(false), |other| same(other, &file))?
            {
                files.push_front(file);
            }
        }
        let skip = match tail {
            Some(tail) => {
                let mut records = 0;
                for file in &mut files {
                    records += count(file)?;
                }
                records.saturating_sub(tail)
            }
            None => 0,
        };
        Ok(Self { dir: dir.to_owned(), files, position: 0, buffer: Vec::new(), start: 0, skip })
    }

    /// The next record; `None` when there is none at present.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn line(&mut self) -> io::Result<Option<Line<'static>>> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                if !self.fill()? {
                    return Ok(None);
                }
                continue;
            };
            let record = rest.get(..end).and_then(|record| serde_json::from_slice(record).ok());
            self.start += end + 1;
            if self.skip > 0 {
                self.skip -= 1;
            } else if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Reads a piece more; `false` when there is none.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() > RECORD_MAX_BYTES {
            // Nothing of ours: what is left of it will not be readable either.
            self.buffer.clear();
        }
        loop {
            let Some(file) = self.files.front_mut() else {
                if !self.newer()? {
                    return Ok(false);
                }
                continue;
            };
            if file.metadata()?.len() < self.position {
                // It was begun again.
                self.position = file.seek(SeekFrom::Start(0))?;
                self.buffer.clear();
            }
            let piece = u64::try_from(PIECE_BYTES).unwrap_or_default();
            let read = file.take(piece).read_to_end(&mut self.buffer)?;
            if read > 0 {
                self.position += u64::try_from(read).unwrap_or_default();
                return Ok(true);
            }
            if self.files.len() == 1 {
                // What was written to it before it was moved aside is read once more.
                if !self.newer()? {
                    return Ok(false);
                }
                continue;
            }
            self.files.pop_front();
            self.position = 0;
            self.buffer.clear();
        }
    }

    /// Looks for files after the last one.
    fn newer(&mut self) -> io::Result<bool> {
        let Some(current) = open(&self.dir.join(CURRENT))? else { return Ok(false) };
        let Some(last) = self.files.back() else {
            self.files.push_back(current);
            return Ok(true);
        };
        if same(last, &current)? {
            return Ok(false);
        }
        // It may have been moved twice since the last look.
        let between = open(&self.dir.join(PREVIOUS))?;
        if let Some(between) = between
            && !same(last, &between)?
            && !same(&current, &between)?
        {
            self.files.push_back(between);
        }
        self.files.push_back(current);
        Ok(true)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// How many records a file has; it is at its beginning again then.
fn count(file: &mut File) -> io::Result<u64> {
    let (mut piece, mut records) = (vec![0; PIECE_BYTES], 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            file.rewind()?;
            return Ok(records);
        }
        let ends = piece.get(..read).unwrap_or_default().split(|byte| *byte == b'\n').skip(1).count();
        records += u64::try_from(ends).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::rename;
    use std::io::Write as _;

    use jiff::Timestamp;

    use super::super::{Log, Stream};
    use super::*;

    fn write(dir: &Path, lines: std::ops::Range<u32>) {
        let mut log = Log::new(dir.to_owned());
        for number in lines {
            log.add(Stream::Stdout, Timestamp::UNIX_EPOCH, format!("{number}\n").as_bytes());
        }
        log.flush();
    }

    fn rotate(dir: &Path) {
        rename(dir.join(CURRENT), dir.join(PREVIOUS)).unwrap();
    }

    fn rest(reader: &mut Reader) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(line) = reader.line().unwrap() {
            numbers.push(line.log.trim_end().parse().unwrap());
        }
        numbers
    }

    #[test]
    fn a_log_is_read_from_its_oldest_line_and_on_over_every_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut early = Reader::open(dir, None).unwrap();
        assert_eq!(rest(&mut early), [0_u32; 0]);
        write(dir, 0..3);
        rotate(dir);
        write(dir, 3..5);
        let mut reader = Reader::open(dir, None).unwrap();
        assert_eq!(rest(&mut reader), [0, 1, 2, 3, 4]);
        // Written to the file that is moved aside before anybody looks again.
        write(dir, 5..6);
        rotate(dir);
        write(dir, 6..7);
        assert_eq!(rest(&mut reader), [5, 6]);
        write(dir, 7..8);
        rotate(dir);
        write(dir, 8..9);
        rotate(dir);
        write(dir, 9..10);
        assert_eq!(rest(&mut reader), [7, 8, 9]);
        assert_eq!(rest(&mut reader), [0_u32; 0]);
        // One that began before there was a log gets what is left of it.
        assert_eq!(rest(&mut early), [9]);
    }

    #[test]
    fn the_last_lines_are_counted_over_both_files() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0..3);
        rotate(dir.path());
        write(dir.path(), 3..5);
        for (tail, expected) in
            [(0, &[][..]), (1, &[4]), (2, &[3, 4]), (4, &[1, 2, 3, 4]), (99, &[0, 1, 2, 3, 4])]
        {
            assert_eq!(rest(&mut Reader::open(dir.path(), Some(tail)).unwrap()), expected, "{tail}");
        }
        let mut none = Reader::open(dir.path(), Some(0)).unwrap();
        assert_eq!(rest(&mut none), [0_u32; 0]);
        write(dir.path(), 5..6);
        assert_eq!(rest(&mut none), [5]);
    }

    #[test]
    fn what_is_torn_or_strange_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0..1);
        let path = dir.path().join(CURRENT);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"log\":\"to").unwrap();
        let mut reader = Reader::open(dir.path(), None).unwrap();
        assert_eq!(rest(&mut reader), [0]);
        // The writer ends a torn line before it goes on.
        write(dir.path(), 1..2);
        assert_eq!(rest(&mut reader), [1]);
        file.write_all(&vec![b'x'; 3 * RECORD_MAX_BYTES]).unwrap();
        assert_eq!(rest(&mut reader), [0_u32; 0]);
        assert!(reader.buffer.len() <= RECORD_MAX_BYTES + PIECE_BYTES);
        file.write_all(b"\n").unwrap();
        write(dir.path(), 2..3);
        assert_eq!(rest(&mut reader), [2]);
        file.set_len(0).unwrap();
        write(dir.path(), 3..4);
        assert_eq!(rest(&mut reader), [3]);
    }
}
