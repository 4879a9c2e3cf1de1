//! Which calls go to a driver now: a bound on how many at a time, and breakers.
//!
//! Each lane has its bound: what changes something, what reads, and what lists never wait for each other, since a plugin
//! whose `Mount` hangs may still answer `Get`. A call beyond the bound waits for its turn, first come, first served. There
//! are two breakers: lists are given up so soon that being late for them says nothing about other calls. An answer to any
//! other call is a sign of life for all of them. This file sends nothing and sets no deadline on a plugin; when a driver
//! is left alone is `breaker`'s business.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::breaker::{Breaker, Ending, Next, Refusal, Role, TIMEOUTS_TO_OPEN, Turn};

/// How many calls that change something are sent to one plugin at a time.
pub const CHANGES_IN_FLIGHT_MAX: usize = 64;
/// How many calls that only read are sent to one plugin at a time, beside those.
pub const READS_IN_FLIGHT_MAX: usize = 64;
/// How many calls for a list, which have a short deadline of their own, are sent to one plugin at a time, beside those.
pub const LISTS_IN_FLIGHT_MAX: usize = 64;

/// Calls that share a bound and a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// They change something.
    Changes,
    /// They only read.
    Reads,
    /// They only read, and are given up soon.
    Lists,
}

impl Lane {
    /// For messages: `64 calls that read`.
    fn words(self) -> &'static str {
        match self {
            Self::Changes => "calls that change something",
            Self::Reads => "calls that read",
            Self::Lists => "calls for lists",
        }
    }

    fn bound(self) -> usize {
        match self {
            Self::Changes => CHANGES_IN_FLIGHT_MAX,
            Self::Reads => READS_IN_FLIGHT_MAX,
            Self::Lists => LISTS_IN_FLIGHT_MAX,
        }
    }
}

/// Why a call was not sent, in words that follow the plugin's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// There was no room.
    Crowded(String),
    /// The breaker is open.
    LeftAlone(String),
}

/// The gate of one driver.
#[derive(Debug)]
pub(super) struct Gate {
    driver: String,
    changes: Semaphore,
    reads: Semaphore,
    lists: Semaphore,
    traffic: Mutex<Traffic>,
}

#[derive(Debug, Default)]
struct Traffic {
    /// For lists.
    lists: Watched,
    /// For all other calls.
    others: Watched,
    /// How many of each call are on their way, by lane.
    under_way: BTreeMap<(Lane, &'static str), usize>,
}

/// A breaker, and what has opened it.
#[derive(Debug, Default)]
struct Watched {
    breaker: Breaker,
    /// The last call that was not answered in time, and how long that was.
    last_timeout: Option<(&'static str, Duration)>,
}

/// The right to send one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    lane: Lane,
    call: &'static str,
    role: Role,
    ending: Ending,
    deadline: Option<Duration>,
    _slot: SemaphorePermit<'a>,
}

impl Gate {
    /// An open gate.
    pub(super) fn new(driver: &str) -> Self {
        let slots = |lane: Lane| Semaphore::new(lane.bound());
        Self {
            driver: driver.to_owned(),
            changes: slots(Lane::Changes),
            reads: slots(Lane::Reads),
            lists: slots(Lane::Lists),
            traffic: Mutex::default(),
        }
    }

