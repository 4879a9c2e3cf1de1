//! Layers: from a tar stream to files below a root, and from a plugin's context to files and a layer at once.
//!
//! A hostile archive can do no more than fill its own root up to the [`Limits`]: every path goes through `confine`,
//! and no library unpacks. The tar format is read by this room, by Go's rules: the crates that were tried see
//! other entries than Go does in archives made for that (`tar` splits PAX records at newlines; `tar-core` reads
//! numbers that begin with NUL as 0, lets base-256 sizes overflow, stops at a malformed PAX record without a word, and
//! ranks GNU names below PAX ones).
//!
//! Everything here blocks, and refuses to know plugins, manifests and where blobs lie.

mod context;
mod entries;
mod error;
mod gzip;
mod header;
mod input;
mod limits;
mod part;
mod pax;
mod place;
#[cfg(test)]
mod tests;
mod whiteout;
mod write;

use std::io::{Read, Write};

use crate::confine::{Root, show};
use crate::oci::DiffId;

pub use context::{Context, split_context};
pub use error::Error;
pub use limits::Limits;
pub use part::{Part, unpack_part};

use entries::Entries;
use input::Input;
use place::Placer;

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Applies one layer to what is below `root`: gzip, zstd or plain, as its first bytes tell.
///
/// The layers of an image go into the same root one after the other, the lowest first; whiteouts of a layer take away
/// what those below it brought. The digest is of the whole uncompressed stream, to its last byte; whoever has an
/// expectation compares it.
///
/// The reader moves to a thread of its own and is read to its end if all goes well; after an error that thread ends
/// as soon as the reader returns. Nothing is synced, see [`Root::sync`]. After an error `root` holds part of the
/// layer, see [`Root::clear`].
///
/// # Errors
/// [`Error`]: everything that is wrong with the archive is `Kind::Invalid`.
pub fn unpack<R: Read + Send + 'static>(reader: R, root: &Root, limits: &Limits) -> Result<DiffId> {
    let input = Input::start(reader, limits.unpacked_max_bytes, true)?;
    let mut entries = Entries::new(input, *limits);
    let mut placer = Placer::new(root, limits)?;
    while let Some(entry) = entries.next()? {
        placer.place(&entry, |file| {
            loop {
                let piece = entries.content()?;
                if piece.is_empty() {
                    return Ok(());
                }
                file.write_all(piece).map_err(|source| Error::Write { entry: show(&entry.name), source })?;
            }
        })?;
    }
    placer.finish()?;
    Ok(DiffId(entries.finish()?.finish()))
}
