//! `save` and `load`: a plugin as a tar that is an OCI image layout, for machines that reach no registry.
//!
//! What is saved is what a push sends, byte for byte; what is loaded is installed as a pull installs, with the same consent,
//! and no blob of the archive is believed before its digest is right. Facts: the OCI image layout specification;
//! containerd's annotation for the whole name.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use super::describe::{self, Described, registry_error};
use super::privilege::{self, Privilege};
use super::pull::Source;
use super::record::Record;
use super::report::{News, Report};
use super::{
    Error, Inner, Parts, PluginId, Remote, Result, blocking, collect, directories, fetch, pull, push,
};
use crate::content::{self, Blob};
use crate::oci::{CONFIG_MAX_BYTES, Descriptor, Digest, LAYERS_MAX, MANIFEST_MAX_BYTES, Reference};
use crate::registry::{self, Platform};

/// The file that says which layout it is, and what it says.
const LAYOUT: (&str, &str) = ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
/// The file that says where to begin.
const INDEX: &str = "index.json";
/// What the names of blobs begin with.
const BLOBS: &str = "blobs/sha256/";
/// Under which the index keeps the whole name, and the tag.
const NAME_KEY: &str = "io.containerd.image.name";
const TAG_KEY: &str = "org.opencontainers.image.ref.name";
/// How large a piece of a saved plugin is, in bytes, and how many wait for the client.
const PIECE_BYTES: usize = 256 * 1024;
const PIECES_MAX: usize = 4;
/// How many entries an archive may have: no plugin needs more.
const ENTRIES_MAX: usize = 2 * LAYERS_MAX;

/// A saved plugin, piece by piece; an error breaks it off.
pub type Saved = mpsc::Receiver<io::Result<Bytes>>;

/// `index.json`, as far as it concerns a plugin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u64,
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What an archive has brought, and what keeps it.
struct Unpacked {
    described: Described,
    manifest: Digest,
    /// The whole name, if the archive tells one.
    name: Option<String>,
    _blobs: Vec<Blob>,
}

pub(super) async fn save(inner: &Arc<Inner>, selector: &str) -> Result<Saved> {
    let record = inner.shelf.find(selector)?.record();
    let content = inner.parts.content.clone();
    let pinned = {
        let (content, record) = (content.clone(), record.clone());
        blocking(move || {
            let pinned: content::Result<Vec<_>> = record.blobs().map(|digest| content.pin(&digest)).collect();
            pinned.map_err(Error::Content)
        })
        .await?
    };
    let (send, receive) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces { send: send.clone(), piece: Vec::with_capacity(PIECE_BYTES) };
        if let Err(error) = write(&content, &record, &pinned, pieces) {
            // The client may have gone, then nobody is there to hear of it.
            let _gone = send.blocking_send(Err(error));
        }
    });
    Ok(receive)
}

