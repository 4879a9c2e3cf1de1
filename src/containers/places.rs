//! The directories that the engine is told: one for each volume of a container, the same over all its starts. While the
//! container runs, the volume is bound there.
//!
//! `<exec-root>/containers/<token>/<number>`. All of it is ours, mode 0700 above, so a path means what it says here.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Error, Result};
use crate::confine::{self, Root};

/// The directory of all of them.
#[derive(Debug, Clone)]
pub(super) struct Places(PathBuf);

impl Places {
    pub(super) fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The directory of a container's volume.
    pub(super) fn path(&self, token: &str, number: usize) -> PathBuf {
        self.0.join(token).join(number.to_string())
    }

    /// Makes a directory, or finds it.
    pub(super) fn make(path: &Path) -> Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("making", path))
    }

    /// Binds a volume, or a directory in it, to its place; fine when it is there already.
    pub(super) fn bind(volume: &Path, subpath: Option<&str>, path: &Path) -> Result<()> {
        Self::make(path)?;
        if is_mounted(path)? {
            return Ok(());
        }
        if let Some(subpath) = subpath {
            return bind_part(volume, subpath, path);
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(volume), path, None::<&str>, flags, None::<&str>)
            .map_err(|errno| failed("binding a volume to", path)(errno.into()))
    }

    /// Takes a volume from its place, and the place too: an engine that starts the container by itself finds nothing to
    /// bind, and says so, and nothing is written to an empty directory. Fine when it was not there.
    pub(super) fn clear(path: &Path) -> Result<()> {
        loop {
            match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // There may be two, one over the other.
                Ok(()) => {}
                Err(Errno::EINVAL) => break,
                Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(failed("detaching", path)(errno.into())),
            }
        }
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes what a container had; what is mounted there is detached first.
    pub(super) fn remove(&self, token: &str) -> Result<()> {
        let directory = self.0.join(token);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("reading", &directory)(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed("reading", &directory))?.path();
            // Never a tree: if something is mounted here still, it is not ours to delete.
            Self::clear(&path)?;
        }
        fs::remove_dir(&directory).map_err(failed("removing", &directory))
    }
}

/// Binds a directory in a volume. What is in the volume is not to be believed: no link in it leads out.
fn bind_part(volume: &Path, subpath: &str, path: &Path) -> Result<()> {
    let failed_to_bind =
        |error: confine::Error| failed("binding a part of a volume to", path)(io::Error::other(error));
    let root = Root::open(volume).map_err(failed_to_bind)?;
    let part = root.beneath(subpath.as_bytes()).map_err(|error| match error {
        error if error.is(Errno::EXDEV) => {
            Error::SubpathEscapes { base: volume.to_owned(), subpath: subpath.to_owned() }
        }
        confine::Error::System { source, .. } => {
            Error::SubpathAbsent { path: volume.join(subpath), reason: source.desc().to_lowercase() }
        }
        other => failed_to_bind(other),
    })?;
    let place = Root::open(path).and_then(|place| place.follow(b""));
    place.and_then(|place| part.bind_onto(&place, true)).map_err(failed_to_bind)
}

/// Whether the kernel has something mounted exactly there.
fn is_mounted(path: &Path) -> Result<bool> {
    let real = path.canonicalize().map_err(failed("finding", path))?;
    let points = confine::mount_points().map_err(failed("reading the mounts for", path))?;
    Ok(points.iter().any(|point| point.path == real))
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Mount { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_comes_and_goes_and_its_content_stays() {
        let (root, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(volume.path().join("file"), "text").unwrap();
        let places = Places::new(root.path().join("containers"));
        let path = places.path("t", 0);
        Places::bind(volume.path(), None, &path).unwrap();
        Places::bind(volume.path(), None, &path).unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "text");
        Places::clear(&path).unwrap();
        assert!(!path.exists());
        Places::clear(&path).unwrap();
        Places::bind(volume.path(), None, &path).unwrap();
        places.remove("t").unwrap();
        places.remove("t").unwrap();
        assert!(!path.exists() && volume.path().join("file").exists());
    }
}
