//! A histogram of atomics: what it costs is one addition to a bucket and one to the sum, from any thread.
//!
//! The crate's own histogram has a lock in it, which every shard and every request would take.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds of a second, which durations are exported in.
const NS_PER_S: u64 = 1_000_000_000;

/// Upper bounds of buckets, in what is counted, and how many of that are one of the unit that is exported.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    bounds: &'static [u64],
    per_unit: u64,
}

impl Buckets {
    /// 10 us to 10 s: requests, commits, round trips.
    pub const LATENCY: Self = Self {
        bounds: &[
            10_000,
            25_000,
            50_000,
            100_000,
            250_000,
            500_000,
            1_000_000,
            2_500_000,
            5_000_000,
            10_000_000,
            25_000_000,
            50_000_000,
            100_000_000,
            250_000_000,
            500_000_000,
            1_000_000_000,
            2_500_000_000,
            10_000_000_000,
        ],
        per_unit: NS_PER_S,
    };
    /// 1 ms to a day: jobs.
    pub const JOB_TIME: Self = Self {
        bounds: &[
            1_000_000,
            5_000_000,
            10_000_000,
            50_000_000,
            100_000_000,
            500_000_000,
            NS_PER_S,
            5 * NS_PER_S,
            10 * NS_PER_S,
            60 * NS_PER_S,
            300 * NS_PER_S,
            1_800 * NS_PER_S,
            3_600 * NS_PER_S,
            21_600 * NS_PER_S,
            86_400 * NS_PER_S,
        ],
        per_unit: NS_PER_S,
    };
    /// 1 to 20,000: commands of a commit.
    pub const COUNT: Self = Self { bounds: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000], per_unit: 1 };
}

#[derive(Debug)]
struct Inner {
    buckets: Buckets,
    /// One a bound, and one above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// Counts values by size. Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

impl Histogram {
    /// Nothing counted yet.
    pub fn new(buckets: Buckets) -> Self {
        let counts = (0..=buckets.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { buckets, counts, sum: AtomicU64::new(0) }))
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.buckets.bounds.partition_point(|bound| *bound < value);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Values so far.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Inner { buckets, counts, sum } = &*self.0;
        let per_unit = buckets.per_unit as f64;
        let bounds = buckets.bounds.iter().map(|bound| *bound as f64 / per_unit).chain([f64::INFINITY]);
        // The total is made of what was read, so that the text agrees with itself while others count on.
        let filled: Vec<(f64, u64)> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = filled.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.load(Ordering::Relaxed) as f64 / per_unit, count, &filled, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    #[test]
    fn values_stand_in_the_first_bucket_that_holds_them() {
        let histogram = Histogram::new(Buckets::LATENCY);
        for ns in [0, 10_000, 10_001, u64::MAX / 2] {
            histogram.observe(ns);
        }
        histogram.observe_time(Duration::from_millis(1));
        let mut registry = Registry::default();
        registry.register("wait_seconds", "Wait", histogram.clone());
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("text");
        let line = |bound: f64| {
            let buckets =
                text.lines().filter_map(|line| line.strip_prefix("wait_seconds_bucket{le=\"")?.split_once("\"} "));
            let mut found = buckets.filter(|(le, _)| le.trim_start_matches('+').parse() == Ok(bound));
            found.next().unwrap_or_else(|| panic!("{bound} in {text}")).1.to_owned()
        };
        assert_eq!([line(1e-5), line(0.001), line(10.0), line(f64::INFINITY)], ["2", "4", "4", "5"], "{text}");
        assert!(text.contains("wait_seconds_count 5\n"), "{text}");
        assert_eq!(histogram.count(), 5);
    }
}
