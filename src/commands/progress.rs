//! The lines that a long verb of the daemon tells: shown, and its error found.
//!
//! On a terminal what counts up stands in one line that is written again and again; elsewhere only what is done is told.

use std::io::{self, IsTerminal as _, Write};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;

use super::connection::{Daemon, strange};
use super::{Error, Result};

/// How long one line may be, in bytes.
const LINE_MAX_BYTES: usize = 1024 * 1024;
/// Clears the line the cursor is in.
const CLEAR_LINE: &str = "\r\u{1b}[K";

/// Docker's `JSONMessage`, as far as we show it.
#[derive(Debug, Default, Deserialize)]
struct Line {
    #[serde(default)]
    status: String,
    #[serde(default)]
    progress: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    error: Option<String>,
}

/// Shows the lines of an answer to its end.
///
/// # Errors
/// The error the answer ends with, as [`Error::Daemon`]; what breaks it off.
pub(super) async fn show(daemon: &Daemon, mut body: Incoming) -> Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(daemon.broken())?.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let text = read(&line, is_terminal)?;
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .map_err(Error::file("write", "standard output"))?;
        }
        if rest.len() > LINE_MAX_BYTES {
            return Err(strange(&rest, "lines of progress"));
        }
    }
    if rest.is_empty() { Ok(()) } else { read(&rest, false).map(drop) }
}

/// What one line shows.
fn read(line: &[u8], is_terminal: bool) -> Result<String> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(String::new());
    }
    let line: Line = serde_json::from_slice(line).map_err(|_| strange(line, "a line of progress"))?;
    if let Some(error) = line.error {
        return Err(Error::Daemon(error));
    }
    let id = if line.id.is_empty() { String::new() } else { format!("{}: ", line.id) };
    let is_done = line.progress.is_empty();
    Ok(match (is_terminal, is_done) {
        (true, true) => format!("{CLEAR_LINE}{id}{}\n", line.status),
        (true, false) => format!("{CLEAR_LINE}{id}{} {}", line.status, line.progress),
        (false, true) => format!("{id}{}\n", line.status),
        (false, false) => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_for_terminals_and_an_error_ends_it() {
        let counted =
            br#"{"status":"Extracting","progressDetail":{"current":1},"progress":"[=>] 1B","id":"abc"}"#;
        assert_eq!(read(counted, false).unwrap(), "");
        assert_eq!(read(counted, true).unwrap(), "\r\u{1b}[Kabc: Extracting [=>] 1B");
        assert_eq!(read(br#"{"status":"Digest: x"}"#, false).unwrap(), "Digest: x\n");
        let error = read(br#"{"errorDetail":{"message":"no"},"error":"no"}"#, true).unwrap_err();
        assert_eq!(error.to_string(), "no");
        assert!(matches!(read(b"<html>", true), Err(Error::Answer { .. })));
    }
}
