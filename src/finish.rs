//! Work that goes on to its end, also when whoever waits for it goes away in the middle.
//!
//! As long as somebody waits, it is part of their task: to give it a task of its own from the start would wake another
//! thread, and be woken by it. This file does not know what the work is.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The work, for as long as somebody waits for it.
#[must_use = "it begins when it is polled, and not before"]
pub struct Finish<T: Send + 'static> {
    /// `None` when it is done.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    has_begun: bool,
}

/// Begins when it is polled; dropped before that it has never begun, dropped later it goes on in a task of its own.
pub fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Finish<T> {
    Finish { work: Some(Box::pin(work)), has_begun: false }
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        // Without a run time everything has ended, also what would be waited for.
        if let Some(work) = self.work.take().filter(|_| self.has_begun)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_gets_the_result() {
        assert_eq!(finish(async { 7 }).await, 7);
        assert_eq!(finish(async { tokio::task::yield_now().await }).await, ());
    }

    #[tokio::test]
    async fn it_goes_on_without_who_has_gone() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, told) = oneshot::channel();
        let mut work = finish(async move {
            wait.await.unwrap();
            done.send(()).unwrap();
        });
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        told.await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_has_waited_for_has_not_begun() {
        let (done, told) = oneshot::channel::<()>();
        drop(finish(async move { done.send(()) }));
        assert!(told.await.is_err());
    }
}
