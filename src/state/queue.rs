//! Changes that wait to be written, in their order, and who writes them: whoever asks, if nobody is writing, or else a
//! thread.
//!
//! To wake a thread, and to be woken by it, takes as long as the disk takes for a small write. So a task whose turn it is
//! writes what waits by itself, and blocks the thread it runs on for as long: only one task at a time, only while the disk
//! is known to be quick ([`super::writer::Writer::is_quick`]), and never what needs the database. All else is the thread's,
//! so that a disk that is slow or hangs keeps one task at the most from others' work.
//!
//! Locks are taken in this order: the writer, then the changes. This file does not know what is written, nor where.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::writer::{Records, Waiting, Writer};
use super::{Change, Error, Result};

/// How many changes share one write at most: more would only make the first of them wait longer.
pub(super) const GROUP_MAX: usize = 256;

/// The changes, and the one writer.
pub(super) struct Queue {
    line: Mutex<Line>,
    /// That the thread is wanted, or that nobody comes any more.
    call: Condvar,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    is_called: bool,
    is_closed: bool,
}

impl Queue {
    /// Nothing waits.
    pub(super) fn new(writer: Writer) -> Self {
        Self { line: Mutex::default(), call: Condvar::new(), writer: Mutex::new(writer) }
    }

    /// Gives a change its place; it is written at the latest when what is given back has been polled or dropped.
    pub(super) fn commit(self: &Arc<Self>, change: Change) -> Commit {
        Commit { queue: Arc::clone(self), answer: self.push(change), is_begun: false }
    }

    /// Writes a change, after all that wait. Blocking.
    pub(super) fn commit_now(&self, change: Change) -> Result<()> {
        let mut answer = self.push(change);
        self.drain(&mut self.writer());
        answer.try_recv().unwrap_or(Err(Error::Stopped))
    }

    /// Reads a table, after writing all that wait. Blocking.
    pub(super) fn load(&self, table: &'static str) -> Result<Records> {
        let mut writer = self.writer();
        self.drain(&mut writer);
        writer.load(table)
    }

    /// What the thread does: writes when it is called, until the queue is closed. Then it writes what waits, and closes
    /// the files.
    pub(super) fn serve(&self) {
        loop {
            let mut line = self.line();
            while !line.is_called && !line.is_closed {
                line = self.call.wait(line).unwrap_or_else(PoisonError::into_inner);
            }
            line.is_called = false;
            let is_closed = line.is_closed;
            drop(line);
            let mut writer = self.writer();
            self.drain(&mut writer);
            if is_closed {
                writer.close();
                return;
            }
        }
    }

    /// Nobody comes any more: the thread ends.
    pub(super) fn close(&self) {
        self.line().is_closed = true;
        self.call.notify_one();
    }

    /// How often something was synced.
    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.writer().syncs
    }

    fn push(&self, change: Change) -> oneshot::Receiver<Result<()>> {
        let (answer, receiver) = oneshot::channel();
        self.line().waiting.push_back((change, answer));
        receiver
    }

    /// Writes what waits, here if that is quick, or else on the thread.
    fn begin(&self) {
        // Whoever writes at present may have looked at the line before: the thread looks once more.
        let Some(mut writer) = self.free_writer() else { return self.call_thread() };
        if !writer.is_quick() {
            return self.call_thread();
        }
        let group = self.next_group();
        if let Some(group) = writer.append(group) {
            let mut line = self.line();
            for waiting in group.into_iter().rev() {
                line.waiting.push_front(waiting);
            }
            drop(line);
            self.call_thread();
        } else if !self.line().waiting.is_empty() {
            // More than one write takes.
            self.call_thread();
        }
    }

    fn call_thread(&self) {
        self.line().is_called = true;
        self.call.notify_one();
    }

    fn drain(&self, writer: &mut Writer) {
        loop {
            let group = self.next_group();
            if group.is_empty() {
                return;
            }
            writer.commit(group);
        }
    }

    /// Takes the first that wait. Only for who has the writer.
    fn next_group(&self) -> Vec<Waiting> {
        let waiting = &mut self.line().waiting;
        let count = waiting.len().min(GROUP_MAX);
        waiting.drain(..count).collect()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing that can panic runs under this lock.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| self.repaired(poisoned))
    }

    fn free_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => Some(self.repaired(poisoned)),
        }
    }

    /// The writer after a panic in the middle of its work: it opens the files anew.
    fn repaired<'a>(&self, poisoned: PoisonError<MutexGuard<'a, Writer>>) -> MutexGuard<'a, Writer> {
        tracing::error!("the writer of the state file has panicked");
        self.writer.clear_poison();
        let mut writer = poisoned.into_inner();
        writer.give_up();
        writer
    }
}

