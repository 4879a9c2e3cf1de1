//! What the specification has to know of the host: which paths exist, and which device a node is.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// How many devices one directory may give a plugin.
const DEVICES_MAX: usize = 4096;
/// How deep a directory of devices is looked through.
const DEPTH_MAX: usize = 8;

/// Where the kernel tells which programs it runs by others.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// What is asked about the host. The paths are trusted: the user has consented to them by name.
pub trait Host {
    /// Whether there is anything at the path, links followed.
    fn exists(&self, path: &Path) -> bool;

    /// The devices that a path gives: itself, or those in it when it is a directory. Never none.
    ///
    /// # Errors
    /// When it does not exist, or is neither a device nor a directory with one.
    fn devices(&self, path: &Path) -> io::Result<Vec<DeviceNode>>;

    /// The machine it is: `x86_64`, `aarch64`.
    fn architecture(&self) -> &'static str;

    /// Whether somebody told the kernel how to run programs that begin like this (`binfmt_misc`), or may have.
    fn interprets(&self, head: &[u8]) -> bool;
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where it is, in the plugin as on the host.
    pub path: PathBuf,
    /// Block or character.
    pub kind: LinuxDeviceType,
    /// The driver's number.
    pub major: i64,
    /// The device's number.
    pub minor: i64,
    /// Permissions, without the type.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The machine we run on.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl DeviceNode {
    /// The node as the runtime makes it.
    pub(super) fn device(&self) -> Result<LinuxDevice, OciSpecError> {
        LinuxDeviceBuilder::default()
            .path(&self.path)
            .typ(self.kind)
            .major(self.major)
            .minor(self.minor)
            .file_mode(self.mode)
            .uid(self.uid)
            .gid(self.gid)
            .build()
    }

    /// The rule that allows it.
    pub(super) fn rule(&self) -> Result<LinuxDeviceCgroup, OciSpecError> {
        LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(self.kind)
            .major(self.major)
            .minor(self.minor)
            .access("rwm")
            .build()
    }
}

impl Host for Machine {
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn devices(&self, path: &Path) -> io::Result<Vec<DeviceNode>> {
        // dockerd follows a link in the last place, and shows the device under the path that was asked for.
        let metadata = fs::metadata(path)?;
        if let Some(node) = node(path, &metadata) {
            return Ok(vec![node]);
        }
        let mut found = Vec::new();
        if metadata.is_dir() {
            gather(path, 0, &mut found)?;
        }
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device node"));
        }
        Ok(found)
    }

    fn architecture(&self) -> &'static str {
        std::env::consts::ARCH
    }

    fn interprets(&self, head: &[u8]) -> bool {
        // Where it is not mounted there are no entries.
        let Ok(entries) = fs::read_dir(BINFMT) else { return false };
        let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        texts.into_iter().any(|text| takes(&text, head))
    }
}

/// Whether an entry of `binfmt_misc` takes programs that begin like this. An entry for the ending of a file's name is
/// believed to take them.
fn takes(entry: &str, head: &[u8]) -> bool {
    let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    if entry.lines().next() != Some("enabled") {
        return false;
    }
    if entry.lines().any(|line| line.starts_with("extension ")) {
        return true;
    }
    let Some(magic) = field("magic").and_then(bytes) else { return false };
    let mask = field("mask").and_then(bytes).unwrap_or_else(|| vec![u8::MAX; magic.len()]);
    let offset = field("offset").and_then(|offset| offset.parse::<usize>().ok()).unwrap_or_default();
    let Some(found) = head.get(offset..).and_then(|rest| rest.get(..magic.len())) else { return false };
    found.iter().zip(&magic).zip(&mask).all(|((found, magic), mask)| found & mask == magic & mask)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn gather(directory: &Path, depth: usize, found: &mut Vec<DeviceNode>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // What goes away meanwhile is ignored, as dockerd ignores it; links are not followed in here.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if let Some(node) = node(&path, &metadata) {
            if found.len() == DEVICES_MAX {
                let message = format!("a directory with more than {DEVICES_MAX} devices");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            found.push(node);
        } else if metadata.is_dir() && depth < DEPTH_MAX {
            gather(&path, depth + 1, found)?;
        }
    }
    Ok(())
}

fn node(path: &Path, metadata: &fs::Metadata) -> Option<DeviceNode> {
    const PERMISSIONS: u32 = 0o7777;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    Some(DeviceNode {
        path: path.to_owned(),
        kind,
        major: i64::try_from(major(metadata.rdev())).ok()?,
        minor: i64::try_from(minor(metadata.rdev())).ok()?,
        mode: metadata.mode() & PERMISSIONS,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_their_path_and_by_their_directory() {
        let null = Machine.devices(Path::new("/dev/null")).unwrap();
        assert_eq!(null.len(), 1);
        assert_eq!((null[0].kind, null[0].major, null[0].minor), (LinuxDeviceType::C, 1, 3));
        let all = Machine.devices(Path::new("/dev")).unwrap();
        assert!(all.iter().any(|node| node == &null[0]));
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let linked = Machine.devices(&link).unwrap();
        assert_eq!((linked[0].path.as_path(), linked[0].minor), (link.as_path(), 3));
        assert!(Machine.devices(directory.path()).is_err());
        assert!(Machine.devices(Path::new("/etc/passwd")).is_err());
        let missing = Machine.devices(Path::new("/dev/no-such-device")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_emulator_is_found_by_its_magic() {
        const ARM: &str =
            "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c46\nmask ffffff00\n";
        let cases = [
            (ARM, &b"\x7fELF"[..], true),
            (ARM, b"\x7fELX", true),
            (ARM, b"\x7fEX", false),
            (ARM, b"nope", false),
            (&ARM.replace("enabled", "disabled"), b"\x7fELF", false),
            ("enabled\ninterpreter /w\nflags: \nextension .exe\n", b"MZ", true),
            ("enabled\noffset 2\nmagic 4d5a\n", b"..MZ", true),
            ("enabled\noffset 2\nmagic zz\n", b"..MZ", false),
            ("enabled\n", b"\x7fELF", false),
            ("", b"", false),
        ];
        for (entry, head, expected) in cases {
            assert_eq!(takes(entry, head), expected, "{entry:?} {head:?}");
        }
    }
}
