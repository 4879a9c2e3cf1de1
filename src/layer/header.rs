//! One 512-byte header block of a tar archive, read as Go's `archive/tar` reads it.
//!
//! Pure. Whoever installs a plugin with dockerd has its layers read by Go; a block that means something else to us
//! would let an archive show one tree to a reviewer and another to the daemon. So the rules are Go's, down to the
//! checksum in two kinds, numbers in base 256 and the prefix fields of four formats (`archive/tar`: format.go,
//! strconv.go, reader.go of Go 1.24; POSIX.1-2008 pax; GNU tar manual, "Basic Tar Format").

use std::borrow::Cow;

use crate::confine::Time;

/// The size of a block: headers are one, content is padded to a multiple.
pub(super) const BLOCK_BYTES: usize = 512;

/// Where the fields of a header lie.
mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const UID: Range<usize> = 108..116;
    pub(super) const GID: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const MTIME: Range<usize> = 136..148;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const TYPE: usize = 156;
    pub(super) const LINK: Range<usize> = 157..257;
    pub(super) const MAGIC: Range<usize> = 257..263;
    pub(super) const VERSION: Range<usize> = 263..265;
    pub(super) const DEVICE_MAJOR: Range<usize> = 329..337;
    pub(super) const DEVICE_MINOR: Range<usize> = 337..345;
    pub(super) const USTAR_PREFIX: Range<usize> = 345..500;
    pub(super) const STAR_PREFIX: Range<usize> = 345..476;
    pub(super) const STAR_ACCESS_TIME: Range<usize> = 476..488;
    pub(super) const STAR_CHANGE_TIME: Range<usize> = 488..500;
    pub(super) const STAR_TRAILER: Range<usize> = 508..512;
    pub(super) const GNU_ACCESS_TIME: Range<usize> = 345..357;
    pub(super) const GNU_CHANGE_TIME: Range<usize> = 357..369;
}

/// What is wrong with a header.
pub(super) type Problem = Cow<'static, str>;

/// The fields of one block, before extended headers have their say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) type_flag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) modified: Time,
    pub(super) device: (i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(super) fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Self, Problem> {
        check_sum(block)?;
        let format = format_of(block);
        let mut header = Self {
            type_flag: block.get(field::TYPE).copied().unwrap_or_default(),
            name: text(&block[field::NAME]).to_vec(),
            link: text(&block[field::LINK]).to_vec(),
            mode: number("mode", &block[field::MODE])?,
            uid: number("uid", &block[field::UID])?,
            gid: number("gid", &block[field::GID])?,
            size: number("size", &block[field::SIZE])?,
            modified: Time { seconds: number("mtime", &block[field::MTIME])?, nanoseconds: 0 },
            device: (0, 0),
        };
        if format == Format::V7 {
            return Ok(header);
        }
        let major = number("device major", &block[field::DEVICE_MAJOR])?;
        header.device = (major, number("device minor", &block[field::DEVICE_MINOR])?);
        let prefix = prefix_of(format, block)?;
        if !prefix.is_empty() {
            header.name = [prefix, b"/", &header.name].concat();
        }
        Ok(header)
    }
}

fn check_sum(block: &[u8; BLOCK_BYTES]) -> Result<(), Problem> {
    let stored = octal("checksum", &block[field::CHECKSUM])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, &byte) in block.iter().enumerate() {
        // The checksum counts itself as spaces. Old writers summed signed characters.
        let byte = if field::CHECKSUM.contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored == unsigned || stored == signed { Ok(()) } else { Err("its checksum is wrong".into()) }
}

fn format_of(block: &[u8; BLOCK_BYTES]) -> Format {
    match (&block[field::MAGIC], &block[field::VERSION], &block[field::STAR_TRAILER]) {
        (b"ustar\0", _, b"tar\0") => Format::Star,
        (b"ustar\0", _, _) => Format::Ustar,
        (b"ustar ", b" \0", _) => Format::Gnu,
        _ => Format::V7,
    }
}

fn prefix_of(format: Format, block: &[u8; BLOCK_BYTES]) -> Result<&[u8], Problem> {
    match format {
        Format::V7 => Ok(&[]),
        Format::Ustar => Ok(text(&block[field::USTAR_PREFIX])),
        Format::Star => {
            number("atime", &block[field::STAR_ACCESS_TIME])?;
            number("ctime", &block[field::STAR_CHANGE_TIME])?;
            Ok(text(&block[field::STAR_PREFIX]))
        }
        Format::Gnu => {
            // Go before 1.8 wrote a prefix into GNU headers; it shows in times that are no numbers.
            let readable = |time: &[u8]| time.first() == Some(&0) || number("time", time).is_ok();
            if readable(&block[field::GNU_ACCESS_TIME]) && readable(&block[field::GNU_CHANGE_TIME]) {
                return Ok(&[]);
            }
            let prefix = text(&block[field::USTAR_PREFIX]);
            Ok(if prefix.is_ascii() { prefix } else { &[] })
        }
    }
}

/// A text field: up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number field: octal digits, or big-endian two's complement behind a set highest bit.
fn number(name: &'static str, field: &[u8]) -> Result<i64, Problem> {
    let Some(&first) = field.first() else { return Ok(0) };
    if first & 0x80 == 0 {
        return octal(name, field);
    }
    let negative = first & 0x40 != 0;
    let inversion = if negative { 0xff } else { 0 };
    let mut value = 0_u64;
    for (at, &byte) in field.iter().enumerate() {
        let byte = byte ^ inversion;
        let byte = if at == 0 { byte & 0x7f } else { byte };
        if value >> 56 != 0 {
            return Err(format!("its {name} does not fit into 64 bits").into());
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| format!("its {name} does not fit into 64 bits"))?;
    Ok(if negative { !value } else { value })
}

fn octal(name: &'static str, field: &[u8]) -> Result<i64, Problem> {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !padding(byte)) else { return Ok(0) };
    let end = field.iter().rposition(|byte| !padding(byte)).unwrap_or(start);
    let digits = text(field.get(start..=end).unwrap_or_default());
    let mut value = 0_u64;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) || value >> 60 != 0 {
            return Err(format!("its {name} is no octal number").into());
        }
        value = value << 3 | u64::from(digit - b'0');
    }
    i64::try_from(value).map_err(|_| format!("its {name} is no octal number").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let cases: [(&[u8], Option<i64>); 16] = [
            (b"0000644\0", Some(0o644)),
            (b"     123 ", Some(0o123)),
            (b"\0\x00123\0", Some(0o123)),
            (b"        ", Some(0)),
            (b"", Some(0)),
            (b"12\x003", Some(0o12)),
            (b"+644\0", None),
            (b"-1\0", None),
            (b"128", None),
            (b"1 2", None),
            (b"777777777777777777777", Some(i64::MAX)),
            (b"\x80\0\0\0\0\0\x02\0", Some(512)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\x02\0", None),
        ];
        for (given, expected) in cases {
            assert_eq!(number("x", given).ok(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(tar::Header::new_gnu().as_bytes());
        assert!(Header::parse(&block).is_err());
        let mut header = tar::Header::new_ustar();
        header.set_path("a/b").unwrap();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        assert_eq!(Header::parse(&block).unwrap().name, b"a/b");
        block[0] ^= 1;
        assert_eq!(Header::parse(&block).unwrap_err(), "its checksum is wrong");
    }
}
