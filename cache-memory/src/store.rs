use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use cache_core::{
    CacheStore, Capabilities, Claim, ClaimOptions, Clock, Entry, Fill, Lease, Result, SetOptions,
};

use crate::builder::{Builder, Weigher};
use crate::engine::Engine;
use crate::eviction::Evictions;
use crate::inner::Inner;

/// A store in this process that holds values of type `V` as they are, on the engine `E`.
///
/// Use it by one of its names: [`MemoryStore`](crate::MemoryStore) or
/// [`MokaStore`](crate::MokaStore). A clone is a handle to the same entries.
///
/// # Lifetimes
///
/// They follow the store's [`Clock`]. An expired entry is invisible at once, but takes room until
/// it is read, overwritten, evicted or [purged](Self::purge_expired).
///
/// # Mutations
///
/// All mutations of one key are ordered, and none waits for anything but a short lock. So the
/// futures of this store never wait: each is done when it is first polled.
///
/// `remove_prefix` and `clear` visit every entry, and hold all writers (no readers) up meanwhile.
/// That makes them exact: no entry and no lease from before the call is left when it returns.
///
/// # Code of yours that runs in here
///
/// The callback for evictions runs when an operation has finished and holds no lock, on the thread
/// that made it; it may use the store. The weigher runs before a write takes a lock; if it
/// panics, so does the write, which then has not happened. Values are cloned inside a lock of the
/// engine: neither `Clone` nor `Drop` of a value should use the store that holds it.
///
/// ```
/// # #[cfg(feature = "quick-cache")] {
/// use cache_core::{CacheStore, Claim, ClaimOptions, Fill, SetOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new(100);
/// let claim = store.claim("user:7", ClaimOptions::new(Duration::from_secs(10))).await?;
/// let Claim::Granted(lease) = claim else { unreachable!("nobody else claims") };
///
/// // What was loaded under the lease is not kept if the key is removed meanwhile.
/// store.remove("user:7").await?;
/// let fill = store.fill(lease, Some("old".to_owned()), SetOptions::forever()).await?;
/// assert_eq!(fill, Fill::Refused);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// # }
/// ```
pub struct Store<V, E>(Arc<Inner<V, E>>);

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> Store<V, E> {
    /// A store that holds about `capacity` entries, with everything else as the builder has it.
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`] of a process.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::builder().capacity(capacity).build().expect("a capacity alone is always valid")
    }

    /// A store with more options.
    pub fn builder() -> Builder<V, E> {
        Builder::new()
    }

    pub(crate) fn assemble(
        engine: E,
        clock: Clock,
        capacity: u64,
        weigher: Option<Box<Weigher<V>>>,
        evictions: Option<Arc<Evictions<V>>>,
    ) -> Self {
        Self(Arc::new(Inner::new(engine, clock, capacity, weigher, evictions)))
    }

    /// How many entries there are, with the expired ones that have not been met yet.
    ///
    /// A [`MokaStore`](crate::MokaStore) counts late; after [`purge_expired`](Self::purge_expired)
    /// the number is exact.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.engine.len()
    }

    /// Whether [`len`](Self::len) is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries weigh together: their number, unless the store is weighted. As exact as
    /// [`len`](Self::len).
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.0.engine.weight()
    }

    /// The weight that the store was built for: a number of entries, unless it is weighted.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.0.capacity
    }

    /// Drops what has expired, entries and leases, and does the work that the engine has put off.
    ///
    /// It visits every entry. Nobody has to call it, since a full store makes room by itself; call
    /// it now and then if memory should be given back before that.
    pub fn purge_expired(&self) {
        self.0.purge_expired();
    }
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> CacheStore for Store<V, E> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        Ok(self.0.get_exactly(key))
    }

    #[inline(always)]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        self.get_now_as(key, Entry::as_it_is)
    }

    // A call of its own, which holds all of the look-up: what it returns is then read where it lies, and what a
    // hit does not need of the entry not at all. Inlined, each of its fields would pass through the caller.
    #[inline(never)]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        self.0.get_coarsely(key, look)
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        options.check()?;
        self.0.set(key, value, &options);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.0.remove_prefix(prefix);
        Ok(())
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<V>> {
        Ok(self.0.claim(key, options))
    }

    async fn fill(&self, lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill> {
        if let Err(invalid) = options.check() {
            self.0.release(&lease);
            return Err(invalid);
        }
        Ok(self.0.fill(&lease, value, &options))
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        Ok(self.0.release(&lease))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::LOCAL
    }
}

impl<V, E> Clone for Store<V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> fmt::Debug for Store<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
