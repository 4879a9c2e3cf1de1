//! The context of a new plugin, taken apart: `config.json`, and `rootfs/…` as files and as a layer.
//!
//! As dockerd's `CreateFromContext` and `splitConfigRootFSFromTar` (20.10, `plugin/backend_linux.go`): names are
//! cleaned, other entries at the top are passed over. What dockerd lets pass and cannot mean anything is refused here
//! with a reason: two config.json, one that is no file, a rootfs that is no directory. What config.json says is not
//! known here.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::thread;

use crate::confine::{Inside, Root, show};
use crate::oci::DiffId;

use super::entries::{Entries, Entry, EntryType};
use super::error::Error;
use super::gzip::Gzip;
use super::input::Input;
use super::limits::Limits;
use super::place::Placer;
use super::write;

type Result<T> = std::result::Result<T, Error>;

const CONFIG: &[u8] = b"config.json";
const ROOTFS: &[u8] = b"rootfs";

/// A context taken apart.
#[derive(Debug)]
pub struct Context<W> {
    /// The bytes of config.json, as they were.
    pub config_json: Vec<u8>,
    /// The digest of the layer before compression.
    pub diff_id: DiffId,
    /// The writer that took the gzip layer; nothing is flushed or synced.
    pub blob: W,
}

/// Takes the tar of `docker plugin create` apart: gzip, zstd or plain. `rootfs/…` is unpacked below `root`, which
/// should be empty, and at the same time written as a layer, compressed, to `blob`.
///
/// The layer holds the same entries in the same order with names, modes, owners, times, links, devices and xattrs;
/// user and group names are left out, they mean nothing elsewhere. The same context gives the same bytes. Whiteouts
/// are kept in the layer and obeyed below `root`, so that both are what an installer gets.
///
/// Memory stays flat, whatever the size. Nothing is synced, see [`Root::sync`]. After an error `root` holds part of
/// the tree ([`Root::clear`]) and `blob` is dropped with part of the layer.
///
/// # Errors
/// [`Error`]: everything that is wrong with the context is `Kind::Invalid`.
pub fn split_context<R, W>(reader: R, root: &Root, blob: W, limits: &Limits) -> Result<Context<W>>
where
    R: Read + Send + 'static,
    W: Write + Send,
{
    let mut entries = Entries::new(Input::start(reader, limits.unpacked_max_bytes, false)?, *limits);
    thread::scope(|scope| {
        let mut layer = Gzip::start(scope, blob)?;
        let split = split(&mut entries, root, &mut layer, limits);
        let finished = layer.finish();
        match (split, finished) {
            (Ok(config_json), Ok((diff_id, blob))) => {
                entries.finish()?;
                Ok(Context { config_json, diff_id, blob })
            }
            // A blob that cannot be written is the cause of what went wrong before it.
            (Err(Error::Thread(_)) | Ok(_), Err(cause)) => Err(cause),
            (Err(error), _) => Err(error),
        }
    })
}

fn split<'scope, W: Write + Send + 'scope>(
    entries: &mut Entries,
    root: &Root,
    layer: &mut Gzip<'scope, W>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let mut placer = Placer::new(root, limits)?;
    let (mut config, mut rootfs) = (None, false);
    while let Some(mut entry) = entries.next()? {
        let path =
            Inside::parse(&entry.name).map_err(|source| Error::Place { entry: show(&entry.name), source })?;
        if path.as_bytes() == CONFIG {
            if config.is_some() {
                return refuse_config("is in the archive twice".into());
            }
            config = Some(read_config(&entry, entries, limits.config_max_bytes)?);
        } else if let Some(inside) = path.strip_first(ROOTFS) {
            rename(&mut entry, &inside)?;
            store(&entry, &inside, entries, &mut placer, layer)?;
            rootfs = true;
        }
    }
    placer.finish()?;
    layer.write(&write::TRAILER)?;
    if !rootfs {
        return Err(Error::NoRootfs);
    }
    config.ok_or(Error::NoConfig)
}

fn refuse_config<T>(problem: Cow<'static, str>) -> Result<T> {
    Err(Error::Config { problem })
}

fn read_config(entry: &Entry, entries: &mut Entries, max_bytes: u64) -> Result<Vec<u8>> {
    if entry.what != EntryType::File {
        return refuse_config(format!("is a {}, expected a regular file", entry.what.words()).into());
    }
    if entry.size > max_bytes {
        return refuse_config(format!("has {} bytes, {max_bytes} are allowed", entry.size).into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(entry.size).unwrap_or_default());
    loop {
        match entries.content().map_err(in_dockers_words)? {
            [] => return Ok(bytes),
            piece => bytes.extend_from_slice(piece),
        }
    }
}

/// dockerd names this one entry without quotes.
fn in_dockers_words(error: Error) -> Error {
    match error {
        Error::CutOff { missing_bytes, .. } => {
            Error::CutOff { entry: "config.json".to_owned(), missing_bytes }
        }
        other => other,
    }
}

/// Gives the entry the name it has below rootfs, and its hard link too.
fn rename(entry: &mut Entry, inside: &Inside) -> Result<()> {
    if inside.is_root() && entry.what != EntryType::Directory {
        let problem = format!("it is a {}, expected a directory", entry.what.words());
        return Err(Error::Entry { entry: show(&entry.name), problem: problem.into() });
    }
    entry.name = inside.as_bytes().to_vec();
    if entry.what == EntryType::HardLink {
        let target =
            Inside::parse(&entry.link).map_err(|source| Error::Place { entry: show(&entry.name), source })?;
        // Without the prefix it is taken as below rootfs already, as dockerd does.
        entry.link = target.strip_first(ROOTFS).unwrap_or(target).as_bytes().to_vec();
    }
    Ok(())
}

/// Puts the entry below the root and into the layer.
fn store<'scope, W: Write + Send + 'scope>(
    entry: &Entry,
    inside: &Inside,
    entries: &mut Entries,
    placer: &mut Placer<'_>,
    layer: &mut Gzip<'scope, W>,
) -> Result<()> {
    // A directory's name ends in a slash by custom; the root's is a dot.
    let name = match (inside.is_root(), entry.what) {
        (true, _) => Cow::Borrowed(b"./".as_slice()),
        (false, EntryType::Directory) => Cow::Owned([inside.as_bytes(), b"/"].concat()),
        (false, _) => Cow::Borrowed(inside.as_bytes()),
    };
    let mut header = Vec::new();
    write::header(entry, &name, &mut header);
    layer.write(&header)?;
    let mut rest = entry.size;
    placer.place(entry, |file| {
        loop {
            let piece = entries.content()?;
            if piece.is_empty() {
                return Ok(());
            }
            rest = rest.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            layer.write(piece)?;
            file.write_all(piece).map_err(|source| Error::Write { entry: show(&entry.name), source })?;
        }
    })?;
    // A whiteout's content is not unpacked; the layer has it as it was.
    while rest > 0 {
        let piece = entries.content()?;
        rest = rest.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        layer.write(piece)?;
    }
    layer.write(write::TRAILER.get(..write::padding(entry.size)).unwrap_or_default())
}
