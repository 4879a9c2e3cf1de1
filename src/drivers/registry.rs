//! Which drivers are live, and who counts on them.
//!
//! A name is a plugin's reference: `rclone`, `rclone:latest` and `docker.io/library/rclone:latest` are one driver,
//! everywhere. Leases are counted by that name whether or not the driver is live, because a volume needs its driver
//! also while the plugin is down. This file does not know what a lease is held for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::calls::Calls;
use super::client::Deadlines;
use super::driver::Driver;
use super::error::Error;
use super::presence::Presence;
use super::scope::Scope;
use crate::oci::Reference;

/// All drivers of this daemon; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Drivers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    deadlines: Deadlines,
    /// Changed with every registration.
    arrivals: watch::Sender<u64>,
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

    /// No drivers, with other deadlines.
    pub fn with_deadlines(deadlines: Deadlines) -> Self {
        Self(Arc::new(Inner { deadlines, ..Inner::default() }))
    }

    /// Makes a driver live, in place of the one that has the name now.
    pub fn register(&self, registration: Registration) {
        let name = normalised(&registration.name);
        let registration = Registration { name: name.clone(), ..registration };
        // The driver before it is dropped after the lock: it may have connections to close.
        let before = {
            let mut slots = self.0.slots();
            let slot = slots.entry(name).or_default();
            let driver = Driver::new(registration, self.0.deadlines, slot.state.calls().unwrap_or_default());
            std::mem::replace(&mut slot.state, State::Live(Arc::new(driver)))
        };
        drop(before);
        self.0.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever a driver becomes live, the first time or anew; closed with the last of these clones.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.0.arrivals.subscribe()
    }

    /// The driver is not live any more, and its plugin may be gone for good. Leases stay.
    pub fn unregister(&self, name: &str) {
        self.0.leave(name, |_| State::Unknown);
    }

    /// The driver is not live any more because the user has disabled its plugin: a lookup says so. Leases stay.
    pub fn disable(&self, name: &str) {
        self.0.leave(name, |state| State::Disabled(state.calls().unwrap_or_default()));
    }

    /// The live driver of a name in any spelling.
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
            Some(State::Unknown) | None => Err(Error::NotFound { name: name.to_owned() }),
        }
    }

    /// The names of the live drivers, sorted.
    pub fn names(&self) -> Vec<String> {
        self.live().iter().map(|driver| driver.name().to_owned()).collect()
    }

    /// The live drivers, sorted by name.
    pub fn live(&self) -> Vec<Arc<Driver>> {
        let slots = self.0.slots();
        slots
            .values()
            .filter_map(|slot| match &slot.state {
                State::Live(driver) => Some(Arc::clone(driver)),
                State::Unknown | State::Disabled(_) => None,
            })
            .collect()
    }

    /// How the drivers that are live or disabled were called, by name. The numbers of a name begin when it is first live
    /// or disabled, and are gone when it is unregistered.
    pub fn calls(&self) -> Vec<(String, Arc<Calls>)> {
        let slots = self.0.slots();
        slots.iter().filter_map(|(name, slot)| Some((name.clone(), slot.state.calls()?))).collect()
    }

    /// Counts on the driver of a name until the lease is dropped.
    pub fn lease(&self, name: &str) -> Lease {
        let name = normalised(name);
        self.0.slots().entry(name.clone()).or_default().leases += 1;
        Lease { drivers: Arc::clone(&self.0), name }
    }

    /// How many count on the driver of a name.
    pub fn leases(&self, name: &str) -> usize {
        self.0.slots().get(&normalised(name)).map_or(0, |slot| slot.leases)
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

    fn leave(&self, name: &str, next: impl FnOnce(&State) -> State) {
        let name = normalised(name);
        let mut slots = self.slots();
        let slot = slots.entry(name.clone()).or_default();
        slot.state = next(&slot.state);
        if slot.is_idle() {
            slots.remove(&name);
        }
    }
}

