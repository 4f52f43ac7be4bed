use std::fmt;
use std::sync::Arc;

use cache_core::{Clock, Error, ErrorKind, Result};

use crate::EvictionCause;
use crate::engine::{Bounds, Engine};
use crate::eviction::{Evictions, OnEvict};
use crate::store::Store;

/// What an entry weighs.
pub(crate) type Weigher<V> = dyn Fn(&str, Option<&V>) -> u64 + Send + Sync;

/// The options of a store; `MemoryStore::builder()` and `MokaStore::builder()` begin one.
///
/// ```
/// # #[cfg(feature = "quick-cache")] {
/// use cache_memory::MemoryStore;
///
/// let pages = MemoryStore::<String>::builder()
///     .weighted(64 << 20, |url, page| (url.len() + page.map_or(0, String::len) + 100) as u64)
///     .on_evict(|url, _page, cause| println!("{url}: {cause:?}"))
///     .build()?;
/// assert_eq!(pages.capacity(), 64 << 20);
/// # }
/// # Ok::<_, cache_core::Error>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<V, E: Engine<V>> {
    bounds: Option<Bounds>,
    weigher: Option<Box<Weigher<V>>>,
    clock: Option<Clock>,
    on_evict: Option<Box<OnEvict<V>>>,
    options: E::Options,
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> Builder<V, E> {
    pub(crate) fn new() -> Self {
        let options = E::Options::default();
        Self { bounds: None, weigher: None, clock: None, on_evict: None, options }
    }

    /// Holds about this many entries. Zero is allowed: such a store keeps nothing, and still
    /// grants leases.
    ///
    /// This or [`weighted`](Self::weighted) is required, and the last one counts.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.bounds = Some(Bounds { capacity: entries as u64, weighted: false });
        self.weigher = None;
        self
    }

    /// Holds entries that together weigh at most `max_weight`, in whatever unit `weigh` has. A
    /// negative entry has no value.
    ///
    /// `weigh` is called once for each write. An entry weighs at least 1 and at most `u32::MAX`;
    /// other answers are taken as the nearer of the two. In bytes, add about 100 for what an
    /// entry takes beside its key and its value.
    ///
    /// An entry that is too heavy is not kept, and neither is what it was to replace. Too heavy
    /// for a `MokaStore` is more than `max_weight`. A `MemoryStore` is divided into at most 16
    /// shards, and an entry may weigh up to 97 % of one of them;
    /// [`expected_entries`](Builder::expected_entries) makes them fewer.
    pub fn weighted(
        mut self,
        max_weight: u64,
        weigh: impl Fn(&str, Option<&V>) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.bounds = Some(Bounds { capacity: max_weight, weighted: true });
        self.weigher = Some(Box::new(weigh));
        self
    }

    /// Takes the time from this clock instead of the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Is called with each entry that the store drops by itself, not with those that are removed
    /// or replaced.
    ///
    /// It is called after the operation that caused the eviction, on the same thread, and may use
    /// the store. A panic in it goes to the panic hook and no further. An entry that it writes may
    /// push others out; they are told after the next operation.
    pub fn on_evict(
        mut self,
        told: impl Fn(&str, Option<&V>, EvictionCause) + Send + Sync + 'static,
    ) -> Self {
        self.on_evict = Some(Box::new(told));
        self
    }

    /// The store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option, if a value makes no sense or no capacity
    /// has been given.
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`] of a process.
    pub fn build(self) -> Result<Store<V, E>> {
        let bounds = self.bounds.ok_or_else(|| {
            Error::with_cause(ErrorKind::InvalidOption, "capacity: must be given")
        })?;
        let evictions = self.on_evict.map(|told| Arc::new(Evictions::new(told)));
        let engine = E::open(&bounds, self.options, evictions.as_ref())?;
        let clock = self.clock.unwrap_or_default();
        Ok(Store::assemble(engine, clock, bounds.capacity, self.weigher, evictions))
    }
}

#[cfg(feature = "quick-cache")]
impl<V: Clone + Send + Sync + 'static> Builder<V, crate::engine::Quick<V>> {
    /// How many entries a [weighted](Self::weighted) store is expected to hold; without it, one
    /// for each 1,024 of the weight. The right order of magnitude is enough.
    ///
    /// It decides how many evicted keys are remembered, which is what resists scans, and, at 32
    /// entries for each, how many shards there are.
    pub fn expected_entries(mut self, entries: usize) -> Self {
        self.options.expected_entries = Some(entries);
        self
    }
}

#[cfg(feature = "moka")]
impl<V: Clone + Send + Sync + 'static> Builder<V, crate::engine::Moka<V>> {
    /// Which entry has to make room; `TinyLfu` unless something else is said.
    pub fn policy(mut self, policy: crate::EvictionPolicy) -> Self {
        self.options.policy = policy;
        self
    }

    /// Drops entries that have not been read or written for this long, on top of their lifetimes.
    ///
    /// This is measured by the system's monotonic clock, whatever [`clock`](Self::clock) is
    /// given. A thousand years and more are never; zero is refused.
    pub fn idle(mut self, idle: std::time::Duration) -> Self {
        self.options.idle = Some(idle);
        self
    }
}

impl<V, E: Engine<V>> fmt::Debug for Builder<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.bounds.as_ref().map(|bounds| bounds.capacity))
            .field("weighted", &self.weigher.is_some())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
