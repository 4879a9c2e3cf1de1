//! Work that the kernel may never finish - a mount from a server that is gone - on threads of their own, with a deadline.
//!
//! Such a thread cannot be ended. So it is left to itself: it takes none of the threads that other calls need, a daemon
//! that ends does not wait for it, and until it is done nothing else is begun under its name. This file does not know
//! what the work is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// How many such threads there are at most, those that hang included.
const THREADS_MAX: usize = 128;
/// The stack of each in bytes: looking up names takes some. What is not used costs nothing.
const STACK_BYTES: usize = 1024 * 1024;

/// The threads, and the names they work for.
#[derive(Debug)]
pub(super) struct Aside {
    busy: Arc<Mutex<BTreeSet<String>>>,
    threads: Arc<Semaphore>,
    deadline: Duration,
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The work goes on after the deadline.
    Late(Late),
    /// Earlier work under this name has not ended.
    Busy,
    /// As many threads as there may be hang.
    Full,
    /// The machine has no thread, or the work has panicked.
    Lost(String),
}

/// Work that goes on after its deadline.
#[derive(Debug)]
pub(super) struct Late(oneshot::Receiver<()>);

impl Late {
    /// Waits until the work has ended, however.
    pub(super) async fn ended(self) {
        // The thread drops its end when it is done.
        let _gone = self.0.await;
    }
}

/// A name that is being worked for; until it is dropped.
struct Busy {
    names: Arc<Mutex<BTreeSet<String>>>,
    name: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        locked(&self.names).remove(&self.name);
    }
}

impl Aside {
    /// With so much time for each piece of work.
    pub(super) fn new(deadline: Duration) -> Self {
        Self { busy: Arc::default(), threads: Arc::new(Semaphore::new(THREADS_MAX)), deadline }
    }

    /// How long each piece of work may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether work under this name has not ended.
    pub(super) fn is_busy(&self, name: &str) -> bool {
        locked(&self.busy).contains(name)
    }

    /// Does the work, and waits for it until the deadline.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let deadline = Instant::now() + self.deadline;
        let busy = self.begin(name)?;
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&self.threads).acquire_owned()).await else {
            return Err(Trouble::Full);
        };
        let (done, result) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("mount".to_owned()).stack_size(STACK_BYTES);
        let begun = thread.spawn(move || {
            let result = work();
            // Whoever hears of the end may begin anew at once.
            drop((busy, permit));
            let _nobody_waits = done.send(result);
            drop(alive);
        });
        begun.map_err(|error| Trouble::Lost(error.to_string()))?;
        match timeout_at(deadline, result).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Trouble::Lost("its thread has panicked".to_owned())),
            Err(_) => Err(Trouble::Late(Late(ended))),
        }
    }

    fn begin(&self, name: &str) -> Result<Busy, Trouble> {
        if !locked(&self.busy).insert(name.to_owned()) {
            return Err(Trouble::Busy);
        }
        Ok(Busy { names: Arc::clone(&self.busy), name: name.to_owned() })
    }
}

fn locked(names: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_ends_in_time_is_answered() {
        let aside = Aside::new(Duration::from_mins(1));
        assert_eq!(aside.run("a", || 1).await.unwrap(), 1);
        assert_eq!(aside.run("a", || 2).await.unwrap(), 2);
        assert!(locked(&aside.busy).is_empty());
    }

    #[tokio::test]
    async fn what_hangs_is_left_alone_until_it_ends() {
        let aside = Aside::new(Duration::from_millis(1));
        let (release, held) = mpsc::channel::<()>();
        let hanging = aside.run("a", move || held.recv().unwrap()).await;
        let Err(Trouble::Late(late)) = hanging else { panic!("{hanging:?}") };
        assert!(matches!(aside.run("a", || ()).await, Err(Trouble::Busy)));
        assert!(aside.is_busy("a") && !aside.is_busy("b"));
        release.send(()).unwrap();
        late.ended().await;
        assert!(locked(&aside.busy).is_empty());
        assert_eq!(aside.threads.available_permits(), THREADS_MAX);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_forgotten() {
        let aside = Aside::new(Duration::from_mins(1));
        let lost = aside.run::<()>("a", || panic!("of the test")).await;
        assert!(matches!(lost, Err(Trouble::Lost(_))), "{lost:?}");
        aside.run("a", || ()).await.unwrap();
    }

    #[tokio::test]
    async fn when_all_threads_hang_that_is_said() {
        let aside = Aside::new(Duration::from_millis(1));
        let _all = Arc::clone(&aside.threads).acquire_many_owned(THREADS_MAX.try_into().unwrap()).await;
        assert!(matches!(aside.run("a", || ()).await, Err(Trouble::Full)));
        assert!(locked(&aside.busy).is_empty());
    }
}