    /// Lets a call through: at once, or when another has ended, for which it waits `patience`.
    pub(super) async fn enter(
        &self,
        lane: Lane,
        call: &'static str,
        patience: Duration,
    ) -> Result<Pass<'_>, Held> {
        // Not even a wait for what would be refused after it.
        self.traffic().watched(lane).check(lane)?;
        let slots = match lane {
            Lane::Changes => &self.changes,
            Lane::Reads => &self.reads,
            Lane::Lists => &self.lists,
        };
        let slot = match slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => match tokio::time::timeout(patience, slots.acquire()).await {
                Ok(Ok(slot)) => slot,
                Ok(Err(_)) | Err(_) => return Err(self.traffic().crowded(lane, patience)),
            },
        };
        let mut traffic = self.traffic();
        let watched = traffic.watched(lane);
        let role = match watched.breaker.admit(Instant::now()) {
            Ok(role) => role,
            Err(refusal) => return Err(watched.refused(lane, refusal)),
        };
        *traffic.under_way.entry((lane, call)).or_default() += 1;
        drop(traffic);
        Ok(Pass { gate: self, lane, call, role, ending: Ending::Unknown, deadline: None, _slot: slot })
    }

    /// Whether the driver is left alone: with lists, and with all other calls.
    pub(super) fn breakers(&self) -> [(&'static str, bool); 2] {
        let traffic = self.traffic();
        [("lists", traffic.lists.breaker.is_open()), ("others", traffic.others.breaker.is_open())]
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        // Nothing that can panic runs under this lock; a poisoned one still holds good numbers.
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traffic {
    fn watched(&mut self, lane: Lane) -> &mut Watched {
        match lane {
            Lane::Lists => &mut self.lists,
            Lane::Changes | Lane::Reads => &mut self.others,
        }
    }

    fn crowded(&self, lane: Lane, waited: Duration) -> Held {
        let of_lane = self.under_way.iter().filter(|((of, _), _)| *of == lane);
        let under_way: Vec<_> = of_lane.map(|((_, call), count)| format!("{count} {call}")).collect();
        let (bound, words, waited) = (lane.bound(), lane.words(), seconds(waited));
        let under_way = if under_way.is_empty() { "none now".to_owned() } else { under_way.join(", ") };
        Held::Crowded(format!(
            "is sent at most {bound} {words} at a time, and has that many to answer ({under_way}); this one waited {waited} s \
             for its turn"
        ))
    }
}

impl Watched {
    fn check(&self, lane: Lane) -> Result<(), Held> {
        let refusal = self.breaker.refusal(Instant::now());
        refusal.map_or(Ok(()), |refusal| Err(self.refused(lane, refusal)))
    }

    fn refused(&self, lane: Lane, refusal: Refusal) -> Held {
        let calls = match lane {
            Lane::Lists => "calls for lists",
            Lane::Changes | Lane::Reads => "calls",
        };
        let last = self.last_timeout.map_or_else(String::new, |(call, deadline)| {
            format!(" (the last was {call}, within {} s)", seconds(deadline))
        });
        let next = match refusal.next {
            Next::At(next) => format!("the next one is sent at {:.0}", wall_clock(next)),
            Next::Underway(since) => {
                format!("one is under way since {:.0} to see whether it answers", wall_clock(since))
            }
        };
        Held::LeftAlone(format!(
            "is sent no {calls} since {:.0}, because it did not answer {TIMEOUTS_TO_OPEN} of them in a row in time{last}; \
             {next}",
            wall_clock(refusal.since),
        ))
    }
}

impl Pass<'_> {
    /// The call has ended for another reason than its deadline.
    pub(super) fn answered(mut self) {
        self.ending = Ending::Answered;
    }

    /// There was no answer within the deadline.
    pub(super) fn timed_out(mut self, deadline: Duration) {
        self.ending = Ending::TimedOut;
        self.deadline = Some(deadline);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let turn = {
            let mut traffic = self.gate.traffic();
            if let Some(count) = traffic.under_way.get_mut(&(self.lane, self.call)) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    traffic.under_way.remove(&(self.lane, self.call));
                }
            }
            let watched = traffic.watched(self.lane);
            if let Some(deadline) = self.deadline {
                watched.last_timeout = Some((self.call, deadline));
            }
            watched.breaker.end(self.role, self.ending, Instant::now())
        };
        let (driver, call) = (&self.gate.driver, self.call);
        match turn {
            Some(Turn::Opened) => {
                tracing::warn!(
                    driver,
                    call,
                    "the volume driver does not answer: it is left alone for a while"
                );
            }
            Some(Turn::Closed) => tracing::info!(driver, call, "the volume driver answers again"),
            None => {}
        }
    }
}

/// To the millisecond, for messages.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

