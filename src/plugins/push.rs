//! `push`: the stored manifest, byte for byte, with its blobs before it.
//!
//! What the registry has is left, what it has in another repository is mounted, the rest goes in one request a blob.
//! Nothing is changed here: no turn is taken, and the blobs are kept from being collected while they are sent.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

use super::describe::registry_error;
use super::fetch::{self, TRANSFERS_MAX};
use super::record::Record;
use super::report::{News, Report, Step};
use super::{Error, Inner, Result, blocking};
use crate::content::{self, Blob};
use crate::oci::{Descriptor, Digest, MANIFEST_MAX_BYTES, Manifest, MediaType, Reference};
use crate::registry::{Access, Credentials, Pushed, Session};

/// How much of a blob is read at once, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// What is sent, and stays here meanwhile.
struct Stored {
    manifest: Manifest,
    bytes: Vec<u8>,
    digest: Digest,
    _blobs: Vec<Blob>,
}

pub(super) async fn push(
    inner: &Arc<Inner>,
    selector: &str,
    credentials: Credentials,
    report: &Report,
) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let record = plugin.record();
    let stored = {
        let (inner, record) = (Arc::clone(inner), record.clone());
        blocking(move || stored(&inner.parts.content, &record)).await?
    };
    report.tell(News::Pushing { repository: record.name.familiar_name() });
    tokio::select! {
        biased;
        () = report.abandoned() => return Err(Error::Abandoned),
        sent = send(inner, &record, &stored, credentials, report) => sent?,
    }
    report.tell(News::Pushed {
        tag: record.name.tag().unwrap_or_default().to_owned(),
        digest: stored.digest,
        size_bytes: u64::try_from(stored.bytes.len()).unwrap_or(u64::MAX),
    });
    inner.tell("push", &plugin.id, selector);
    tracing::info!(plugin = plugin.name(), digest = %stored.digest, "pushed");
    Ok(())
}

/// What is sent, pinned. Blocking.
fn stored(content: &content::Store, record: &Record) -> Result<Stored> {
    let blobs: content::Result<_> = record.blobs().map(|digest| content.pin(&digest)).collect();
    let limit_bytes = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
    let bytes = content.read(&record.manifest, limit_bytes).map_err(Error::Content)?;
    let manifest = parse(&bytes)?;
    Ok(Stored { manifest, bytes, digest: record.manifest, _blobs: blobs.map_err(Error::Content)? })
}

/// Reads a manifest that is kept without its type: Docker's names it, OCI's may leave it out.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest> {
    let docker = Manifest::parse(bytes, &MediaType::DockerManifest);
    docker.or_else(|_| Manifest::parse(bytes, &MediaType::OciManifest)).map_err(Error::Oci)
}

async fn send(
    inner: &Arc<Inner>,
    record: &Record,
    stored: &Stored,
    credentials: Credentials,
    report: &Report,
) -> Result<()> {
    let session = fetch::session(inner, &record.name, credentials, Access::Push).await?;
    let mut blobs: Vec<&Descriptor> = Vec::new();
    for blob in std::iter::once(&stored.manifest.config).chain(&stored.manifest.layers) {
        if blobs.iter().all(|other| other.digest != blob.digest) {
            blobs.push(blob);
            report.step(blob.digest, Step::Preparing);
        }
    }
    let sending: Vec<_> = blobs
        .iter()
        .map(|blob| {
            send_blob(
                &session,
                inner.parts.content.clone(),
                blob,
                elsewhere(inner, record, &blob.digest),
                report,
            )
        })
        .collect();
    futures_util::stream::iter(sending).buffer_unordered(TRANSFERS_MAX).try_collect::<Vec<()>>().await?;
    let bytes = Bytes::copy_from_slice(&stored.bytes);
    session.put_manifest(bytes, &stored.manifest.media_type).await.map_err(registry_error)?;
    Ok(())
}

async fn send_blob(
    session: &Session,
    content: content::Store,
    blob: &Descriptor,
    from: Option<Reference>,
    report: &Report,
) -> Result<()> {
    let (digest, size, told) = (blob.digest, blob.size, report.clone());
    let source = move |offset| read(content.clone(), digest, offset, size, told.clone());
    let pushed = session.push_blob(blob, from.as_ref(), &source).await.map_err(registry_error)?;
    let step = match pushed {
        Pushed::Existed => Step::AlreadyThere,
        Pushed::Mounted => Step::Mounted,
        Pushed::Uploaded => Step::Uploaded,
    };
    report.step(digest, step);
    Ok(())
}

/// The blob from `offset` on, told as it goes.
fn read(
    content: content::Store,
    digest: Digest,
    offset: u64,
    size: u64,
    report: Report,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let opened = async move {
        let opening = tokio::task::spawn_blocking(move || content.open_blob(&digest));
        let (file, _) = opening.await.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(PIECE_BYTES);
        file.seek(std::io::SeekFrom::Start(offset)).await?;
        Ok::<_, std::io::Error>(ReaderStream::with_capacity(file, PIECE_BYTES))
    };
    let mut sent = offset;
    let told = move |piece: &Bytes| {
        sent += u64::try_from(piece.len()).unwrap_or(0);
        report.count(digest, Step::Uploading, sent, size);
    };
    futures_util::stream::once(opened).try_flatten().inspect_ok(told).boxed()
}

/// Another repository of the same registry that probably has the blob: what this plugin was pulled from, or another
/// plugin that shares the blob.
fn elsewhere(inner: &Inner, record: &Record, digest: &Digest) -> Option<Reference> {
    let others = inner.shelf.all();
    let sharing =
        others.iter().map(|other| other.record()).filter(|other| other.blobs().any(|blob| blob == *digest));
    let names = sharing.flat_map(|other| [other.reference.parse().ok(), Some(other.name)]);
    let own = [record.reference.parse::<Reference>().ok()];
    own.into_iter()
        .chain(names)
        .flatten()
        .find(|from| from.domain() == record.name.domain() && from.path() != record.name.path())
}
