//! Tar archives, good and hostile: headers are written byte by byte, so that they can lie.
//!
//! Facts: POSIX ustar and pax, and GNU's long names.

const BLOCK: usize = 512;

/// One entry; `size` may differ from what `data` really holds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    name: String,
    kind: u8,
    link: String,
    mode: u32,
    size: u64,
    device: (u32, u32),
    data: Vec<u8>,
}

impl Entry {
    fn new(kind: u8, name: &str, link: &str, data: &[u8]) -> Self {
        let size = u64::try_from(data.len()).unwrap();
        Self {
            name: name.into(),
            kind,
            link: link.into(),
            mode: 0o755,
            size,
            device: (0, 0),
            data: data.to_vec(),
        }
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self::new(b'5', name, "", b"")
    }

    pub(crate) fn file(name: &str, data: &[u8]) -> Self {
        Self::new(b'0', name, "", data)
    }

    pub(crate) fn symlink(name: &str, target: &str) -> Self {
        Self::new(b'2', name, target, b"")
    }

    pub(crate) fn hardlink(name: &str, target: &str) -> Self {
        Self::new(b'1', name, target, b"")
    }

    pub(crate) fn fifo(name: &str) -> Self {
        Self::new(b'6', name, "", b"")
    }

    /// A character device.
    pub(crate) fn device(name: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'3', name, "", b"") }
    }

    /// An entry of any type byte.
    pub(crate) fn of_kind(kind: u8, name: &str, data: &[u8]) -> Self {
        Self::new(kind, name, "", data)
    }

    /// The same entry, its header claiming another size in bytes.
    pub(crate) fn claiming(self, size: u64) -> Self {
        Self { size, ..self }
    }
}

/// An archive in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; a name or a target of more than 100 bytes becomes a GNU long name before it.
    pub(crate) fn with(mut self, entry: &Entry) -> Self {
        self.push(entry);
        self
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        for (kind, text) in [(b'L', &entry.name), (b'K', &entry.link)] {
            if text.len() > 100 {
                let data = format!("{text}\0");
                self.push(&Entry::new(kind, "././@LongLink", "", data.as_bytes()));
            }
        }
        self.0.extend_from_slice(&header(entry));
        self.0.extend_from_slice(&entry.data);
        self.pad();
    }

    /// Adds a pax header (for the next entry) of these exact bytes.
    pub(crate) fn with_pax(self, records: &[u8]) -> Self {
        self.with(&Entry::new(b'x', "PaxHeaders/0", "", records))
    }

    /// The archive without its end: as it is when the sender dies between two entries.
    pub(crate) fn open_end(self) -> Vec<u8> {
        self.0
    }

    /// The archive with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }
}

/// One pax record: its length counts itself.
pub(crate) fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

/// The header of an entry, for archives too large to hold.
pub(crate) fn header(entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, width: usize, bytes: &[u8]| {
        let count = bytes.len().min(width);
        block[at..at + count].copy_from_slice(&bytes[..count]);
    };
    put(0, 100, entry.name.as_bytes());
    put(100, 8, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, 8, b"0000000\0");
    put(116, 8, b"0000000\0");
    if entry.size < 1 << 33 {
        put(124, 12, format!("{:011o}\0", entry.size).as_bytes());
    } else {
        // GNU's binary form for what eleven octal digits cannot hold.
        put(124, 1, &[0x80]);
        put(128, 8, &entry.size.to_be_bytes());
    }
    put(136, 12, b"14524000000\0");
    put(148, 8, b"        ");
    put(156, 1, &[entry.kind]);
    put(157, 100, entry.link.as_bytes());
    put(257, 8, b"ustar\x0000");
    put(329, 8, format!("{:07o}\0", entry.device.0).as_bytes());
    put(337, 8, format!("{:07o}\0", entry.device.1).as_bytes());
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
