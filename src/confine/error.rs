//! How an operation below a directory fails.
//!
//! Names come from outside: they are shown quoted, with control characters escaped, and never longer than
//! [`SHOWN_MAX_BYTES`].

use nix::errno::Errno;

use crate::error::{Classified, Kind};

/// How much of a name an error text shows, in bytes.
const SHOWN_MAX_BYTES: usize = 256;

/// A failure below a [`Root`](super::Root).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name itself is not usable, whatever is on disk.
    #[error("the name {name} {problem}")]
    Name {
        /// The name, quoted.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The name leads to a thing of another type than the operation is for.
    #[error("{name} is a {got}, expected a {expected}")]
    Type {
        /// The name, quoted.
        name: String,
        /// What it is.
        got: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The name, or something below it, is a mount point: removing it would empty what is mounted there.
    #[error("{name} is a mount point and is not removed: unmount it first")]
    Mounted {
        /// The name, quoted.
        name: String,
    },
    /// The kernel has no `openat2`.
    #[error("this kernel cannot confine paths: openat2 is missing, Linux 5.6 or newer is needed")]
    Kernel,
    /// The kernel refused.
    #[error("cannot {action} {name}")]
    System {
        /// The operation, as a verb.
        action: &'static str,
        /// The name, quoted.
        name: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

impl Error {
    /// An error of the kernel with the operation and the name it was about.
    pub(super) fn system(action: &'static str, name: &[u8], source: Errno) -> Self {
        match source {
            Errno::ENOSYS => Self::Kernel,
            Errno::EXDEV if action == REMOVE => Self::Mounted { name: show(name) },
            source => Self::System { action, name: show(name), source },
        }
    }

    /// What the kernel said, if it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { source, .. } => Some(*source),
            Self::Name { .. } | Self::Type { .. } | Self::Mounted { .. } | Self::Kernel => None,
        }
    }

    /// Whether the kernel said exactly this.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::Type { .. } => Kind::Invalid,
            Self::Mounted { .. } => Kind::Conflict,
            Self::Kernel => Kind::Internal,
            Self::System { source, .. } => match source {
                Errno::ENOENT => Kind::NotFound,
                Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG => Kind::Invalid,
                Errno::EEXIST | Errno::ENOTEMPTY | Errno::EBUSY => Kind::Conflict,
                _ => Kind::Internal,
            },
        }
    }
}

/// The verb of removal; `EXDEV` under it means that a mount is in the way.
pub(super) const REMOVE: &str = "remove";

/// A name from outside as an error text may hold it: quoted, escaped, shortened.
pub fn show(name: &[u8]) -> String {
    if name.is_empty() {
        return "\"/\"".to_owned();
    }
    match name.get(..SHOWN_MAX_BYTES) {
        Some(head) if name.len() > SHOWN_MAX_BYTES => format!("{:?}…", String::from_utf8_lossy(head)),
        _ => format!("{:?}", String::from_utf8_lossy(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line_of_the_log() {
        assert_eq!(show(b"a\nb\x1b[31m"), r#""a\nb\u{1b}[31m""#);
        assert!(show(&vec![b'x'; 100_000]).len() < 300);
        assert_eq!(show(b""), "\"/\"");
    }
}
