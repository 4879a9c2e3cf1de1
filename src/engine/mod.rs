//! The other engine: it runs containers, and answers every route that is not ours.
//!
//! ```text
//! find      where it listens
//! idle      connections that are asked more than once
//! service   one that we start ourselves
//! forward   a request goes there and its answer comes back, streams and upgrades included
//! departed  whoever asked has gone: then the engine is let go too
//! ```
//!
//! A request has a connection of its own, but for those that only read: what a client does to its connection (half-close,
//! hang up, upgrade) is done to the engine's. This room knows no route and no container, and does not say which engine it is. Facts: RFC 9110
//! (7.6.1 for what belongs to one connection only), moby `client/hijack.go`.

mod departed;
mod error;
mod find;
mod forward;
mod idle;
mod service;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

pub use departed::Departed;
pub use error::Error;
use find::Place;
pub use find::WELL_KNOWN;
pub use forward::upgraded_to_nothing;
use idle::Idle;
use service::Service;

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The largest answer that is read whole, in bytes: an inspected container, a list of them.
pub const ANSWER_MAX_BYTES: usize = 64 << 20;
/// HTTP wants one; the engine's socket is the address.
const HOST: &str = "engine";
/// What a path is, as JSON in base64.
const PATH_STAT: &str = "x-docker-container-path-stat";

/// The engine; clones are the same.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    idle: Idle,
}

/// An answer that was read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Engine {
    /// The engine that listens on this socket, now or later.
    pub fn at(socket: PathBuf) -> Self {
        Self::of(Place::At(socket))
    }

    /// Whichever listens on the first of [`WELL_KNOWN`] that somebody listens on; looked for at each request. `own` are
    /// our own sockets, which are none. When nobody does, podman is started, if it is on the search path: on the socket
    /// `private`, in a directory that is ours alone.
    pub fn anywhere(own: Vec<PathBuf>, private: PathBuf, search_path: OsString) -> Self {
        Self::of(Place::Anywhere {
            own,
            service: Service::new(private, search_path),
            found: Mutex::default(),
        })
    }

    fn of(place: Place) -> Self {
        Self(Arc::new(Inner { place, idle: Idle::default() }))
    }

    /// Asks for something, and reads the answer whole. `body` is JSON, or nothing.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the answer has more than [`ANSWER_MAX_BYTES`]. A refusal is an
    /// [`Answer`].
    pub async fn ask(&self, method: Method, target: &str, body: Option<Bytes>) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, HOST);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(Error::Target)?;
        let response = self.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(Error::Answer)?.to_bytes();
        Ok(Answer { status, body })
    }

    /// The headers of the engine's answer to something that has nothing else to say.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the engine refuses.
    pub async fn headers(&self, target: &str) -> Result<HeaderMap> {
        let request = Request::get(target).header(header::HOST, HOST);
        let request = request.body(Full::<Bytes>::default()).map_err(Error::Target)?;
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_parts().0.headers),
            status => Err(Error::Refused { what: target.to_owned(), status: status.as_u16() }),
        }
    }

    /// Resolves when somebody listens, at once if so: for what goes on over an engine's restarts.
    pub async fn returns(&self) {
        self.0.place.returns().await;
    }

    /// Starts the engine, if it is one that we start and none runs.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub async fn wake(&self) -> Result<()> {
        match &self.0.place {
            Place::At(_) => Ok(()),
            anywhere @ Place::Anywhere { service, .. } => {
                service.trim();
                anywhere.connect().await.map(drop)
            }
        }
    }

    /// Ends the engine, if it is one that we started.
    pub async fn end(&self) {
        if let Place::Anywhere { service, .. } = &self.0.place {
            service.end().await;
        }
    }

    /// Ends the engine that an earlier daemon has started on its private socket, where none is wanted any more.
    pub async fn end_left_over(private: &Path) {
        if let Err(error) = service::end(private).await {
            tracing::warn!(%error, "the engine of an earlier daemon does not end");
        }
    }

    /// Where the engine listens, as far as is known.
    pub fn socket(&self) -> Option<PathBuf> {
        self.0.place.socket()
    }

    /// What a container has at a path: the header that tells it, decoded; none when there is nothing.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the engine does not say.
    pub async fn path_stat(&self, target: &str) -> Result<Option<Vec<u8>>> {
        let request = Request::head(target).header(header::HOST, HOST);
        let request = request.body(Full::<Bytes>::default()).map_err(Error::Target)?;
        let response = self.send(request).await?;
        let refused =
            |status: StatusCode| Error::Refused { what: target.to_owned(), status: status.as_u16() };
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let told = response.headers().get(PATH_STAT).map(|told| STANDARD.decode(told.as_bytes()));
                told.and_then(std::result::Result::ok).map(Some).ok_or_else(|| refused(StatusCode::OK))
            }
            status => Err(refused(status)),
        }
    }

    /// Asks for a stream that goes on: its body, as it comes.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the engine refuses.
    pub async fn stream(&self, target: &str) -> Result<Incoming> {
        let request = Request::get(target).header(header::HOST, HOST);
        let request = request.body(Full::<Bytes>::default()).map_err(Error::Target)?;
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(Error::Refused { what: target.to_owned(), status: status.as_u16() }),
        }
    }

    /// Sends a request as it is, and gives the answer as soon as its head is there.
    async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.body().is_end_stream() && idle::only_reads(request.method()) && !is_upgrade(&request) {
            return self.read(request.into_parts().0).await;
        }
        self.open().await?.send_request(request).await.map_err(Error::Broken)
    }

    /// A new connection.
    async fn open<B>(&self) -> Result<SendRequest<B>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream: UnixStream = self.0.place.connect().await?;
        let handshake = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(Error::Broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the engine ended early");
            }
        });
        Ok(sender)
    }
}

fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE)
}