/// What the clock on the wall says, or said, at a moment.
fn wall_clock(moment: Instant) -> Timestamp {
    let (now, wall) = (Instant::now(), Timestamp::now());
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let shifted = if moment > now {
        wall.checked_add(signed(moment - now))
    } else {
        wall.checked_sub(signed(now - moment))
    };
    shifted.unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const CALL: &str = "VolumeDriver.Mount";

    #[tokio::test]
    async fn a_full_lane_says_so_and_the_others_are_free() {
        let gate = Gate::new("fake:latest");
        let mut passes = Vec::new();
        for number in 0..CHANGES_IN_FLIGHT_MAX {
            let call = if number == 0 { "VolumeDriver.Create" } else { CALL };
            passes.push(gate.enter(Lane::Changes, call, Duration::ZERO).await.unwrap());
        }
        let held = gate.enter(Lane::Changes, CALL, Duration::ZERO).await.unwrap_err();
        let why = "is sent at most 64 calls that change something at a time, and has that many to answer (1 \
                   VolumeDriver.Create, 63 VolumeDriver.Mount); this one waited 0 s for its turn";
        assert_eq!(held, Held::Crowded(why.to_owned()));
        for lane in [Lane::Reads, Lane::Lists] {
            gate.enter(lane, "VolumeDriver.Get", Duration::ZERO).await.unwrap().answered();
        }
        passes.pop().unwrap().answered();
        gate.enter(Lane::Changes, CALL, Duration::ZERO).await.unwrap().answered();
    }

    #[tokio::test]
    async fn a_call_waits_for_its_turn() {
        let gate = Arc::new(Gate::new("fake:latest"));
        let mut passes = Vec::new();
        for _ in 0..READS_IN_FLIGHT_MAX {
            passes.push(gate.enter(Lane::Reads, CALL, LONG).await.unwrap());
        }
        let waiting = gate.enter(Lane::Reads, CALL, LONG);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        passes.pop().unwrap().answered();
        waiting.await.unwrap().answered();
    }

    #[tokio::test]
    async fn it_says_since_when_why_and_until_when() {
        let gate = Gate::new("fake:latest");
        for _ in 0..TIMEOUTS_TO_OPEN {
            gate.enter(Lane::Changes, CALL, LONG).await.unwrap().timed_out(Duration::from_mins(2));
        }
        assert_eq!(gate.breakers(), [("lists", false), ("others", true)]);
        let Held::LeftAlone(why) = gate.enter(Lane::Reads, "VolumeDriver.Get", LONG).await.unwrap_err()
        else {
            panic!("it is not crowded");
        };
        let (before, rest) = why.split_once(" since ").unwrap();
        assert_eq!(before, "is sent no calls");
        let (since, rest) = rest.split_once(", because ").unwrap();
        let (because, next) = rest.split_once("; the next one is sent at ").unwrap();
        assert_eq!(
            because,
            "it did not answer 3 of them in a row in time (the last was VolumeDriver.Mount, within 120 s)"
        );
        let [since, next] = [since, next].map(|time| time.parse::<Timestamp>().unwrap());
        assert!(next > since, "{why}");
        gate.enter(Lane::Lists, "VolumeDriver.List", LONG).await.unwrap().answered();
    }

    #[tokio::test]
    async fn a_plugin_whose_mount_hangs_and_that_answers_otherwise_is_not_left_alone() {
        let gate = Gate::new("fake:latest");
        for _ in 0..2 * TIMEOUTS_TO_OPEN {
            gate.enter(Lane::Changes, CALL, LONG).await.unwrap().timed_out(LONG);
            gate.enter(Lane::Reads, "VolumeDriver.Get", LONG).await.unwrap().answered();
        }
        assert_eq!(gate.breakers(), [("lists", false), ("others", false)]);
    }

    #[tokio::test]
    async fn a_plugin_that_is_slow_with_lists_does_everything_else() {
        let gate = Gate::new("fake:latest");
        for _ in 0..TIMEOUTS_TO_OPEN {
            gate.enter(Lane::Lists, "VolumeDriver.List", LONG).await.unwrap().timed_out(LONG);
        }
        assert_eq!(gate.breakers(), [("lists", true), ("others", false)]);
        gate.enter(Lane::Changes, CALL, LONG).await.unwrap().answered();
        assert!(matches!(gate.enter(Lane::Lists, CALL, LONG).await, Err(Held::LeftAlone(_))));
    }

    #[tokio::test]
    async fn what_is_given_up_is_no_timeout() {
        let gate = Gate::new("fake:latest");
        for _ in 0..2 * TIMEOUTS_TO_OPEN {
            drop(gate.enter(Lane::Lists, "VolumeDriver.List", LONG).await.unwrap());
        }
        assert!(gate.breakers().iter().all(|(_, is_open)| !is_open));
    }
}
