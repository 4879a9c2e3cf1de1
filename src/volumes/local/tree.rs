//! A directory tree that anybody may have made, measured, visited or deleted by descriptors.
//!
//! No link is followed and no mount is crossed: each directory is opened in the open one above it, by its one name, with
//! `openat2(RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS)`. Containers may change the tree meanwhile; what has gone in
//! between is passed over. Deleting counts what it frees, file by file, which a deletion that only deletes cannot tell
//! afterwards.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::DIRECTORY;

/// How many levels are deleted in place. A directory at the last one is moved to the top and deleted from there, so
/// that no depth of a tree needs more open files or stack than this.
const REMOVE_DEPTH_MAX: usize = 48;
/// How many levels are measured. What lies deeper is not counted: nothing may be moved while measuring.
const MEASURE_DEPTH_MAX: usize = 256;
/// How often a directory that fills up while it is being emptied is emptied again.
const ROUNDS_MAX: usize = 8;
/// How files are opened here: to be looked at, and no device or pipe to be waited for.
const FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// Deletes `parent/name` and everything in it; says how many bytes that freed. A file that also has a name elsewhere
/// frees nothing.
///
/// # Errors
/// The first thing that could not be deleted; `EXDEV` when something is mounted in the tree.
pub(super) fn remove(parent: &OwnedFd, name: &str) -> nix::Result<u64> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let top = open_below(parent, &name)?;
    let mut removal = Removal { top: &top, moved: 0, freed_bytes: 0 };
    let mut rounds = 0;
    loop {
        let moved_before = removal.moved;
        removal.empty(&top, 1)?;
        match unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(removal.freed_bytes),
            // What was moved to the top is found there in the next round.
            Err(Errno::ENOTEMPTY) if removal.moved > moved_before => {}
            Err(Errno::ENOTEMPTY) if rounds < ROUNDS_MAX => rounds += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// How many bytes the files in a tree take on disk, directories not counted, each file counted once.
pub(super) fn measure(directory: &OwnedFd) -> nix::Result<u64> {
    let mut seen = HashSet::new();
    measure_level(directory, 1, &mut seen)
}

/// The names in a directory that are UTF-8, as those of volumes are, sorted.
pub(super) fn names(directory: &OwnedFd) -> nix::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(open_below(directory, c".")?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.extend(name.to_str().ok().map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

struct Removal<'a> {
    top: &'a OwnedFd,
    moved: u64,
    freed_bytes: u64,
}

impl Removal<'_> {
    fn empty(&mut self, directory: &OwnedFd, depth: usize) -> nix::Result<()> {
        let mut rounds = 0;
        while self.empty_once(directory, depth)? {
            rounds += 1;
            if rounds == ROUNDS_MAX {
                return Err(Errno::ENOTEMPTY);
            }
        }
        Ok(())
    }

    /// Goes through a directory once; says whether a directory in it has filled up meanwhile.
    fn empty_once(&mut self, directory: &OwnedFd, depth: usize) -> nix::Result<bool> {
        let mut again = false;
        each(directory, |name, status| {
            let done = if is_directory(status) {
                self.remove_directory(directory, name, depth)
            } else {
                self.remove_file(directory, name, status)
            };
            match done {
                Ok(()) | Err(Errno::ENOENT) => Ok(()),
                Err(Errno::ENOTEMPTY) => {
                    again = true;
                    Ok(())
                }
                Err(errno) => Err(errno),
            }
        })?;
        Ok(again)
    }

    fn remove_directory(&mut self, parent: &OwnedFd, name: &CStr, depth: usize) -> nix::Result<()> {
        if depth == REMOVE_DEPTH_MAX {
            // Checks that no mount is crossed; a mount point itself cannot be moved.
            drop(open_below(parent, name)?);
            loop {
                self.moved += 1;
                let up = format!(".deep-{}", self.moved);
                match renameat2(parent, name, self.top, up.as_str(), RenameFlags::RENAME_NOREPLACE) {
                    Err(Errno::EEXIST) => {}
                    done => return done,
                }
            }
        }
        self.empty(&open_below(parent, name)?, depth + 1)?;
        unlinkat(parent, name, UnlinkatFlags::RemoveDir)
    }

    fn remove_file(&mut self, parent: &OwnedFd, name: &CStr, status: &FileStat) -> nix::Result<()> {
        unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
        if status.st_nlink == 1 {
            self.freed_bytes = self.freed_bytes.saturating_add(disk_bytes(status));
        }
        Ok(())
    }
}

/// Visits everything below a directory that can be opened without a consequence: directories, each before what is in
/// it, and regular files. What lies deeper than is measured is not visited.
pub(super) fn each_file(
    directory: &OwnedFd,
    visit: &mut impl FnMut(&OwnedFd) -> nix::Result<()>,
) -> nix::Result<()> {
    each_file_level(directory, 1, visit)
}

fn each_file_level(
    directory: &OwnedFd,
    depth: usize,
    visit: &mut impl FnMut(&OwnedFd) -> nix::Result<()>,
) -> nix::Result<()> {
    each(directory, |name, status| {
        let is_below = is_directory(status);
        let opened = match kind(status) {
            SFlag::S_IFDIR => open_below(directory, name),
            // Should a pipe have come into its place, that is not waited for.
            SFlag::S_IFREG => openat2(directory, name, how().flags(FILE)),
            _ => return Ok(()),
        };
        match opened {
            Ok(file) if is_below && depth < MEASURE_DEPTH_MAX => {
                visit(&file)?;
                each_file_level(&file, depth + 1, visit)
            }
            Ok(file) => visit(&file),
            // Gone, replaced by something else, or a mount: none of this volume's.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(()),
            Err(errno) => Err(errno),
        }
    })
}

fn measure_level(directory: &OwnedFd, depth: usize, seen: &mut HashSet<(u64, u64)>) -> nix::Result<u64> {
    let mut bytes: u64 = 0;
    each(directory, |name, status| {
        if !is_directory(status) {
            if status.st_nlink == 1 || seen.insert((status.st_dev, status.st_ino)) {
                bytes = bytes.saturating_add(disk_bytes(status));
            }
        } else if depth < MEASURE_DEPTH_MAX {
            match open_below(directory, name) {
                Ok(below) => bytes = bytes.saturating_add(measure_level(&below, depth + 1, seen)?),
                // Gone, replaced by something else, or a mount: none of this volume's.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Visits what is in a directory, but for what has gone meanwhile.
fn each(directory: &OwnedFd, mut visit: impl FnMut(&CStr, &FileStat) -> nix::Result<()>) -> nix::Result<()> {
    for entry in Dir::from_fd(open_below(directory, c".")?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(status) => visit(name, &status)?,
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn how() -> OpenHow {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    OpenHow::new().flags(DIRECTORY).resolve(resolve)
}

/// Opens a directory in another, by its one name.
fn open_below(parent: &OwnedFd, name: &CStr) -> nix::Result<OwnedFd> {
    openat2(parent, name, how())
}

/// Whether it is a directory, and no link to one.
pub(super) fn is_directory(status: &FileStat) -> bool {
    kind(status) == SFlag::S_IFDIR
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

/// What a file takes: its size, as dockerd counts, but of a file with holes only what is on the disk.
fn disk_bytes(status: &FileStat) -> u64 {
    let size = u64::try_from(status.st_size).unwrap_or(0);
    let on_disk = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
    size.min(on_disk)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use nix::sys::stat::Mode;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        nix::fcntl::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn links_are_counted_as_links_and_never_followed() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = inside.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(outside.path().join("precious"), vec![1; 10_000]).unwrap();
        symlink(outside.path(), tree.join("a/out")).unwrap();
        symlink(outside.path().join("precious"), tree.join("file")).unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 8192]).unwrap();
        fs::hard_link(tree.join("a/b/file"), tree.join("again")).unwrap();
        assert!((8192..8192 + 512).contains(&measure(&open(&tree)).unwrap()));
        let freed = remove(&open(inside.path()), "tree").unwrap();
        assert!((8192..8192 + 512).contains(&freed), "{freed}");
        assert!(!tree.exists());
        assert_eq!(fs::read(outside.path().join("precious")).unwrap().len(), 10_000);
    }

    #[test]
    fn a_file_that_stays_elsewhere_frees_nothing() {
        let inside = tempfile::tempdir().unwrap();
        fs::create_dir(inside.path().join("tree")).unwrap();
        fs::write(inside.path().join("kept"), vec![1; 8192]).unwrap();
        fs::hard_link(inside.path().join("kept"), inside.path().join("tree/link")).unwrap();
        assert_eq!(remove(&open(inside.path()), "tree").unwrap(), 0);
    }

    #[test]
    fn holes_are_not_counted() {
        let tree = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(tree.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert!(measure(&open(tree.path())).unwrap() < 1 << 20);
        fs::write(tree.path().join("small"), b"six by").unwrap();
        assert!(measure(&open(tree.path())).unwrap() >= 6);
    }

    #[test]
    fn no_depth_is_too_deep() {
        const DEPTH: usize = 500;
        let inside = tempfile::tempdir().unwrap();
        let mut here = open(inside.path());
        nix::sys::stat::mkdirat(&here, "tree", Mode::S_IRWXU).unwrap();
        here = open_below(&here, c"tree").unwrap();
        for _ in 0..DEPTH {
            nix::sys::stat::mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
            nix::sys::stat::mkdirat(&here, ".deep-1", Mode::S_IRWXU).unwrap();
            here = open_below(&here, c"d").unwrap();
        }
        assert_eq!(measure(&open(&inside.path().join("tree"))).unwrap(), 0);
        remove(&open(inside.path()), "tree").unwrap();
        assert!(!inside.path().join("tree").exists());
    }

    #[test]
    fn every_file_is_visited_but_nothing_that_does_something_when_it_is_opened() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("precious"), "").unwrap();
        fs::create_dir_all(inside.path().join("a/b")).unwrap();
        fs::write(inside.path().join("a/b/file"), "").unwrap();
        symlink(outside.path(), inside.path().join("a/out")).unwrap();
        symlink(outside.path().join("precious"), inside.path().join("link")).unwrap();
        nix::unistd::mkfifo(&inside.path().join("pipe"), Mode::S_IRWXU).unwrap();
        let mut visited = Vec::new();
        each_file(&open(inside.path()), &mut |file| {
            let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            visited.push(path.strip_prefix(inside.path()).unwrap().to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(visited, ["a", "a/b", "a/b/file"].map(Path::new));
    }

    #[test]
    fn a_mount_is_not_crossed() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("precious"), vec![1; 10_000]).unwrap();
        let point = inside.path().join("tree/a/m");
        fs::create_dir_all(&point).unwrap();
        mount(Some(outside.path()), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let measured = measure(&open(&inside.path().join("tree")));
        let removed = remove(&open(inside.path()), "tree");
        umount2(&point, MntFlags::MNT_DETACH).unwrap();
        assert_eq!(measured, Ok(0));
        assert_eq!(removed, Err(Errno::EXDEV));
        assert!(outside.path().join("precious").exists());
    }
}
