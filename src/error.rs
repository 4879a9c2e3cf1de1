//! What kinds of failure there are, and how an error is told in one line.
//!
//! Every room has its own `thiserror` enum; each of them says with [`Classified::kind`] which of the ten
//! kinds a variant is. The one `match` from kind to HTTP status is in `api/error.rs`. This file knows neither
//! HTTP nor any room.

use std::io;

/// The kind of a failure: the closed set that every error of this crate belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing that was named does not exist.
    NotFound,
    /// The request, a name, a document or an archive is not well-formed or not allowed.
    Invalid,
    /// The request is fine, but the present state of the thing forbids it.
    Conflict,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Credentials are fine and do not permit this.
    Forbidden,
    /// There is nothing to do: the thing is already as asked for.
    NotModified,
    /// This daemon does not do that.
    NotImplemented,
    /// Something that is needed does not answer at present; trying again may help.
    Unavailable,
    /// The disk has no room, or the user no quota. Nothing that was there before is lost.
    Full,
    /// A fault of ours or of the machine: I/O, a broken invariant.
    Internal,
}

impl Kind {
    /// What the operating system says where no name from outside is at fault: a full disk or a fault of the machine.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Internal,
        }
    }
}

/// An error that knows its [`Kind`].
///
/// `Display` tells only the error's own part; the cause is behind `source()`. [`chain`] joins them.
pub trait Classified: std::error::Error {
    /// Which of the ten kinds this is. Implementations match exhaustively, without a wildcard.
    fn kind(&self) -> Kind;
}

/// Joins an error and its causes into the one line a client or a log sees: `outer: middle: inner`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("opening the box")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_reads_outside_in() {
        let error = Outer(io::Error::other("the lid is stuck"));
        assert_eq!(chain(&error), "opening the box: the lid is stuck");
    }
}
