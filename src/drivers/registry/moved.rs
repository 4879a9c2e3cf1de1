//! Names that a driver had before: what counts on one of them counts on the driver that has it now.
//!
//! Whoever runs plugins says which name became which; it is not found out here. A former name leads on until another driver
//! has it. So what was written down under it is found meanwhile, and has time to be written anew. A plugin of the same name
//! and of the other kind, managed or legacy, is no such driver: it is only offered, and whoever asks for it looks for more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Driver, Drivers, Registration, Slot, State, bump, normalised};

/// Former own names, each with the own name it leads to in the end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Moves(BTreeMap<String, String>);

impl Moves {
    /// The name that an own name leads to: mostly itself.
    pub fn now<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }
}

/// Who may have the volumes of a driver that is not there under its name.
#[derive(Debug)]
pub enum Heir {
    /// The same driver, whose own name is this now.
    Renamed(String),
    /// Another plugin of the same name, managed where it was legacy, or the other way round. Has it the volume?
    Namesake(Arc<Driver>),
}

impl Drivers {
    /// The driver of a plugin has another name, which nobody else has; `live` makes it known under that, and is `None`
    /// when the plugin is disabled. Its numbers go on under the new name.
    pub fn rename(&self, former: &str, name: &str, live: Option<Registration>) {
        let (former, name) = (normalised(former), normalised(name));
        let before = {
            let mut slots = self.0.slots();
            let left = slots.entry(former).or_default();
            let left = std::mem::replace(&mut left.state, State::Moved(name.clone()));
            let calls = left.calls().unwrap_or_default();
            let next = match live {
                Some(registration) => self.0.live(&name, registration, calls),
                None => State::Disabled(calls),
            };
            (left, std::mem::replace(&mut slots.entry(name).or_default().state, next))
        };
        // After the lock: they may have connections to close.
        drop(before);
        bump(&self.0.changes);
        bump(&self.0.arrivals);
    }

    /// What counts on a name that no plugin has counts on another one from now on, whether or not that is there.
    pub fn moved(&self, former: &str, name: &str) {
        let (former, name) = (normalised(former), normalised(name));
        self.0.slots().entry(former).or_default().state = State::Moved(name);
        bump(&self.0.arrivals);
    }

    /// All former names.
    pub fn moves(&self) -> Moves {
        let slots = self.0.slots();
        let former = slots.iter().filter(|(_, slot)| matches!(slot.state, State::Moved(_)));
        Moves(former.map(|(name, _)| (name.clone(), now(&slots, name).to_owned())).collect())
    }

    /// The own name that an own name leads to: mostly itself.
    pub fn now(&self, name: &str) -> String {
        now(&self.0.slots(), name).to_owned()
    }

    /// How many count on the managed driver of a name: under that name, and under those that lead to it or through it.
    pub fn leases(&self, name: &str) -> usize {
        let (name, slots) = (normalised(name), self.0.slots());
        let own = slots.iter().filter(|(own, slot)| slot.leases > 0 && way(&slots, own).any(|at| at == name));
        own.map(|(_, slot)| slot.leases).sum()
    }

    /// Who may have what was written down under an own name, if that is not the driver of the name. `formerly` is the
    /// legacy name it was written down under before, if there was one.
    ///
    /// As with dockerd a managed plugin takes the place of a legacy one of the same name, here once the legacy one's file
    /// is gone; and only what was a legacy one's goes back to it, when the managed plugin has been removed.
    pub async fn heir(&self, name: &str, formerly: Option<&str>) -> Option<Heir> {
        let now = self.now(name);
        if now != name {
            return Some(Heir::Renamed(now));
        }
        let managed = normalised(name);
        if managed != name {
            let driver = self.lookup(&managed).ok()?;
            return (!self.0.legacy.has(name).await).then_some(Heir::Namesake(driver));
        }
        let formerly = formerly.filter(|_| !self.is_managed(name))?;
        self.find_legacy(formerly).await.ok().map(Heir::Namesake)
    }
}

/// Where a name leads to in the end.
fn now<'a>(slots: &'a BTreeMap<String, Slot>, name: &'a str) -> &'a str {
    way(slots, name).last().unwrap_or(name)
}

/// A name, and one after the other the names that it leads to. In a circle, which whoever tells names does not say, it goes
/// around no more than once.
fn way<'a>(slots: &'a BTreeMap<String, Slot>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let next = |at: &&'a str| match slots.get(*at).map(|slot| &slot.state) {
        Some(State::Moved(next)) => Some(next.as_str()),
        _ => None,
    };
    std::iter::successors(Some(name), next).take(slots.len() + 1)
}
