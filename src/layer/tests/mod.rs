//! Archives made by hand, unpacked below real directories. Run as root: owners and devices are real.

mod context;
mod faithful;
mod hostile;
mod layering;
mod part;
mod speed;

use std::io::{Cursor, Write};
use std::path::Path;

use tempfile::TempDir;

use super::{Error, Limits, unpack};
use crate::confine::Root;
use crate::error::{Classified, Kind, chain};
use crate::oci::DiffId;

/// An archive under construction.
#[derive(Default, Clone)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    /// One entry with a header that `change` may spoil before its checksum is set.
    pub(super) fn raw(
        mut self,
        flag: u8,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        fields.typeflag = [flag];
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len().try_into().unwrap());
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(b'0', name.as_bytes(), b"", content, |_| {})
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", b"", |_| {})
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), b"", |_| {})
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), b"", |_| {})
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..rest + 20).find(|&sum| sum == rest + sum.to_string().len()).unwrap();
            write!(content, "{length} {key}=").unwrap();
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.raw(b'x', b"PaxHeaders/x", b"", &content, |_| {})
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(super) fn unended(self) -> Vec<u8> {
        self.0
    }
}

/// A directory to unpack into, with a file beside it that must stay as it is.
pub(super) struct Place {
    outer: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("rootfs")).unwrap();
        std::fs::write(outer.path().join("victim"), "untouched").unwrap();
        Self { outer }
    }

    pub(super) fn path(&self, inside: &str) -> std::path::PathBuf {
        self.outer.path().join("rootfs").join(inside)
    }

    pub(super) fn outside(&self) -> &Path {
        self.outer.path()
    }

    pub(super) fn root(&self) -> Root {
        Root::open(&self.outer.path().join("rootfs")).unwrap()
    }

    pub(super) fn unpack(&self, archive: Vec<u8>) -> super::Result<DiffId> {
        unpack(Cursor::new(archive), &self.root(), &Limits::default())
    }

    pub(super) fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap()
    }

    pub(super) fn has(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    /// Nothing beside the root has changed.
    pub(super) fn assert_contained(&self) {
        let mut beside: Vec<_> =
            std::fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["rootfs", "victim"]);
        assert_eq!(std::fs::read_to_string(self.outer.path().join("victim")).unwrap(), "untouched");
    }
}

/// The whole text of an error that has to be the archive's fault.
pub(super) fn invalid<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{}", chain(&error));
    chain(&error)
}
