//! How long something took, sorted into a fixed set of bounds.

use std::time::Duration;

use super::Counter;

/// Counts of durations by `N` bounds, which ascend.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [Duration; N],
    /// Those that are not longer than the bound, and longer than the one before.
    within: [Counter; N],
    /// Those that are longer than every bound.
    beyond: Counter,
    /// In nanoseconds; enough for 584 years in all.
    sum_ns: Counter,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// All durations together.
    pub sum: Duration,
    /// How many there were: the sum of the counts in `buckets`.
    pub count: u64,
    /// Bounds in seconds, each with how many are not longer than it and longer than the one before. The last bound is
    /// infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl<const N: usize> Histogram<N> {
    /// An empty one.
    pub fn new(bounds: &'static [Duration; N]) -> Self {
        let within = std::array::from_fn(|_| Counter::default());
        Self { bounds, within, beyond: Counter::default(), sum_ns: Counter::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let place = self.bounds.partition_point(|bound| *bound < took);
        self.within.get(place).unwrap_or(&self.beyond).add_one();
        self.sum_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub fn distribution(&self) -> Distribution {
        let bounds = self.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.within.iter().chain([&self.beyond]).map(Counter::get);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Distribution { sum: Duration::from_nanos(self.sum_ns.get()), count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

    #[test]
    fn a_duration_is_counted_at_the_first_bound_it_does_not_exceed() {
        let table = [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_000_000_000, 1), (1_000_000_001, 2)];
        for (nanoseconds, bucket) in table {
            let histogram = Histogram::new(&BOUNDS);
            histogram.observe(Duration::from_nanos(nanoseconds));
            let counts: Vec<u64> =
                histogram.distribution().buckets.into_iter().map(|(_, count)| count).collect();
            let mut expected = vec![0; 3];
            expected[bucket] = 1;
            assert_eq!(counts, expected, "{nanoseconds} ns");
        }
    }

    #[test]
    fn counts_and_sums_add_up() {
        let histogram = Histogram::new(&BOUNDS);
        for milliseconds in [1, 20, 2000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let expected = Distribution {
            sum: Duration::from_millis(2021),
            count: 3,
            buckets: vec![(0.001, 1), (1.0, 1), (f64::INFINITY, 1)],
        };
        assert_eq!(histogram.distribution(), expected);
    }
}
