use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::histogram::Histogram;
use super::{Event, Latencies, Observer, Outcome};

/// One request in so many is timed.
const SAMPLE: u64 = 64;
/// So many threads count without getting into each other's way.
const STRIPES: usize = 8;
const COUNTERS: usize = Counter::JournalErrors as usize + 1;

/// An [`Observer`] that counts, and times loads and a sample of the requests (one in 64).
///
/// Keep an `Arc` of it, give a clone to the cache, and read a [`snapshot`](Self::snapshot) whenever
/// you like; figures of all counters together are exact once no request is under way.
///
/// ```
/// use cache_core::{CacheAside, ReadOptions, Stats};
/// use cache_memory::MemoryStore;
/// use std::{sync::Arc, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let stats = Arc::new(Stats::default());
/// let options = ReadOptions::ttl(Duration::from_secs(60)).observer(Arc::clone(&stats));
/// let prices = CacheAside::new(MemoryStore::new(10_000), options)?;
/// prices.get_or_load(&7, || async { Ok::<_, std::io::Error>(Some(99)) }).await?;
///
/// let seen = stats.snapshot();
/// assert_eq!((seen.requests(), seen.misses(), seen.loads), (1, 1, 1));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Default)]
pub struct Stats {
    stripes: [Stripe; STRIPES],
    requests: Histogram,
    loads: Histogram,
    writes: Histogram,
}

/// Counters on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    counters: [AtomicU64; COUNTERS],
    asked: AtomicU64,
}

#[derive(Clone, Copy)]
enum Counter {
    Hits,
    NegativeHits,
    Stale,
    Loaded,
    Coalesced,
    Missed,
    Failed,
    Cancelled,
    Loads,
    LoadErrors,
    RefusedFills,
    Refreshes,
    EndedRefreshes,
    SkippedRefreshes,
    StoreErrors,
    Writes,
    WriteErrors,
    Parked,
    JournalErrors,
}

