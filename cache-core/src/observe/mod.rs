//! Watching a cache at work.

mod histogram;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use crate::Error;

pub use histogram::Latencies;
pub use stats::{Snapshot, Stats};

/// Is told what a cache does.
///
/// An observer can't break the cache: it has no result, and its panics are caught. It is called on
/// the caller's thread, so it must not block. It is not told keys, so that they can't become labels
/// of a metric, of which there must be few.
///
/// `Arc`s of observers, pairs of them and `Option`s are observers too.
///
/// ```
/// use cache_core::{Event, Observer, Outcome};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Misses(AtomicU64);
///
/// impl Observer for Misses {
///     fn observe(&self, event: &Event<'_>) {
///         if let Event::Request { outcome: Outcome::Loaded, .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);

    /// Whether the request that begins now is to be timed. Reading the time twice costs more than a
    /// hit in memory, so time a sample.
    fn samples(&self) -> bool {
        false
    }
}

/// What an [`Observer`] is told.
///
/// ```
/// use cache_core::{Event, Observer};
///
/// /// Writes down what went wrong.
/// struct Log;
///
/// impl Observer for Log {
///     fn observe(&self, event: &Event<'_>) {
///         match event {
///             Event::Load { took, error: Some(error) } => eprintln!("after {took:?}: {error}"),
///             Event::StoreFailed { error } => eprintln!("{error}"),
///             _ => {}
///         }
///     }
/// }
/// # Log.observe(&Event::FillRefused);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request for one key has ended. Every request ends with exactly one of these.
    Request {
        /// How it ended.
        outcome: Outcome,
        /// How long it took, if [`Observer::samples`] asked for it.
        took: Option<Duration>,
    },
    /// A load has ended: a question to the source, about one key or many.
    Load {
        /// How long the loader took.
        took: Duration,
        /// The error, if it failed.
        error: Option<&'a Error>,
    },
    /// A value that had been loaded was not kept, because its key was removed, written or claimed anew
    /// during the load.
    FillRefused,
    /// A write to the source has ended: of one key, or of many in one go.
    Write {
        /// How many keys were written.
        writes: usize,
        /// How long the writer took.
        took: Duration,
        /// The error, if it failed.
        error: Option<&'a Error>,
    },
    /// A write that the source does not take is not tried any more, and is a dead letter now.
    Parked {
        /// What the source said at last.
        error: &'a Error,
    },
    /// A journal failed in the background. Nothing is lost: what could not be marked as written is written again.
    JournalFailed {
        /// The error.
        error: &'a Error,
    },
    /// A refresh in the background has begun: a load of a key whose value is served meanwhile, or more time for an
    /// entry that [slides](crate::ReadOptions::sliding).
    RefreshBegan,
    /// A refresh in the background has ended, however it did. What began more often than it ended is under way.
    RefreshEnded,
    /// A value was served without being refreshed, because [enough](crate::ReadOptions::most_refreshes) refreshes
    /// were under way, or the cache has been shut down.
    RefreshSkipped,
    /// An operation of the store failed. Unless the cache is [failing
    /// closed](crate::ReadOptions::fail_closed), its caller does not see it.
    StoreFailed {
        /// The error.
        error: &'a Error,
    },
}

/// How a request for a key ended.
///
/// Every request has exactly one outcome, so requests are the sum of all outcomes; hits are `Hit` and
/// `Negative`, misses are `Loaded`, `Coalesced`, `Missed`, `Failed` and `Cancelled`. `Stale` is neither, but
/// counts as answered by the store in the [hit rate](Snapshot::hit_rate).
///
/// ```
/// use cache_core::{Event, Observer, Outcome, Stats};
///
/// let stats = Stats::default();
/// for outcome in [Outcome::Hit, Outcome::Stale, Outcome::Loaded, Outcome::Coalesced] {
///     stats.observe(&Event::Request { outcome, took: None });
/// }
/// let seen = stats.snapshot();
/// assert_eq!((seen.requests(), seen.misses(), seen.hit_rate()), (4, 2, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh value was in the store.
    Hit,
    /// The store knew that the source has nothing.
    Negative,
    /// A stale value was served.
    Stale,
    /// This request brought about a load.
    Loaded,
    /// This request shared the load of another.
    Coalesced,
    /// Nothing was in the store, and nothing was to be loaded.
    Missed,
    /// The request ended with an error.
    Failed,
    /// The caller went away during a miss.
    Cancelled,
}

/// Watches nothing, and costs nothing.
///
/// ```
/// use cache_core::{Event, Observer, ReadOptions, Silent};
/// use std::time::Duration;
///
/// // It is what options have at first.
/// let options: ReadOptions<u32, Silent> = ReadOptions::ttl(Duration::from_secs(60));
/// Silent.observe(&Event::FillRefused);
/// assert!(!Silent.samples());
/// # drop(options);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    #[inline]
    fn observe(&self, _: &Event<'_>) {}
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    #[inline]
    fn observe(&self, event: &Event<'_>) {
        O::observe(self, event);
    }

    #[inline]
    fn samples(&self) -> bool {
        O::samples(self)
    }
}

impl<O: Observer> Observer for Option<O> {
    fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = self {
            observer.observe(event);
        }
    }

    fn samples(&self) -> bool {
        self.as_ref().is_some_and(Observer::samples)
    }
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn observe(&self, event: &Event<'_>) {
        self.0.observe(event);
        self.1.observe(event);
    }

    fn samples(&self) -> bool {
        // Both are asked: each may count what it is asked.
        let (first, second) = (self.0.samples(), self.1.samples());
        first || second
    }
}
