//! Staged mounts: `<exec-root>/mounts/<id>`, a directory of ours on which a plugin's mountpoint is bound.
//!
//! The plugin's path is resolved once, by descriptor, beneath a directory it cannot leave; what the descriptor points
//! at is bound. Whatever the plugin does to its path afterwards, the staged directory stays what it is. This file
//! knows ids and places, not volumes. Everything here may wait for a disk, or for a plugin that serves the file system.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::statfs;

use crate::confine::{
    self, FileType, MOUNTINFO, MountPoint, Name, Pinned, Root, mount_points, unmount_stack,
};
use crate::drivers::{Place, host_place};

/// Of the directory, and of each place in it: what is bound there brings its own mode.
const DIRECTORY_MODE: u32 = 0o700;

/// Why a mount could not be staged, or cleared.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[error("using the directory of staged mounts {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("reading {MOUNTINFO}")]
    Mountinfo(#[source] io::Error),
    #[error("staging a mount")]
    Ours(#[source] confine::Error),
    #[error(transparent)]
    Theirs(confine::Error),
    #[error("it leads to {}, which is refused: {reason}", path.display())]
    Refused { path: PathBuf, reason: &'static str },
}

type Result<T> = std::result::Result<T, Error>;

/// The directory of staged mounts.
#[derive(Debug)]
pub(super) struct Stage(PathBuf);

impl Stage {
    /// Opens the directory; makes it if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Directory { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed)?;
        // As the kernel names it in its table of mounts.
        path.canonicalize().map(Self).map_err(failed)
    }

    /// Where the mount with this id is staged.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// Binds a plugin's place, with all that is mounted below it, in place of what is staged under the id now.
    ///
    /// The copy exchanges no mounts with the plugin's: it stays as it was handed out.
    ///
    /// # Errors
    /// [`Error::Theirs`] and [`Error::Refused`] when the place is not there, no directory, or leads out; else it is ours.
    pub(super) fn bind(&self, id: &str, place: &Place) -> Result<()> {
        self.clear(id)?;
        let source = self.hold(place)?;
        let ours = Root::open(&self.0).map_err(Error::Ours)?;
        ours.make_directory(id.as_bytes(), DIRECTORY_MODE).map_err(Error::Ours)?;
        let bind = || {
            source.bind_onto(&ours.pin(id.as_bytes())?, true)?;
            // Opened anew: the first descriptor points below the mount.
            ours.follow(id.as_bytes())?.set_shared(false)
        };
        bind().map_err(Error::Ours)
    }

    /// Holds on to the directory that a place is.
    fn hold(&self, place: &Place) -> Result<Pinned> {
        let path = match place {
            Place::Beneath { base, below } => {
                let root = Root::open(base).map_err(Error::Theirs)?;
                return root.beneath(below.as_os_str().as_bytes()).map_err(Error::Theirs);
            }
            Place::OnHost(path) => path,
        };
        // Links of the host are the administrator's, and followed; where they lead is looked at again.
        let root = Root::open(Path::new("/")).map_err(Error::Ours)?;
        let held = root.follow(path.as_os_str().as_bytes()).map_err(Error::Theirs)?;
        let is_directory = held.metadata().map_err(Error::Theirs)?.file_type == FileType::Directory;
        let path = held.host_path().map_err(Error::Ours)?;
        let refused = |reason| Error::Refused { path: path.clone(), reason };
        host_place(&path).map_err(refused)?;
        if !is_directory {
            return Err(refused("it is no directory"));
        }
        if path.starts_with(&self.0) || self.0.starts_with(&path) {
            return Err(refused("the mounts of other volumes are there"));
        }
        Ok(held)
    }

    /// Detaches what is staged under the id, if there is anything.
    pub(super) fn clear(&self, id: &str) -> Result<()> {
        let clear = || {
            let ours = Root::open(&self.0)?;
            match unmount_stack(&ours, id.as_bytes()) {
                Ok(()) => ours.top().remove(&Name::parse(id.as_bytes())?),
                Err(error) => Err(error),
            }
        };
        match clear() {
            Err(error) if !error.is(Errno::ENOENT) => Err(Error::Ours(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The ids under which the kernel has something mounted.
    pub(super) fn mounted(&self) -> Result<BTreeSet<String>> {
        Ok(mounted_in(&mount_points().map_err(Error::Mountinfo)?, &self.0))
    }

    /// The ids under which there is a directory, mounted or not.
    pub(super) fn places(&self) -> Result<BTreeSet<String>> {
        let failed = |source| Error::Directory { path: self.0.clone(), source };
        let entries = std::fs::read_dir(&self.0).map_err(failed)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(failed)
    }

    /// Whether the file system that is staged under the id has lost who served it. Waits for whoever serves it.
    pub(super) fn is_dead(&self, id: &str) -> bool {
        matches!(statfs(&self.path(id)), Err(Errno::ENOTCONN | Errno::ESTALE))
    }
}

/// The mount points directly in the directory, by name.
fn mounted_in(points: &[MountPoint], directory: &Path) -> BTreeSet<String> {
    let name = |point: &MountPoint| {
        let rest = point.path.strip_prefix(directory).ok()?.to_str()?;
        (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
    };
    points.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_directly_in_the_directory_is_staged() {
        let paths =
            ["/", "/run/d p/mounts", "/run/d p/mounts/aa", "/run/d p/mounts/aa/deeper", "/run/d p/mountsbb"];
        let points = paths.map(|path| MountPoint { path: path.into(), is_read_only: false });
        assert_eq!(mounted_in(&points, Path::new("/run/d p/mounts")), BTreeSet::from(["aa".to_owned()]));
    }

    #[test]
    fn what_is_staged_stays_when_the_plugin_swaps_its_path() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("propagated");
        fs::create_dir_all(base.join("v")).unwrap();
        fs::write(base.join("v/file"), "theirs").unwrap();
        let stage = Stage::open(&place.path().join("mounts")).unwrap();
        let at = |below: &str| Place::Beneath { base: base.clone(), below: below.into() };
        stage.bind("ab", &at("v")).unwrap();
        fs::rename(base.join("v"), base.join("w")).unwrap();
        symlink("/etc", base.join("v")).unwrap();
        let read = fs::read_to_string(stage.path("ab").join("file"));
        let mounted = stage.mounted().unwrap();
        // Twice on one id leaves one mount.
        stage.bind("ab", &at("w")).unwrap();
        stage.clear("ab").unwrap();
        let left = (stage.mounted().unwrap(), stage.places().unwrap());
        assert_eq!(read.unwrap(), "theirs");
        assert_eq!(mounted, BTreeSet::from(["ab".to_owned()]));
        assert_eq!(left, (BTreeSet::new(), BTreeSet::new()));
        stage.clear("ab").unwrap();
    }

    #[test]
    fn nothing_outside_is_bound() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("propagated");
        fs::create_dir_all(base.join("in")).unwrap();
        fs::create_dir(place.path().join("secret")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("../secret", base.join("relative")).unwrap();
        symlink(place.path().join("secret"), base.join("absolute")).unwrap();
        symlink("/proc/self/root", base.join("magic")).unwrap();
        symlink("in", base.join("fine")).unwrap();
        let stage = Stage::open(&place.path().join("mounts")).unwrap();
        for below in
            ["relative", "absolute", "magic", "magic/etc", "../secret", "in/../../secret", "file", "none"]
        {
            let place = Place::Beneath { base: base.clone(), below: below.into() };
            let error = stage.bind("ab", &place).unwrap_err();
            assert!(matches!(error, Error::Theirs(_)), "{below}: {error:?}");
        }
        assert!(stage.mounted().unwrap().is_empty());
        let fine = stage.bind("ab", &Place::Beneath { base, below: "fine".into() });
        stage.clear("ab").unwrap();
        fine.unwrap();
    }

    #[test]
    fn a_place_of_the_host_is_where_its_links_lead() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("data")).unwrap();
        fs::write(at("data/file"), "text").unwrap();
        symlink(at("data"), at("absolute")).unwrap();
        symlink("/proc/self/root", at("magic")).unwrap();
        symlink("/proc/1", at("proc")).unwrap();
        symlink("/", at("root")).unwrap();
        let stage = Stage::open(&at("mounts")).unwrap();
        for name in ["data/file", "none", "magic", "proc", "root", "mounts", ""] {
            let error = stage.bind("ab", &Place::OnHost(at(name))).unwrap_err();
            assert!(matches!(error, Error::Theirs(_) | Error::Refused { .. }), "{name}: {error:?}");
        }
        assert!(stage.mounted().unwrap().is_empty());
        let bound = stage.bind("ab", &Place::OnHost(at("absolute")));
        let read = fs::read_to_string(stage.path("ab").join("file"));
        stage.clear("ab").unwrap();
        bound.unwrap();
        assert_eq!(read.unwrap(), "text");
    }
}