/// A change that has its place in the queue.
pub(super) struct Commit {
    queue: Arc<Queue>,
    answer: oneshot::Receiver<Result<()>>,
    is_begun: bool,
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_begun {
            self.is_begun = true;
            // Another's write may have taken it along.
            if self.answer.is_empty() {
                self.queue.begin();
            }
        }
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or(Err(Error::Stopped)))
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        if !self.is_begun {
            self.queue.call_thread();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::task::Waker;

    use super::super::{Table, open_files};
    use super::*;

    const NUMBERS: Table<u64> = Table::new("numbers");

    /// A queue that no thread serves.
    fn queue(path: &Path) -> Arc<Queue> {
        let path = path.join("state.redb");
        Arc::new(Queue::new(Writer::new(Box::new(move || open_files(&path))).unwrap()))
    }

    fn number(value: u64) -> Change {
        Change::new().put(NUMBERS, "key", &value).unwrap()
    }

    fn large() -> Change {
        let table: Table<String> = Table::new("large");
        Change::new().put(table, "key", &"x".repeat(super::super::JOURNAL_BYTES)).unwrap()
    }

    fn poll(commit: &mut Commit) -> Poll<Result<()>> {
        Pin::new(commit).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Lets the writer think so of the disk.
    fn quick(queue: &Queue, is_quick: bool) {
        queue.writer().pretend(is_quick);
        assert_eq!(queue.writer().is_quick(), is_quick);
    }

    fn is_called(queue: &Queue) -> bool {
        std::mem::take(&mut queue.line().is_called)
    }

    #[test]
    fn whoever_asks_writes_on_a_quick_disk() {
        let directory = tempfile::tempdir().unwrap();
        let queue = queue(directory.path());
        quick(&queue, true);
        let (mut first, mut second) = (queue.commit(number(1)), queue.commit(number(2)));
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(()))));
        assert!(matches!(poll(&mut first), Poll::Ready(Ok(()))), "it was before the other");
        assert_eq!(queue.syncs(), 1);
        assert!(!is_called(&queue));
        assert_eq!(queue.load("numbers").unwrap()["key"], b"2");
    }

    #[test]
    fn the_thread_writes_what_may_take_long() {
        let directory = tempfile::tempdir().unwrap();
        let queue = queue(directory.path());
        // On a slow disk, while somebody else writes, and what the journal has no room for.
        quick(&queue, false);
        let mut slow = queue.commit(number(1));
        assert!(poll(&mut slow).is_pending() && is_called(&queue));
        quick(&queue, true);
        let writing = queue.writer();
        let mut second = queue.commit(number(2));
        assert!(poll(&mut second).is_pending() && is_called(&queue));
        drop(writing);
        let mut third = queue.commit(large());
        assert!(poll(&mut third).is_pending() && is_called(&queue));
        let mut last = queue.commit(number(4));
        assert!(poll(&mut last).is_pending() && is_called(&queue), "it does not overtake");
        queue.close();
        queue.serve();
        for mut commit in [slow, second, third, last] {
            assert!(matches!(poll(&mut commit), Poll::Ready(Ok(()))));
        }
        assert_eq!(queue.load("numbers").unwrap()["key"], b"4");
    }

    #[test]
    fn one_that_is_never_awaited_is_left_to_the_thread() {
        let directory = tempfile::tempdir().unwrap();
        let queue = queue(directory.path());
        quick(&queue, true);
        drop(queue.commit(number(1)));
        assert!(is_called(&queue));
    }
}
