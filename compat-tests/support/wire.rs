//! HTTP/1.1 by hand over TCP, on 127.0.0.1 only: a server whose answers may be as bad as one likes, and a client.
//!
//! It knows nothing of registries. A server takes whatever port is free, remembers what it was asked, and is gone
//! with all its connections when it is dropped.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::PATIENCE;
use super::http::Answer;

/// One request, read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A header's value; names are compared without case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter, of the query or of a form that was posted.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let form = String::from_utf8_lossy(&self.body);
        let pairs = query.split('&').chain(form.split('&')).filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decoded(value)).collect()
    }

    /// `METHOD /path`, for comparing.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path())
    }

    fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let first = line(stream)?;
        let mut words = first.split(' ').map(String::from);
        let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let mut request = Self { method, target, ..Self::default() };
        loop {
            let line = line(stream)?;
            let Some((name, value)) = line.split_once(':') else { break };
            request.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(stream)?, 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk)?;
                if size == 0 {
                    break;
                }
                request.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = request.header("content-length").and_then(|v| v.parse().ok()) {
            request.body = vec![0; length];
            stream.read_exact(&mut request.body)?;
        }
        Ok(Some(request))
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// The body of an answer, good or bad.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Whole(Vec<u8>),
    /// Claims so many bytes, sends these, and closes.
    Cut(usize, Vec<u8>),
    /// Claims so many bytes, sends these, and then nothing, without closing.
    Stalled(usize, Vec<u8>),
    /// Claims nothing, and sends these bytes again and again.
    Endless(Vec<u8>),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: Body::Whole(body.into()) }
    }

    pub(crate) fn bad(body: Body) -> Self {
        Self { status: 200, headers: vec![], body }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn write(&self, stream: &mut TcpStream, without_body: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Something\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match &self.body {
            Body::Whole(bytes) => Some(bytes.len()),
            Body::Cut(claimed, _) | Body::Stalled(claimed, _) => Some(*claimed),
            Body::Endless(_) => None,
        };
        if let Some(length) = length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if without_body {
            return Ok(());
        }
        match &self.body {
            Body::Whole(bytes) | Body::Cut(_, bytes) => stream.write_all(bytes),
            Body::Stalled(_, bytes) => {
                stream.write_all(bytes)?;
                // Until the client has gone, or the server.
                io::copy(stream, &mut io::sink()).map(drop)
            }
            Body::Endless(bytes) => loop {
                stream.write_all(bytes)?;
            },
        }
    }
}

type Answering = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    seen: Mutex<Vec<Request>>,
    answer: Answering,
}

/// A server on 127.0.0.1; each connection carries one request.
pub(crate) struct Server {
    address: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            seen: Mutex::default(),
            answer: Box::new(answer),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Everything that was asked so far, in the order it came.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving = vec![];
    for stream in listener.incoming().flatten() {
        if shared.ended.load(Ordering::SeqCst) {
            break;
        }
        if let Ok(clone) = stream.try_clone() {
            shared.open.lock().unwrap().push(clone);
        }
        let shared = Arc::clone(shared);
        serving.push(thread::spawn(move || drop(serve(stream, &shared))));
    }
    for stream in shared.open.lock().unwrap().drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in serving {
        let _ = thread.join();
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first)? == 0 {
        return Ok(());
    }
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    if first[0].is_ascii_uppercase() {
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        shared.seen.lock().unwrap().push(request.clone());
        (shared.answer)(&request).write(&mut writer, request.method == "HEAD")?;
    } else {
        // TLS, most likely. This is what Go's servers say.
        writer
            .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent something else to an HTTP server.\n")?;
    }
    // Closing before the client has would lose what it has not read yet.
    writer.shutdown(Shutdown::Write)?;
    io::copy(&mut reader, &mut io::sink()).map(drop)
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = vec![];
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Asks `address` (`127.0.0.1:PORT`), and reads the answer whole. In HTTP/1.0, so that it comes in one piece.
pub(crate) fn ask(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head =
        format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader).unwrap();
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{method} {target}: no status line: {first:?}"));
    let mut answer = Answer { status, headers: vec![], body: vec![] };
    loop {
        let line = line(&mut reader).unwrap();
        let Some((name, value)) = line.split_once(':') else { break };
        answer.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    reader.read_to_end(&mut answer.body).unwrap();
    answer
}
