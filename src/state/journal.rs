//! Changes on disk at the price of one small write, until many of them go into the database together.
//!
//! A commit of the database writes seven pages here and there; a frame of the journal is a few hundred bytes at one place
//! that has been written before, so that syncing it touches no metadata of the file system. The file has one size for
//! ever: frames follow one another from its beginning, and when there is no room for the next, whoever owns the journal
//! writes everything into the database, and the next frame is the first again. What is left of older rounds has lower
//! numbers and is no frame of this one.
//!
//! This file knows frames, not what the changes are about, and never looks into the database.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::change::Step;
use super::{FILE_MODE, frame};

/// The size of the file in bytes: some thousand changes of volumes.
pub(super) const JOURNAL_BYTES: usize = 256 * 1024;

/// What a database says of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which database it is.
    pub(super) series: u64,
    /// No frame up to this one is of interest any more.
    pub(super) number: u64,
}

/// The journal of one database.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    room: usize,
    /// What is in the database.
    mark: Mark,
    /// How many frames follow the mark.
    frames: u64,
    /// Where the next one goes, in bytes.
    end: usize,
}

impl Journal {
    /// Opens the file, or makes it (mode 0600), and finds the frames that follow the mark.
    ///
    /// # Errors
    /// The file cannot be made, read, or be given its size.
    pub(super) fn open(path: &Path, room: usize, mark: Mark) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length < room {
            file.write_all_at(&vec![0; room - length], u64::try_from(length).map_err(io::Error::other)?)?;
            file.sync_all()?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        }
        let mut journal = Self { file, room, mark, frames: 0, end: 0 };
        journal.walk(|_| {})?;
        Ok(journal)
    }

    /// Whether the database has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Writes a frame and syncs it; says whether there was room for it.
    ///
    /// # Errors
    /// The disk's. Then the next frame takes the same place: what is there until then is unknown.
    pub(super) fn append<'a>(&mut self, steps: impl Iterator<Item = &'a Step>) -> io::Result<bool> {
        let Some(frame) = frame::encode(self.mark.series, self.next(), steps) else { return Ok(false) };
        if frame.len() > self.room - self.end {
            return Ok(false);
        }
        self.file.write_all_at(&frame, u64::try_from(self.end).map_err(io::Error::other)?)?;
        self.file.sync_data()?;
        self.end += frame.len();
        self.frames += 1;
        Ok(true)
    }

    /// The changes of all frames in their order, and the mark of a database that has them.
    ///
    /// # Errors
    /// The file cannot be read, or lacks a frame that was written.
    pub(super) fn read(&mut self) -> io::Result<(Vec<Step>, Mark)> {
        let (frames, end) = (self.frames, self.end);
        let mut all = Vec::new();
        self.walk(|steps| all.extend(steps))?;
        if (self.frames, self.end) != (frames, end) {
            (self.frames, self.end) = (frames, end);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the journal lacks what was written to it",
            ));
        }
        // One further: a frame that was refused by the disk may be there all the same, and shall never count.
        Ok((all, Mark { number: self.next(), ..self.mark }))
    }

    /// Begins anew: the database has everything up to this mark.
    pub(super) fn begin(&mut self, mark: Mark) {
        (self.mark, self.frames, self.end) = (mark, 0, 0);
    }

    /// The number of the next frame.
    fn next(&self) -> u64 {
        self.mark.number + self.frames + 1
    }

    /// Goes over all frames from the mark on.
    fn walk(&mut self, mut each: impl FnMut(Vec<Step>)) -> io::Result<()> {
        let mut bytes = vec![0; self.room];
        self.file.read_exact_at(&mut bytes, 0)?;
        (self.frames, self.end) = (0, 0);
        while let Some((steps, length)) = frame::decode(&bytes[self.end..], self.mark.series, self.next()) {
            each(steps);
            self.end += length;
            self.frames += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    const MARK: Mark = Mark { series: 3, number: 0 };
    const ROOM: usize = 1024;

    fn put(key: &str, bytes: usize) -> [Step; 1] {
        [Step { table: Cow::Borrowed("t"), key: key.to_owned(), value: Some(vec![b' '; bytes]) }]
    }

    fn keys(journal: &mut Journal) -> Vec<String> {
        journal.read().unwrap().0.into_iter().map(|step| step.key).collect()
    }

    #[test]
    fn frames_are_found_again_until_the_database_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let mut journal = Journal::open(&path, ROOM, MARK).unwrap();
        assert!(journal.is_empty() && keys(&mut journal).is_empty());
        for key in ["a", "b"] {
            assert!(journal.append(put(key, 100).iter()).unwrap());
        }
        let mut journal = Journal::open(&path, ROOM, MARK).unwrap();
        assert_eq!(keys(&mut journal), ["a", "b"]);
        let mark = journal.read().unwrap().1;
        assert_eq!(mark, Mark { number: 3, ..MARK });
        journal.begin(mark);
        assert!(journal.is_empty());
        assert!(Journal::open(&path, ROOM, mark).unwrap().is_empty());
        // Shorter than the first, so that an old frame begins within what follows.
        assert!(journal.append(put("c", 10).iter()).unwrap());
        assert_eq!(keys(&mut Journal::open(&path, ROOM, mark).unwrap()), ["c"]);
    }

    #[test]
    fn another_databases_frames_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        assert!(Journal::open(&path, ROOM, MARK).unwrap().append(put("a", 1).iter()).unwrap());
        for mark in [Mark { series: 4, ..MARK }, Mark { number: 5, ..MARK }] {
            assert!(Journal::open(&path, ROOM, mark).unwrap().is_empty(), "{mark:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_database() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&directory.path().join("j"), ROOM, MARK).unwrap();
        assert!(!journal.append(put("large", ROOM).iter()).unwrap());
        let mut count = 0;
        while journal.append(put("a", 100).iter()).unwrap() {
            count += 1;
        }
        assert_eq!(keys(&mut journal).len(), count);
        assert!(count > 3, "{count}");
    }

    #[test]
    fn a_frame_that_the_disk_refused_gives_its_place_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let mut journal = Journal::open(&path, ROOM, MARK).unwrap();
        assert!(journal.append(put("a", 100).iter()).unwrap());
        let good = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        journal.append(put("b", 100).iter()).unwrap_err();
        journal.file = good;
        assert!(journal.append(put("c", 100).iter()).unwrap());
        assert_eq!(keys(&mut Journal::open(&path, ROOM, MARK).unwrap()), ["a", "c"]);
    }

    #[test]
    fn a_frame_that_was_broken_off_was_never_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let mut journal = Journal::open(&path, ROOM, MARK).unwrap();
        assert!(journal.append(put("a", 100).iter()).unwrap());
        let end = journal.end;
        assert!(journal.append(put("b", 100).iter()).unwrap());
        journal.file.write_all_at(b"torn", u64::try_from(end + 60).unwrap()).unwrap();
        let mut journal = Journal::open(&path, ROOM, MARK).unwrap();
        assert_eq!(keys(&mut journal), ["a"]);
        assert!(journal.append(put("c", 100).iter()).unwrap());
        assert_eq!(keys(&mut journal), ["a", "c"]);
    }
}
