//! Whether something is mounted in a directory, by `/proc/self/mountinfo` (see proc(5)).
//!
//! A volume that has a mount in it is not removed: what is mounted is somebody's data.

use std::path::Path;

use super::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Whether the directory is a mount point, or has one anywhere below. The path must be without links.
pub(super) fn any_below(directory: &Path) -> Result<bool, Error> {
    let table = std::fs::read(MOUNTINFO).map_err(|source| Error::Io {
        step: "reading",
        path: MOUNTINFO.into(),
        source,
    })?;
    Ok(names(&table, directory))
}

/// Whether the table names the directory, or something below it, as a mount point.
fn names(table: &[u8], directory: &Path) -> bool {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    /// Where the mount point stands in a line.
    const FIELD: usize = 4;
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(FIELD));
    points.map(unescaped).any(|point| Path::new(OsStr::from_bytes(&point)).starts_with(directory))
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
    fn mount_points_are_found_at_and_below() {
        let table = b"29 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            31 29 8:1 /x /v/a/_data rw - ext4 /dev/sda1 rw\n\
            32 29 8:1 /x /v/with\\040blank/_data/m rw - ext4 /dev/sda1 rw\n";
        for (directory, expected) in [
            ("/v/a", true),
            ("/v/a/_data", true),
            ("/v/a/_data/deeper", false),
            ("/v/ab", false),
            ("/v/with blank", true),
            ("/other", false),
        ] {
            assert_eq!(names(table, Path::new(directory)), expected, "{directory}");
        }
    }
}
