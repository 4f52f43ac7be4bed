use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is cut into this many buckets, so a figure is off by at most an eighth.
const CUTS: u64 = 8;
const BUCKETS: usize = (64 - 3 + 1) * CUTS as usize;

/// A histogram of durations from a nanosecond to centuries that many threads write at once.
pub(super) struct Histogram(Box<[AtomicU64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Latencies {
        Latencies { counts: self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect() }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < CUTS {
        return nanos as usize;
    }
    let power = nanos.ilog2();
    let cut = (nanos >> (power - CUTS.ilog2())) - CUTS;
    ((u64::from(power - CUTS.ilog2()) + 1) * CUTS + cut) as usize
}

/// The longest duration that falls into a bucket.
fn upper_end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < CUTS {
        return Duration::from_nanos(bucket);
    }
    let (shift, cut) = (bucket / CUTS - 1, bucket % CUTS);
    let next = u128::from(CUTS + cut + 1) << shift;
    Duration::from_nanos(u64::try_from(next - 1).unwrap_or(u64::MAX))
}

/// How long something took, many times over; precise to an eighth.
///
/// ```
/// use cache_core::{Event, Observer, Stats};
/// use std::time::Duration;
///
/// let stats = Stats::default();
/// stats.observe(&Event::Load { took: Duration::from_millis(8), error: None });
///
/// let loads = stats.snapshot().load_times;
/// assert_eq!(loads.count(), 1);
/// let median = loads.quantile(0.5);
/// assert!(median >= Duration::from_millis(8) && median <= Duration::from_millis(9));
/// ```
#[derive(Clone, Default)]
pub struct Latencies {
    counts: Vec<u64>,
}

impl Latencies {
    /// How many were timed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time that the share `q` (0 to 1) of them did not exceed; zero if none was timed.
    ///
    /// `quantile(0.99)` is the 99th percentile.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (self.count() as f64 * q.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket);
            }
        }
        Duration::ZERO
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_a_bucket_and_is_off_by_at_most_an_eighth() {
        for power in 0..64 {
            for nanos in [1_u64 << power, (1 << power) + (1 << power) / 3, u64::MAX >> power] {
                let end = upper_end(bucket(nanos)).as_nanos() as u64;
                assert!(end >= nanos, "{nanos}: {end}");
                assert!(end - nanos <= nanos / 8, "{nanos}: {end}");
            }
        }
    }

    #[test]
    fn quantiles_are_found() {
        let histogram = Histogram::default();
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let latencies = histogram.read();
        assert_eq!(latencies.count(), 100);
        for (q, millis) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            let found = latencies.quantile(q).as_secs_f64() * 1000.0;
            assert!(
                (f64::from(millis)..=f64::from(millis) * 1.125).contains(&found),
                "{q}: {found}"
            );
        }
    }

    #[test]
    fn nothing_timed_is_zero() {
        assert_eq!(Histogram::default().read().quantile(0.5), Duration::ZERO);
    }
}
