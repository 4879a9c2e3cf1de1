//! How often a driver was called, how that ended, how long it took, and what goes on now.
//!
//! Kept by name in the registry, so that the numbers go on when the plugin is started again or disabled for a while,
//! and are gone with the plugin. This file does not know what is asked.

use std::time::{Duration, Instant};

use super::client::Method;
use super::error::Error;
use crate::metrics::{Counter, Distribution, Entered, Histogram, Ongoing};

/// What durations of calls are sorted by: from what a good plugin needs for an answer from memory to dockerd's longest
/// deadline.
pub const DURATION_BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The plugin did it.
    Ok,
    /// The plugin said no, or nonsense, or the connection broke before its answer was there. A no may be in order: it is
    /// also the answer to the `Get` of a volume that is not there.
    Error,
    /// There was no answer within the time that was waited: the call's deadline, the shorter one of a list, or until
    /// whoever asked had gone.
    Timeout,
    /// Nothing was sent: the plugin's socket could not be connected to, or was not tried since the plugin does not run at
    /// present, has too many calls to answer, or is left alone for not answering.
    Unreachable,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Error, Self::Timeout, Self::Unreachable];

    /// The word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(Error::Deadline { .. }) => Self::Timeout,
            Err(
                Error::Connect { .. }
                | Error::Starting { .. }
                | Error::BackingOff { .. }
                | Error::Crowded { .. }
                | Error::LeftAlone { .. }
                | Error::Ready(_),
            ) => Self::Unreachable,
            Err(
                Error::NotFound { .. }
                | Error::Disabled { .. }
                | Error::Legacy { .. }
                | Error::Nameless
                | Error::Refused { .. }
                | Error::Status { .. }
                | Error::Broken { .. }
                | Error::TooLarge { .. }
                | Error::Answer { .. }
                | Error::Request { .. },
            ) => Self::Error,
        }
    }
}

/// The numbers of one driver.
#[derive(Debug, Default)]
pub struct Calls {
    create: Tally,
    get: Tally,
    list: Tally,
    remove: Tally,
    path: Tally,
    mount: Tally,
    unmount: Tally,
    capabilities: Tally,
}

/// The numbers of one call of one driver.
#[derive(Debug)]
pub struct Tally {
    ok: Counter,
    error: Counter,
    timeout: Counter,
    unreachable: Counter,
    ongoing: Ongoing,
    durations: Histogram<{ DURATION_BOUNDS.len() }>,
}

impl Calls {
    /// The calls there are, by their names in the protocol (`Create`, …), with their numbers.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Tally)> {
        Method::ALL.into_iter().map(|method| (method.word(), self.of(method)))
    }

    /// Counts a call from now until the value is dropped; dropped without having ended, it has timed out.
    pub(super) fn begin(&self, method: Method) -> Call<'_> {
        let tally = self.of(method);
        Call { tally, began: Instant::now(), outcome: Outcome::Timeout, _ongoing: tally.ongoing.enter() }
    }

    fn of(&self, method: Method) -> &Tally {
        match method {
            Method::Create => &self.create,
            Method::Get => &self.get,
            Method::List => &self.list,
            Method::Remove => &self.remove,
            Method::Path => &self.path,
            Method::Mount => &self.mount,
            Method::Unmount => &self.unmount,
            Method::Capabilities => &self.capabilities,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            ok: Counter::default(),
            error: Counter::default(),
            timeout: Counter::default(),
            unreachable: Counter::default(),
            ongoing: Ongoing::default(),
            durations: Histogram::new(&DURATION_BOUNDS),
        }
    }
}

impl Tally {
    /// How many calls ended like this.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).get()
    }

    /// How many go on.
    pub fn in_flight(&self) -> u64 {
        self.ongoing.get()
    }

    /// How long those that ended took, whatever their outcome.
    pub fn durations(&self) -> Distribution {
        self.durations.distribution()
    }

    fn counter(&self, outcome: Outcome) -> &Counter {
        match outcome {
            Outcome::Ok => &self.ok,
            Outcome::Error => &self.error,
            Outcome::Timeout => &self.timeout,
            Outcome::Unreachable => &self.unreachable,
        }
    }
}

/// A call that goes on.
#[derive(Debug)]
pub(super) struct Call<'a> {
    tally: &'a Tally,
    began: Instant,
    outcome: Outcome,
    _ongoing: Entered<'a>,
}

impl Call<'_> {
    /// It has ended, with this result.
    pub(super) fn end<T>(mut self, result: &Result<T, Error>) {
        self.outcome = Outcome::of(result);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.tally.durations.observe(self.began.elapsed());
        self.tally.counter(self.outcome).add_one();
    }
}
