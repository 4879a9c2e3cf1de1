//! Which drivers are live, and who counts on them.
//!
//! A managed plugin's name is a reference: `rclone`, `rclone:latest` and `docker.io/library/rclone:latest` are one
//! driver, everywhere; its own name is `rclone:latest`. A legacy plugin's own name has no tag: `nfs`. A name that somebody
//! types is a managed plugin's if there is one, enabled or not, and else a legacy plugin's, as with dockerd; a name that
//! was written down is an own name, and stays what it is. Leases are counted by own name whether or not the driver is
//! live, because a volume needs its driver also while the plugin is down. This file does not know what a lease is held
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::calls::Calls;
use super::connect::Endpoint;
use super::deadlines::Deadlines;
use super::driver::Driver;
use super::error::{Error, LegacyError};
use super::legacy::Legacy;
use super::presence::Presence;
use super::scope::Scope;
use super::way::Way;
use crate::oci::Reference;

mod moved;

pub use moved::{Heir, Moves};

/// All drivers of this daemon; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Drivers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    deadlines: Deadlines,
    /// Changed with every driver that becomes live.
    arrivals: watch::Sender<u64>,
    /// Changed whenever the set of live managed drivers may be another one.
    changes: watch::Sender<u64>,
    legacy: Legacy,
    /// By normalised name. Held only for a look or a change in memory.
    slots: Mutex<BTreeMap<String, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    state: State,
    leases: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    /// Its numbers, for when it is live again.
    Disabled(Arc<Calls>),
    Live(Arc<Driver>),
    /// The driver has this own name now. Until another one has the name.
    Moved(String),
}

/// What a plugin gives to become a driver.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The plugin's familiar name: `rclone:latest`.
    pub name: String,
    /// The directory with the plugin's socket, as a path of the host.
    pub sockets: PathBuf,
    /// The socket's file name, from the plugin's config: one component of a path.
    pub socket: String,
    /// Where the plugin's file system is on the host.
    pub scope: Scope,
    /// Whether the plugin is there to be asked.
    pub presence: watch::Receiver<Presence>,
}

impl Drivers {
    /// No drivers, with dockerd's deadlines.
    pub fn new() -> Self {
        Self::default()
    }

    /// No managed drivers, and the legacy ones that files in these directories name, all of them with these deadlines.
    pub fn with_legacy(directories: Vec<PathBuf>, deadlines: Deadlines) -> Self {
        let legacy = Legacy::new(directories, deadlines);
        Self(Arc::new(Inner { deadlines, legacy, ..Inner::default() }))
    }

    /// No drivers, with other deadlines.
    pub fn with_deadlines(deadlines: Deadlines) -> Self {
        Self(Arc::new(Inner { deadlines, ..Inner::default() }))
    }

    /// How long a list of all drivers' volumes waits for each of them.
    pub fn list_deadline(&self) -> Duration {
        self.0.deadlines.list
    }

    /// Makes a driver live, in place of the one that has the name now.
    pub fn register(&self, registration: Registration) {
        let name = normalised(&registration.name);
        // The driver before it is dropped after the lock: it may have connections to close.
        let before = {
            let mut slots = self.0.slots();
            let slot = slots.entry(name.clone()).or_default();
            let calls = slot.state.calls().unwrap_or_default();
            std::mem::replace(&mut slot.state, self.0.live(&name, registration, calls))
        };
        drop(before);
        bump(&self.0.changes);
        bump(&self.0.arrivals);
    }

