//! The layers of a plugin: from a registry to blobs, and to files, in one pass.
//!
//! Layers arrive side by side and are applied one after the other, in the order of the manifest. Each is written and
//! hashed as it arrives, and unpacked from the file that grows (`follow`); what is here already is only unpacked. What
//! breaks off because a connection or the client goes away is kept, so that the next try goes on there.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config::PluginConfig;
use super::describe::{Described, registry_error};
use super::follow::{self, Follower, Growth, Pending};
use super::privilege::Granted;
use super::report::{Report, Step};
use super::{Error, Inner, Result, blocking};
use crate::confine::Root;
use crate::content::{Blob, Writer};
use crate::layer;
use crate::oci::{Descriptor, DiffId, Digest, Reference};
use crate::registry::{Access, Credentials, Session};

/// How many layers are transferred at a time, as in dockerd.
pub(super) const TRANSFERS_MAX: usize = 3;
/// How many pieces wait for the disk.
const PIECES_MAX: usize = 16;

/// A plugin whose blobs are all here, and stay here while this lives; its root file system is unpacked and on disk.
#[derive(Debug)]
pub(super) struct Fetched {
    /// What its configuration says.
    pub(super) config: PluginConfig,
    /// The blob of its configuration.
    pub(super) config_blob: Blob,
    /// The blob of its manifest.
    pub(super) manifest_blob: Blob,
    /// The blobs of its layers, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// What keeps them.
    _layer_blobs: Vec<Blob>,
}

/// One transfer, and what belongs to it.
struct Transfer<'a> {
    inner: &'a Arc<Inner>,
    /// Where what is missing comes from.
    session: Option<&'a Session>,
    report: &'a Report,
    rootfs: Arc<Root>,
    stop: Stop,
}

/// Ends all layers of a transfer when one fails.
#[derive(Default)]
struct Stop {
    token: CancellationToken,
    /// The first failure.
    error: OnceLock<Error>,
}

/// Where a layer is read from.
enum Source {
    Here(Blob),
    /// With what tells which comes last, its download or its unpacking.
    Arriving(Pending, Arc<AtomicBool>),
}

/// Starts to talk to a registry.
///
/// # Errors
/// [`Error::Registry`].
pub(super) async fn session(
    inner: &Inner,
    reference: &Reference,
    credentials: Credentials,
    access: Access,
) -> Result<Session> {
    let hosts = Arc::clone(&inner.parts.hosts);
    Session::open(hosts, reference, credentials, access).await.map_err(registry_error)
}

