//! What a long verb tells while it works: a queue that never makes the work wait.
//!
//! Pure bookkeeping in memory. Counts of one layer replace each other until somebody reads them, the latest wins; so
//! the queue is no longer than the layers times their steps. That the reader has gone is how the work hears that the
//! client hung up. Knows no JSON and no words: those are the API's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::oci::Digest;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The manifest was found.
    Pulling {
        /// The repository, as Docker shows it.
        repository: String,
        /// The tag or the digest that was asked for.
        version: String,
    },
    /// The digest of the manifest.
    Manifest(Digest),
    /// A push begins.
    Pushing {
        /// The repository, as Docker shows it.
        repository: String,
    },
    /// A push is done.
    Pushed {
        /// The tag.
        tag: String,
        /// The digest of the manifest.
        digest: Digest,
        /// How many bytes the manifest has.
        size_bytes: u64,
    },
    /// A layer has got further.
    Layer(Layer),
    /// All is here, and a plugin that runs is stopped and started with it.
    Restarting {
        /// The plugin, as Docker shows it.
        name: String,
    },
    /// A setting of the user's that the new version does not have.
    Dropped {
        /// `env MODE`, `args`, `mount cache`, ….
        setting: String,
    },
}

/// How far a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Its blob.
    pub digest: Digest,
    /// What is done with it.
    pub step: Step,
    /// How many bytes that is through with; 0 where nothing is counted.
    pub current_bytes: u64,
    /// Of how many; 0 where nothing is counted.
    pub total_bytes: u64,
}

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is here already.
    AlreadyHere,
    /// It waits for its turn.
    Waiting,
    /// The registry is asked for it.
    Begun,
    /// It arrives; counted.
    Downloading,
    /// All is here and is compared with its digest.
    Verifying,
    /// It is here.
    Downloaded,
    /// It is unpacked; counted.
    Extracting,
    /// It is unpacked.
    Complete,
    /// The registry is asked whether it has it.
    Preparing,
    /// It is sent; counted.
    Uploading,
    /// The registry has it already.
    AlreadyThere,
    /// The registry took it from another repository of its own.
    Mounted,
    /// The registry has it now.
    Uploaded,
}

/// For the work, to tell. Clones tell the same reader.
#[derive(Debug, Clone)]
pub struct Report(Arc<Sender>);

/// For whoever reads. Dropping it tells the work to end.
#[derive(Debug)]
pub struct Reports(Arc<Shared>);

/// Ends the news when the last [`Report`] goes.
#[derive(Debug)]
struct Sender(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
    abandoned: CancellationToken,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue(VecDeque<News>);

/// A new queue.
pub fn queue() -> (Report, Reports) {
    let shared = Arc::new(Shared::default());
    (Report(Arc::new(Sender(Arc::clone(&shared)))), Reports(shared))
}

impl Report {
    /// Tells something; never waits.
    pub fn tell(&self, news: News) {
        let shared = &self.0.0;
        locked(&shared.queue).add(news);
        shared.changed.notify_one();
    }

    /// Tells a step of a layer that counts nothing.
    pub(super) fn step(&self, digest: Digest, step: Step) {
        self.count(digest, step, 0, 0);
    }

    /// Tells how many bytes a step of a layer is through with.
    pub(super) fn count(&self, digest: Digest, step: Step, current_bytes: u64, total_bytes: u64) {
        self.tell(News::Layer(Layer { digest, step, current_bytes, total_bytes }));
    }

    /// Waits until nobody reads any more.
    pub async fn abandoned(&self) {
        self.0.0.abandoned.cancelled().await;
    }

    /// Whether nobody reads any more.
    pub fn is_abandoned(&self) -> bool {
        self.0.0.abandoned.is_cancelled()
    }
}

impl Reports {
    /// What there is to tell since the last call, at least one; `None` when the work has ended and all was told.
    pub async fn next(&mut self) -> Option<Vec<News>> {
        loop {
            // Looked at before the queue: what was told before the end is not missed.
            let ended = self.0.ended.is_cancelled();
            let news: Vec<News> = locked(&self.0.queue).0.drain(..).collect();
            if !news.is_empty() {
                return Some(news);
            }
            if ended {
                return None;
            }
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = self.0.ended.cancelled() => {}
            }
        }
    }

    /// Waits for the end of the work.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }
}

impl Queue {
    /// A count takes the place of the one before it, if nothing else was told of that layer since.
    fn add(&mut self, news: News) {
        if let News::Layer(new) = &news {
            let last = self.0.iter_mut().rev().find_map(|told| match told {
                News::Layer(old) if old.digest == new.digest => Some(old),
                _ => None,
            });
            if let Some(last) = last.filter(|last| last.step == new.step) {
                *last = *new;
                return;
            }
        }
        self.0.push_back(news);
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.0.abandoned.cancel();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.ended.cancel();
    }
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // No code that can panic runs under this lock.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(content: &[u8], step: Step, current_bytes: u64) -> News {
        News::Layer(Layer { digest: Digest::of(content), step, current_bytes, total_bytes: 9 })
    }

    #[tokio::test]
    async fn the_latest_count_of_a_layer_wins_and_no_step_is_lost() {
        let (report, mut reports) = queue();
        for count in 0..100 {
            report.tell(layer(b"a", Step::Downloading, count));
            report.tell(layer(b"b", Step::Downloading, count));
        }
        report.tell(layer(b"a", Step::Downloaded, 0));
        report.tell(layer(b"b", Step::Downloading, 100));
        let expected = [
            layer(b"a", Step::Downloading, 99),
            layer(b"b", Step::Downloading, 100),
            layer(b"a", Step::Downloaded, 0),
        ];
        assert_eq!(reports.next().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_was_told_before_the_end_is_read_and_then_nothing() {
        let (report, mut reports) = queue();
        let told = tokio::spawn(async move {
            let clone = report.clone();
            drop(report);
            clone.tell(News::Pushing { repository: "a".to_owned() });
        });
        assert_eq!(reports.next().await, Some(vec![News::Pushing { repository: "a".to_owned() }]));
        told.await.unwrap();
        assert_eq!(reports.next().await, None);
    }

    #[tokio::test]
    async fn the_work_hears_that_nobody_reads() {
        let (report, reports) = queue();
        assert!(!report.is_abandoned());
        drop(reports);
        report.abandoned().await;
        assert!(report.is_abandoned());
    }
}
