//! Where the runtime's own program is run from (CVE-2019-5736): never from the installed file, since what a container
//! reaches through `/proc/self/exe` it may try to write to.
//!
//! It is run through a read-only overlay of its directory that is mounted nowhere, which costs no copy: nobody can
//! write through it, and the file below it has no way up. Where there is no overlay, from a copy in sealed memory.
//! It knows nothing of what the program does then.
//!
//! Facts: fsopen(2) and the kernel's overlayfs.rst (without an upper directory it takes two lower ones, and is
//! read-only); runc 1.2 does the same.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

const OWN: &str = "/proc/self/exe";

/// Begins this program anew with these arguments, from where nobody can write to it. Returns only when that failed.
///
/// `spare` is a directory that exists, is not above the program's and has no subdirectory of its name; what is in it
/// does not matter.
pub(super) fn again(arguments: &[&str], spare: &Path) -> io::Result<Infallible> {
    let program = overlaid(spare)?;
    let name = std::env::args_os().next().unwrap_or_else(|| OWN.into());
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    Err(Command::new(path).arg0(name).args(arguments).exec())
}

/// This program's file, opened through a read-only overlay.
fn overlaid(spare: &Path) -> io::Result<File> {
    let own = Path::new(OWN);
    let path = own.read_link()?;
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("this program has no path"));
    };
    let (above, spare) = (directory(above)?, directory(spare)?);
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // By descriptor: a path may be long, or have a colon in it.
    let layers = format!("/proc/self/fd/{}:/proc/self/fd/{}", above.as_raw_fd(), spare.as_raw_fd());
    fsconfig_set_string(&context, c"lowerdir", layers)?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let open = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let program = File::from(openat(&mount, name, open, Mode::empty())?);
    // Another file has the name after an upgrade of an installed dockplugd that runs.
    if program.metadata()?.ino() != own.metadata()?.ino() {
        return Err(io::Error::other("this program's file was replaced"));
    }
    Ok(program)
}

fn directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_program_is_the_same_and_nobody_can_write_to_it() {
        let spare = tempfile::tempdir().unwrap();
        let mut program = overlaid(spare.path()).unwrap();
        let (mut seen, mut own) = ([0; 4096], [0; 4096]);
        program.read_exact(&mut seen).unwrap();
        File::open(OWN).unwrap().read_exact(&mut own).unwrap();
        assert!(seen == own, "another program");

        let handle = format!("/proc/self/fd/{}", program.as_raw_fd());
        let refused = OpenOptions::new().write(true).open(&handle).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
        let refused =
            std::fs::set_permissions(&handle, program.metadata().unwrap().permissions()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
    }

    #[test]
    fn without_an_overlay_it_says_so() {
        assert!(overlaid(Path::new("/no/such")).is_err());
    }
}
