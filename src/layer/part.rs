//! One directory out of the archive of a whole file system, with all that is below it.
//!
//! Such an archive is what an engine exports. A hard link in the directory may have its other name outside of it, in an
//! entry that has gone by: its content is taken when the archive is read once more. What is outside makes nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::confine::{Inside, Root, show};

use super::entries::{Entries, Entry, EntryType};
use super::error::Error;
use super::input::Input;
use super::limits::Limits;
use super::place::Placer;

type Result<T> = std::result::Result<T, Error>;

/// A directory of an archive, and what of it is still missing.
#[derive(Debug)]
pub struct Part {
    directory: Inside,
    /// Whether there is such a directory.
    is_there: bool,
    /// Names in the directory, by the name outside of it that has their content.
    outside: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Part {
    /// The directory at this path.
    ///
    /// # Errors
    /// It is no path.
    pub fn new(directory: &[u8]) -> Result<Self> {
        let place = |source| Error::Place { entry: show(directory), source };
        let directory = Inside::parse(directory).map_err(place)?;
        Ok(Self { directory, is_there: false, outside: BTreeMap::new() })
    }

    /// Whether the archive has the directory.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Whether the archive has to be read once more.
    pub fn is_missing_content(&self) -> bool {
        !self.outside.is_empty()
    }

    /// What is below the directory, as a path in it.
    fn within(&self, path: &[u8]) -> Result<std::result::Result<Inside, Inside>> {
        let place = |source| Error::Place { entry: show(path), source };
        let path = Inside::parse(path).map_err(place)?;
        let mut rest = Inside::parse(path.as_bytes()).map_err(place)?;
        for component in self.directory.components() {
            match rest.strip_first(component) {
                Some(below) => rest = below,
                None => return Ok(Err(path)),
            }
        }
        Ok(Ok(rest))
    }

    /// The entry as it is to be made in the directory, if it is to be made now.
    fn first_time(&mut self, entry: &Entry) -> Result<Vec<Entry>> {
        let Ok(name) = self.within(&entry.name)? else { return Ok(Vec::new()) };
        if name.is_root() {
            self.is_there = entry.what == EntryType::Directory;
            return Ok(if self.is_there { vec![renamed(entry, b"")] } else { Vec::new() });
        }
        if entry.what != EntryType::HardLink {
            return Ok(vec![renamed(entry, name.as_bytes())]);
        }
        match self.within(&entry.link)? {
            Ok(link) => Ok(vec![linked(entry, name.as_bytes(), link.as_bytes())]),
            Err(link) => {
                self.outside.entry(link.as_bytes().to_vec()).or_default().push(name.as_bytes().to_vec());
                Ok(Vec::new())
            }
        }
    }

    /// The same when only what is missing is wanted: the content under its first name, and the others linked to that.
    fn second_time(&mut self, entry: &Entry) -> Result<Vec<Entry>> {
        let Err(path) = self.within(&entry.name)? else { return Ok(Vec::new()) };
        let Some(names) = self.outside.remove(path.as_bytes()) else { return Ok(Vec::new()) };
        let Some((first, others)) = names.split_first() else { return Ok(Vec::new()) };
        let mut made = vec![renamed(entry, first)];
        made.extend(others.iter().map(|name| linked(entry, name, first)));
        Ok(made)
    }
}

/// Unpacks a directory of an archive below `root`, its own owner, mode and times included; see [`super::unpack`] for what
/// an archive may do. While [`Part::is_missing_content`] the same archive has to be given once more; after a second
/// time that is an error.
///
/// # Errors
/// As [`super::unpack`]; and the archive ends without its end mark, or lacks the content of a hard link.
pub fn unpack_part<R: Read + Send + 'static>(
    reader: R,
    root: &Root,
    part: &mut Part,
    limits: &Limits,
) -> Result<()> {
    let is_second = part.is_missing_content();
    let input = Input::start(reader, limits.unpacked_max_bytes, false)?;
    let mut entries = Entries::new(input, *limits);
    let mut placer = Placer::new(root, limits)?;
    let mut own = None;
    while let Some(entry) = entries.next()? {
        let made = if is_second { part.second_time(&entry)? } else { part.first_time(&entry)? };
        for made in made {
            if made.name.is_empty() {
                own = Some(made);
                continue;
            }
            placer.place(&made, |file| {
                loop {
                    let piece = entries.content()?;
                    if piece.is_empty() {
                        return Ok(());
                    }
                    file.write_all(piece)
                        .map_err(|source| Error::Write { entry: show(&made.name), source })?;
                }
            })?;
        }
    }
    if !entries.is_marked() {
        return Err(Error::Unmarked);
    }
    // At the end: whoever sees the directory's mode sees the rest too.
    if let Some(own) = own {
        placer.place(&own, |_| Ok(()))?;
    }
    placer.finish()?;
    match part.outside.keys().next() {
        Some(missing) if is_second => Err(Error::Entry {
            entry: show(missing),
            problem: "it is not there, but hard links lead to it".into(),
        }),
        _ => Ok(()),
    }
}

fn renamed(entry: &Entry, name: &[u8]) -> Entry {
    Entry { name: name.to_vec(), ..entry.clone() }
}

fn linked(entry: &Entry, name: &[u8], link: &[u8]) -> Entry {
    Entry { what: EntryType::HardLink, link: link.to_vec(), size: 0, ..renamed(entry, name) }
}
