//! The published sockets: one for each live managed volume driver, made and removed as drivers come and go.
//!
//! It knows which sockets there are, not what they answer. A socket that cannot be made is told in the log, and tried
//! again with the next change: no plugin fails for it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::drivers::Drivers;
use crate::error::chain;
use crate::publish::{Published, file_name};
use crate::server::{self, Listeners, Server};
use crate::volumes::Volumes;

/// How many connections one socket serves at a time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;

/// The task that makes and removes sockets.
#[derive(Debug)]
pub(super) struct Publishing {
    ending: CancellationToken,
    task: JoinHandle<BTreeMap<String, Server>>,
}

impl Publishing {
    /// Makes the directory, and publishes in it from now on.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn start(directory: &Path, drivers: Drivers, volumes: Volumes) -> io::Result<Self> {
        // One that is there keeps its mode: others may use it too.
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let ending = CancellationToken::new();
        let publisher =
            Publisher { directory: directory.to_owned(), drivers, volumes, served: BTreeMap::new() };
        let task = tokio::spawn(publisher.run(ending.clone()));
        Ok(Self { ending, task })
    }

    /// Removes all sockets, and lets running requests finish for at most `timeout`. Says whether all of them finished.
    pub(super) async fn end(self, timeout: Option<Duration>) -> bool {
        self.ending.cancel();
        match self.task.await {
            Ok(served) => {
                let drains = served.into_values().map(|server| server.drain(timeout));
                join_all(drains).await.into_iter().all(|finished| finished)
            }
            Err(error) => {
                tracing::error!(%error, "the task that publishes sockets has failed");
                true
            }
        }
    }
}

struct Publisher {
    directory: PathBuf,
    drivers: Drivers,
    volumes: Volumes,
    /// By the driver's name.
    served: BTreeMap<String, Server>,
}

impl Publisher {
    async fn run(mut self, ending: CancellationToken) -> BTreeMap<String, Server> {
        let mut changes = self.drivers.changes();
        changes.mark_changed();
        loop {
            tokio::select! {
                other = changes.changed() => if other.is_err() { break },
                () = ending.cancelled() => break,
            }
            self.settle().await;
        }
        self.served
    }

    /// Makes the sockets those of the live drivers.
    async fn settle(&mut self) {
        let wanted = self.drivers.names();
        let gone: Vec<_> = self.served.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            if let Some(server) = self.served.remove(&name) {
                tracing::info!(driver = name, "no longer published");
                // What runs goes on; the socket is gone.
                server.drain(Some(Duration::ZERO)).await;
            }
        }
        for name in wanted {
            if self.served.contains_key(&name) {
                continue;
            }
            let path = self.directory.join(file_name(&name));
            match self.publish(&name, &path) {
                Ok(server) => {
                    tracing::info!(driver = name, path = %path.display(), "published as a legacy plugin");
                    self.served.insert(name, server);
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(driver = name, path = %path.display(), error, "cannot publish a volume plugin");
                }
            }
        }
    }

    fn publish(&self, name: &str, path: &Path) -> Result<Server, server::Error> {
        let listeners = Listeners::bind_private(path)?;
        let service = Published::new(self.volumes.of_driver(name));
        Ok(Server::start_with(CONNECTIONS_MAX, listeners, &service, CancellationToken::new()))
    }
}
