//! What is mounted in volumes.
//!
//! A volume that has a mount in it is not removed: what is mounted is somebody's data.

use std::path::Path;

use super::Error;
use crate::confine::{MOUNTINFO, MountPoint, mount_points};

/// Whether the directory is a mount point, or has one anywhere below. The path must be without links.
pub(super) fn any_below(directory: &Path) -> Result<bool, Error> {
    Ok(points()?.iter().any(|point| point.path.starts_with(directory)))
}

/// What is mounted on the directory, the topmost of it. The path must be without links.
pub(super) fn at(directory: &Path) -> Result<Option<MountPoint>, Error> {
    Ok(points()?.into_iter().rfind(|point| point.path == directory))
}

/// Everything that is mounted, in the order in which it was.
pub(super) fn points() -> Result<Vec<MountPoint>, Error> {
    mount_points().map_err(|source| Error::Io { step: "reading", path: MOUNTINFO.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

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
