//! Uploading: what is there already is left, what another repository has is mounted, the rest goes in one PUT.
//!
//! The bytes come from the caller, from any offset and as often as needed, so that a broken upload can go on where the
//! registry says it is, or begin again. Facts from the distribution specification ("Pushing blobs", "Mounting a blob"),
//! and from docker-registry, which says `Range: 0-0` of an upload that is still empty.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};
use tokio::time::timeout;

use super::error::{Error, Result};
use super::limits::STALL_WEIGHT;
use super::refusal::Asked;
use super::resolve::content_digest;
use super::session::{Ask, Payload, Place, Session};
use super::transport::{Answer, Follow};
use super::{location, retry};
use crate::oci::{Descriptor, Digest, MediaType, Reference};

/// Where the bytes of a blob come from.
///
/// Any `Fn(u64) -> BoxStream<'static, io::Result<Bytes>>` is one. It may be asked more than once.
pub trait Source: Send + Sync {
    /// The blob from `offset` (in bytes) to its end. That it cannot be opened is the stream's first item.
    fn open(&self, offset: u64) -> BoxStream<'static, io::Result<Bytes>>;
}

impl<F: Fn(u64) -> BoxStream<'static, io::Result<Bytes>> + Send + Sync> Source for F {
    fn open(&self, offset: u64) -> BoxStream<'static, io::Result<Bytes>> {
        self(offset)
    }
}

/// An upload that the registry has begun.
#[derive(Debug)]
pub struct Upload {
    url: Url,
}

/// What became of the wish to mount a blob.
#[derive(Debug)]
pub enum Mount {
    /// It is there now.
    Mounted,
    /// It has to be uploaded, to here if the registry has said where.
    Upload(Option<Upload>),
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// It was taken from another repository of the registry.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

/// What of an upload has left us, and what kept the rest from leaving.
#[derive(Default)]
struct Sent {
    bytes: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl Session {
    /// Brings a blob into the repository with as little traffic as possible: [`Session::blob_exists`], then
    /// [`Session::mount`] from `mount_from` (if that is another repository of the same registry), then
    /// [`Session::upload`].
    ///
    /// # Errors
    /// Those of the three.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        mount_from: Option<&Reference>,
        source: &dyn Source,
    ) -> Result<Pushed> {
        if self.blob_exists(descriptor).await? {
            return Ok(Pushed::Existed);
        }
        let own = self.reference();
        let elsewhere = |from: &&Reference| from.domain() == own.domain() && from.path() != own.path();
        let started = match mount_from.filter(elsewhere) {
            Some(from) => match self.mount(&descriptor.digest, from).await? {
                Mount::Mounted => return Ok(Pushed::Mounted),
                Mount::Upload(started) => started,
            },
            None => None,
        };
        self.upload(descriptor, started, source).await?;
        Ok(Pushed::Uploaded)
    }