impl State {
    /// The numbers of the name, if it has any.
    fn calls(&self) -> Option<Arc<Calls>> {
        match self {
            Self::Unknown => None,
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

/// The one spelling of a name: familiar, with its tag. What is no reference is a name of its own.
fn normalised(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.with_default_tag().familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(name: &str) -> Registration {
        let scope = Scope { rootfs: "/rootfs".into(), propagated: None };
        let (sockets, socket) = ("/nowhere".into(), "p.sock".into());
        Registration {
            name: name.into(),
            sockets,
            socket,
            scope,
            presence: watch::Sender::default().subscribe(),
        }
    }

    #[test]
    fn every_spelling_is_the_same_driver() {
        let drivers = Drivers::new();
        drivers.register(registration("docker.io/library/rclone"));
        for name in ["rclone", "rclone:latest", "library/rclone", "docker.io/library/rclone:latest"] {
            assert_eq!(drivers.lookup(name).unwrap().name(), "rclone:latest", "{name}");
            assert!(Drivers::same("rclone", name), "{name}");
        }
        assert!(drivers.lookup("rclone:1.2").is_err());
        assert_eq!(drivers.names(), ["rclone:latest"]);
    }

    #[test]
    fn lookups_fail_in_dockerds_words() {
        let drivers = Drivers::new();
        let text = |name: &str| drivers.lookup(name).unwrap_err().to_string();
        assert_eq!(text("nope"), r#"error looking up volume plugin nope: plugin "nope" not found"#);
        assert_eq!(text(""), "driver name cannot be empty");
        assert_eq!(text("A B"), r#"error looking up volume plugin A B: plugin "A B" not found"#);
        drivers.register(registration("rclone:latest"));
        drivers.disable("rclone:latest");
        assert_eq!(text("rclone"), "error looking up volume plugin rclone: plugin rclone found but disabled");
        drivers.unregister("rclone");
        assert_eq!(text("rclone"), r#"error looking up volume plugin rclone: plugin "rclone" not found"#);
    }

    #[test]
    fn leases_are_counted_by_name_live_or_not() {
        let drivers = Drivers::new();
        let first = drivers.lease("rclone");
        drivers.register(registration("rclone:latest"));
        let second = drivers.lease("docker.io/library/rclone:latest");
        assert_eq!(drivers.leases("rclone:latest"), 2);
        drivers.unregister("rclone:latest");
        assert_eq!(drivers.leases("rclone"), 2);
        drop(first);
        assert_eq!(drivers.leases("rclone"), 1);
        drop(second);
        assert_eq!(drivers.leases("rclone"), 0);
    }

    #[test]
    fn what_nobody_needs_is_forgotten() {
        let drivers = Drivers::new();
        drop(drivers.lease("a"));
        drivers.unregister("b");
        assert!(drivers.0.slots().is_empty());
    }

    #[test]
    fn numbers_live_as_long_as_their_plugin() {
        let drivers = Drivers::new();
        let names = || drivers.calls().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let lease = drivers.lease("rclone");
        assert_eq!(names(), [""; 0], "a volume alone has no driver");
        drivers.register(registration("rclone"));
        let first = Arc::clone(&drivers.calls()[0].1);
        let kept = || drivers.calls().iter().any(|(_, calls)| Arc::ptr_eq(calls, &first));
        drivers.register(registration("rclone"));
        assert!(kept(), "the plugin was started again");
        drivers.disable("rclone");
        assert!(kept() && names() == ["rclone:latest"], "the plugin is disabled");
        drivers.register(registration("rclone"));
        assert!(kept(), "the plugin is enabled again");
        drivers.unregister("rclone");
        assert_eq!(names(), [""; 0], "the plugin is gone, its volume is not");
        drivers.register(registration("rclone"));
        assert!(!kept(), "another plugin of the same name");
        drop(lease);
    }
}
