//! When a driver that does not answer is left alone, and when it is tried again: the policy alone.
//!
//! ```text
//! closed ── TIMEOUTS_TO_OPEN in a row ──► open ── the pause is over ──► probing: one call is let through
//!    ▲                                     ▲ ▲                             │
//!    └── an answer ────────────────────────┼─┴── no answer: twice the pause┤
//!    └─────────────────────────────────────┴── an answer ──────────────────┘
//! ```
//!
//! Any answer closes it, also a no, and one to a call that began long before. A call that nobody waits for any longer says
//! nothing. This file has no clock and knows no call.

use std::time::{Duration, Instant};

/// How many calls in a row must have gone without an answer before the driver is left alone.
pub const TIMEOUTS_TO_OPEN: u32 = 3;
/// How long it is left alone before it is tried, at first; twice as long after each try in vain.
pub const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// And never longer.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known of how a driver answers.
#[derive(Debug)]
pub(super) struct Breaker(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many timeouts since the last answer.
    Closed { timeouts: u32 },
    /// Nothing is sent before `next_try`.
    Open { since: Instant, next_try: Instant, pause: Duration },
    /// One call is on its way, and nothing else is sent.
    Probing { since: Instant, began: Instant, pause: Duration },
}

/// What a call that is let through is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One of many.
    Usual,
    /// The one that finds out whether the driver answers again; when it began.
    Probe(Instant),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not for want of an answer: with one, or an error that is told at once.
    Answered,
    /// Its deadline had passed.
    TimedOut,
    /// Nobody waits for it any more.
    Unknown,
}

/// Why a call is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Since when the driver is left alone.
    pub(super) since: Instant,
    /// When it is tried.
    pub(super) next: Next,
}

/// When a driver that is left alone is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With the first call after this.
    At(Instant),
    /// It is being tried, since then.
    Underway(Instant),
}

/// What an ending has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The driver is left alone from now on.
    Opened,
    /// The driver answers again.
    Closed,
}

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { timeouts: 0 })
    }
}

impl Breaker {
    /// Whether a call would be refused now, and why.
    pub(super) fn refusal(&self, now: Instant) -> Option<Refusal> {
        match self.0 {
            State::Closed { .. } => None,
            State::Open { next_try, .. } if now >= next_try => None,
            State::Open { since, next_try, .. } => Some(Refusal { since, next: Next::At(next_try) }),
            State::Probing { since, began, .. } => Some(Refusal { since, next: Next::Underway(began) }),
        }
    }