    /// Whether the repository has the blob, with its size as far as the registry tells.
    ///
    /// # Errors
    /// The registry's refusals.
    pub async fn blob_exists(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = format!("blobs/{}", descriptor.digest);
        let mut ask = Ask::new(Method::HEAD, Place::Below(&path), Asked::Push);
        ask.accepted = &[404];
        ask.follow = Follow::Verified;
        // Storage behind a registry may not know HEAD; then it is uploaded, which is never wrong.
        ask.foreign_accepted = true;
        let (answer, _) = self.ask(&ask).await?;
        let length = answer.header(&CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        Ok(answer.status().is_success() && length.is_none_or(|length| length == descriptor.size))
    }

    /// Asks the registry to take a blob from its repository `from`, of which only the path counts.
    ///
    /// # Errors
    /// The registry's refusals, but not that it does not let us read there or cannot mount: then it is to be uploaded.
    pub async fn mount(&self, digest: &Digest, from: &Reference) -> Result<Mount> {
        let from = from.path();
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let mut ask = Ask::new(Method::POST, Place::Below(&path), Asked::Push);
        ask.headers = vec![(CONTENT_LENGTH, HeaderValue::from_static("0"))];
        ask.also_from = Some(from);
        ask.accepted = &[400, 404, 405];
        match self.ask(&ask).await {
            Ok((answer, _)) if answer.status() == StatusCode::CREATED => Ok(Mount::Mounted),
            Ok((answer, _)) if answer.status().is_success() => {
                Ok(Mount::Upload(Some(Upload::begun(&answer)?)))
            }
            Ok(_) | Err(Error::Unauthorized { .. } | Error::Denied { .. }) => Ok(Mount::Upload(None)),
            Err(error) => Err(error),
        }
    }

    /// Uploads a blob in one PUT, into `started` or a new upload. What broke goes on where the registry has got to, or
    /// begins again.
    ///
    /// # Errors
    /// The registry's refusals; [`Error::Source`], [`Error::Stalled`], [`Error::Unreachable`].
    pub async fn upload(
        &self,
        descriptor: &Descriptor,
        started: Option<Upload>,
        source: &dyn Source,
    ) -> Result<()> {
        let mut upload = match started {
            Some(upload) => upload,
            None => self.begin().await?,
        };
        let (mut offset, mut failures) = (0, 0);
        loop {
            let Err(error) = self.put_blob(&upload, descriptor, offset, source).await else { return Ok(()) };
            let again = match &error {
                Error::Unreachable { .. } | Error::Stalled { .. } => true,
                // What was resumed wrongly may go well from the start.
                Error::Refused { status, .. } => status.is_server_error() || offset > 0,
                _ => false,
            };
            failures += if matches!(error, Error::Stalled { .. }) { STALL_WEIGHT } else { 1 };
            let pace = &self.inner.transport.pace;
            let Some(pause) = retry::pause(pace, failures, None, retry::chance()).filter(|_| again) else {
                return Err(error);
            };
            tracing::info!(digest = %descriptor.digest, error = crate::error::chain(&error), "going on with an upload");
            tokio::time::sleep(pause).await;
            let gone_wrong = matches!(&error, Error::Refused { status, .. } if !status.is_server_error());
            let got_to = if gone_wrong { None } else { self.progress(&upload, descriptor.size).await };
            (upload, offset) = match got_to {
                Some(got_to) => got_to,
                None => (self.begin().await?, 0),
            };
        }
    }

    /// Stores the manifest under the session's tag (or its digest, if there is no tag, or `latest`), byte for byte.
    ///
    /// # Errors
    /// The registry's refusals; [`Error::DigestMismatch`] when the registry or the reference says it is another one.
    pub async fn put_manifest(&self, bytes: Bytes, media_type: &MediaType) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        let reference = self.reference();
        let name = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => "latest".to_owned(),
        };
        let path = format!("manifests/{name}");
        let mut ask = Ask::new(Method::PUT, Place::Below(&path), Asked::Push);
        if let Ok(value) = HeaderValue::from_str(media_type.as_str()) {
            ask.headers.push((CONTENT_TYPE, value));
        }
        ask.body = Payload::Bytes(bytes);
        let (answer, _) = self.ask(&ask).await?;
        let announced = content_digest(&answer)?;
        for expected in [announced, reference.digest().copied()].into_iter().flatten() {
            if expected != digest {
                let what = format!("the manifest of {}", reference.familiar());
                return Err(Error::DigestMismatch { what, got: digest, expected });
            }
        }
        Ok(digest)
    }

    async fn begin(&self) -> Result<Upload> {
        let mut ask = Ask::new(Method::POST, Place::Below("blobs/uploads/"), Asked::Push);
        // Some registries insist on being told that there is no body.
        ask.headers = vec![(CONTENT_LENGTH, HeaderValue::from_static("0"))];
        let (answer, _) = self.ask(&ask).await?;
        Upload::begun(&answer)
    }

