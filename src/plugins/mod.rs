//! Managed plugins: kept, changed, started, watched.
//!
//! What the user wants (`enabled`, durable) and what is seen (`observed`) are two things, and both are shown:
//!
//! ```text
//!            enable (once)         ready: enabled = true
//!  Stopped ---------------> Starting --------------------> Running --+
//!     ^  ^                   |    ^                           |      | dies, is late, cannot start
//!     |  |    not ready      |    | after 100 ms, 200 ms,     |      v
//!     |  +- Failed <---------+    +- … 1 min ------------- BackingOff
//!     |   enabled = false                                     |
//!     +------- Stopping <-------------------------------------+  disable: enabled = false
//! ```
//!
//! An enabled plugin is never given up: at the start of the daemon, and after each death, it is tried again until it
//! is disabled. Only `enable` itself, with somebody waiting for the answer, tries once and leaves it disabled.
//!
//! One verb is one file. Verbs on one plugin take turns; looking at plugins waits for nobody. A verb that has begun
//! goes on when its client has gone. This room does not know what a volume is: it makes drivers live, and asks how
//! many lean on one.
//!
//! Facts: moby 20.10 `plugin/` and main `daemon/pkg/plugin/`, and what dockerd 20.10 answers.

mod collect;
mod config;
mod create;
mod directories;
mod disable;
mod enable;
mod error;
mod go_json;
mod id;
mod init_layer;
mod launch;
mod list;
mod observed;
mod plugin;
pub mod privilege;
mod record;
mod remove;
mod restore;
mod set;
pub mod settable;
mod settings;
mod shelf;
mod shutdown;
pub mod spec;
mod supervise;
pub mod validate;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::sync::Semaphore;

use crate::drivers::Drivers;
use crate::events::{Bus, Event, Type};
use crate::oci::Reference;
use crate::paths::{DataRoot, ExecRoot};
use crate::runtime::Launcher;
use crate::{content, layer, state};

pub use config::PluginConfig;
pub use error::Error;
pub use id::PluginId;
pub use list::Filter;
pub use observed::{State, Status};
pub use plugin::View;
pub use settings::Settings;
use shelf::Shelf;

/// How long a plugin may take until it listens, unless the user says otherwise. Also for each attempt at boot.
pub const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a plugin may take to end after it was asked to; then it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// How many plugins are prepared and handed to the runtime at a time. Waiting until one listens does not count.
const STARTS_MAX: usize = 4;

/// The result of everything in this room that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All managed plugins; clones are the same ones.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

/// What this room is given.
#[derive(Debug)]
pub struct Parts {
    /// Where plugins are kept.
    pub data: DataRoot,
    /// Where running plugins have their sockets.
    pub exec: ExecRoot,
    /// The records.
    pub store: state::Store,
    /// The blobs. No other room may collect in it.
    pub content: content::Store,
    /// Where it is told what happens.
    pub events: Bus,
    /// Where enabled volume plugins are made known.
    pub drivers: Drivers,
    /// What runs plugins.
    pub launcher: Launcher,
    /// Whether plugins outlive the daemon.
    pub live_restore: bool,
    /// How large what users send may be.
    pub limits: layer::Limits,
    /// Written into the configuration of plugins made here, as `DockerVersion`; empty for nothing.
    pub version: String,
}

struct Inner {
    parts: Parts,
    shelf: Shelf,
    starts: Semaphore,
    /// The daemon ends: nothing is started any more.
    closing: AtomicBool,
}

impl Plugins {
    /// Reads what there is, and removes what a crash has left half-made. Nothing is started. Blocking.
    ///
    /// # Errors
    /// When a directory or the state cannot be read. A single plugin that is damaged is told in the log, left alone,
    /// and not listed.
    pub fn open(parts: Parts) -> Result<Self> {
        restore::open(parts).map(Self)
    }

    /// Begins to find, or to start, what is enabled, in the background; and ends what runs without being enabled.
    /// Volume drivers are known, though perhaps not yet listening, when this returns. To be called
    /// within a tokio run time.
    pub fn restore(&self) {
        restore::restore(&self.0);
    }

    /// Stops everything, or leaves it running (`live_restore`); nothing is started any more. What is enabled stays
    /// enabled.
    pub async fn shutdown(&self) {
        shutdown::shutdown(&self.0).await;
    }

    /// Makes a plugin from a tar of `config.json` and `rootfs`, plain, gzip or zstd. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Canonical`], whatever is wrong with the tar or with `config.json`; nothing is
    /// left behind.
    pub async fn create(
        &self,
        name: Reference,
        body: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<PluginId> {
        let inner = Arc::clone(&self.0);
        detached(async move { create::create(&inner, name, body).await }).await
    }

    /// The plugins that pass the filter, the oldest first.
    pub fn list(&self, filter: &Filter) -> Vec<View> {
        list::list(&self.0, filter)
    }

    /// One plugin, by name, id, or the beginning of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn inspect(&self, selector: &str) -> Result<View> {
        Ok(self.0.shelf.find(selector)?.view())
    }

    /// Starts a plugin and waits until it listens, `timeout` at most (0: [`START_DEADLINE`]).
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::AlreadyEnabled`]; why it cannot run, with its last words. It is disabled then.
    pub async fn enable(&self, selector: &str, timeout: Duration) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        detached(async move { enable::enable(&inner, &selector, timeout).await }).await
    }

    /// Stops a plugin.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::InUse`] unless `force`; [`Error::AlreadyDisabled`].
    pub async fn disable(&self, selector: &str, force: bool) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        detached(async move { disable::disable(&inner, &selector, force).await }).await
    }

    /// Changes settings of a disabled plugin, all or none.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::SetWhileEnabled`]; [`Error::Set`].
    pub async fn set(&self, selector: &str, settings: Vec<String>) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        detached(async move { set::set(&inner, &selector, &settings).await }).await
    }

    /// Removes a plugin, and tells what it was. With `force` an enabled one is stopped first.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::InUse`] and [`Error::Enabled`] unless `force`.
    pub async fn remove(&self, selector: &str, force: bool) -> Result<View> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        detached(async move { remove::remove(&inner, &selector, force).await }).await
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plugins").field(&self.0.parts.data).finish()
    }
}

impl Inner {
    /// Tells what happened. dockerd gives the name as it was typed.
    fn tell(&self, action: &str, id: &PluginId, name: &str) {
        self.parts.events.publish(Event::new(Type::Plugin, action, id.as_str()).with("name", name));
    }
}

/// Work that goes on when nobody waits for it any more.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(Error::Task)?
}

/// Work that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Task)?
}

#[cfg(test)]
mod tests;
