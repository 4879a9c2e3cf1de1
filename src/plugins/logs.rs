//! `logs`: what a plugin's process wrote, and on as it writes.
//!
//! Following goes on over every restart of the process, and ends when the plugin is disabled, removed, or its `enable`
//! has failed: when nothing more is to come. The lines are the plugin's own words, and hostile.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::observed::Status;
use super::plugin::Plugin;
use super::{Error, Inner, Result};
use crate::runtime::{Line, Reader, Stream};
use crate::watch::{Change, Watch};

/// How many lines are handed over at a time, and how many such batches wait for the client.
const BATCH_LINES: usize = 64;
const BATCHES_MAX: usize = 4;

/// Lines as they come; an error breaks them off.
pub type Lines = mpsc::Receiver<io::Result<Vec<Line<'static>>>>;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOrder {
    /// Go on as more is written.
    pub follow: bool,
    /// Only the last ones, of both streams together; `None` for all there are.
    pub tail: Option<u64>,
    /// None written before.
    pub since: Option<Timestamp>,
    /// None written later.
    pub until: Option<Timestamp>,
    /// Those on standard output.
    pub stdout: bool,
    /// Those on standard error.
    pub stderr: bool,
}

pub(super) async fn logs(inner: &Arc<Inner>, selector: &str, order: LogOrder) -> Result<Lines> {
    let plugin = inner.shelf.find(selector)?;
    let dir = inner.parts.data.plugin(plugin.id.as_str()).log();
    let failed = |source| Error::Log { name: plugin.name(), source };
    // The watch before the first look.
    let watch = if order.follow { Some(watch(&dir).map_err(failed)?) } else { None };
    let own = dir.clone();
    let reader = tokio::task::spawn_blocking(move || Reader::open(&own, order.tail)).await;
    let reader = reader.map_err(Error::Task)?.map_err(failed)?;
    let (send, receive) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(tell(plugin, reader, order, watch, send));
    Ok(receive)
}

/// A watch on a log's directory, which the first start of a plugin makes.
fn watch(dir: &Path) -> io::Result<Watch> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Watch::new(File::open(dir)?, Change::Content)
}

async fn tell(
    plugin: Arc<Plugin>,
    mut reader: Reader,
    order: LogOrder,
    watch: Option<Watch>,
    send: mpsc::Sender<io::Result<Vec<Line<'static>>>>,
) {
    loop {
        // Asked before the last look, so that nothing written before its end is missed.
        let is_last = watch.is_none() || is_over(&plugin);
        let read =
            tokio::task::spawn_blocking(move || batch(&mut reader, &order).map(|batch| (batch, reader)));
        let batch = match read.await.map_err(io::Error::other).flatten() {
            Ok((batch, same)) => {
                reader = same;
                batch
            }
            // Nobody may be there to hear of it.
            Err(error) => return drop(send.send(Err(error)).await),
        };
        if !batch.lines.is_empty() && send.send(Ok(batch.lines)).await.is_err() {
            return;
        }
        match batch.end {
            End::Full => continue,
            End::Past => return,
            End::Present if is_last => return,
            End::Present => {}
        }
        let Some(watch) = &watch else { return };
        tokio::select! {
            () = send.closed() => return,
            () = past(order.until) => return,
            () = over(&plugin) => {}
            changed = watch.changed() => if let Err(error) = changed {
                return drop(send.send(Err(error)).await);
            },
        }
    }
}

/// Lines that were read, and why no more of them.
struct Batch {
    lines: Vec<Line<'static>>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There are enough for once.
    Full,
    /// More is not there yet.
    Present,
    /// What comes is later than was asked for.
    Past,
}

/// The next lines that are wanted. Blocking.
fn batch(reader: &mut Reader, order: &LogOrder) -> io::Result<Batch> {
    let mut lines = Vec::new();
    while lines.len() < BATCH_LINES {
        let Some(line) = reader.line()? else { return Ok(Batch { lines, end: End::Present }) };
        if order.until.is_some_and(|until| line.time > until) {
            return Ok(Batch { lines, end: End::Past });
        }
        let is_wanted = match line.stream {
            Stream::Stdout => order.stdout,
            Stream::Stderr => order.stderr,
        };
        if is_wanted && order.since.is_none_or(|since| line.time >= since) {
            lines.push(line);
        }
    }
    Ok(Batch { lines, end: End::Full })
}

/// Whether nothing more will be written.
fn is_over(plugin: &Plugin) -> bool {
    let status = plugin.view().observed.status;
    !plugin.is_enabled() && matches!(status, Status::Stopped | Status::Failed)
}

/// Waits until nothing more will be written.
async fn over(plugin: &Plugin) {
    let mut observed = plugin.observed();
    while !is_over(plugin) && observed.changed().await.is_ok() {}
}

/// Waits until a moment is past; for ever, if there is none.
async fn past(moment: Option<Timestamp>) {
    let Some(moment) = moment else { return std::future::pending().await };
    let left = moment.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}