    /// Sends the blob from `offset` on and waits for the registry to have it.
    async fn put_blob(
        &self,
        upload: &Upload,
        descriptor: &Descriptor,
        offset: u64,
        source: &dyn Source,
    ) -> Result<()> {
        let Descriptor { digest, size, .. } = *descriptor;
        let mut url = upload.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let length = size - offset;
        let sent = Arc::new(Sent::default());
        let make = || body(source.open(offset), length, &sent);
        let mut ask = Ask::new(Method::PUT, Place::At(&url), Asked::Push);
        ask.headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        if offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("{offset}-{}", size.saturating_sub(1)))
        {
            ask.headers.push((CONTENT_RANGE, range));
        }
        ask.body = Payload::Stream(&make);
        match self.watched(&ask, &sent, length).await {
            Ok(answer) => match content_digest(&answer)?.filter(|got| *got != digest) {
                Some(got) => Err(Error::DigestMismatch {
                    what: format!("the uploaded blob {digest}"),
                    got,
                    expected: digest,
                }),
                None => Ok(()),
            },
            Err(error) => Err(match sent.failure.lock().ok().and_then(|mut failure| failure.take()) {
                Some(source) => Error::Source { digest, source },
                None => error,
            }),
        }
    }

    /// Asks, and gives up when nothing moves for too long.
    async fn watched(&self, ask: &Ask<'_>, sent: &Sent, length: u64) -> Result<Answer> {
        let pace = &self.inner.transport.pace;
        let mut asking = pin!(self.ask(ask));
        loop {
            let before = sent.bytes.load(Ordering::Relaxed);
            let (waited, phase) = if before >= length {
                (pace.commit, "it was to acknowledge an upload")
            } else {
                (pace.idle, "it was to take an upload")
            };
            match timeout(waited, &mut asking).await {
                Ok(outcome) => return outcome.map(|(answer, _)| answer),
                Err(_) if sent.bytes.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    let url = match &ask.place {
                        Place::At(url) => location::shown(url),
                        Place::Below(path) => (*path).to_owned(),
                    };
                    return Err(Error::Stalled { url, phase, waited });
                }
            }
        }
    }

    /// How far the registry has got with a broken upload, if it says so.
    async fn progress(&self, upload: &Upload, size: u64) -> Option<(Upload, u64)> {
        let ask = Ask::new(Method::GET, Place::At(&upload.url), Asked::Push);
        let (answer, _) = self.ask(&ask).await.ok()?;
        let range = answer.header(&RANGE)?;
        let (from, to) = range.trim().trim_start_matches("bytes=").split_once('-')?;
        let to: u64 = to.parse().ok()?;
        let offset = if to == 0 { 0 } else { to.checked_add(1)? };
        // With nothing there, there is nothing to go on with: docker-registry may say so and then refuse this very upload.
        if from != "0" || offset == 0 || offset > size {
            return None;
        }
        Some((Upload::begun(&answer).ok()?, offset))
    }
}

impl Upload {
    fn begun(answer: &Answer) -> Result<Self> {
        location::resolve(answer.url(), answer.headers()).map(|url| Self { url })
    }
}

/// The body of an upload of exactly `length` bytes, which writes down in `sent` how far it is.
fn body(stream: BoxStream<'static, io::Result<Bytes>>, length: u64, sent: &Arc<Sent>) -> reqwest::Body {
    sent.bytes.store(0, Ordering::Relaxed);
    let so_far = Arc::clone(sent);
    let mut left = length;
    let counted = stream.map(move |item| {
        let item =
            item.and_then(|bytes| match left.checked_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX)) {
                Some(rest) => {
                    left = rest;
                    Ok(bytes)
                }
                None => Err(io::Error::other(format!("there is more than the expected {length} bytes"))),
            });
        match &item {
            Ok(bytes) => {
                so_far.bytes.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
            }
            Err(error) => so_far.fail(io::Error::new(error.kind(), error.to_string())),
        }
        item
    });
    let end = Arc::clone(sent);
    let checked = counted.chain(futures_util::stream::once(async move {
        let got = end.bytes.load(Ordering::Relaxed);
        if got == length {
            return Ok(Bytes::new());
        }
        let error = || {
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("there are {got} bytes, expected {length}"))
        };
        end.fail(error());
        Err(error())
    }));
    reqwest::Body::wrap_stream(checked)
}

impl Sent {
    fn fail(&self, error: io::Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
    }
}
