//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo` (see proc(5)).
//!
//! The table is the kernel's own: reading it asks no file system, so that none that hangs delays it. This file does not
//! know whose mounts they are.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The table of the mounts that this process sees.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Where the mount point stands in a line; the options of the mount follow it.
const FIELD: usize = 4;

/// A place on which something is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is, without links.
    pub path: PathBuf,
    /// Whether it cannot be written to through this mount.
    pub is_read_only: bool,
}

/// Everything that is mounted, in the order in which it was.
///
/// # Errors
/// The table cannot be read.
pub fn mount_points() -> io::Result<Vec<MountPoint>> {
    std::fs::read(MOUNTINFO).map(|table| points_of(&table))
}

fn points_of(table: &[u8]) -> Vec<MountPoint> {
    let point = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(FIELD);
        let path = PathBuf::from(OsString::from_vec(unescaped(fields.next()?)));
        let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
        Some(MountPoint { path, is_read_only })
    };
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (first, after) {
            plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_they_are_meant() {
        let table = b"29 1 8:1 / / rw,relatime - ext4 /dev/sda1 ro\n\
            31 29 8:1 /x /v/a/_data nosuid,ro - ext4 /dev/sda1 rw\n\
            32 29 8:1 /x /v/with\\040blank/_data/m rw - ext4 /dev/sda1 rw\n\
            33 29 8:1 /x /v/\\011\\134\\04\\999\\ rw - ext4 /dev/sda1 rw\n\
            34 29 8:1 /x\n\
            nothing";
        let points = [
            ("/", false),
            ("/v/a/_data", true),
            ("/v/with blank/_data/m", false),
            ("/v/\t\\\\04\\999\\", false),
        ];
        let points = points.map(|(path, is_read_only)| MountPoint { path: path.into(), is_read_only });
        assert_eq!(points_of(table), points);
    }
}
