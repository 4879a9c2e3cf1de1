//! Counting what happens, where it happens: a few atomic additions, no lock, no allocation.
//!
//! ```text
//! Counter  how often      Ongoing  how many at this moment      Histogram  how long      Requests  HTTP, by route
//! ```
//!
//! A room holds what it counts, and somebody above reads it when asked. Nothing here knows a label of anything but a
//! route, nor a text format. Numbers that are read while others add may be a few additions apart, never torn.

mod histogram;
mod requests;

use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::{Distribution, Histogram};
pub use requests::{Answered, Requests, UNMATCHED};

/// How often something happened, since this was made.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// It happened once more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// How often so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, amount: u64) {
        // 2^64 of anything are not reached.
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}

/// How many of something go on at this moment.
#[derive(Debug, Default)]
pub struct Ongoing(AtomicU64);

impl Ongoing {
    /// One more, until the guard is dropped.
    pub fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(&self.0)
    }

    /// How many now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that goes on.
#[derive(Debug)]
#[must_use = "what is dropped at once does not go on"]
pub struct Entered<'a>(&'a AtomicU64);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_counted_until_it_ends() {
        let (ongoing, counter) = (Ongoing::default(), Counter::default());
        let first = ongoing.enter();
        let second = ongoing.enter();
        assert_eq!(ongoing.get(), 2);
        drop(first);
        counter.add_one();
        assert_eq!((ongoing.get(), counter.get()), (1, 1));
        drop(second);
        assert_eq!(ongoing.get(), 0);
    }
}
