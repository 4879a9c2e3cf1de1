//! `GET /plugins/{name}/logs`, ours: a plugin's output, in the shape of a container's.
//!
//! Each piece has a head of 8 bytes: the stream (1 or 2), three zeros, the length, highest byte first. Facts: moby
//! `pkg/stdcopy`, `daemon/server/router/container` (`ContainerLogs`).

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use futures_util::stream::unfold;
use jiff::Timestamp;

use super::Rooms;
use super::error::{Failure, Result};
use super::form::Form;
use super::version::ApiVersion;
use crate::plugins::LogOrder;
use crate::runtime::{Line, Stream};

/// Since this version the type says that there are heads.
const MULTIPLEXED_SINCE: ApiVersion = ApiVersion::v1(42);
/// Go's `RFC3339NanoFixed`.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%9fZ";

/// `GET /plugins/{name}/logs?follow=&tail=&since=&until=&timestamps=&stdout=&stderr=`
pub(super) async fn logs(
    rooms: &Rooms,
    form: &Form,
    name: &str,
    version: ApiVersion,
) -> Result<Response<Body>> {
    let lines = rooms.plugins.logs(name, order(form)?).await?;
    let timestamps = form.bool("timestamps");
    let closing = rooms.closing.clone();
    let pieces = unfold((lines, closing), move |(mut lines, closing)| async move {
        let batch = tokio::select! {
            batch = lines.recv() => batch?,
            () = closing.cancelled() => return None,
        };
        let piece = batch.map(|lines| {
            let mut bytes = Vec::new();
            for line in &lines {
                write(&mut bytes, line, timestamps);
            }
            Bytes::from(bytes)
        });
        Some((piece, (lines, closing)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let content_type = if version < MULTIPLEXED_SINCE {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

fn order(form: &Form) -> Result<LogOrder> {
    let (stdout, stderr) = (form.bool("stdout"), form.bool("stderr"));
    if !stdout && !stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    // What is no number, `all` above all, is everything, as for containers.
    let tail = form.text("tail").parse().ok();
    let (since, until) = (form.time("since")?, form.time("until")?);
    // 0 is how clients say "no end".
    let until = until.filter(|until| *until != Timestamp::UNIX_EPOCH);
    Ok(LogOrder { follow: form.bool("follow"), tail, since, until, stdout, stderr })
}

fn write(bytes: &mut Vec<u8>, line: &Line<'_>, timestamps: bool) {
    let mut text = String::new();
    if timestamps {
        text = format!("{} ", line.time.strftime(TIME_FORMAT));
    }
    text.push_str(&line.log);
    let stream = match line.stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    bytes.extend_from_slice(&[stream, 0, 0, 0]);
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_its_head() {
        let time = "2026-11-01T10:00:00.5Z".parse().unwrap();
        let line = Line { log: "hé\n".into(), stream: Stream::Stderr, time };
        let written = |timestamps| {
            let mut bytes = Vec::new();
            write(&mut bytes, &line, timestamps);
            bytes
        };
        assert_eq!(written(false), b"\x02\0\0\0\0\0\0\x04h\xc3\xa9\n");
        assert_eq!(&written(true)[7..], "#2026-11-01T10:00:00.500000000Z hé\n".as_bytes());
    }

    #[test]
    fn what_is_wanted_is_read_as_for_containers() {
        let order = |query: &str| order(&Form::parse(query).unwrap());
        let all = LogOrder { stdout: true, ..LogOrder::default() };
        for query in ["stdout=1", "stdout=1&tail=all", "stdout=true&tail=-1&until=0", "stdout=1&tail="] {
            assert_eq!(order(query).unwrap().tail, None, "{query}");
            assert_eq!(order(query).unwrap().until, None, "{query}");
        }
        assert_eq!(order("stdout=1").unwrap(), all);
        let some = order("stderr=1&tail=5&follow=1&since=1.5&until=2").unwrap();
        assert_eq!((some.tail, some.follow, some.stdout, some.stderr), (Some(5), true, false, true));
        assert_eq!(some.since.unwrap().as_millisecond(), 1500);
        let none = Failure::invalid("Bad parameters: you must choose at least one stream");
        assert_eq!(order("follow=1"), Err(none));
        assert!(order("stdout=1&since=soon").is_err());
    }
}
