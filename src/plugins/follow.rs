//! Reading a file while it is being written: how a layer is unpacked while it arrives.
//!
//! Whoever writes tells how far it is; the reader gets what is there and waits for more. Neither holds up the other
//! beyond that, so layers may arrive in any order. Knows nothing of layers or registries.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The writer's side. Dropped before [`Growth::whole`], it breaks the reader off.
#[derive(Debug)]
pub(super) struct Growth {
    shared: Arc<Shared>,
    opened: Option<oneshot::Sender<File>>,
}

/// What becomes a [`Follower`] when the file is there.
#[derive(Debug)]
pub(super) struct Pending {
    shared: Arc<Shared>,
    opened: oneshot::Receiver<File>,
}

/// The reader's side: blocks until there is more.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    file: File,
    position: u64,
}

/// Tells when the writer is done, one way or the other.
#[derive(Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    available_bytes: u64,
    end: End,
    is_settled: bool,
    /// The writer is done, and has said what it had to say.
    is_over: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Growing,
    Whole,
    Broken,
}

/// Both sides of a file that is not there yet.
pub(super) fn pair() -> (Growth, Pending) {
    let shared = Arc::new(Shared::default());
    let (send, receive) = oneshot::channel();
    (Growth { shared: Arc::clone(&shared), opened: Some(send) }, Pending { shared, opened: receive })
}

impl Growth {
    /// The file is there. Whoever writes it is running already: a reader that waits does not keep it from starting.
    pub(super) fn open(&mut self, file: File) {
        if let Some(opened) = self.opened.take() {
            // Nobody may want to read any more.
            let _unwanted = opened.send(file);
        }
    }

    /// So many bytes can be read.
    pub(super) fn grown(&self, available_bytes: u64) {
        self.shared.change(|state| state.available_bytes = available_bytes);
    }

    /// What is there is what was expected, and will stay.
    pub(super) fn settled(&self) {
        self.shared.change(|state| state.is_settled = true);
    }

    /// All is there.
    pub(super) fn whole(&self) {
        self.shared.change(|state| state.end = End::Whole);
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.shared.change(|state| {
            if state.end == End::Growing {
                state.end = End::Broken;
            }
            state.is_over = true;
        });
    }
}

impl Pending {
    /// Waits for the file; `None` when it will never be there.
    pub(super) async fn opened(self) -> Option<Follower> {
        let file = self.opened.await.ok()?;
        Some(Follower { shared: self.shared, file, position: 0 })
    }
}

impl Follower {
    /// Whether what is there is what was expected.
    pub(super) fn is_settled(&self) -> bool {
        self.shared.locked().is_settled
    }

    /// To wait for the writer beside, or after, reading.
    pub(super) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }
}

impl Watch {
    /// Blocks until the writer is done.
    pub(super) fn until_over(&self) {
        let mut state = self.0.locked();
        while !state.is_over {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.locked();
        while state.available_bytes <= self.position && state.end == End::Growing {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let State { available_bytes, end, .. } = *state;
        drop(state);
        if end == End::Broken {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it stopped arriving"));
        }
        let there = usize::try_from(available_bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = there.min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.position)?;
        self.position += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.locked());
        self.changed.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_to_its_end_and_not_further() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (mut growth, pending) = pair();
        growth.open(file.reopen().unwrap());
        let mut follower = pending.opened().await.unwrap();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            follower.read_to_end(&mut all).map(|_| all)
        });
        for piece in [&b"hello, "[..], b"world"] {
            file.write_all(piece).unwrap();
            growth.grown(file.as_file().metadata().unwrap().len());
        }
        // Written, and not told: it may be half a piece.
        file.write_all(b"!").unwrap();
        growth.whole();
        assert_eq!(reading.join().unwrap().unwrap(), b"hello, world");
    }

    #[tokio::test]
    async fn a_writer_that_goes_away_breaks_the_reader_off() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut growth, pending) = pair();
        growth.open(file.reopen().unwrap());
        let mut follower = pending.opened().await.unwrap();
        assert!(!follower.is_settled());
        drop(growth);
        assert!(follower.read(&mut [0; 8]).is_err());
        let (growth, pending) = pair();
        drop(growth);
        assert!(pending.opened().await.is_none());
    }
}
