//! One request to the daemon, over its unix socket or TCP: the answer, or the daemon's words as an error.
//!
//! Knows no route.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Error, Result};
use crate::config::Host;
use crate::escape;

/// How much of an error's text is read, in bytes.
const ERROR_MAX_BYTES: usize = 64 * 1024;
/// How much of a strange answer is shown, in characters.
const SHOWN_CHARACTERS: usize = 200;

/// What is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A daemon to ask.
#[derive(Debug)]
pub(super) struct Daemon {
    host: Host,
}

/// Docker's error.
#[derive(Deserialize)]
struct Message {
    message: String,
}

/// Nothing to send.
pub(super) fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A JSON document to send.
pub(super) fn whole(document: &serde_json::Value) -> Body {
    http_body_util::Full::from(document.to_string()).map_err(|never| match never {}).boxed_unsync()
}

/// A part of a path or a query, with everything escaped that means something there; slashes and colons, which names
/// have, do not.
pub(super) fn escaped(text: &str) -> String {
    escape::escaped(text, "/:")
}

impl Daemon {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Asks, and gives the answer if it is a good one.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Http`], [`Error::Daemon`], [`Error::Unknown`].
    pub(super) async fn ask(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        let host = || self.host.clone();
        let connect = |source| Error::Connect { host: host(), source };
        let request = Request::builder().method(method).uri(path).header(HOST, "docker");
        // The API looks at it where it wants JSON, and nowhere else.
        let request = request.header(CONTENT_TYPE, "application/json").body(body)?;
        let response = match &self.host {
            Host::Unix(path) => self.send(UnixStream::connect(path).await.map_err(connect)?, request).await?,
            Host::Tcp(address) => {
                self.send(TcpStream::connect(address).await.map_err(connect)?, request).await?
            }
            Host::Fd(_) => return Err(connect(io::ErrorKind::Unsupported.into())),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = Limited::new(response.into_body(), ERROR_MAX_BYTES).collect().await;
        let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(match serde_json::from_slice::<Message>(&text) {
            Ok(Message { message }) if status == StatusCode::NOT_FOUND && message == "page not found" => {
                Error::Unknown { host: host() }
            }
            Ok(Message { message }) => Error::Daemon(message),
            Err(_) => strange(&text, "an answer or an error of the Docker API"),
        })
    }

    /// Gives a broken answer its daemon; for `map_err`.
    pub(super) fn broken(&self) -> impl Fn(hyper::Error) -> Error + '_ {
        |source| Error::Http { host: self.host.clone(), source }
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Body>,
    ) -> Result<Response<Incoming>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(self.broken())?;
        // It ends with its request; how it failed is told there.
        drop(tokio::spawn(connection));
        sender.send_request(request).await.map_err(self.broken())
    }
}

/// An answer that is not what the API says.
pub(super) fn strange(got: &[u8], expected: &'static str) -> Error {
    let got = String::from_utf8_lossy(got).chars().take(SHOWN_CHARACTERS).collect();
    Error::Answer { got, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_mean_something_in_a_url_is_escaped() {
        assert_eq!(escaped("localhost:5000/me/p:1"), "localhost:5000/me/p:1");
        assert_eq!(escaped("a b?c#d&e=%ü\n"), "a%20b%3Fc%23d%26e%3D%25%C3%BC%0A");
    }
}
