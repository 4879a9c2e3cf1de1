//! That whoever asked has gone. The server puts it into a request; whoever waits for the engine waits for this too, since
//! the work of a request goes on without its client otherwise.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to wait until a client has gone; clones wait for the same client.
#[derive(Clone)]
pub struct Departed(Arc<dyn Fn() -> Gone + Send + Sync>);

impl Departed {
    /// From what makes a future that resolves when the client has gone.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        wait: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || Box::pin(wait())))
    }

    /// Resolves when the client has gone.
    pub async fn wait(&self) {
        (self.0)().await;
    }
}

impl fmt::Debug for Departed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departed").finish_non_exhaustive()
    }
}
