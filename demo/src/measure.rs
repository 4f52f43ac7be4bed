//! What is measured while the clients run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::caches::Scenario;

/// The version of each product that has been acknowledged: whoever begins to read after that must not
/// be given an older one.
#[derive(Debug)]
pub(crate) struct Acknowledged(Box<[AtomicU64]>);

impl Acknowledged {
    pub(crate) fn new(ids: u64) -> Self {
        Self((0..ids).map(|_| AtomicU64::new(0)).collect())
    }

    /// Says that a write has ended: it is in the source, and the cache has been told.
    pub(crate) fn acknowledge(&self, id: u64, version: u64) {
        if let Some(latest) = self.0.get(id as usize) {
            latest.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// The oldest version that a read which begins now may return.
    pub(crate) fn oldest_allowed(&self, id: u64) -> u64 {
        self.0.get(id as usize).map_or(0, |latest| latest.load(Ordering::Acquire))
    }
}

/// What one client has seen; those of all clients are added up.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) gets: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    pub(crate) stale: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        let durations = || {
            // One nanosecond to one minute in steps of 1 %. These bounds are valid ones.
            Histogram::new_with_bounds(1, 60_000_000_000, 2)
                .unwrap_or_else(|error| unreachable!("constant bounds: {error}"))
        };
        Self { gets: durations(), writes: durations(), stale: 0, errors: 0, first_error: None }
    }

    /// A read that was allowed to return `oldest_allowed` or newer returned `version`, or nothing.
    pub(crate) fn read(&mut self, took: Duration, version: Option<u64>, oldest_allowed: u64) {
        self.gets.saturating_record(nanos(took));
        self.stale += u64::from(version.unwrap_or(0) < oldest_allowed);
    }

    pub(crate) fn write(&mut self, took: Duration) {
        self.writes.saturating_record(nanos(took));
    }

    pub(crate) fn error(&mut self, error: impl ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn add(&mut self, other: Self) {
        // Histograms with the same bounds always add up.
        let _ = self.gets.add(&other.gets);
        let _ = self.writes.add(&other.writes);
        self.stale += other.stale;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// What a scenario has shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) scenario: Scenario,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// `None` where there is no cache.
    pub(crate) cache: Option<Counts>,
    pub(crate) hit_rate: Option<f64>,
    pub(crate) source_reads: u64,
    pub(crate) source_writes: u64,
    pub(crate) most_concurrent_loads_of_a_key: u64,
    pub(crate) stale_reads: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) get: Durations,
    pub(crate) write: Durations,
    pub(crate) timeline: Vec<Slot>,
}

/// What a cache counts about itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) loads: u64,
    /// Hits with a value that was past its lifetime, within the window that the strategy declares.
    pub(crate) past_lifetime: u64,
    /// Misses that shared somebody else's load.
    pub(crate) coalesced: u64,
    /// Loaded values that were not kept, because their key had been invalidated meanwhile.
    pub(crate) refused_fills: u64,
}

/// Quantiles of durations, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Durations {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// What happened in a short part of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Slot {
    /// Its end, since the beginning of the run.
    pub(crate) until_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) source_reads: u64,
}

impl Outcome {
    /// The name of the scenario.
    pub(crate) fn name(&self) -> String {
        self.scenario.to_string()
    }

    /// Reads of the source for a thousand gets.
    pub(crate) fn source_reads_per_thousand(&self) -> f64 {
        self.source_reads as f64 * 1_000.0 / self.get.count.max(1) as f64
    }
}

impl Counts {
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        let gets = self.hits + self.misses;
        (gets > 0).then(|| self.hits as f64 / gets as f64)
    }
}

impl From<&Histogram<u64>> for Durations {
    fn from(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        Self {
            count: histogram.len(),
            p50_us: micros(histogram.value_at_quantile(0.5)),
            p99_us: micros(histogram.value_at_quantile(0.99)),
            max_us: micros(histogram.max()),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}
