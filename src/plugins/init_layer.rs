//! What every root file system must hold before a runtime mounts things on it.
//!
//! Made anew at each start, as dockerd does (`daemon/initlayer/setup_unix.go` in moby 20.10), because the plugin could
//! write there meanwhile. Whatever is in the way of ours and is no directory is removed, links included; nothing that
//! the file system holds is followed out of it. Blocking.

use std::path::Path;

use nix::errno::Errno;

use super::config::PluginConfig;
use super::settings::Settings;
use super::spec::SOCKETS_IN_PLUGIN;
use crate::confine::{Directory, FileType, Inside, Name, Result, Root};

/// Directories on the way, and those at the end of it.
const DIRECTORY_MODE: u32 = 0o755;
/// dockerd's empty files have it.
const FILE_MODE: u32 = 0o755;

/// What something has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    /// An empty file.
    File,
    /// A link to this.
    Link(&'static str),
}

const ENTRIES: [(&str, Kind); 11] = [
    ("/dev/pts", Kind::Directory),
    ("/dev/shm", Kind::Directory),
    ("/proc", Kind::Directory),
    ("/sys", Kind::Directory),
    (SOCKETS_IN_PLUGIN, Kind::Directory),
    ("/.dockerenv", Kind::File),
    ("/etc/resolv.conf", Kind::File),
    ("/etc/hosts", Kind::File),
    ("/etc/hostname", Kind::File),
    ("/dev/console", Kind::File),
    ("/etc/mtab", Kind::Link("/proc/mounts")),
];

/// Makes it so.
///
/// # Errors
/// What the kernel says, with the path below the root.
pub(super) fn set_up(rootfs: &Root, config: &PluginConfig, settings: &Settings) -> Result<()> {
    for (path, kind) in ENTRIES {
        ensure(rootfs, path, kind)?;
    }
    // runc makes it too; others do not.
    if !config.work_dir.is_empty() {
        destination(rootfs, &config.work_dir, true);
    }
    if !config.propagated_mount.is_empty() {
        destination(rootfs, &config.propagated_mount, true);
    }
    for mount in &settings.mounts {
        let source = mount.source.as_deref().unwrap_or_default();
        let file = mount.is_bind() && Path::new(source).metadata().is_ok_and(|found| !found.is_dir());
        destination(rootfs, &mount.destination, !file);
    }
    Ok(())
}

/// Walks down without following anything, and makes the last component what it has to be.
fn ensure(rootfs: &Root, path: &str, kind: Kind) -> Result<()> {
    let path = Inside::parse(path.as_bytes())?;
    let Some((parents, name)) = path.split() else { return Ok(()) };
    let mut here = rootfs.top().duplicate()?;
    for component in Inside::parse(parents)?.components() {
        here = directory(&here, &Name::parse(component)?)?;
    }
    let name = Name::parse(name)?;
    match kind {
        Kind::Directory => {
            directory(&here, &name)?;
        }
        Kind::File | Kind::Link(_) => {
            match here.metadata(&name) {
                // dockerd leaves a directory where it is; the runtime will say what it thinks of it.
                Ok(found) if found.file_type == FileType::Directory => return Ok(()),
                Ok(_) => here.remove(&name)?,
                Err(error) if error.is(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            if let Kind::Link(target) = kind {
                here.symlink(&name, target.as_bytes())?;
            } else {
                here.create_file(&name)?;
                here.pin(&name)?.set_mode(FILE_MODE)?;
            }
        }
    }
    Ok(())
}

/// Opens a directory; what is there instead of one is removed.
fn directory(parent: &Directory, name: &Name) -> Result<Directory> {
    match parent.directory(name) {
        Err(error) if error.is(Errno::ENOENT) => {}
        Err(error) if error.is(Errno::ENOTDIR) || error.is(Errno::ELOOP) => parent.remove(name)?,
        other => return other,
    }
    parent.make_directory(name, DIRECTORY_MODE)
}

/// Makes what something is mounted on, links followed within the root, as the runtime will follow them. The runtime
/// makes it too; what cannot be made here is left to it, with its words.
fn destination(rootfs: &Root, path: &str, is_directory: bool) {
    let make = || -> Result<()> {
        let path = Inside::parse(path.as_bytes())?;
        if is_directory {
            rootfs.make_directories(&path)?;
        } else if let Some((parents, name)) = path.split() {
            let parent = rootfs.make_directories(&Inside::parse(parents)?)?;
            match parent.create_file(&Name::parse(name)?) {
                Err(error) if !error.is(Errno::EEXIST) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    if let Err(error) = make() {
        tracing::debug!(
            path,
            error = crate::error::chain(&error),
            "a mount's destination is left to the runtime"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn set_up_in(directory: &Path, config: &str) -> Result<()> {
        let config = PluginConfig::decode(config.as_bytes()).unwrap();
        set_up(&Root::open(directory).unwrap(), &config, &Settings::initial(&config))
    }

    #[test]
    fn an_empty_root_gets_everything_and_a_second_time_changes_nothing() {
        let rootfs = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            set_up_in(rootfs.path(), r#"{"propagatedMount":"/mnt/v"}"#).unwrap();
            for (path, kind) in ENTRIES {
                let found = fs::symlink_metadata(rootfs.path().join(&path[1..])).unwrap();
                assert_eq!(found.is_dir(), kind == Kind::Directory, "{path}");
                assert_eq!(found.is_file(), kind == Kind::File, "{path}");
                if !found.is_symlink() {
                    assert_eq!(found.mode() & 0o7777, 0o755, "{path}");
                }
            }
            assert_eq!(fs::read_link(rootfs.path().join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
            assert!(rootfs.path().join("mnt/v").is_dir());
        }
    }

    #[test]
    fn nothing_is_followed_out_of_the_root() {
        let (rootfs, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let precious = outside.path().join("hosts");
        fs::write(&precious, "precious").unwrap();
        for (link, target) in
            [("dev", outside.path()), ("etc", outside.path()), ("proc", &precious), ("mnt", outside.path())]
        {
            symlink(target, rootfs.path().join(link)).unwrap();
        }
        fs::write(rootfs.path().join("run"), "a file in the way").unwrap();
        set_up_in(
            rootfs.path(),
            r#"{"propagatedMount":"/mnt/v","mounts":[{"destination":"/mnt/w","type":"tmpfs"}]}"#,
        )
        .unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert!(rootfs.path().join("dev/pts").is_dir());
        assert_eq!(fs::read_to_string(rootfs.path().join("etc/hosts")).unwrap(), "");
        assert!(rootfs.path().join("run/docker/plugins").is_dir());
    }

    #[test]
    fn a_mounts_destination_is_made_where_the_runtime_will_look_for_it() {
        let rootfs = tempfile::tempdir().unwrap();
        fs::create_dir(rootfs.path().join("run")).unwrap();
        fs::create_dir(rootfs.path().join("var")).unwrap();
        symlink("/run", rootfs.path().join("var/run")).unwrap();
        let config = r#"{"mounts":[{"destination":"/var/run/a.conf","source":"/etc/passwd","type":"bind"},
                                   {"destination":"/var/run/d","source":"/tmp","type":"bind"}]}"#;
        set_up_in(rootfs.path(), config).unwrap();
        assert!(rootfs.path().join("run/a.conf").is_file());
        assert!(rootfs.path().join("run/d").is_dir());
    }
}
