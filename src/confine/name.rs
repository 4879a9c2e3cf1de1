//! Names from outside, made harmless: a path below the root, and one component of it.
//!
//! Pure. `..` is resolved here, by text, and never above the root: that is what Go's `path.Clean("/" + name)` does,
//! and so what dockerd 20.10 makes of the name of every archive entry once it has changed its root.

use std::ffi::{CStr, CString};

use super::error::{Error, show};

/// The longest path, in bytes: `PATH_MAX` without its terminator.
pub const PATH_MAX_BYTES: usize = 4095;
/// The longest component, in bytes: `NAME_MAX`.
pub const NAME_MAX_BYTES: usize = 255;

/// A path below a root: no leading slash, no empty component, no `.` and no `..`; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inside(Vec<u8>);

impl Inside {
    /// Cleans a path from outside.
    ///
    /// # Errors
    /// [`Error::Name`] if it holds a NUL, is longer than [`PATH_MAX_BYTES`] or has a component longer than
    /// [`NAME_MAX_BYTES`].
    pub fn parse(path: &[u8]) -> Result<Self, Error> {
        let refuse = |problem| Err(Error::Name { name: show(path), problem });
        if path.len() > PATH_MAX_BYTES {
            return refuse("is longer than 4095 bytes");
        }
        if path.contains(&0) {
            return refuse("holds a NUL byte");
        }
        let mut clean = Vec::with_capacity(path.len());
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => clean.truncate(clean.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
                name if name.len() > NAME_MAX_BYTES => {
                    return refuse("has a component of more than 255 bytes");
                }
                name => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                }
            }
        }
        Ok(Self(clean))
    }

    /// The path as text of the kernel; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent's path and the last component; `None` for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/');
        let parent = cut.and_then(|at| self.0.get(..at)).unwrap_or_default();
        let name = cut.map_or(self.0.as_slice(), |at| self.0.get(at + 1..).unwrap_or_default());
        Some((parent, name))
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The same path without its first component, if that is `first`.
    pub fn strip_first(&self, first: &[u8]) -> Option<Self> {
        let rest = self.0.strip_prefix(first)?;
        match rest.split_first() {
            None => Some(Self(Vec::new())),
            Some((b'/', below)) => Some(Self(below.to_vec())),
            Some(_) => None,
        }
    }
}

/// One component: neither empty nor `.` nor `..`, without slash and NUL. What an `*at` call may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(CString);

impl Name {
    /// Checks one component.
    ///
    /// # Errors
    /// [`Error::Name`] if it is not exactly one component.
    pub fn parse(name: &[u8]) -> Result<Self, Error> {
        let refuse = |problem| Err(Error::Name { name: show(name), problem });
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return refuse("is not one component of a path");
        }
        if name.len() > NAME_MAX_BYTES {
            return refuse("has a component of more than 255 bytes");
        }
        match CString::new(name) {
            Ok(name) => Ok(Self(name)),
            Err(_) => refuse("holds a NUL byte"),
        }
    }

    /// The name for the kernel.
    pub(super) fn as_c_str(&self) -> &CStr {
        &self.0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_never_leaves_the_root() {
        let cases: [(&[u8], &[u8]); 13] = [
            (b"", b""),
            (b".", b""),
            (b"/", b""),
            (b"..", b""),
            (b"a", b"a"),
            (b"/a//b/", b"a/b"),
            (b"./a/./b", b"a/b"),
            (b"a/../b", b"b"),
            (b"a/b/..", b"a"),
            (b"../../etc/passwd", b"etc/passwd"),
            (b"/../a/../../b", b"b"),
            (b"a/...", b"a/..."),
            (b"\xff/\xfe", b"\xff/\xfe"),
        ];
        for (given, expected) in cases {
            assert_eq!(Inside::parse(given).unwrap().as_bytes(), expected, "{}", show(given));
        }
        assert!(Inside::parse(b"a\0b").is_err());
        assert!(Inside::parse(&[b'a'; 256]).is_err());
        assert!(Inside::parse(&b"a/".repeat(2048)).is_err());
    }

    #[test]
    fn a_path_is_cut_at_its_last_slash() {
        let path = Inside::parse(b"a/b/c").unwrap();
        assert_eq!(path.split(), Some((b"a/b".as_slice(), b"c".as_slice())));
        assert_eq!(Inside::parse(b"a").unwrap().split(), Some((b"".as_slice(), b"a".as_slice())));
        assert_eq!(Inside::parse(b"/").unwrap().split(), None);
        assert_eq!(path.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(path.strip_first(b"a").unwrap().as_bytes(), b"b/c");
        assert_eq!(Inside::parse(b"a").unwrap().strip_first(b"a").unwrap().as_bytes(), b"");
        assert_eq!(Inside::parse(b"ab/c").unwrap().strip_first(b"a"), None);
    }

    #[test]
    fn one_component_only() {
        for bad in [b"".as_slice(), b".", b"..", b"a/b", b"a\0b", &[b'a'; 256]] {
            assert!(Name::parse(bad).is_err(), "{}", show(bad));
        }
        assert!(Name::parse(b"...").is_ok());
    }
}
