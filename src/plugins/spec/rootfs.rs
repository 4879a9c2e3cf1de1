//! A root file system on disk, as far as it is looked at before it runs. Everything goes through `confine`.

use std::io::Read;
use std::path::Path;

use nix::errno::Errno;

use super::program::{Entry, HEAD_BYTES, Tree};
use crate::confine::{FileType, Root};

impl Tree for Root {
    fn look(&self, path: &Path) -> Option<Entry> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let found = match self.metadata(bytes) {
            Ok(found) => found,
            Err(error) if error.is(Errno::ENOENT) || error.is(Errno::ENOTDIR) => return None,
            Err(_) => return Some(Entry::Unknown),
        };
        Some(match found.file_type {
            FileType::File => Entry::File(found.mode),
            FileType::Directory => Entry::Directory,
            FileType::Symlink => self.read_link(bytes).map_or(Entry::Unknown, Entry::Link),
            other => Entry::Other(other.words()),
        })
    }

    fn head(&self, path: &Path) -> Option<Vec<u8>> {
        let file = self.open_file(path.as_os_str().as_encoded_bytes()).ok()?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        file.take(u64::try_from(HEAD_BYTES).ok()?).read_to_end(&mut head).ok()?;
        Some(head)
    }
}
