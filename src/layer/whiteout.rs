//! Whiteouts: entries whose names say what a layer takes away from the layers below it.
//!
//! Facts: the OCI image specification, `layer.md`, "Whiteouts"; dockerd's `pkg/archive/whiteouts.go` and `diff.go`.

use std::hash::{BuildHasher, RandomState};

use crate::confine::{self, Directory, FileType, Inside, Name};

const PREFIX: &[u8] = b".wh.";
/// Names of the old AUFS driver's own files; all but the opaque mark mean nothing elsewhere.
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name takes away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout {
    /// One name in a directory, with everything below it. Not checked: the archive may say `..`.
    Entry { parent: Inside, name: Vec<u8> },
    /// Everything in a directory but what came with the same archive.
    Opaque { parent: Inside },
    /// A file of AUFS: not unpacked.
    Nothing,
}

/// What the path takes away, if it is a whiteout.
pub(super) fn of(path: &Inside) -> Option<Whiteout> {
    let (parent, name) = path.split()?;
    let parent = Inside::parse(parent).ok()?;
    if name == OPAQUE {
        return Some(Whiteout::Opaque { parent });
    }
    if path.as_bytes().starts_with(META_PREFIX) {
        return Some(Whiteout::Nothing);
    }
    let name = name.strip_prefix(PREFIX)?.to_vec();
    Some(Whiteout::Entry { parent, name })
}

/// The paths that an archive brought, as hashes with a secret key: an archive cannot make two of them equal, and a
/// million of them fit into 16 MB.
#[derive(Debug, Default)]
pub(super) struct Seen {
    keys: RandomState,
    hashes: std::collections::HashSet<u64>,
}

impl Seen {
    pub(super) fn insert(&mut self, path: &[u8]) {
        self.hashes.insert(self.keys.hash_one(path));
    }

    /// Removes everything below `directory`, which is at `path`, that is not in the set and holds nothing of it.
    pub(super) fn clear_others(&self, path: &[u8], directory: &Directory) -> confine::Result<()> {
        self.prune(path, directory).map(drop)
    }

    /// Whether something stays.
    fn prune(&self, path: &[u8], directory: &Directory) -> confine::Result<bool> {
        let mut stays = false;
        let mut child = path.to_vec();
        directory.for_each(|name| {
            child.truncate(path.len());
            if !path.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(name.as_bytes());
            let mut keep = self.hashes.contains(&self.keys.hash_one(child.as_slice()));
            if directory.metadata(name)?.file_type == FileType::Directory {
                keep |= self.prune_child(&child, directory, name)?;
            }
            stays |= keep;
            if keep { Ok(()) } else { directory.remove_tree(name) }
        })?;
        Ok(stays)
    }

    fn prune_child(&self, path: &[u8], parent: &Directory, name: &Name) -> confine::Result<bool> {
        let directory = parent.directory(name)?;
        let modified = directory.own_metadata()?.modified;
        let stays = self.prune(path, &directory)?;
        directory.set_time(modified)?;
        Ok(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whiteouts() {
        let inside = |path: &str| Inside::parse(path.as_bytes()).unwrap();
        let entry = |parent: &str, name: &str| {
            Some(Whiteout::Entry { parent: inside(parent), name: name.as_bytes().to_vec() })
        };
        let cases = [
            ("a/b", None),
            ("", None),
            ("a/.whb", None),
            (".wh.a/b", None),
            ("a/.wh.b", entry("a", "b")),
            (".wh.b", entry("", "b")),
            ("a/.wh..", entry("a", ".")),
            ("a/.wh....", entry("a", "...")),
            ("a/.wh..wh.b", entry("a", ".wh.b")),
            ("a/.wh..wh..opq", Some(Whiteout::Opaque { parent: inside("a") })),
            (".wh..wh..opq", Some(Whiteout::Opaque { parent: inside("") })),
            (".wh..wh.plnk/x", Some(Whiteout::Nothing)),
            (".wh..wh.aufs", Some(Whiteout::Nothing)),
        ];
        for (path, expected) in cases {
            assert_eq!(of(&inside(path)), expected, "{path}");
        }
    }
}