impl Stats {
    /// What has been seen so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sum = |counter: Counter| {
            let stripes = self.stripes.iter();
            stripes.map(|stripe| stripe.counters[counter as usize].load(Ordering::Relaxed)).sum()
        };
        // In this order, so that none has ended that has not begun.
        let ended = sum(Counter::EndedRefreshes);
        let refreshes: u64 = sum(Counter::Refreshes);
        Snapshot {
            hits: sum(Counter::Hits),
            negative_hits: sum(Counter::NegativeHits),
            stale: sum(Counter::Stale),
            loaded: sum(Counter::Loaded),
            coalesced: sum(Counter::Coalesced),
            missed: sum(Counter::Missed),
            failed: sum(Counter::Failed),
            cancelled: sum(Counter::Cancelled),
            loads: sum(Counter::Loads),
            load_errors: sum(Counter::LoadErrors),
            refused_fills: sum(Counter::RefusedFills),
            refreshes,
            refreshing: refreshes.saturating_sub(ended),
            skipped_refreshes: sum(Counter::SkippedRefreshes),
            store_errors: sum(Counter::StoreErrors),
            writes: sum(Counter::Writes),
            write_errors: sum(Counter::WriteErrors),
            parked: sum(Counter::Parked),
            journal_errors: sum(Counter::JournalErrors),
            request_times: self.requests.read(),
            load_times: self.loads.read(),
            write_times: self.writes.read(),
        }
    }

    #[inline]
    fn count(&self, counter: Counter) {
        self.stripes[stripe()].counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Which stripe this thread counts in.
#[inline]
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl Observer for Stats {
    #[inline]
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Request { outcome, took } => {
                self.count(match outcome {
                    Outcome::Hit => Counter::Hits,
                    Outcome::Negative => Counter::NegativeHits,
                    Outcome::Stale => Counter::Stale,
                    Outcome::Loaded => Counter::Loaded,
                    Outcome::Coalesced => Counter::Coalesced,
                    Outcome::Missed => Counter::Missed,
                    Outcome::Failed => Counter::Failed,
                    Outcome::Cancelled => Counter::Cancelled,
                });
                if let Some(took) = took {
                    self.requests.record(took);
                }
            }
            Event::Load { took, error } => {
                self.count(Counter::Loads);
                if error.is_some() {
                    self.count(Counter::LoadErrors);
                }
                self.loads.record(took);
            }
            Event::FillRefused => self.count(Counter::RefusedFills),
            Event::RefreshBegan => self.count(Counter::Refreshes),
            Event::RefreshEnded => self.count(Counter::EndedRefreshes),
            Event::RefreshSkipped => self.count(Counter::SkippedRefreshes),
            Event::StoreFailed { .. } => self.count(Counter::StoreErrors),
            Event::Write { took, error, .. } => {
                self.count(Counter::Writes);
                if error.is_some() {
                    self.count(Counter::WriteErrors);
                }
                self.writes.record(took);
            }
            Event::Parked { .. } => self.count(Counter::Parked),
            Event::JournalFailed { .. } => self.count(Counter::JournalErrors),
        }
    }

    #[inline]
    fn samples(&self) -> bool {
        // Threads of one stripe may overwrite each other's count, which is no harm to a sample.
        let asked = &self.stripes[stripe()].asked;
        let count = asked.load(Ordering::Relaxed);
        asked.store(count.wrapping_add(1), Ordering::Relaxed);
        count.is_multiple_of(SAMPLE)
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The figures of a [`Stats`] at one moment. Counts are since its creation.
///
/// ```
/// use cache_core::{Event, Observer, Outcome, Stats};
///
/// let stats = Stats::default();
/// let before = stats.snapshot();
/// stats.observe(&Event::Request { outcome: Outcome::Hit, took: None });
/// assert_eq!((before.hits, stats.snapshot().hits), (0, 1));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Requests answered by a fresh value.
    pub hits: u64,
    /// Requests answered by a negative entry.
    pub negative_hits: u64,
    /// Requests answered by a stale value.
    pub stale: u64,
    /// Requests that brought about a load.
    pub loaded: u64,
    /// Requests that shared the load of another.
    pub coalesced: u64,
    /// Requests that found nothing, and were not to load.
    pub missed: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Requests whose caller went away during a miss.
    pub cancelled: u64,
    /// Questions to the source.
    pub loads: u64,
    /// Questions to the source that failed.
    pub load_errors: u64,
    /// Loaded values that were not kept, because their key had been invalidated meanwhile.
    pub refused_fills: u64,
    /// Refreshes in the background that have begun.
    pub refreshes: u64,
    /// Refreshes in the background that are under way.
    pub refreshing: u64,
    /// Values that were served without the refresh that was due, because there were too many of them.
    pub skipped_refreshes: u64,
    /// Operations of the store that failed.
    pub store_errors: u64,
    /// Writes to the source, each of one key or of many.
    pub writes: u64,
    /// Writes to the source that failed.
    pub write_errors: u64,
    /// Writes that are not tried any more.
    pub parked: u64,
    /// Errors of a journal that no caller has seen.
    pub journal_errors: u64,
    /// How long requests took, of the sample that was timed.
    pub request_times: Latencies,
    /// How long loads took.
    pub load_times: Latencies,
    /// How long writes to the source took.
    pub write_times: Latencies,
}

impl Snapshot {
    /// All requests: the sum of all outcomes.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.hits + self.negative_hits + self.stale + self.misses()
    }

    /// All requests that the store could not answer.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.loaded + self.coalesced + self.missed + self.failed + self.cancelled
    }

    /// The share of requests that the store could answer, 0 to 1; 0 if there were none. A stale value that
    /// was served counts as answered by the store.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        match self.requests() {
            0 => 0.0,
            requests => (requests - self.misses()) as f64 / requests as f64,
        }
    }
}
