//! The entries of a tar stream, one after the other, as Go's `archive/tar` sees them.
//!
//! Refused, though Go reads them: sparse files. Memory is bounded by the longest extended header allowed, and a header
//! that claims more is refused before anything is allocated.

use std::borrow::Cow;

use crate::confine::{Time, show};
use crate::oci::Hasher;

use super::error::Error;
use super::header::{BLOCK_BYTES, Header, Problem, text};
use super::input::Input;
use super::limits::Limits;
use super::pax::{self, Xattrs};

type Result<T> = std::result::Result<T, Error>;

/// How many extended headers may stand before one entry; honest archives have three at most.
const EXTENDED_HEADERS_MAX: usize = 16;
/// The largest device numbers of Linux: 12 bits of major, 20 of minor.
const DEVICE_MAJOR_MAX: i64 = 0xfff;
const DEVICE_MINOR_MAX: i64 = 0xf_ffff;
const MODE_BITS: i64 = 0o7777;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryType {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

impl EntryType {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::File => "regular file",
            Self::HardLink => "hard link",
            Self::Symlink => "symbolic link",
            Self::Char => "character device",
            Self::Block => "block device",
            Self::Directory => "directory",
            Self::Fifo => "named pipe",
        }
    }
}

/// One entry, extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) what: EntryType,
    /// As the archive has it: not cleaned.
    pub(super) name: Vec<u8>,
    /// The target of a link, as the archive has it.
    pub(super) link: Vec<u8>,
    /// The lower twelve bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of content; 0 unless it is a file.
    pub(super) size: u64,
    pub(super) modified: Time,
    /// Major and minor of a device.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Xattrs,
}

/// Reads entries and the content of the present one.
pub(super) struct Entries {
    input: Input,
    limits: Limits,
    /// Bytes of the present entry's content that have not been read.
    remaining: u64,
    /// Bytes of padding after it.
    padding: u64,
    count: u64,
    /// Whether the mark that ends an archive has come.
    is_marked: bool,
    /// The name of the last entry, for error texts.
    last: Option<String>,
}

/// The parts that extended headers give to the entry after them.
#[derive(Default)]
struct Extensions {
    records: Option<Vec<u8>>,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

impl Entries {
    pub(super) fn new(input: Input, limits: Limits) -> Self {
        Self { input, limits, remaining: 0, padding: 0, count: 0, is_marked: false, last: None }
    }