/// Brings everything here and unpacks it below `rootfs`. Without a session everything must be here.
///
/// # Errors
/// The first failure; [`Error::Abandoned`] when the client has gone. Then nothing is left but what can go on.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    session: Option<&Session>,
    described: Described,
    _granted: Granted,
    rootfs: Root,
    report: &Report,
) -> Result<Fetched> {
    let diff_ids =
        described.config.rootfs.as_ref().map(|rootfs| rootfs.diff_ids.to_vec()).unwrap_or_default();
    let layers = &described.manifest.layers;
    if !diff_ids.is_empty() && diff_ids.len() != layers.len() {
        return Err(Error::Layers { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    let transfer = Transfer { inner, session, report, rootfs: Arc::new(rootfs), stop: Stop::default() };
    let (mut sources, mut missing) = (Vec::new(), Vec::new());
    for layer in layers {
        let source = if let Some(blob) = transfer.pinned(layer) {
            report.step(layer.digest, Step::AlreadyHere);
            Source::Here(blob)
        } else {
            report.step(layer.digest, Step::Waiting);
            let (growth, pending) = follow::pair();
            let is_half_done = Arc::new(AtomicBool::new(false));
            missing.push((layer, growth, Arc::clone(&is_half_done)));
            Source::Arriving(pending, is_half_done)
        };
        sources.push((layer, source));
    }
    // Gathered first: a future that holds this closure is not `Send` enough for the compiler.
    let transfers: Vec<_> =
        missing.into_iter().map(|(layer, growth, half)| transfer.receive(layer, growth, half)).collect();
    let arriving = async {
        let blobs = futures_util::stream::iter(transfers).buffer_unordered(TRANSFERS_MAX);
        blobs.filter_map(std::future::ready).collect::<Vec<_>>().await
    };
    let (mut layer_blobs, here) = tokio::join!(arriving, transfer.apply(sources, &diff_ids));
    layer_blobs.extend(here);
    if let Some(error) = transfer.stop.error.into_inner() {
        return Err(error);
    }
    let (inner, rootfs) = (Arc::clone(inner), transfer.rootfs);
    blocking(move || {
        let content = &inner.parts.content;
        let config_blob = content.put(&described.config_bytes).map_err(Error::Content)?;
        let manifest_blob = content.put(&described.manifest_bytes).map_err(Error::Content)?;
        rootfs.sync().map_err(|source| Error::Directory { path: inner.parts.data.plugins(), source })?;
        Ok(Fetched {
            config: described.config,
            config_blob,
            manifest_blob,
            layers: described.manifest.layers.iter().map(|layer| layer.digest).collect(),
            _layer_blobs: layer_blobs,
        })
    })
    .await
}

impl Transfer<'_> {
    /// The layer, if it is here and as large as it should be.
    fn pinned(&self, layer: &Descriptor) -> Option<Blob> {
        self.inner.parts.content.pin(&layer.digest).ok().filter(|blob| blob.size_bytes == layer.size)
    }

    /// Fetches a layer; a failure stops the others.
    async fn receive(&self, layer: &Descriptor, growth: Growth, half: Arc<AtomicBool>) -> Option<Blob> {
        let (growth, received) = self.arrive(layer, growth).await;
        let error = match received {
            Ok(blob) => {
                self.complete(layer, &half);
                return Some(blob);
            }
            Err(error) => error,
        };
        self.stop.fail(error);
        // Only now, so that whoever unpacks it is not the first to fail.
        drop(growth);
        None
    }

    async fn arrive(&self, layer: &Descriptor, growth: Growth) -> (Option<Growth>, Result<Blob>) {
        let Some(session) = self.session else {
            return (Some(growth), Err(Error::MissingLayer { digest: layer.digest }));
        };
        if self.stop.token.is_cancelled() {
            return (Some(growth), Err(Error::Abandoned));
        }
        self.report.step(layer.digest, Step::Begun);
        let (content, digest, size) = (self.inner.parts.content.clone(), layer.digest, layer.size);
        let resumed = blocking(move || content.resume(&digest, size).map_err(Error::Content)).await;
        let writer = match resumed {
            Ok(writer) => writer.limited(size),
            Err(error) => return (Some(growth), Err(error)),
        };
        let offset = writer.size_bytes();
        let (send, pieces) = mpsc::channel(PIECES_MAX);
        let writing = tokio::task::spawn_blocking(move || write(writer, growth, pieces));
        let pumped = self.pump(session, layer, offset, send).await;
        let (writer, growth, written) = match writing.await {
            Ok(written) => written,
            Err(error) => return (None, Err(Error::Task(error))),
        };
        if let Err(error) = written.and(pumped) {
            let kept = if self.may_go_on(&error) {
                blocking(move || writer.keep().map_err(Error::Content)).await
            } else {
                Ok(())
            };
            if let Err(error) = kept {
                tracing::debug!(%digest, error = crate::error::chain(&error), "a download that broke off is not kept");
            }
            return (Some(growth), Err(error));
        }
        self.report.step(digest, Step::Verifying);
        growth.whole();
        let expected = layer.clone();
        let committed = blocking(move || writer.commit(Some(&expected)).map_err(Error::Content)).await;
        if committed.is_ok() {
            self.report.step(digest, Step::Downloaded);
            growth.settled();
        }
        (Some(growth), committed)
    }

    /// Hands what arrives to the writer.
    async fn pump(
        &self,
        session: &Session,
        layer: &Descriptor,
        offset: u64,
        send: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let arriving = async {
            let mut download = session.fetch_blob(layer, offset).await.map_err(registry_error)?;
            while let Some(piece) = download.chunk().await.map_err(registry_error)? {
                if send.send(piece).await.is_err() {
                    // The writer will say why it has stopped.
                    break;
                }
                self.report.count(layer.digest, Step::Downloading, download.offset(), layer.size);
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = self.report.abandoned() => Err(Error::Abandoned),
            () = self.stop.token.cancelled() => Err(Error::Abandoned),
            arrived = arriving => arrived,
        }
    }

    /// Whether the next try can make use of what has arrived: nothing is wrong with it, as far as is known.
    fn may_go_on(&self, error: &Error) -> bool {
        let first = self.stop.error.get().unwrap_or(error);
        match first {
            Error::Abandoned => true,
            Error::Registry(error) => error.is_passing(),
            _ => false,
        }
    }

    /// Unpacks the layers in their order; a failure stops the others. Gives the blobs that were here before.
    async fn apply(&self, sources: Vec<(&Descriptor, Source)>, diff_ids: &[String]) -> Vec<Blob> {
        let mut here = Vec::new();
        for (at, (layer, source)) in sources.into_iter().enumerate() {
            if self.stop.token.is_cancelled() {
                break;
            }
            let expected = diff_ids.get(at);
            match self.unpack(layer, source, expected).await {
                Ok(blob) => here.extend(blob),
                Err(error) => self.stop.fail(error),
            }
        }
        here
    }

    async fn unpack(
        &self,
        layer: &Descriptor,
        source: Source,
        expected: Option<&String>,
    ) -> Result<Option<Blob>> {
        let (input, download, here, half) = match source {
            Source::Here(blob) => {
                let (file, _) = self.inner.parts.content.open_blob(&blob.digest).map_err(Error::Content)?;
                (Input::File(file), None, Some(blob), Arc::new(AtomicBool::new(true)))
            }
            Source::Arriving(pending, half) => match pending.opened().await {
                Some(follower) => {
                    let download = follower.watch();
                    (Input::Follower(follower), Some(download), None, half)
                }
                // It was told why.
                None => return Ok(None),
            },
        };
        let Descriptor { digest, size, .. } = *layer;
        let reader = Counted { input, report: self.report.clone(), digest, read_bytes: 0, size_bytes: size };
        let (rootfs, limits) = (Arc::clone(&self.rootfs), self.inner.parts.limits);
        let unpacked = blocking(move || {
            layer::unpack(reader, &rootfs, &limits).map_err(|source| {
                // What is damaged may be not what the manifest names: then its digest tells more, and is told first.
                if let Some(download) = download.filter(|_| source.may_be_damage()) {
                    download.until_over();
                }
                Error::Unpack { digest, source }
            })
        });
        let DiffId(got) = unpacked.await?;
        // dockerd 20.10 lists the digest of the compressed layer, which was compared already.
        let is_one = |expected: &String| [got, digest].iter().any(|own| *expected == own.to_string());
        if let Some(expected) = expected.filter(|expected| !is_one(expected)) {
            return Err(Error::DiffId { digest, got, expected: expected.clone() });
        }
        self.complete(layer, &half);
        Ok(here)
    }

    /// Told when the second of download and unpacking is done.
    fn complete(&self, layer: &Descriptor, half: &AtomicBool) {
        if half.swap(true, Ordering::SeqCst) {
            self.report.step(layer.digest, Step::Complete);
        }
    }
}

impl Stop {
    fn fail(&self, error: Error) {
        // The first one tells what happened; the others follow from it.
        let _later = self.error.set(error);
        self.token.cancel();
    }
}

/// Writes what arrives, and tells how far it is. On a thread that may block.
fn write(
    mut writer: Writer,
    mut growth: Growth,
    mut pieces: mpsc::Receiver<Bytes>,
) -> (Writer, Growth, Result<()>) {
    let mut written = || {
        growth.open(writer.reader().map_err(Error::Content)?);
        growth.grown(writer.size_bytes());
        while let Some(mut piece) = pieces.blocking_recv() {
            let failed = |source| Error::Store { source };
            loop {
                writer.write_all(&piece).map_err(failed)?;
                match pieces.try_recv() {
                    Ok(next) => piece = next,
                    Err(_) => break,
                }
            }
            writer.flush().map_err(failed)?;
            growth.grown(writer.size_bytes());
        }
        Ok(())
    };
    let written = written();
    (writer, growth, written)
}

/// A layer that is unpacked.
enum Input {
    File(File),
    Follower(Follower),
}

/// Tells how far unpacking is.
struct Counted {
    input: Input,
    report: Report,
    digest: Digest,
    read_bytes: u64,
    size_bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.report.is_abandoned() {
            return Err(io::Error::other("the client has gone"));
        }
        let (read, alone) = match &mut self.input {
            Input::File(file) => (file.read(buffer)?, true),
            Input::Follower(follower) => (follower.read(buffer)?, follower.is_settled()),
        };
        self.read_bytes += u64::try_from(read).unwrap_or(0);
        // While it still arrives, that is what is told.
        if alone {
            self.report.count(self.digest, Step::Extracting, self.read_bytes, self.size_bytes);
        }
        Ok(read)
    }
}
