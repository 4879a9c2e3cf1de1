//! Headers for the entries of a layer that we make: one ustar block, and PAX records before it for what does not fit.
//!
//! Pure. The same entry gives the same bytes. Every reader of layers knows PAX (`archive/tar` writes it too); GNU's own
//! long names are not written.

use tar::{EntryType as Flag, Header};

use crate::confine::Time;

use super::entries::{Entry, EntryType};
use super::header::BLOCK_BYTES;
use super::pax::XATTR_PREFIX;

/// The space for names in a ustar block, in bytes.
const NAME_BYTES: usize = 100;
/// The largest number of seven octal digits: ids.
const ID_MAX: u32 = 0o777_7777;
/// The largest number of eleven octal digits: sizes and times.
const LONG_MAX: u64 = 0o777_7777_7777;
const EXTENDED_NAME: &[u8] = b"PaxHeaders.0/entry";

/// What ends an archive.
pub(super) const TRAILER: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// How many zeros follow content of this size, in bytes.
pub(super) fn padding(size: u64) -> usize {
    let block = u64::try_from(BLOCK_BYTES).unwrap_or(1);
    usize::try_from((block - size % block) % block).unwrap_or_default()
}

/// Appends the header, or headers, of `entry`, to be found as `name`.
pub(super) fn header(entry: &Entry, name: &[u8], target: &mut Vec<u8>) {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    if name.len() > NAME_BYTES {
        record(b"path", name, &mut records);
    }
    if entry.link.len() > NAME_BYTES {
        record(b"linkpath", &entry.link, &mut records);
    }
    let [uid, gid] = [(b"uid", entry.uid), (b"gid", entry.gid)].map(|(key, id)| {
        if id > ID_MAX {
            record(key, id.to_string().as_bytes(), &mut records);
        }
        if id > ID_MAX { 0 } else { id.into() }
    });
    if entry.size > LONG_MAX {
        record(b"size", entry.size.to_string().as_bytes(), &mut records);
    }
    let seconds = u64::try_from(entry.modified.seconds).ok().filter(|&seconds| seconds <= LONG_MAX);
    if seconds.is_none() || entry.modified.nanoseconds > 0 {
        record(b"mtime", time(entry.modified).as_bytes(), &mut records);
    }
    for (key, value) in &entry.xattrs {
        record(&[XATTR_PREFIX, key].concat(), value, &mut records);
    }
    if !records.is_empty() {
        extended(&records, target);
    }
    fill(&mut header, name, &entry.link);
    header.set_entry_type(flag(entry.what));
    header.set_mode(entry.mode);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(if entry.size > LONG_MAX { 0 } else { entry.size });
    header.set_mtime(seconds.unwrap_or_default());
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(entry.device.0);
        ustar.set_device_minor(entry.device.1);
    }
    header.set_cksum();
    target.extend_from_slice(header.as_bytes());
}

/// Appends the extended header that holds `records`.
fn extended(records: &[u8], target: &mut Vec<u8>) {
    let size = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let mut header = Header::new_ustar();
    fill(&mut header, EXTENDED_NAME, b"");
    header.set_entry_type(Flag::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    target.extend_from_slice(header.as_bytes());
    target.extend_from_slice(records);
    target.resize(target.len() + padding(size), 0);
}

fn fill(header: &mut Header, name: &[u8], link: &[u8]) {
    let Some(ustar) = header.as_ustar_mut() else { return };
    for (field, text) in [(&mut ustar.name, name), (&mut ustar.linkname, link)] {
        let count = text.len().min(NAME_BYTES);
        if let (Some(to), Some(from)) = (field.get_mut(..count), text.get(..count)) {
            to.copy_from_slice(from);
        }
    }
}

fn flag(entry_type: EntryType) -> Flag {
    match entry_type {
        EntryType::File => Flag::Regular,
        EntryType::HardLink => Flag::Link,
        EntryType::Symlink => Flag::Symlink,
        EntryType::Char => Flag::Char,
        EntryType::Block => Flag::Block,
        EntryType::Directory => Flag::Directory,
        EntryType::Fifo => Flag::Fifo,
    }
}

/// Appends `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(key: &[u8], value: &[u8], target: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    target.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        target.extend_from_slice(part);
    }
}

fn time(time: Time) -> String {
    let Time { seconds, nanoseconds } = time;
    match (seconds, nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        // The fraction counts away from zero in text, and towards the future in `Time`.
        _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for length in [1, 2, 91, 92, 93, 990, 991, 992] {
            let mut target = Vec::new();
            record(b"path", &vec![b'x'; length], &mut target);
            let text = String::from_utf8(target).unwrap();
            let (count, _) = text.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970() {
        assert_eq!(time(Time { seconds: -2, nanoseconds: 750_000_000 }), "-1.250000000");
        assert_eq!(time(Time { seconds: -1, nanoseconds: 500_000_000 }), "-0.500000000");
        assert_eq!(time(Time { seconds: 1, nanoseconds: 5 }), "1.000000005");
    }
}