    /// The next entry; what is left of the content of the one before is skipped. `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        for _ in 0..=EXTENDED_HEADERS_MAX {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.type_flag {
                b'x' => extensions.records = Some(self.special(&header)?),
                b'L' => extensions.long_name = text(&self.special(&header)?).to_vec(),
                b'K' => extensions.long_link = text(&self.special(&header)?).to_vec(),
                b'g' => {
                    // Global records are checked and not applied, as dockerd does; what stood before them is lost.
                    let records = self.special(&header)?;
                    pax::merge(&records, &mut header.clone()).map_err(|problem| self.invalid(problem))?;
                    self.count_entry()?;
                    extensions = Extensions::default();
                }
                _ => {
                    self.count_entry()?;
                    return self.entry(header, extensions).map(Some);
                }
            }
        }
        Err(self.invalid(format!("more than {EXTENDED_HEADERS_MAX} extended headers in a row").into()))
    }

    /// The next piece of the present entry's content; empty at its end.
    pub(super) fn content(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill()?.len();
        if available == 0 {
            return Err(self.cut_off());
        }
        let count = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available);
        self.remaining -= u64::try_from(count).unwrap_or_default();
        Ok(self.input.take(count))
    }

    /// Whether the archive ended with the mark for it. Readers are lenient, but whoever makes an archive on the fly may
    /// have stopped half-way.
    pub(super) fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Reads to the end of the stream, beyond the end of the archive; see [`Input::finish`].
    pub(super) fn finish(self) -> Result<Hasher> {
        self.input.finish()
    }

    fn skip(&mut self) -> Result<()> {
        while !self.content()?.is_empty() {}
        let mut padding = [0; BLOCK_BYTES];
        let length = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        // An archive may end without its last padding.
        self.input.read(padding.get_mut(..length).unwrap_or_default())?;
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK_BYTES];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK_BYTES] {
            if !self.block(&mut block)? || block == [0; BLOCK_BYTES] {
                self.is_marked = true;
                return Ok(None);
            }
            return Err(self.invalid("it follows a single block of zeros".into()));
        }
        let header = Header::parse(&block).map_err(|problem| self.invalid(problem))?;
        if header.type_flag == b'S' {
            let problem = Cow::Borrowed("sparse files are not supported: make the archive without --sparse");
            return Err(Error::Entry { entry: show(&header.name), problem });
        }
        self.open_content(&header)?;
        Ok(Some(header))
    }

    /// Whether there was a block; part of one is an error.
    fn block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<bool> {
        match self.input.read(block)? {
            0 => Ok(false),
            BLOCK_BYTES => Ok(true),
            got => Err(self.invalid(format!("the archive ends after {got} of its 512 bytes").into())),
        }
    }

    /// Sets out to read the content that the header announces.
    fn open_content(&mut self, header: &Header) -> Result<()> {
        // Links, devices, directories and pipes have no content, whatever their size says.
        let bodiless = matches!(header.type_flag, b'1'..=b'6');
        let size = if bodiless { 0 } else { header.size };
        let Ok(size) = u64::try_from(size) else { return Err(self.invalid("its size is negative".into())) };
        let block = u64::try_from(BLOCK_BYTES).unwrap_or_default();
        self.remaining = size;
        self.padding = (block - size % block) % block;
        Ok(())
    }

    /// Reads the content of an extended header.
    fn special(&mut self, header: &Header) -> Result<Vec<u8>> {
        let limit = self.limits.extended_header_max_bytes;
        if self.remaining > limit {
            let problem = format!("an extended header of {} bytes, {limit} are allowed", header.size);
            return Err(self.invalid(problem.into()));
        }
        let mut content = Vec::with_capacity(usize::try_from(self.remaining).unwrap_or_default());
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(piece);
        }
    }

    fn entry(&mut self, mut header: Header, extensions: Extensions) -> Result<Entry> {
        let mut xattrs = Xattrs::new();
        if let Some(records) = extensions.records {
            xattrs = pax::merge(&records, &mut header).map_err(|problem| self.invalid(problem))?;
        }
        if !extensions.long_name.is_empty() {
            header.name = extensions.long_name;
        }
        if !extensions.long_link.is_empty() {
            header.link = extensions.long_link;
        }
        self.last = Some(show(&header.name));
        if header.type_flag == 0 {
            // Archives from before POSIX mark a directory by its name only.
            header.type_flag = if header.name.ends_with(b"/") { b'5' } else { b'0' };
        }
        // Extended headers may have changed the size.
        self.open_content(&header)?;
        let (size, room) = (self.remaining, self.input.room_bytes());
        if size > room {
            // A bomb is refused by what it says, before a byte of it is written.
            let limit = self.limits.unpacked_max_bytes;
            let problem =
                format!("{size} bytes, but {room} are left of the {limit} that an archive may unpack to");
            return Err(Error::Entry { entry: show(&header.name), problem: problem.into() });
        }
        resolve(header, xattrs, size)
    }

    fn count_entry(&mut self) -> Result<()> {
        self.count += 1;
        if self.count > self.limits.entries_max {
            return Err(Error::Limit { what: "entries", limit: self.limits.entries_max });
        }
        Ok(())
    }

    fn invalid(&self, problem: Problem) -> Error {
        let place = match &self.last {
            Some(last) => format!("after entry {last}"),
            None => "at the start".to_owned(),
        };
        Error::Header { place, problem }
    }

    fn cut_off(&self) -> Error {
        let entry = self.last.clone().unwrap_or_else(|| "1".to_owned());
        Error::CutOff { entry, missing_bytes: self.remaining }
    }
}

/// Checks the values of a header that is complete.
fn resolve(header: Header, xattrs: Xattrs, size: u64) -> Result<Entry> {
    let refuse = |problem: Problem| Error::Entry { entry: show(&header.name), problem };
    let entry_type = match header.type_flag {
        b'0' => EntryType::File,
        b'1' => EntryType::HardLink,
        b'2' => EntryType::Symlink,
        b'3' => EntryType::Char,
        b'4' => EntryType::Block,
        b'5' => EntryType::Directory,
        b'6' => EntryType::Fifo,
        other => return Err(refuse(format!("unhandled tar header type {other}").into())),
    };
    let id = |kind: &str, id: i64| match u32::try_from(id) {
        // The highest number means "leave it" to the kernel.
        Ok(u32::MAX) | Err(_) => Err(refuse(format!("{kind} {id} is not between 0 and 4294967294").into())),
        Ok(id) => Ok(id),
    };
    let (uid, gid) = (id("uid", header.uid)?, id("gid", header.gid)?);
    let mut device = (0, 0);
    if matches!(entry_type, EntryType::Char | EntryType::Block) {
        let (major, minor) = header.device;
        if !(0..=DEVICE_MAJOR_MAX).contains(&major) || !(0..=DEVICE_MINOR_MAX).contains(&minor) {
            return Err(refuse(format!("there is no device {major}:{minor}").into()));
        }
        device = (u32::try_from(major).unwrap_or_default(), u32::try_from(minor).unwrap_or_default());
    }
    Ok(Entry {
        what: entry_type,
        mode: u32::try_from(header.mode & MODE_BITS).unwrap_or_default(),
        uid,
        gid,
        size: if entry_type == EntryType::File { size } else { 0 },
        modified: header.modified,
        device,
        xattrs,
        name: header.name,
        link: header.link,
    })
}
