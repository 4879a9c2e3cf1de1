//! What is mounted where, by `/proc/self/mountinfo` (see proc(5)).
//!
//! A volume that has a mount in it is not removed: what is mounted is somebody's data. The table is the kernel's own:
//! reading it asks no file system, so that none that hangs delays it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Where the mount point stands in a line; the options of the mount follow it.
const FIELD: usize = 4;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether it cannot be written to through this mount.
    pub(super) is_read_only: bool,
}

/// Whether the directory is a mount point, or has one anywhere below. The path must be without links.
pub(super) fn any_below(directory: &Path) -> Result<bool, Error> {
    Ok(points()?.iter().any(|point| point.path.starts_with(directory)))
}

/// What is mounted on the directory, the topmost of it. The path must be without links.
pub(super) fn at(directory: &Path) -> Result<Option<Point>, Error> {
    Ok(points()?.into_iter().rfind(|point| point.path == directory))
}

/// Everything that is mounted, in the order in which it was.
pub(super) fn points() -> Result<Vec<Point>, Error> {
    let failed = |source| Error::Io { step: "reading", path: MOUNTINFO.into(), source };
    std::fs::read(MOUNTINFO).map(|table| points_of(&table)).map_err(failed)
}

fn points_of(table: &[u8]) -> Vec<Point> {
    let point = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(FIELD);
        let path = PathBuf::from(OsString::from_vec(unescaped(fields.next()?)));
        let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
        Some(Point { path, is_read_only })
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
            32 29 8:1 /x /v/with\\040blank/_data/m rw - ext4 /dev/sda1 rw\n";
        let points = [("/", false), ("/v/a/_data", true), ("/v/with blank/_data/m", false)];
        let points = points.map(|(path, is_read_only)| Point { path: path.into(), is_read_only });
        assert_eq!(points_of(table), points);
    }

    #[test]
    fn only_the_directory_itself_and_what_is_below_counts() {
        let is_at = |path: &str| at(Path::new(path)).unwrap().is_some();
        assert!(is_at("/proc") && any_below(Path::new("/proc")).unwrap());
        for elsewhere in ["/pro", "/proc/self/fdinfo", "/procs"] {
            assert!(!is_at(elsewhere) && !any_below(Path::new(elsewhere)).unwrap(), "{elsewhere}");
        }
        assert!(any_below(Path::new("/")).unwrap());
    }
}
