//! Downloading a blob: piece by piece, never more than its descriptor promises, going on where a connection broke.
//!
//! Hashing and storing are for the receiver; small blobs that are wanted whole ([`Session::fetch_whole`]) are verified
//! here. Dropping a [`Download`] closes its connection.

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::error::{Error, Result};
use super::limits::{PROGRESS_FORGIVES_BYTES, STALL_WEIGHT};
use super::refusal::Asked;
use super::retry;
use super::session::{Ask, Place, Session};
use super::transport::{Answer, Follow, Interruption};
use crate::oci::{Descriptor, Digest};

/// How many characters of a bad header are told.
const SHOWN_CHARS: usize = 128;

/// A blob on its way.
#[derive(Debug)]
pub struct Download {
    session: Session,
    digest: Digest,
    size: u64,
    /// The next byte to hand out.
    offset: u64,
    /// Bytes to pass over: the registry began before `offset`.
    skip: u64,
    answer: Option<Answer>,
    failures: u32,
    since_failure_bytes: u64,
}

impl Session {
    /// Asks for the blob from `from_offset` (in bytes) on. The registry has agreed when this returns.
    ///
    /// # Errors
    /// The registry's refusals; [`Error::Size`] when it announces another size than the descriptor; [`Error::Range`].
    pub async fn fetch_blob(&self, descriptor: &Descriptor, from_offset: u64) -> Result<Download> {
        let Descriptor { digest, size, .. } = *descriptor;
        if from_offset > size {
            return Err(Error::Size { digest, got_bytes: from_offset, expected_bytes: size });
        }
        let mut download = Download {
            session: self.clone(),
            digest,
            size,
            offset: from_offset,
            skip: 0,
            answer: None,
            failures: 0,
            since_failure_bytes: 0,
        };
        if from_offset < size {
            download.connect().await?;
        }
        Ok(download)
    }

    /// Fetches a small blob whole, at most `limit_bytes`, and verifies it.
    ///
    /// # Errors
    /// As [`Session::fetch_blob`] and [`Download::chunk`]; [`Error::TooLarge`], [`Error::DigestMismatch`].
    pub async fn fetch_whole(&self, descriptor: &Descriptor, limit_bytes: usize) -> Result<Vec<u8>> {
        let what = format!("blob {}", descriptor.digest);
        if usize::try_from(descriptor.size).map_or(true, |size| size > limit_bytes) {
            return Err(Error::TooLarge { what, limit_bytes });
        }
        let mut download = self.fetch_blob(descriptor, 0).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = download.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        let got = Digest::of(&bytes);
        if got != descriptor.digest {
            return Err(Error::DigestMismatch { what, got, expected: descriptor.digest });
        }
        Ok(bytes)
    }
}

impl Download {
    /// How many bytes of the blob were handed out or were there before.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, never none; `None` when the blob is complete.
    ///
    /// A connection that breaks or goes silent is replaced, and the blob goes on where it was.
    ///
    /// # Errors
    /// [`Error::Size`] when there is more than the descriptor promises; [`Error::Broken`] and [`Error::Stalled`] when
    /// replacing does not help; the registry's refusals.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while self.offset < self.size {
            let Some(answer) = self.answer.as_mut() else {
                self.connect().await?;
                continue;
            };
            let failure = match answer.chunk().await {
                Ok(Some(bytes)) => match self.take(bytes)? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => continue,
                },
                Ok(None) => None,
                Err(interruption) => Some(interruption),
            };
            self.answer = None;
            self.pause_after(failure).await?;
        }
        // Whatever else the registry would send is of no interest.
        self.answer = None;
        Ok(None)
    }

    /// The rest of the blob as a stream of [`Download::chunk`]s, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        futures_util::stream::try_unfold(self, |mut download| async move {
            Ok(download.chunk().await?.map(|bytes| (bytes, download)))
        })
    }

    /// What of `bytes` is new; `None` when nothing is.
    fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>> {
        let len = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let passed_over = self.skip.min(len(&bytes));
        self.skip -= passed_over;
        bytes = bytes.slice(usize::try_from(passed_over).unwrap_or(bytes.len())..);
        let fresh = len(&bytes);
        if fresh > self.size - self.offset {
            let got_bytes = self.offset.saturating_add(fresh);
            return Err(Error::Size { digest: self.digest, got_bytes, expected_bytes: self.size });
        }
        self.offset += fresh;
        self.since_failure_bytes += fresh;
        if self.since_failure_bytes >= PROGRESS_FORGIVES_BYTES {
            self.failures = 0;
        }
        Ok((fresh > 0).then_some(bytes))
    }

    async fn pause_after(&mut self, failure: Option<Interruption>) -> Result<()> {
        let (weight, error) = match failure {
            Some(Interruption::Stalled(error)) => (STALL_WEIGHT, error),
            Some(Interruption::Broken(source)) => (1, self.broken(Some(source))),
            None => (1, self.broken(None)),
        };
        self.failures += weight;
        self.since_failure_bytes = 0;
        let pace = &self.session.inner.transport.pace;
        let Some(pause) = retry::pause(pace, self.failures, None, retry::chance()) else { return Err(error) };
        tracing::info!(digest = %self.digest, offset = self.offset, error = crate::error::chain(&error), "going on with a download");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn broken(&self, source: Option<reqwest::Error>) -> Error {
        Error::Broken { digest: self.digest, offset: self.offset, size_bytes: self.size, source }
    }

    async fn connect(&mut self) -> Result<()> {
        let mut answer = self.request(self.offset > 0).await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            answer = self.request(false).await?;
        }
        self.skip = if answer.status() == StatusCode::PARTIAL_CONTENT {
            self.check_range(&answer)?;
            0
        } else {
            if let Some(got_bytes) = answer.length().filter(|length| *length != self.size) {
                return Err(Error::Size { digest: self.digest, got_bytes, expected_bytes: self.size });
            }
            self.offset
        };
        self.answer = Some(answer);
        Ok(())
    }

    async fn request(&self, partial: bool) -> Result<Answer> {
        let path = format!("blobs/{}", self.digest);
        let name = self.session.reference().familiar_name();
        let asked = Asked::Blob { digest: self.digest, name: &name };
        let mut ask = Ask::new(Method::GET, Place::Below(&path), asked);
        ask.follow = Follow::Verified;
        if partial && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.offset)) {
            ask.headers.push((RANGE, range));
            ask.accepted = &[416];
        }
        Ok(self.session.ask(&ask).await?.0)
    }

    /// `Content-Range: bytes <from>-<to>/<size>`; the end and the size may be left open.
    fn check_range(&self, answer: &Answer) -> Result<()> {
        let header = answer.header(&CONTENT_RANGE).unwrap_or_default();
        let range = || -> Option<(u64, Option<u64>)> {
            let (range, size) = header.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
            let (from, _) = range.split_once('-')?;
            Some((from.parse().ok()?, size.parse().ok()))
        };
        match range() {
            Some((from, size)) if from == self.offset => match size.filter(|size| *size != self.size) {
                Some(got_bytes) => {
                    Err(Error::Size { digest: self.digest, got_bytes, expected_bytes: self.size })
                }
                None => Ok(()),
            },
            _ => Err(Error::Range {
                digest: self.digest,
                got: header.chars().take(SHOWN_CHARS).collect(),
                offset: self.offset,
            }),
        }
    }
}
