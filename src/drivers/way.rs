//! The ways to a driver: the socket of a managed plugin, and the addresses a legacy plugin may have.
//!
//! A managed plugin's socket lies where the plugin can write, so nothing is followed there (`connect`). A legacy
//! plugin's address was written down by the machine's administrator: links are followed, and it may be on a network.
//! This file knows no HTTP beyond the host that a request names.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connect::{Endpoint, connect_on_host};
use super::error::SocketError;

/// What dockerd calls the host of every plugin that listens on a socket of this machine.
const SOCKET_HOST: &str = "plugin.moby.localhost";

/// Where a driver listens.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// On the socket of a managed plugin.
    Plugin(Endpoint),
    /// On a socket of the host.
    Socket(PathBuf),
    /// On TCP.
    Tcp(Remote),
}

/// A TCP address, with or without TLS on it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    /// As the address has it, for the request's `Host`: `10.0.0.1:7070`.
    pub(super) authority: String,
    /// A name or an address; an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Way {
    /// The host that requests name.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Plugin(_) | Self::Socket(_) => SOCKET_HOST,
            Self::Tcp(remote) => &remote.authority,
        }
    }

    /// Connects, until whoever called gives up.
    ///
    /// # Errors
    /// There is nobody, or the wrong one by its certificate.
    pub(super) async fn connect(&self) -> Result<Stream, SocketError> {
        match self {
            Self::Plugin(endpoint) => endpoint.connect().await.map(Stream::new),
            Self::Socket(path) => connect_on_host(path).await.map(Stream::new),
            Self::Tcp(remote) => remote.connect().await,
        }
    }
}

impl Remote {
    async fn connect(&self) -> Result<Stream, SocketError> {
        let failed = |step, source| SocketError::Remote { step, address: self.authority.clone(), source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| failed("connecting to", error))?;
        stream.set_nodelay(true).map_err(|error| failed("setting up the connection to", error))?;
        let Some(tls) = &self.tls else { return Ok(Stream::new(TokioIo::new(stream))) };
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| failed("naming", io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        Ok(Stream::new(TokioIo::new(stream.map_err(|error| failed("speaking TLS with", error))?)))
    }
}

/// Both directions of a connection.
trait Duplex: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Duplex for T {}

/// A connection, whatever it runs over.
pub(super) struct Stream(Box<dyn Duplex>);

impl Stream {
    fn new(stream: impl Read + Write + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, slices)
    }
}
