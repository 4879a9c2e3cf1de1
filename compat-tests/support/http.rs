//! HTTP/1.1 by hand over a unix socket: what no well-behaved client library would send can be sent too.
//!
//! It knows nothing of Docker. Answers are read whole: by length, by chunks, or to the end of the stream.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::PATIENCE;

/// One answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text; what is not UTF-8 in it shows as U+FFFD.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}) in {self:?}"))
    }

    /// The text of an error: its `message`.
    pub(crate) fn message(&self) -> String {
        let message = self.json()["message"].as_str().map(String::from);
        message.unwrap_or_else(|| panic!("no message in {}", self.text()))
    }

    /// A header's value; names are compared without case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Where a daemon listens; each request has a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    socket: PathBuf,
}

impl Http {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A connection to do with as one likes.
    pub(crate) fn open(&self) -> io::Result<Connection> {
        Connection::open(&self.socket)
    }

    /// A request without a body.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(method, target, "", b"")
    }

    /// A GET that must be a 200, as JSON.
    pub(crate) fn look(&self, target: &str) -> Value {
        let answer = self.ask("GET", target);
        assert_eq!(answer.status, 200, "GET {target}: {}", answer.text());
        answer.json()
    }

    /// A request with a JSON body.
    pub(crate) fn json(&self, method: &str, target: &str, body: &Value) -> Answer {
        self.send(method, target, "application/json", body.to_string().as_bytes())
    }

    /// A request with any body; `content_type` "" leaves the header out.
    pub(crate) fn send(&self, method: &str, target: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send_from(method, target, content_type, &mut { body }, Some(body.len()))
    }

    /// A request whose body is read from `body`: of the declared `length` in bytes, or chunked.
    ///
    /// A daemon may answer before it has the whole body; what it then refuses to read is not sent.
    pub(crate) fn send_from(
        &self,
        method: &str,
        target: &str,
        content_type: &str,
        body: &mut dyn Read,
        length: Option<usize>,
    ) -> Answer {
        let mut connection =
            self.open().unwrap_or_else(|e| panic!("connecting to {}: {e}", self.socket.display()));
        let kind =
            if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        let size = match length {
            Some(0) if method == "GET" || method == "HEAD" => String::new(),
            Some(length) => format!("Content-Length: {length}\r\n"),
            None => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n{kind}{size}\r\n");
        // A broken pipe is no failure: the answer may be waiting.
        let _ = connection.write(head.as_bytes()).and_then(|()| connection.pour(body, length.is_none()));
        connection.answer(method).unwrap_or_else(|e| panic!("{method} {target}: {e}"))
    }

    /// Sends bytes as they are, half-closes if asked to, and reads the answer, if there is one.
    pub(crate) fn raw(&self, bytes: &[u8], half_close: bool) -> Option<Answer> {
        let mut connection = self.open().ok()?;
        let _ = connection.write(bytes);
        if half_close {
            let _ = connection.stream().shutdown(Shutdown::Write);
        }
        connection.answer("GET").ok()
    }
}

/// One connection; it can carry several requests, one after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// A request of known bytes, and its answer.
    pub(crate) fn exchange(&mut self, method: &str, request: &[u8]) -> io::Result<Answer> {
        self.write(request)?;
        self.answer(method)
    }

    /// Exactly as many bytes as fit.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(bytes)
    }

    /// One line of a stream that does not end, without its end; empty when the stream is over.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Reads one answer; `method` HEAD has no body.
    pub(crate) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: vec![] };
        if method == "HEAD" || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(mut chunk) = self.chunk()? {
                answer.body.append(&mut chunk);
            }
        } else if let Some(length) = answer.header("content-length").and_then(|v| v.parse().ok()) {
            answer.body = vec![0; length];
            self.reader.read_exact(&mut answer.body)?;
        } else {
            self.reader.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Status and headers of an answer whose body is read otherwise.
    pub(crate) fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = vec![];
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok((status, headers)) };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next chunk of a chunked body, or its end.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size =
            usize::from_str_radix(&size, 16).map_err(|_| io::Error::other(format!("no chunk: {size:?}")))?;
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    fn pour(&mut self, body: &mut dyn Read, chunked: bool) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = body.read(&mut buffer)?;
            if chunked {
                self.write(format!("{count:x}\r\n").as_bytes())?;
            }
            self.write(&buffer[..count])?;
            if chunked {
                self.write(b"\r\n")?;
            }
            if count == 0 {
                return Ok(());
            }
        }
    }
}
