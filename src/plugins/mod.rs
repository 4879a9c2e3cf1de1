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

mod carry;
mod collect;
mod config;
mod create;
mod describe;
mod directories;
mod disable;
mod enable;
mod error;
mod fetch;
mod follow;
mod former;
mod go_json;
mod id;
mod init_layer;
mod launch;
mod list;
mod logs;
mod observed;
mod offline;
mod plugin;
pub mod privilege;
mod privileges;
mod pull;
mod push;
mod record;
mod remote;
mod remove;
mod rename;
pub mod report;
mod resources;
mod restart;
mod restore;
mod secret;
mod set;
pub mod settable;
mod settings;
mod shelf;
mod shutdown;
pub mod spec;
mod supervise;
mod upgrade;
pub mod validate;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::sync::Semaphore;

use crate::drivers::Drivers;
use crate::events::{Bus, Event, Type};
use crate::finish::finish;
use crate::oci::Reference;
use crate::paths::{DataRoot, ExecRoot};
use crate::registry::{Credentials, Hosts};
use crate::runtime::Launcher;
use crate::{content, layer, state};

pub use config::PluginConfig;
pub use error::Error;
use former::FormerNames;
pub use id::PluginId;
pub use list::Filter;
pub use logs::{Lines, LogOrder};
pub use observed::{State, Status};
pub use offline::Saved;
pub use plugin::View;
use privilege::Privilege;
pub use pull::Order;
pub use remote::Remote;
use report::Report;
pub use resources::{Pids, Resources};
pub use settings::Settings;
use shelf::Shelf;
use spec::seccomp;
pub use spec::{Confinement, Kernel};
pub use supervise::Backoff;

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
    /// How registries are reached.
    pub hosts: Arc<Hosts>,
    /// How long is waited before a plugin that has died is started again.
    pub backoff: Backoff,
    /// Whether plugins outlive the daemon.
    pub live_restore: bool,
    /// Which system calls plugins may make.
    pub seccomp: seccomp::Profile,
    /// How large what users send may be.
    pub limits: layer::Limits,
    /// Written into the configuration of plugins made here, as `DockerVersion`; empty for nothing.
    pub version: String,
}

