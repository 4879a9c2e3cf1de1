//! `dockplugd logs`: what a plugin wrote, each stream to its own.

use std::io::{self, IsTerminal as _, Write};

use bytes::Buf as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use jiff::{SignedDuration, Timestamp};

use super::connection::{Daemon, empty, escaped, strange};
use super::{Error, Result};
use crate::config::command::Logs;

/// How long the head of a piece is, in bytes: the stream, three zeros, the length.
const HEAD_BYTES: usize = 8;
/// How long a piece may be, in bytes.
const PIECE_MAX_BYTES: usize = 1024 * 1024;

pub(super) async fn logs(daemon: &Daemon, logs: &Logs) -> Result<()> {
    let now = Timestamp::now();
    let moment = |text: &Option<String>| text.as_deref().map_or(Ok(String::new()), |text| moment(text, now));
    let path = format!(
        "/plugins/{}/logs?stdout=1&stderr=1&follow={}&timestamps={}&tail={}&since={}&until={}",
        escaped(&logs.plugin),
        u8::from(logs.follow),
        u8::from(logs.timestamps),
        logs.tail.map_or("all".to_owned(), |lines| lines.to_string()),
        moment(&logs.since)?,
        moment(&logs.until)?,
    );
    let mut body = daemon.ask(Method::GET, &path, empty()).await?.into_body();
    let (harmless, harmless_errors) = (io::stdout().is_terminal(), io::stderr().is_terminal());
    let mut rest = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(daemon.broken())?.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        while let Some((stream, text)) = piece(&mut rest)? {
            if stream == 2 {
                write(&mut io::stderr().lock(), &text, harmless_errors, "standard error")?;
            } else {
                write(&mut io::stdout().lock(), &text, harmless, "standard output")?;
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(strange(&rest, "whole pieces of a log")) }
}

/// Takes the next piece, if all of it is there.
fn piece(rest: &mut bytes::BytesMut) -> Result<Option<(u8, bytes::Bytes)>> {
    let Some(&[stream, 0, 0, 0, a, b, c, d]) = rest.first_chunk::<HEAD_BYTES>() else {
        return if rest.len() < HEAD_BYTES {
            Ok(None)
        } else {
            Err(strange(rest, "the head of a piece of a log"))
        };
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > PIECE_MAX_BYTES {
        return Err(strange(rest, "a piece of a log of at most 1 MiB"));
    }
    if rest.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    rest.advance(HEAD_BYTES);
    Ok(Some((stream, rest.split_to(length).freeze())))
}

/// Writes what the plugin wrote; on a terminal without what would control it.
fn write(to: &mut impl Write, text: &[u8], is_terminal: bool, name: &'static str) -> Result<()> {
    let written = if is_terminal {
        let keep = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        let text: String = String::from_utf8_lossy(text).chars().map(keep).collect();
        to.write_all(text.as_bytes())
    } else {
        to.write_all(text)
    };
    written.and_then(|()| to.flush()).map_err(Error::file("write", name))
}

/// A moment as the API wants it: `SECONDS.NANOSECONDS`.
fn moment(text: &str, now: Timestamp) -> Result<String> {
    let wrong = |_| Error::Time(text.to_owned());
    if text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return Ok(text.to_owned());
    }
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => now.checked_sub(text.parse::<SignedDuration>().map_err(wrong)?).map_err(wrong)?,
    };
    // Nothing was written before 1970.
    let moment = moment.max(Timestamp::UNIX_EPOCH);
    Ok(format!("{}.{:09}", moment.as_second(), moment.subsec_nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ago_or_absolute() {
        let now = Timestamp::new(1000, 500_000_000).unwrap();
        let told = |text: &str| moment(text, now).map_err(|error| error.to_string());
        assert_eq!(told("10m").unwrap(), "400.500000000");
        assert_eq!(told("1h").unwrap(), "0.000000000");
        assert_eq!(told("1970-01-01T00:00:01Z").unwrap(), "1.000000000");
        assert_eq!(told("1700000000.25").unwrap(), "1700000000.25");
        for bad in ["soon", "", ".", "1.2.x"] {
            assert!(told(bad).unwrap_err().contains("as a time"), "{bad}");
        }
    }

    #[test]
    fn pieces_are_taken_when_they_are_whole() {
        let mut rest = bytes::BytesMut::from(&b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01"[..]);
        assert_eq!(piece(&mut rest).unwrap(), Some((1, "hi".into())));
        assert_eq!(piece(&mut rest).unwrap(), None);
        rest.extend_from_slice(b"!");
        assert_eq!(piece(&mut rest).unwrap(), Some((2, "!".into())));
        assert_eq!(piece(&mut rest).unwrap(), None);
        for bad in [&b"no heads at all"[..], &b"\x01\0\0\0\xff\0\0\0"[..]] {
            assert!(piece(&mut bytes::BytesMut::from(bad)).is_err());
        }
    }
}
