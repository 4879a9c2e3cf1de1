//! A request goes to the engine as it came, and its answer comes back as it is: unbuffered both ways, upgrades included.
//!
//! What belongs to one connection only is taken away on each side (RFC 9110, 7.6.1), but for the upgrade itself: attach,
//! exec and build make a stream of bytes of their connection, which is then copied both ways, half-closes and all.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{
    CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::PathAndQuery;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use super::{Departed, Engine, Error, Result};

/// How much of an upgraded connection is on its way at a time, in bytes each way.
const COPY_BYTES: usize = 32 << 10;

/// What is about one connection, beside what `Connection` names. `Expect` is answered by whoever reads the body.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Engine {
    /// Asks the engine for `target` with the method, the headers and the body of a client's request.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the client has gone before there was an answer. What the engine answers
    /// is an answer, whatever its status.
    pub async fn forward<B>(
        &self,
        mut request: Request<B>,
        target: PathAndQuery,
    ) -> Result<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let departed = request.extensions().get::<Departed>().cloned();
        let protocol = upgrade_asked(request.headers());
        let client = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
        strip(request.headers_mut());
        if let Some(protocol) = protocol {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(UPGRADE, protocol);
        }
        *request.uri_mut() = Uri::from(target);
        *request.version_mut() = Version::HTTP_11;
        let mut response = tokio::select! {
            response = self.send(request) => response?,
            () = gone(departed.as_ref()) => return Err(Error::Departed),
        };
        match client {
            Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let protocol = response.headers().get(UPGRADE).cloned();
                let engine = hyper::upgrade::on(&mut response);
                strip(response.headers_mut());
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                if let Some(protocol) = protocol {
                    response.headers_mut().insert(UPGRADE, protocol);
                }
                tokio::spawn(join(client, engine, departed));
            }
            _ => strip(response.headers_mut()),
        }
        Ok(response)
    }
}

/// Answers a request that asks for an upgrade with a stream on which nothing comes, until the client ends it; none when
/// it asks for none.
pub fn upgraded_to_nothing<B>(mut request: Request<B>) -> Option<Response<()>> {
    let protocol = upgrade_asked(request.headers())?;
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = match client.await {
            Ok(client) => tokio::io::copy(&mut TokioIo::new(client), &mut tokio::io::sink()).await.map(drop),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream on which nothing comes ended early");
        }
    });
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    Some(response)
}

/// The protocol that a client wants to speak from now on, if it wants to.
fn upgrade_asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = named(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    if asks { headers.get(UPGRADE).cloned() } else { None }
}

/// What `Connection` names.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what belongs to one connection only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = named(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Resolves when the client has gone, if anybody can tell.
async fn gone(departed: Option<&Departed>) {
    match departed {
        Some(departed) => departed.wait().await,
        None => std::future::pending().await,
    }
}

/// Copies both ways until both are over. An end of one side is an end for the other, which may go on speaking, unless
/// the client has gone: then the engine is left as soon as it has what the client said last.
async fn join(client: OnUpgrade, engine: OnUpgrade, departed: Option<Departed>) {
    let (client, engine) = match tokio::try_join!(client, engine) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade came to nothing"),
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_engine, to_engine) = tokio::io::split(TokioIo::new(engine));
    let mut up = pin!(pour(from_client, to_engine));
    let down = pour(from_engine, to_client);
    let mut said_all = false;
    let both = async {
        let up = async {
            up.as_mut().await?;
            said_all = true;
            Ok(())
        };
        tokio::try_join!(up, down).map(drop)
    };
    let ended = tokio::select! {
        ended = both => ended,
        () = gone(departed.as_ref()) => if said_all { Ok(()) } else { up.await },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an upgraded connection ended early");
    }
}

/// Copies to the end, and tells it.
async fn pour(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy_buf(&mut BufReader::with_capacity(COPY_BYTES, from), &mut to).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut all = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("content-type", "application/x-tar"),
            ("x-registry-auth", "e30="),
        ]);
        strip(&mut all);
        let left: Vec<_> = all.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["content-type", "x-registry-auth"]);
    }

    #[test]
    fn an_upgrade_is_one_when_the_connection_says_so() {
        for (pairs, expected) in [
            (&[("connection", "Upgrade"), ("upgrade", "tcp")][..], Some("tcp")),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "h2c")], Some("h2c")),
            (&[("upgrade", "tcp")], None),
            (&[("connection", "close")], None),
        ] {
            let asked = upgrade_asked(&headers(pairs));
            assert_eq!(asked.as_ref().map(|value| value.to_str().unwrap()), expected, "{pairs:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_broken_off_for_the_engine_too() {
        use futures_util::StreamExt as _;
        use tokio::io::AsyncReadExt as _;

        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("e.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (arrived, waiting) = tokio::sync::oneshot::channel::<()>();
        let engine = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"some of it\r\n") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            arrived.send(()).unwrap();
            // A connection that is reset is broken off as well.
            let _end = stream.read_to_end(&mut seen).await;
            String::from_utf8(seen).unwrap()
        });
        let broken = async move {
            waiting.await.unwrap();
            Err(io::Error::other("the client broke it off"))
        };
        let first = std::future::ready(Ok(hyper::body::Frame::data(Bytes::from_static(b"some of it"))));
        let pieces = futures_util::stream::once(first).chain(futures_util::stream::once(broken));
        let body = http_body_util::StreamBody::new(pieces);
        let request = Request::post("/containers/x/y").body(Box::pin(body)).unwrap();
        let target = PathAndQuery::from_static("/containers/x/y");
        Engine::at(socket).forward(request, target).await.unwrap_err();
        let seen = engine.await.unwrap();
        assert!(seen.ends_with("\r\nA\r\nsome of it\r\n"), "{seen}");
    }
}