    /// Changes whenever a driver becomes live, the first time or anew, and when one gets another name; closed with the
    /// last of these clones.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.0.arrivals.subscribe()
    }

    /// Changes whenever [`Drivers::names`] may have changed; closed with the last of these clones.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The driver is not live any more, and its plugin may be gone for good. Leases stay.
    pub fn unregister(&self, name: &str) {
        self.0.leave(name, |_| State::Unknown);
    }

    /// The driver is not live any more because the user has disabled its plugin: a lookup says so. Leases stay.
    pub fn disable(&self, name: &str) {
        self.0.leave(name, |state| State::Disabled(state.calls().unwrap_or_default()));
    }

    /// The driver of a name that was typed: a managed one, or else a legacy one, which is looked for and, if it is new,
    /// greeted.
    ///
    /// # Errors
    /// As [`Drivers::lookup`]; [`Error::Legacy`].
    pub async fn find(&self, name: &str) -> Result<Arc<Driver>, Error> {
        match self.lookup(name) {
            Err(Error::NotFound { .. }) => self.find_legacy(name).await,
            other => other,
        }
    }

    /// The driver of an own name that was written down, also under the name it has now.
    ///
    /// # Errors
    /// As [`Drivers::find`].
    pub async fn recorded(&self, name: &str) -> Result<Arc<Driver>, Error> {
        let name = &self.now(name);
        if normalised(name) == *name { self.find(name).await } else { self.find_legacy(name).await }
    }

    /// The live managed driver of a name in any spelling.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Disabled`], [`Error::Nameless`], with dockerd's words.
    pub fn lookup(&self, name: &str) -> Result<Arc<Driver>, Error> {
        if name.is_empty() {
            return Err(Error::Nameless);
        }
        match self.0.slots().get(&normalised(name)).map(|slot| &slot.state) {
            Some(State::Live(driver)) => Ok(Arc::clone(driver)),
            Some(State::Disabled(_)) => Err(Error::Disabled { name: name.to_owned() }),
            Some(State::Unknown | State::Moved(_)) | None => Err(Error::NotFound { name: name.to_owned() }),
        }
    }

    /// All drivers: those that are live, and legacy ones that the file system names and `wanted` says yes to, which are
    /// greeted until the deadline if they are new. A legacy plugin that is no volume driver, or that has the name of a
    /// managed one, is left out. Sorted by name.
    pub async fn all(
        &self,
        wanted: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Vec<(String, Result<Arc<Driver>, Error>)> {
        let live = self.live().into_iter().filter(|driver| wanted(driver.name()));
        let mut all: BTreeMap<_, _> = live.map(|driver| (driver.name().to_owned(), Ok(driver))).collect();
        let names = timeout_at(deadline, self.0.legacy.names()).await.unwrap_or_else(|_| {
            tracing::warn!("the directories of legacy plugins were not read in time");
            BTreeSet::new()
        });
        let names = names.into_iter().filter(|name| wanted(name) && !self.is_managed(name));
        let greet = |name: String| async move {
            let begun = Instant::now();
            let found = timeout_at(deadline, self.find_legacy(&name)).await;
            let found = found.unwrap_or_else(|_| Err(late(&name, deadline - begun)));
            (name, found)
        };
        for (name, found) in join_all(names.map(greet)).await {
            let is_none = matches!(&found, Err(Error::NotFound { .. }))
                || matches!(&found, Err(Error::Legacy { problem, .. })
                    if matches!(**problem, LegacyError::NotAVolumeDriver));
            if !is_none {
                all.insert(name, found);
            }
        }
        all.into_iter().collect()
    }

    /// The names of the legacy drivers that were there when they were last looked for, sorted.
    pub fn legacy_names(&self) -> Vec<String> {
        self.0.legacy.known().iter().map(|driver| driver.name().to_owned()).collect()
    }

    async fn find_legacy(&self, name: &str) -> Result<Arc<Driver>, Error> {
        let not_found = || Error::NotFound { name: name.to_owned() };
        let found = self.0.legacy.find(name).await?.ok_or_else(not_found)?;
        if found.is_new {
            bump(&self.0.arrivals);
        }
        Ok(found.driver)
    }

    /// Whether a managed plugin has the name, in any spelling.
    fn is_managed(&self, name: &str) -> bool {
        !matches!(self.lookup(name), Err(Error::NotFound { .. }))
    }

    /// The names of the live managed drivers, sorted.
    pub fn names(&self) -> Vec<String> {
        self.live().iter().map(|driver| driver.name().to_owned()).collect()
    }

    /// The live managed drivers, sorted by name.
    pub fn live(&self) -> Vec<Arc<Driver>> {
        let slots = self.0.slots();
        slots
            .values()
            .filter_map(|slot| match &slot.state {
                State::Live(driver) => Some(Arc::clone(driver)),
                State::Unknown | State::Disabled(_) | State::Moved(_) => None,
            })
            .collect()
    }

    /// How the drivers that are live or disabled were called, by name. The numbers of a name begin when it is first live
    /// or disabled, and are gone when it is unregistered. Those of a legacy driver are told as long as its file is found.
    pub fn calls(&self) -> Vec<(String, Arc<Calls>)> {
        let managed: Vec<_> = {
            let slots = self.0.slots();
            slots.iter().filter_map(|(name, slot)| Some((name.clone(), slot.state.calls()?))).collect()
        };
        let legacy = self.0.legacy.known().into_iter();
        let legacy = legacy.map(|driver| (driver.name().to_owned(), Arc::clone(driver.calls())));
        managed.into_iter().chain(legacy).collect()
    }

    /// Counts on the driver of an own name until the lease is dropped.
    pub fn lease(&self, name: &str) -> Lease {
        let name = name.to_owned();
        self.0.slots().entry(name.clone()).or_default().leases += 1;
        Lease { drivers: Arc::clone(&self.0), name }
    }

    /// Whether two names in any spelling are one driver.
    pub fn same(one: &str, other: &str) -> bool {
        one == other || normalised(one) == normalised(other)
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        // Nothing that can panic runs under this lock; a poisoned one still holds a good map.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a driver that is live.
    fn live(&self, name: &str, registration: Registration, calls: Arc<Calls>) -> State {
        let Registration { name: _, sockets, socket, scope, presence } = registration;
        let way = Way::Plugin(Endpoint::new(sockets, socket));
        State::Live(Arc::new(Driver::new(name, way, scope, presence, self.deadlines, calls)))
    }

    fn leave(&self, name: &str, next: impl FnOnce(&State) -> State) {
        let name = normalised(name);
        let mut slots = self.slots();
        let slot = slots.entry(name.clone()).or_default();
        slot.state = next(&slot.state);
        if slot.is_idle() {
            slots.remove(&name);
        }
        drop(slots);
        bump(&self.changes);
    }
}

impl State {
    /// The numbers of the name, if it has any.
    fn calls(&self) -> Option<Arc<Calls>> {
        match self {
            Self::Unknown | Self::Moved(_) => None,
            Self::Disabled(calls) => Some(Arc::clone(calls)),
            Self::Live(driver) => Some(Arc::clone(driver.calls())),
        }
    }
}

impl Slot {
    /// Whether nothing is lost when it is forgotten.
    fn is_idle(&self) -> bool {
        self.leases == 0 && matches!(self.state, State::Unknown)
    }
}

/// The fact that something counts on a driver: a volume it keeps, a mount. Dropping it ends that.
#[derive(Debug)]
#[must_use = "a lease that is dropped at once protects nothing"]
pub struct Lease {
    drivers: Arc<Inner>,
    name: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slots = self.drivers.slots();
        if let Some(slot) = slots.get_mut(&self.name) {
            slot.leases = slot.leases.saturating_sub(1);
            if slot.is_idle() {
                slots.remove(&self.name);
            }
        }
    }
}

fn bump(count: &watch::Sender<u64>) {
    count.send_modify(|count| *count = count.wrapping_add(1));
}

/// A legacy plugin that was not greeted in time.
fn late(name: &str, deadline: Duration) -> Error {
    let late = Error::Deadline { method: "Plugin.Activate", driver: name.to_owned(), deadline };
    Error::Legacy { name: name.to_owned(), problem: Box::new(LegacyError::Activate(Box::new(late))) }
}

/// The one spelling of a managed plugin's name: familiar, with its tag. What is no reference is a name of its own.
fn normalised(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.with_default_tag().familiar())
}

#[cfg(test)]
mod tests;
