//! What happened to plugins and volumes, told to whoever listens: `GET /events`.
//!
//! A bus within the process. Publishing never waits: a listener that is too slow loses events, the publisher loses
//! nothing. The bus knows neither filters nor Docker's JSON. The number of events that are kept for `since`, and
//! how far a listener may lag, are dockerd's (`daemon/events/events.go`: 256 and 1024).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::broadcast;

/// How many past events are kept.
pub const RECENT_MAX: usize = 256;
/// How many events a listener may be behind before it loses the oldest.
pub const LAG_MAX: usize = 1024;

/// What kind of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A managed plugin; the actor is its id.
    Plugin,
    /// A volume; the actor is its name.
    Volume,
}

impl Type {
    /// The word Docker's API uses: `plugin`, `volume`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Volume => "volume",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind of thing it happened to.
    pub kind: Type,
    /// What happened: `create`, `enable`, `mount`, ….
    pub action: String,
    /// Which thing it happened to: a plugin's id, a volume's name.
    pub actor: String,
    /// What else is told: `name` of a plugin, `driver` of a volume, …. Never a secret.
    pub attributes: BTreeMap<String, String>,
    /// When it happened, in nanoseconds.
    pub time: Timestamp,
}

impl Event {
    /// An event that happens now, without attributes.
    pub fn new(kind: Type, action: impl Into<String>, actor: impl Into<String>) -> Self {
        Self {
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes: BTreeMap::new(),
            time: Timestamp::now(),
        }
    }

    /// The same event with one attribute more.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }
}

/// Where events are published and listened to; clones are the same bus.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: broadcast::Sender<Arc<Event>>,
    /// Oldest first. Held while sending and while subscribing, so that each listener sees every event exactly
    /// once: in its backlog or from its receiver.
    recent: Mutex<VecDeque<Arc<Event>>>,
}

impl Bus {
    /// A bus on which nothing has happened yet.
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(LAG_MAX);
        Self(Arc::new(Inner { sender, recent: Mutex::new(VecDeque::with_capacity(RECENT_MAX)) }))
    }

    /// Tells every listener, and remembers the event for later ones. Never waits.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut recent = self.recent_locked();
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // The only error is that nobody listens, which is fine.
        let _ = self.0.sender.send(event);
    }

    /// Listens to what happens from now on.
    pub fn subscribe(&self) -> Receiver {
        self.subscribe_with_recent().1
    }

    /// Listens, and gets the past events too: none falls between the two, none is in both.
    pub fn subscribe_with_recent(&self) -> (Vec<Arc<Event>>, Receiver) {
        let recent = self.recent_locked();
        let receiver = Receiver(self.0.sender.subscribe());
        (recent.iter().cloned().collect(), receiver)
    }

    /// The last events, at most [`RECENT_MAX`], oldest first.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.recent_locked().iter().cloned().collect()
    }

    fn recent_locked(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // No code that can panic runs under this lock; a poisoned one is still a good list.
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

/// One listener.
#[derive(Debug)]
pub struct Receiver(broadcast::Receiver<Arc<Event>>);

impl Receiver {
    /// The next event; `None` when the last bus is gone. Safe to drop and call again.
    ///
    /// A listener that was more than [`LAG_MAX`] events behind goes on with the oldest one that is left.
    pub async fn recv(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a listener to events was too slow and lost some");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::new(Type::Volume, "create", number.to_string()).with("driver", "local")
    }

    fn actors(events: &[Arc<Event>]) -> Vec<String> {
        events.iter().map(|event| event.actor.clone()).collect()
    }

    #[test]
    fn the_last_256_are_kept_in_order() {
        let bus = Bus::new();
        (0..RECENT_MAX + 10).for_each(|number| bus.publish(event(number)));
        let expected: Vec<_> = (10..RECENT_MAX + 10).map(|number| number.to_string()).collect();
        assert_eq!(actors(&bus.recent()), expected);
    }

    #[tokio::test]
    async fn the_backlog_and_the_receiver_meet_without_gap_or_overlap() {
        const EVENTS: usize = 200;
        let bus = Bus::new();
        let publisher = std::thread::spawn({
            let bus = bus.clone();
            move || (0..EVENTS).for_each(|number| bus.publish(event(number)))
        });
        let subscriptions: Vec<_> = (0..50)
            .map(|_| {
                std::thread::yield_now();
                bus.subscribe_with_recent()
            })
            .collect();
        publisher.join().unwrap();
        drop(bus);
        let expected: Vec<_> = (0..EVENTS).map(|number| number.to_string()).collect();
        for (mut seen, mut receiver) in subscriptions {
            while let Some(event) = receiver.recv().await {
                seen.push(event);
            }
            assert_eq!(actors(&seen), expected);
        }
    }

    #[tokio::test]
    async fn a_listener_that_sleeps_loses_the_oldest_and_blocks_nobody() {
        let bus = Bus::new();
        let mut receiver = bus.subscribe();
        (0..LAG_MAX + 5).for_each(|number| bus.publish(event(number)));
        assert_eq!(receiver.recv().await.unwrap().actor, "5");
    }

    #[tokio::test]
    async fn without_a_bus_there_is_nothing_to_wait_for() {
        let bus = Bus::new();
        let mut receiver = bus.subscribe();
        bus.publish(event(1));
        drop(bus);
        assert_eq!(receiver.recv().await.unwrap().actor, "1");
        assert_eq!(receiver.recv().await, None);
    }
}
