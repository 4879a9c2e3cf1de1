//! What a long verb tells, as the lines that the docker CLI draws its bars from.
//!
//! An error before the first line is an answer like any other; after it, it is the last line. Lines are gathered and sent
//! ten times a second at most, so a layer's bar moves no oftener. When the client hangs up the news are dropped, which
//! ends the work. Facts: moby 20.10 `pkg/streamformatter`, `pkg/jsonmessage`, and go-units for sizes.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::task::{JoinError, JoinHandle};

use super::error::{Failure, Result};
use super::reply;
use crate::error::Kind;
use crate::oci::Digest;
use crate::plugins;
use crate::plugins::report::{self, Layer, News, Report, Reports, Step};

/// The least time between two batches of lines.
const PACE: Duration = Duration::from_millis(100);
/// How wide a bar is, in characters.
const BAR_WIDTH: usize = 50;
/// How many digits of a digest a line is told by.
const ID_DIGITS: usize = 12;
/// The units of sizes, each a thousand of the one before.
const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// How the work ends.
type Done = plugins::Result<()>;

/// dockerd's `JSONMessage`, with its fields in their order.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    progress: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<PushResult<'a>>,
}

/// What the bar shows, in bytes.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
}

#[derive(Debug, Serialize)]
struct ErrorDetail<'a> {
    message: &'a str,
}

/// dockerd's `PushResult`, for whoever signs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PushResult<'a> {
    tag: &'a str,
    digest: Digest,
    size: u64,
}

/// An answer that is being written.
struct Telling {
    reports: Reports,
    /// Read already.
    first: Option<Vec<News>>,
    /// `None` when its end was told.
    work: Option<JoinHandle<Done>>,
}

/// Does something long and tells how far it is.
///
/// # Errors
/// What the work fails with before it has told anything.
pub(super) async fn answer<W>(work: impl FnOnce(Report) -> W) -> Result<Response<Body>>
where
    W: Future<Output = Done> + Send + 'static,
{
    let (report, mut reports) = report::queue();
    let work = tokio::spawn(work(report));
    let first = reports.next().await;
    let body = if first.is_some() {
        let telling = Telling { reports, first, work: Some(work) };
        Body::from_stream(futures_util::stream::unfold(telling, Telling::next))
    } else {
        outcome(work.await)?;
        Body::empty()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    Ok(response)
}

impl Telling {
    async fn next(mut self) -> Option<(std::result::Result<Bytes, Infallible>, Self)> {
        let news = if let Some(first) = self.first.take() {
            Some(first)
        } else {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = self.reports.ended() => {}
            }
            self.reports.next().await
        };
        let mut bytes = Vec::new();
        if let Some(news) = news {
            for news in &news {
                write(&mut bytes, news);
            }
        } else {
            let failure = outcome(self.work.take()?.await).err()?;
            let message = failure.message();
            let error_detail = Some(ErrorDetail { message });
            Line { error_detail, error: Some(message), ..Line::default() }.write(&mut bytes);
        }
        Some((Ok(bytes.into()), self))
    }
}

fn outcome(outcome: std::result::Result<Done, JoinError>) -> Result<()> {
    match outcome {
        Ok(done) => Ok(done?),
        Err(error) => Err(Failure::new(Kind::Internal, format!("a task has failed: {error}"))),
    }
}

/// Writes the lines of something that was told.
fn write(bytes: &mut Vec<u8>, news: &News) {
    let mut message = |status: &str, id: &str| Line { status, id, ..Line::default() }.write(bytes);
    match news {
        News::Pulling { repository, version } => message(&format!("Pulling from {repository}"), version),
        News::Manifest(digest) => message(&format!("Digest: {digest}"), ""),
        News::Pushing { repository } => {
            message(&format!("The push refers to repository [{repository}]"), "");
        }
        News::Pushed { tag, digest, size_bytes } => {
            message(&format!("{tag}: digest: {digest} size: {size_bytes}"), "");
            let aux = Some(PushResult { tag, digest: *digest, size: *size_bytes });
            Line { detail: Some(Detail::default()), aux, ..Line::default() }.write(bytes);
        }
        News::Restarting { name } => message(&format!("Restarting {name} with the new version"), ""),
        News::Dropped { setting } => {
            message(&format!("Warning: the new version has no setting {setting}, dropped"), "");
        }
        News::Layer(layer) => write_layer(bytes, *layer),
    }
}

fn write_layer(bytes: &mut Vec<u8>, layer: Layer) {
    let Layer { digest, step, current_bytes, total_bytes } = layer;
    let hex = digest.hex();
    let detail = Detail { current: current_bytes, total: total_bytes };
    Line {
        status: words(step),
        detail: Some(detail),
        progress: detail.bar(),
        id: hex.get(..ID_DIGITS).unwrap_or(&hex),
        ..Line::default()
    }
    .write(bytes);
}

/// dockerd's words for a step.
fn words(step: Step) -> &'static str {
    match step {
        Step::AlreadyHere => "Already exists",
        Step::Waiting => "Waiting",
        Step::Begun => "Pulling fs layer",
        Step::Downloading => "Downloading",
        Step::Verifying => "Verifying Checksum",
        Step::Downloaded => "Download complete",
        Step::Extracting => "Extracting",
        Step::Complete => "Complete",
        Step::Preparing => "Preparing",
        Step::Uploading => "Pushing",
        Step::AlreadyThere => "Layer already exists",
        Step::Mounted => "Mounted from another repository",
        Step::Uploaded => "Pushed",
    }
}

