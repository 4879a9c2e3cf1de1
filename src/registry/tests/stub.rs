//! A server that does what a test tells it to, however wrong: bytes as they are, then silence, an end, or no end.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running server.
#[derive(Debug)]
pub(super) struct Stub {
    /// `127.0.0.1:port`
    pub(super) host: String,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `GET /v2/a/manifests/latest`
    pub(super) line: String,
    /// In lower case, with their values.
    headers: Vec<(String, String)>,
    /// As much as its `Content-Length` says.
    pub(super) body: Vec<u8>,
}

/// What the server does with it.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    head: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone)]
enum Then {
    /// The next request, on the same connection.
    Next,
    Close,
    /// Nothing, and the connection stays.
    Hang,
    /// The same again and again.
    Forever(Vec<u8>),
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Reply {
    /// A whole answer: `status` as `404 Not Found`, header lines, body.
    pub(super) fn new(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let length = format!("Content-Length: {}", body.len());
        let mut reply = Self::head(status, &[headers, &[&length]].concat());
        reply.head.extend_from_slice(body);
        Self { then: Then::Next, ..reply }
    }

    /// A head without an end.
    pub(super) fn head(status: &str, headers: &[&str]) -> Self {
        let lines: String = headers.iter().flat_map(|line| [line, "\r\n"]).collect();
        Self { head: format!("HTTP/1.1 {status}\r\n{lines}\r\n").into_bytes(), then: Then::Close }
    }

    pub(super) fn ok(headers: &[&str], body: impl AsRef<[u8]>) -> Self {
        Self::new("200 OK", headers, body)
    }

    pub(super) fn and(mut self, bytes: &[u8]) -> Self {
        self.head.extend_from_slice(bytes);
        self
    }

    pub(super) fn and_hang(self) -> Self {
        Self { then: Then::Hang, ..self }
    }

    pub(super) fn and_forever(self, bytes: &[u8]) -> Self {
        Self { then: Then::Forever(bytes.to_vec()), ..self }
    }

    /// The end of the connection instead of an answer.
    pub(super) fn hang_up() -> Self {
        Self { head: Vec::new(), then: Then::Close }
    }

    /// No answer at all.
    pub(super) fn silence() -> Self {
        Self { head: Vec::new(), then: Then::Hang }
    }
}

impl Stub {
    /// A server that answers the `n`th request (from 0) with `reply(request, n)`.
    pub(super) async fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_reading(usize::MAX, reply).await
    }

    /// The same for a server that answers when it has read (about) `body_bytes` of a body.
    pub(super) async fn start_reading(
        body_bytes: usize,
        reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&requests), Arc::new(reply));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, body_bytes, Arc::clone(&seen), Arc::clone(&reply)));
            }
        });
        Self { host, requests, task }
    }

    /// What came so far, in order.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The first lines of it.
    pub(super) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    body_bytes: usize,
    seen: Arc<Mutex<Vec<Request>>>,
    reply: Arc<impl Fn(&Request, usize) -> Reply + Send + Sync + 'static>,
) -> Option<()> {
    loop {
        let request = receive(&mut stream, body_bytes).await?;
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let Reply { head, then } = reply(&request, number);
        stream.write_all(&head).await.ok()?;
        match then {
            Then::Next => {}
            Then::Close => return None,
            Then::Hang => std::future::pending().await,
            Then::Forever(bytes) => loop {
                stream.write_all(&bytes).await.ok()?;
            },
        }
    }
}

/// The next request; `None` at the end, and for whoever speaks TLS.
async fn receive(stream: &mut TcpStream, body_bytes: usize) -> Option<Request> {
    let mut bytes: Vec<u8> = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return None;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = bytes.split_off(end + 4);
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    while body.len() < length.unwrap_or(0).min(body_bytes) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { line, headers, body })
}
