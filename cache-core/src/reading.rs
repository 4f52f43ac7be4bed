use std::time::Duration;

/// What a read got, and what it is worth.
///
/// ```
/// use cache_core::{Freshness, ReadOptions, ReadThrough};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let load = |id: u64| async move { Ok::<_, io::Error>(Some(id * id)) };
/// let options = ReadOptions::ttl(Duration::from_secs(60));
/// let squares = ReadThrough::new(MemoryStore::new(100), load, options)?;
///
/// let reading = squares.get_detailed(&7).await?;
/// assert_eq!((reading.value, reading.freshness), (Some(49), Freshness::Fresh));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Reading<V> {
    /// The value; `None` if the source has none.
    pub value: Option<V>,
    /// Whether it is fresh, and if not, why.
    pub freshness: Freshness,
}

impl<V> Reading<V> {
    /// A value, or that there is none, of this freshness.
    pub fn new(value: Option<V>, freshness: Freshness) -> Self {
        Self { value, freshness }
    }
}

/// Whether what was read is fresh.
///
/// ```
/// use cache_core::{Freshness, StaleReason};
/// use std::time::Duration;
///
/// fn warning(freshness: Freshness) -> Option<String> {
///     match freshness {
///         Freshness::Stale { age, reason: StaleReason::LoadFailed } => {
///             Some(format!("the source is down; this was right {age:?} ago"))
///         }
///         _ => None,
///     }
/// }
/// assert_eq!(warning(Freshness::Fresh), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// From the store within its lifetime, or just loaded.
    Fresh,
    /// Past its lifetime, within one of the windows of [`ReadOptions`](crate::ReadOptions).
    Stale {
        /// How long ago it ceased to be fresh.
        age: Duration,
        /// Why nothing fresh was returned.
        reason: StaleReason,
    },
    /// Just loaded, but the cache could not keep it: its store failed, or somebody else held the key for too long.
    Degraded,
}

impl Freshness {
    /// Whether it is [`Fresh`](Self::Fresh).
    #[must_use]
    pub fn is_fresh(self) -> bool {
        self == Self::Fresh
    }

    /// Whether it is [`Stale`](Self::Stale).
    #[must_use]
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

/// Why a stale value was returned.
///
/// ```
/// use cache_core::StaleReason;
///
/// assert_ne!(StaleReason::Refreshing, StaleReason::LoadFailed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleReason {
    /// Within [`stale_for`](crate::ReadOptions::stale_for): nobody waits for the refresh.
    Refreshing,
    /// Within [`stale_if_error`](crate::ReadOptions::stale_if_error): the load has failed, or has failed
    /// so recently that it is not tried again yet.
    LoadFailed,
    /// The load took longer than [`soft_timeout`](crate::ReadOptions::soft_timeout), and goes on.
    LoadSlow,
}

/// What one read wants, beside its key.
///
/// ```
/// use cache_core::ReadHints;
/// use std::time::Duration;
///
/// let checkout = ReadHints::new().max_staleness(Duration::ZERO); // nothing stale at all
/// let list = ReadHints::new().max_staleness(Duration::from_secs(5));
/// assert_ne!(checkout, list);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReadHints {
    max_staleness: Duration,
}

impl ReadHints {
    /// What the options of the cache say.
    pub fn new() -> Self {
        Self { max_staleness: Duration::MAX }
    }

    /// Takes no value that has been stale for this long, or longer: it is loaded instead, and an error of the load
    /// is returned. It only narrows what the options allow.
    pub fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Whether a value that has been stale for so long will do.
    #[must_use]
    pub fn allow(&self, staleness: Duration) -> bool {
        staleness < self.max_staleness
    }
}

impl Default for ReadHints {
    fn default() -> Self {
        Self::new()
    }
}