impl Line<'_> {
    /// Go's JSON of it, and dockerd's end of a line.
    fn write(&self, bytes: &mut Vec<u8>) {
        // Nothing in it cannot be written; a line that could not would be left out.
        let Ok(json) = serde_json::to_string(self) else { return };
        for character in json.chars() {
            match character {
                '<' => bytes.extend(b"\\u003c"),
                '>' => bytes.extend(b"\\u003e"),
                '&' => bytes.extend(b"\\u0026"),
                other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.extend(b"\r\n");
    }
}

impl Detail {
    /// `[=====>      ]  1.024kB/2.048kB`, or nothing where nothing is counted.
    fn bar(self) -> String {
        let Self { current, total } = self;
        if total == 0 {
            return if current == 0 { String::new() } else { format!("{:>8}", size(current)) };
        }
        let percent = u128::from(current) * 100 / u128::from(total);
        let done = usize::try_from(percent / 2).unwrap_or(BAR_WIDTH).min(BAR_WIDTH);
        let bar = format!("[{}>{}] ", "=".repeat(done), " ".repeat(BAR_WIDTH - done));
        if current > total {
            return format!("{bar}{:>8}", size(current));
        }
        format!("{bar}{:>8}/{}", size(current), size(total))
    }
}

/// A size with four digits that count: `1.024kB`.
fn size(bytes: u64) -> String {
    let (mut divisor, mut unit) = (1_u128, 0);
    while u128::from(bytes) >= divisor * 1000 && unit + 1 < UNITS.len() {
        divisor *= 1000;
        unit += 1;
    }
    let whole = u128::from(bytes) / divisor;
    let decimals: usize = if unit == 0 { 0 } else { 4 - whole.to_string().len() };
    let scale = 10_u128.pow(u32::try_from(decimals).unwrap_or(0));
    let rounded = (u128::from(bytes) * scale + divisor / 2) / divisor;
    let mut text = format!("{}.{:0decimals$}", rounded / scale, rounded % scale);
    if decimals == 0 {
        text = rounded.to_string();
    }
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS.get(unit).copied().unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn lines(news: &News) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes, news);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_the_bytes_that_dockerd_writes() {
        let digest = Digest::of(b"");
        let layer = |step, current_bytes, total_bytes| {
            lines(&News::Layer(Layer { digest, step, current_bytes, total_bytes }))
        };
        let pulling = News::Pulling { repository: "a/b".to_owned(), version: "v1".to_owned() };
        assert_eq!(lines(&pulling), "{\"status\":\"Pulling from a/b\",\"id\":\"v1\"}\r\n");
        assert_eq!(lines(&News::Manifest(digest)), format!("{{\"status\":\"Digest: {DIGEST}\"}}\r\n"));
        assert_eq!(
            layer(Step::Waiting, 0, 0),
            "{\"status\":\"Waiting\",\"progressDetail\":{},\"id\":\"e3b0c44298fc\"}\r\n"
        );
        assert_eq!(
            layer(Step::Downloading, 1024, 2048),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1024,\"total\":2048},\
             \"progress\":\"[=========================\\u003e                         ]  1.024kB/2.048kB\",\
             \"id\":\"e3b0c44298fc\"}\r\n"
        );
        let pushed = News::Pushed { tag: "v1".to_owned(), digest, size_bytes: 522 };
        assert_eq!(
            lines(&pushed),
            format!(
                "{{\"status\":\"v1: digest: {DIGEST} size: 522\"}}\r\n{{\"progressDetail\":{{}},\
                 \"aux\":{{\"Tag\":\"v1\",\"Digest\":\"{DIGEST}\",\"Size\":522}}}}\r\n"
            )
        );
    }

    #[test]
    fn sizes_are_written_as_go_units_does() {
        let cases = [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.024kB"),
            (10_500, "10.5kB"),
            (999_949, "999.9kB"),
            (999_960, "1000kB"),
            (1_234_567, "1.235MB"),
            (134_217_728, "134.2MB"),
            (2_000_000_000, "2GB"),
            (u64::MAX, "18.45EB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(Detail { current: 3, total: 2 }.bar(), format!("[{}>]       3B", "=".repeat(50)));
        assert_eq!(Detail { current: 3, total: 0 }.bar(), "      3B");
    }

    #[tokio::test]
    async fn an_error_is_the_answer_before_the_first_line_and_a_line_after_it() {
        let failed = || plugins::Error::AlreadyExists { name: "a".to_owned() };
        let failure = answer(move |report| async move {
            drop(report);
            Err(failed())
        });
        assert_eq!(failure.await.unwrap_err(), Failure::from(failed()));
        let response = answer(move |report: Report| async move {
            report.tell(News::Pushing { repository: "a".to_owned() });
            Err(failed())
        });
        let body = axum::body::to_bytes(response.await.unwrap().into_body(), 4096).await.unwrap();
        let expected = "{\"status\":\"The push refers to repository [a]\"}\r\n\
                        {\"errorDetail\":{\"message\":\"plugin a already exists\"},\"error\":\"plugin a already exists\"}\r\n";
        assert_eq!(String::from_utf8(body.to_vec()).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_ends_the_work() {
        let (gone, heard) = tokio::sync::oneshot::channel();
        let response = answer(move |report: Report| async move {
            report.tell(News::Pushing { repository: "a".to_owned() });
            report.abandoned().await;
            gone.send(()).unwrap();
            Ok(())
        });
        drop(response.await.unwrap());
        heard.await.unwrap();
    }
}