struct Inner {
    parts: Parts,
    shelf: Shelf,
    former: FormerNames,
    starts: Semaphore,
    /// The daemon ends: nothing is started any more.
    closing: AtomicBool,
    /// Whose processes, left by an earlier daemon, were on trial with settings or a version that were not kept: their
    /// ids.
    anew: HashSet<String>,
    /// As it was when the daemon started.
    kernel: Kernel,
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
        finish(async move { create::create(&inner, name, body).await }).await
    }

    /// The name of the runtime that starts plugins.
    pub fn runtime(&self) -> &str {
        self.0.parts.launcher.runtime()
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

    /// What holds a plugin back, from its next start on.
    pub fn confinement(&self, view: &View) -> Confinement {
        self.0.confinement(&view.config, view.resources, &self.0.kernel)
    }

    /// What a plugin's process wrote, the oldest line first.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::Log`].
    pub async fn logs(&self, selector: &str, order: LogOrder) -> Result<Lines> {
        logs::logs(&self.0, selector, order).await
    }

    /// Starts a plugin and waits until it listens, `timeout` at most (0: [`START_DEADLINE`]).
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::AlreadyEnabled`]; why it cannot run, with its last words. It is disabled then.
    pub async fn enable(&self, selector: &str, timeout: Duration) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { enable::enable(&inner, &selector, timeout).await }).await
    }

    /// Stops a plugin.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::InUse`] unless `force`; [`Error::AlreadyDisabled`].
    pub async fn disable(&self, selector: &str, force: bool) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { disable::disable(&inner, &selector, force).await }).await
    }

    /// Changes settings of a disabled plugin, all or none. With `restart` also of an enabled one, which is stopped and
    /// started with them, and has the old ones again if it does not come up.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::SetWhileEnabled`] unless `restart`; [`Error::Set`], [`Error::Resources`];
    /// [`Error::NotWithThese`].
    pub async fn set(&self, selector: &str, settings: Vec<String>, restart: bool) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { set::set(&inner, &selector, &settings, restart).await }).await
    }

    /// Removes a plugin, and tells what it was. With `force` an enabled one is stopped first.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::InUse`] and [`Error::Enabled`] unless `force`.
    pub async fn remove(&self, selector: &str, force: bool) -> Result<View> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { remove::remove(&inner, &selector, force).await }).await
    }

    /// Gives a plugin another name, durably; it goes on running. Volumes follow, see [`Drivers::moves`].
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::AlreadyExists`], [`Error::NotYetFree`], [`Error::Canonical`].
    pub async fn rename(&self, selector: &str, name: Reference) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { rename::rename(&inner, &selector, name).await }).await
    }

    /// What a plugin at a registry asks for.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::RemoteManifest`], [`Error::NotAPlugin`], [`Error::ForeignLayer`]; whatever is wrong
    /// with its configuration.
    pub async fn privileges(&self, remote: &Remote, credentials: Credentials) -> Result<Vec<Privilege>> {
        privileges::privileges(&self.0, remote, credentials).await
    }

    /// Installs a plugin from a registry, as `name`, and tells how far it is. It is durable when this returns; it ends
    /// when nobody reads the report any more.
    ///
    /// # Errors
    /// As [`Plugins::privileges`]; [`Error::AlreadyExists`], [`Error::Privileges`], [`Error::Unpack`], [`Error::DiffId`],
    /// [`Error::Content`] for what is not what the manifest promises, [`Error::Abandoned`]. Nothing is left behind but
    /// downloads that can go on.
    pub async fn pull(&self, name: Reference, order: Order, report: Report) -> Result<PluginId> {
        let inner = Arc::clone(&self.0);
        finish(async move { pull::pull(&inner, name, order, &report).await }).await
    }

    /// Puts another version in the place of a disabled plugin, which keeps its name, its id, and what the user has set.
    /// With `restart` also of an enabled one, which is stopped and started for it, and has its old version again if the
    /// new one does not come up.
    ///
    /// # Errors
    /// As [`Plugins::inspect`] and [`Plugins::pull`]; [`Error::UpgradeWhileEnabled`] unless `restart`;
    /// [`Error::NotUpgraded`]. The old version is whole then.
    pub async fn upgrade(&self, selector: &str, order: Order, restart: bool, report: Report) -> Result<()> {
        let (inner, selector) = (Arc::clone(&self.0), selector.to_owned());
        finish(async move { upgrade::upgrade(&inner, &selector, order, restart, &report).await }).await
    }

    /// A plugin as a tar that is an OCI image layout.
    ///
    /// # Errors
    /// As [`Plugins::inspect`].
    pub async fn save(&self, selector: &str) -> Result<Saved> {
        offline::save(&self.0, selector).await
    }

    /// What the plugin in such a tar asks for, and the name the tar gives it, if it gives one. Nothing is installed.
    ///
    /// # Errors
    /// [`Error::Archive`]; whatever is wrong with the configuration in it.
    pub async fn privileges_of(
        &self,
        body: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(Option<Reference>, Vec<Privilege>)> {
        let inner = Arc::clone(&self.0);
        finish(async move { offline::privileges(&inner, body).await }).await
    }

    /// Installs a plugin from such a tar, under the name in it unless `alias` is given, with the consent that
    /// [`Plugins::pull`] wants. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Archive`]; as [`Plugins::pull`].
    pub async fn load(
        &self,
        alias: String,
        privileges: Vec<Privilege>,
        body: impl AsyncRead + Send + Unpin + 'static,
        report: Report,
    ) -> Result<PluginId> {
        let inner = Arc::clone(&self.0);
        finish(async move { offline::load(&inner, &alias, privileges, body, &report).await }).await
    }

    /// Sends a plugin to the registry that its name names.
    ///
    /// # Errors
    /// As [`Plugins::inspect`]; [`Error::Registry`], [`Error::Abandoned`].
    pub async fn push(&self, selector: &str, credentials: Credentials, report: Report) -> Result<()> {
        push::push(&self.0, selector, credentials, &report).await
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plugins").field(&self.0.parts.data).finish()
    }
}

impl Inner {
    /// What holds a plugin of this configuration back.
    fn confinement(&self, config: &PluginConfig, resources: Resources, kernel: &Kernel) -> Confinement {
        Confinement::new(config, resources, self.parts.seccomp.clone(), kernel)
    }

    /// Tells what happened. dockerd gives the name as it was typed.
    fn tell(&self, action: &str, id: &PluginId, name: &str) {
        self.tell_with(action, id, name, &[]);
    }

    /// Tells what happened, and more about it.
    fn tell_with(&self, action: &str, id: &PluginId, name: &str, attributes: &[(&str, String)]) {
        let event = Event::new(Type::Plugin, action, id.as_str()).with("name", name);
        let event = attributes.iter().fold(event, |event, (key, value)| event.with(*key, value));
        self.parts.events.publish(event);
    }
}

/// Work that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Task)?
}

#[cfg(test)]
mod tests;