/// What the plugin in an archive asks for, and the whole name the archive gives it. Nothing is installed.
pub(super) async fn privileges(
    inner: &Arc<Inner>,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Result<(Option<Reference>, Vec<Privilege>)> {
    let (parts, body) = (Arc::clone(inner), SyncIoBridge::new(body));
    let unpacked = blocking(move || read(&parts.parts, body)).await;
    // The blobs are let go here, before they are collected.
    let asked = unpacked.and_then(|unpacked| {
        let name = unpacked.name.as_deref().map(|name| Remote::parse(name)?.name("")).transpose()?;
        Ok((name, privilege::required(&unpacked.described.config)))
    });
    collect::unneeded(inner).await;
    asked
}

pub(super) async fn load(
    inner: &Arc<Inner>,
    alias: &str,
    privileges: Vec<Privilege>,
    body: impl AsyncRead + Send + Unpin + 'static,
    report: &Report,
) -> Result<PluginId> {
    let id = PluginId::random()?;
    let result = async {
        let (parts, body) = (Arc::clone(inner), SyncIoBridge::new(body));
        let Unpacked { described, manifest, name, _blobs } =
            blocking(move || read(&parts.parts, body)).await?;
        let name = match (alias, &name) {
            ("", None) => return Err(archive("it tells no name, give one".to_owned())),
            ("", Some(name)) => Remote::parse(name)?.name("")?,
            (alias, _) => Remote::parse(alias)?.name(alias)?,
        };
        let familiar = name.familiar();
        let taken = |_| Error::NameTaken { name: familiar.clone() };
        let reserved = inner.shelf.reserve(&familiar).map_err(taken)?;
        inner.former.check_free(inner, &familiar).await?;
        let granted = privilege::check(&described.config, &privileges).map_err(Error::Privileges)?;
        report.tell(News::Manifest(manifest));
        let rootfs = {
            let (inner, id) = (Arc::clone(inner), id.clone());
            blocking(move || directories::create(&inner.parts, &id)).await?
        };
        let fetched = fetch::fetch(inner, None, described, granted, rootfs, report).await?;
        // What an archive says of where it is from nobody has verified.
        let source = Source { reference: name.to_string(), origin: None };
        pull::install(inner, &id, name, source, fetched, reserved).await?;
        inner.tell("create", &id, &familiar);
        tracing::info!(plugin = familiar, %id, "loaded");
        Ok(())
    }
    .await;
    match result {
        Ok(()) => Ok(id),
        Err(error) => {
            collect::remains(inner, &id).await;
            Err(error)
        }
    }
}

/// Writes the archive. Blocking.
fn write(content: &content::Store, record: &Record, blobs: &[Blob], pieces: Pieces) -> io::Result<()> {
    let limit_bytes = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
    let manifest = content.read(&record.manifest, limit_bytes).map_err(io::Error::other)?;
    let media_type = push::parse(&manifest).map_err(io::Error::other)?.media_type;
    let size = u64::try_from(manifest.len()).unwrap_or(u64::MAX);
    let tag = record.name.tag().unwrap_or_default().to_owned();
    let annotations = [(NAME_KEY, record.name.to_string()), (TAG_KEY, tag)];
    let entry = Entry {
        descriptor: Descriptor { media_type, digest: record.manifest, size },
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
    };
    let index = serde_json::to_vec(&Index { schema_version: 2, manifests: vec![entry] })?;
    let mut archive = tar::Builder::new(pieces);
    append(&mut archive, LAYOUT.0, LAYOUT.1.as_bytes(), u64::try_from(LAYOUT.1.len()).unwrap_or(0))?;
    append(&mut archive, INDEX, index.as_slice(), u64::try_from(index.len()).unwrap_or(0))?;
    let mut written: Vec<Digest> = Vec::new();
    for digest in blobs.iter().map(|blob| blob.digest) {
        if !written.contains(&digest) {
            let (file, size) = content.open_blob(&digest).map_err(io::Error::other)?;
            append(&mut archive, &format!("{BLOBS}{}", digest.hex()), file, size)?;
            written.push(digest);
        }
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<Pieces>, name: &str, content: impl Read, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    archive.append_data(&mut header, name, content)
}

/// Reads an archive, and stores its blobs. Blocking.
fn read(parts: &Parts, body: impl Read) -> Result<Unpacked> {
    let broken = |error: io::Error| archive(error.to_string());
    let mut left_bytes = parts.limits.unpacked_max_bytes;
    let (mut index, mut blobs) = (None, Vec::new());
    let mut entries = tar::Archive::new(body);
    for (at, entry) in entries.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if at >= ENTRIES_MAX {
            return Err(archive(format!("it has more than {ENTRIES_MAX} entries")));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if name == INDEX {
            let mut json = Vec::new();
            let limit_bytes = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
            entry.by_ref().take(limit_bytes).read_to_end(&mut json).map_err(broken)?;
            index = Some(json);
        } else if let Some(hex) = name.strip_prefix(BLOBS) {
            let expected = Digest::from_hex(hex).map_err(|error| archive(format!("{name}: {error}")))?;
            let mut writer = parts.content.writer().map_err(Error::Content)?.limited(left_bytes);
            io::copy(&mut entry, &mut writer).map_err(|error| archive(format!("{name}: {error}")))?;
            left_bytes -= writer.size_bytes();
            let blob = writer.commit(None).map_err(Error::Content)?;
            if blob.digest != expected {
                return Err(archive(format!("{name} has the digest {}", blob.digest)));
            }
            blobs.push(blob);
        }
    }
    let index = index.ok_or_else(|| archive(format!("it has no {INDEX}")))?;
    describe(parts, &index, blobs)
}

fn describe(parts: &Parts, index: &[u8], blobs: Vec<Blob>) -> Result<Unpacked> {
    let stored = |descriptor: &Descriptor, limit_bytes: u64| {
        if blobs.iter().any(|blob| blob.digest == descriptor.digest) {
            return parts.content.read(&descriptor.digest, limit_bytes).map_err(Error::Content);
        }
        Err(archive(format!("the blob {} is missing", descriptor.digest)))
    };
    let read: Index = serde_json::from_slice(index).map_err(|error| archive(format!("{INDEX}: {error}")))?;
    let (mut chosen, name) = match read.manifests.as_slice() {
        [only] => (only.descriptor.clone(), only.annotations.get(NAME_KEY).cloned()),
        _ => (registry::choose(index, &Platform::here(), INDEX).map_err(registry_error)?, None),
    };
    let manifest_max_bytes = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = stored(&chosen, manifest_max_bytes)?;
    if chosen.media_type.is_index() {
        chosen = registry::choose(&bytes, &Platform::here(), INDEX).map_err(registry_error)?;
        bytes = stored(&chosen, manifest_max_bytes)?;
    }
    let reference = name.as_deref().unwrap_or("localhost/archive").parse::<Reference>();
    let reference = reference.map_err(Error::Reference)?;
    let manifest = describe::read_manifest(&bytes, &chosen.media_type, &reference)?;
    let config = stored(&manifest.config, CONFIG_MAX_BYTES)?;
    let described = Described::new(manifest, bytes, config)?;
    Ok(Unpacked { described, manifest: chosen.digest, name, _blobs: blobs })
}

fn archive(problem: String) -> Error {
    Error::Archive { problem }
}

/// Gathers what is written into pieces, and hands them to the client.
struct Pieces {
    send: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.send.blocking_send(Ok(piece.into())).map_err(gone)
    }
}