    /// Whether the driver is left alone, but for tries.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.0, State::Closed { .. })
    }

    /// Lets a call through; its end must be told.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Role, Refusal> {
        if let Some(refusal) = self.refusal(now) {
            return Err(refusal);
        }
        let State::Open { since, pause, .. } = self.0 else { return Ok(Role::Usual) };
        self.0 = State::Probing { since, began: now, pause };
        Ok(Role::Probe(now))
    }

    /// A call has ended.
    pub(super) fn end(&mut self, role: Role, ending: Ending, now: Instant) -> Option<Turn> {
        let is_probe =
            matches!((self.0, role), (State::Probing { began, .. }, Role::Probe(own)) if began == own);
        let (next, turn) = match (self.0, ending) {
            (State::Closed { .. }, Ending::Answered) => (State::Closed { timeouts: 0 }, None),
            (_, Ending::Answered) => (State::Closed { timeouts: 0 }, Some(Turn::Closed)),
            (State::Closed { timeouts }, Ending::TimedOut) if timeouts + 1 < TIMEOUTS_TO_OPEN => {
                (State::Closed { timeouts: timeouts + 1 }, None)
            }
            (State::Closed { .. }, Ending::TimedOut) => {
                let open = State::Open { since: now, next_try: now + FIRST_PAUSE, pause: FIRST_PAUSE };
                (open, Some(Turn::Opened))
            }
            (State::Probing { since, pause, .. }, Ending::TimedOut) if is_probe => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                (State::Open { since, next_try: now + pause, pause }, None)
            }
            // Nothing was learnt: the next call tries.
            (State::Probing { since, pause, .. }, Ending::Unknown) if is_probe => {
                (State::Open { since, next_try: now, pause }, None)
            }
            (unchanged, _) => (unchanged, None),
        };
        self.0 = next;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens at a second: a call begins, under a name, or ends.
    enum Step {
        Let(char),
        Refused { since: u64, next: u64 },
        Probed { since: u64, began: u64 },
        Ends(char, Ending, Option<Turn>),
    }

    use Ending::{Answered, TimedOut, Unknown};
    use Step::{Ends, Let, Probed, Refused};

    fn play(what: &str, steps: &[(u64, Step)]) {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut breaker = Breaker::default();
        let mut roles = std::collections::HashMap::new();
        for (number, (second, step)) in steps.iter().enumerate() {
            let told = format!("{what}: step {number}");
            match step {
                Let(name) => drop(roles.insert(*name, breaker.admit(at(*second)).expect(&told))),
                Refused { since, next } => {
                    let expected = Refusal { since: at(*since), next: Next::At(at(*next)) };
                    assert_eq!(breaker.admit(at(*second)), Err(expected), "{told}");
                    assert!(breaker.is_open(), "{told}");
                }
                Probed { since, began } => {
                    let expected = Refusal { since: at(*since), next: Next::Underway(at(*began)) };
                    assert_eq!(breaker.admit(at(*second)), Err(expected), "{told}");
                    assert!(breaker.is_open(), "{told}");
                }
                Ends(name, ending, turn) => {
                    assert_eq!(breaker.end(roles[name], *ending, at(*second)), *turn, "{told}");
                }
            }
        }
    }

    /// Three calls that begin at 0 and time out at 10.
    fn opened() -> Vec<(u64, Step)> {
        vec![
            (0, Let('a')),
            (0, Let('b')),
            (0, Let('c')),
            (0, Let('d')),
            (10, Ends('a', TimedOut, None)),
            (10, Ends('b', TimedOut, None)),
            (10, Ends('c', TimedOut, Some(Turn::Opened))),
        ]
    }

    fn after_opening(what: &str, steps: Vec<(u64, Step)>) {
        play(what, &opened().into_iter().chain(steps).collect::<Vec<_>>());
    }

    #[test]
    fn it_opens_after_timeouts_in_a_row_only() {
        play(
            "an answer in between, and calls that nobody waits for",
            &[
                (0, Let('a')),
                (1, Ends('a', TimedOut, None)),
                (1, Ends('a', TimedOut, None)),
                (1, Ends('a', Unknown, None)),
                (1, Ends('a', Answered, None)),
                (1, Ends('a', TimedOut, None)),
                (1, Ends('a', TimedOut, None)),
                (1, Let('b')),
                (1, Ends('a', TimedOut, Some(Turn::Opened))),
            ],
        );
        after_opening("refused until the pause is over", vec![(10, Refused { since: 10, next: 20 })]);
    }

    #[test]
    fn one_call_tries_and_the_others_are_refused_meanwhile() {
        after_opening(
            "the probe is answered",
            vec![
                (20, Let('p')),
                (20, Probed { since: 10, began: 20 }),
                (21, Ends('p', Answered, Some(Turn::Closed))),
                (21, Let('q')),
                (22, Ends('q', TimedOut, None)),
            ],
        );
        after_opening(
            "the probe is not answered: the pause doubles, to a minute",
            vec![
                (20, Let('p')),
                (21, Ends('p', TimedOut, None)),
                (40, Refused { since: 10, next: 41 }),
                (41, Let('p')),
                (41, Ends('p', TimedOut, None)),
                (41, Refused { since: 10, next: 81 }),
                (81, Let('p')),
                (81, Ends('p', TimedOut, None)),
                (81, Refused { since: 10, next: 141 }),
                (141, Let('p')),
                (141, Ends('p', TimedOut, None)),
                (141, Refused { since: 10, next: 201 }),
            ],
        );
    }

    #[test]
    fn a_probe_that_is_given_up_teaches_nothing() {
        after_opening(
            "the next call probes",
            vec![
                (20, Let('p')),
                (21, Ends('p', Unknown, None)),
                (21, Let('q')),
                (21, Probed { since: 10, began: 21 }),
                (22, Ends('p', TimedOut, None)),
                (22, Probed { since: 10, began: 21 }),
            ],
        );
    }

    #[test]
    fn what_began_before_can_close_it_but_not_lengthen_the_pause() {
        after_opening(
            "late timeouts",
            vec![(11, Ends('d', TimedOut, None)), (11, Refused { since: 10, next: 20 })],
        );
        after_opening("a late answer", vec![(11, Ends('d', Answered, Some(Turn::Closed))), (11, Let('e'))]);
        after_opening(
            "a late answer while it is tried",
            vec![
                (20, Let('p')),
                (20, Ends('d', TimedOut, None)),
                (20, Ends('d', Answered, Some(Turn::Closed))),
                (21, Ends('p', TimedOut, None)),
                (21, Let('e')),
            ],
        );
    }
}
