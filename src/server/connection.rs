//! One connection: HTTP/1.1 by hyper, with our limits and our idea of when a client has gone.
//!
//! A client that closes its writing half still gets its answer. Work that changes something goes on to its end when its
//! client leaves; what only reads ends with its client. An answer of unknown length (`/events`) would otherwise be found
//! abandoned only at its next write, so for those the socket itself is watched.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, Response, StatusCode, header};
use futures_util::FutureExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Answers;
use super::unread::Unread;
use crate::engine::Departed;
use crate::finish::finish;

/// How large the head of a request may be, in bytes: names, credentials and filters are in there.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// How many header lines a request may have.
const MAX_HEADERS: usize = 128;
/// How long a client may take for the head of its request, from its first byte; also how long an idle connection is
/// kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(5);

/// How long a client may go on sending what is no longer listened to, before it is cut off.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);
/// How much of it is read at a time, in bytes.
const LINGER_CHUNK_BYTES: usize = 16 * 1024;
/// And how much in all, in bytes.
const LINGER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Serves one client until it leaves or the server closes.
pub(super) async fn serve(
    stream: Stream,
    service: impl Answers,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) {
    let watch = match Watch::new(&stream) {
        Ok(watch) => watch,
        Err(error) => return tracing::warn!(%error, "cannot duplicate the descriptor of a connection"),
    };
    let answer = service_fn(|request: Request<Incoming>| {
        let (service, tasks, watch) = (service.clone(), tasks.clone(), watch.clone());
        async move { Ok::<_, Infallible>(answer(request, service, &tasks, &watch).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(true)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    if !closing.is_cancelled() && !watch.upgraded.load(Ordering::Relaxed) {
        let _elapsed = tokio::time::timeout(LINGER_TIMEOUT, watch.linger()).await;
    }
}

/// Answers one request and writes its line in the log, which names no query, header or body: those carry secrets.
async fn answer(
    request: Request<Incoming>,
    service: impl Answers,
    tasks: &TaskTracker,
    watch: &Watch,
) -> Response<Body> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let announced = request.headers().contains_key(header::EXPECT);
    let body = |body| if announced { Body::new(body) } else { Body::new(Unread::new(body)) };
    let mut request = request.map(body);
    request.extensions_mut().insert(watch.departed());
    let work = service.oneshot(request);
    let response = if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        work.await
    } else {
        match finish(tasks.track_future(AssertUnwindSafe(work).catch_unwind())).await {
            Ok(response) => response,
            Err(_panic) => {
                tracing::error!(%method, path, "a handler did not finish");
                Ok(broken())
            }
        }
    };
    let response = match response {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        watch.upgraded.store(true, Ordering::Relaxed);
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed = ?began.elapsed(), "request");
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    match watch.hangup() {
        Ok(hangup) => response.map(|body| Body::new(Watched { body, hangup: Box::pin(hangup) })),
        Err(error) => {
            tracing::warn!(%error, "cannot watch a client; its stream ends at the next write");
            response
        }
    }
}

/// The answer when a handler panicked (in a build that survives it).
fn broken() -> Response<Body> {
    let mut response = Response::new(Body::from("{\"message\":\"the handler of this request failed\"}\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A second descriptor of a client's socket, with which its departure can be waited for beside hyper's own I/O.
#[derive(Debug, Clone)]
struct Watch {
    twin: Arc<OwnedFd>,
    /// Whether the connection is no longer ours to end: it speaks another protocol now.
    upgraded: Arc<AtomicBool>,
    /// Whether the end of what the client sends means that it has gone. So it is for TCP, where a close and a
    /// half-close look the same (and for which dockerd decides likewise), and not for a unix socket.
    end_is_gone: bool,
}

impl Watch {
    fn new(stream: &Stream) -> io::Result<Self> {
        let twin = Arc::new(stream.as_fd().try_clone_to_owned()?);
        Ok(Self { twin, upgraded: Arc::default(), end_is_gone: matches!(stream, Stream::Tcp(_)) })
    }

    /// The twin as a stream of its own, registered anew with the reactor: clearing its readiness does not touch hyper's.
    fn stream(&self) -> io::Result<Stream> {
        let twin = self.twin.try_clone()?;
        if self.end_is_gone {
            TcpStream::from_std(twin.into()).map(Stream::Tcp)
        } else {
            UnixStream::from_std(twin.into()).map(Stream::Unix)
        }
    }

    /// Takes in, after our last word, what the client still sends: to close a socket with unread bytes in it would
    /// break the client's pipe before it has read our answer.
    async fn linger(&self) -> io::Result<()> {
        let fd = self.twin.as_raw_fd();
        // Mostly the client has closed already, and there is nothing to wait for.
        if let Ok(0) | Err(Errno::ECONNRESET) =
            recv(fd, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
        {
            return Ok(());
        }
        shutdown(fd, Shutdown::Write)?;
        let mut twin = self.stream()?;
        let (mut chunk, mut read_bytes) = (vec![0; LINGER_CHUNK_BYTES], 0);
        while read_bytes < LINGER_MAX_BYTES {
            match twin.read(&mut chunk).await? {
                0 => break,
                length => read_bytes += length,
            }
        }
        Ok(())
    }

    /// For whoever waits for another on behalf of this client.
    fn departed(&self) -> Departed {
        let watch = self.clone();
        Departed::new(move || {
            let hangup = watch.hangup();
            async move {
                match hangup {
                    Ok(hangup) => hangup.await,
                    Err(error) => {
                        tracing::warn!(%error, "cannot watch a client; what it asked for goes on without it");
                        std::future::pending::<()>().await;
                    }
                }
            }
        })
    }

    /// Resolves when the client has gone.
    fn hangup(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let twin = self.stream()?;
        let interest = if self.end_is_gone { Interest::READABLE } else { Interest::WRITABLE };
        Ok(async move {
            // Each closed direction is told only to those interested in it: reading over TCP, writing otherwise.
            while let Ok(ready) = twin.ready(interest).await {
                if ready.is_read_closed() || ready.is_write_closed() {
                    return;
                }
                twin.clear(interest);
            }
        })
    }
}

/// A body that ends when its client has gone.
struct Watched {
    body: Body,
    hangup: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.hangup.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Stream {
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Unix(stream) => stream.ready(interest).await,
            Self::Tcp(stream) => stream.ready(interest).await,
        }
    }

    /// Forgets a readiness, so that [`Self::ready`] waits for the next event.
    fn clear(&self, interest: Interest) {
        let would_block = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _would_block = match self {
            Self::Unix(stream) => stream.try_io(interest, would_block),
            Self::Tcp(stream) => stream.try_io(interest, would_block),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
