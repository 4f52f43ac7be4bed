use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::{
    CacheStore, Capabilities, Claim, ClaimOptions, Clock, Entry, Fill, Lease, Moment, Result,
    SetOptions,
};
use smol_str::SmolStr;

use crate::EvictionCause;
use crate::builder::{Builder, Weigher};
use crate::engine::{Displaced, Engine};
use crate::eviction::Evictions;
use crate::leases::Leases;
use crate::slot::Slot;

/// How soon who waits for somebody else's load in this process should ask again, at the latest.
const RETRY_IN: Duration = Duration::from_millis(10);

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

struct Inner<V, E> {
    engine: E,
    clock: Clock,
    leases: Leases,
    versions: AtomicU64,
    capacity: u64,
    weigher: Option<Box<Weigher<V>>>,
    evictions: Option<Arc<Evictions<V>>>,
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> Store<V, E> {
    /// A store that holds about `capacity` entries, with everything else as the builder has it.
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`] of a process.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::builder()
            .capacity(capacity)
            .build()
            .expect("a capacity alone is always valid")
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
        let (leases, versions) = (Leases::new(), AtomicU64::new(1));
        Self(Arc::new(Inner {
            engine,
            clock,
            leases,
            versions,
            capacity,
            weigher,
            evictions,
        }))
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
        let inner = &*self.0;
        inner.engine.settle();
        let now = inner.clock.now();
        for key in inner.engine.keys(&|_, slot| !slot.is_usable(now)) {
            let marks = inner.leases.lock(&key);
            let expired = inner.take_expired(&key, now);
            drop(marks);
            inner.report(key, expired);
        }
        inner.leases.sweep(now);
        inner.engine.settle();
        inner.deliver();
    }
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> CacheStore for Store<V, E> {
    type Value = V;

    #[inline]
    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        Ok(self.0.get(key))
    }

    #[inline(always)]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        Poll::Ready(self.0.get(key))
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

    async fn release(&self, lease: Lease) -> Result<()> {
        self.0.release(&lease);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::LOCAL
    }
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> Inner<V, E> {
    // Always inlined, so that what a hit does not need of the entry is not even copied.
    #[inline(always)]
    fn get(&self, key: &str) -> Option<Entry<V>> {
        let slot = self.engine.get(key);
        if E::READS_EVICT {
            self.deliver();
        }
        let slot = slot?;
        let now = self.clock.coarse();
        let entry = slot.seen(now);
        if entry.is_none() {
            self.forget_expired(key, now);
        }
        entry
    }

    /// Gives the room of an expired entry back, unless the key is being changed this moment.
    #[cold]
    #[inline(never)]
    fn forget_expired(&self, key: &str, now: Moment) {
        let Some(marks) = self.leases.try_lock(key) else {
            return;
        };
        let expired = self.take_expired(key, now);
        drop(marks);
        if expired.is_some() {
            self.report(SmolStr::new(key), expired);
        }
        self.deliver();
    }

    fn set(&self, key: &str, value: Option<V>, options: &SetOptions) {
        let slot = self.slot(key, value, options);
        let version = slot.version;
        let mut marks = self.leases.lock(key);
        marks.revoke(key);
        let displaced = self.engine.insert(SmolStr::new(key), slot);
        drop(marks);
        self.settle(key, version, displaced);
    }

    fn remove(&self, key: &str) {
        let mut marks = self.leases.lock(key);
        marks.revoke(key);
        let removed = self.engine.remove(key);
        drop(marks);
        drop(removed);
        self.deliver();
    }

    fn remove_prefix(&self, prefix: &str) {
        // Marks first, then entries: a fill in between would put an old value behind the visit.
        // Every stripe is held throughout, so nobody adds to the map while it is visited, and for
        // writers it is one step: what was written before is gone, what is written after stays.
        let mut stripes = self.leases.lock_all();
        stripes
            .iter_mut()
            .for_each(|marks| marks.revoke_prefix(prefix));
        let keys = self.engine.keys(&|key, _| key.starts_with(prefix));
        let removed: Vec<_> = keys.iter().map(|key| self.engine.remove(key)).collect();
        drop(stripes);
        drop(removed);
        self.deliver();
    }

    fn claim(&self, key: &str, options: ClaimOptions) -> Claim<V> {
        let now = self.clock.now();
        let mut marks = self.leases.lock(key);
        let entry = self.engine.peek(key).and_then(|slot| slot.seen(now));
        let claim = match entry {
            Some(entry) if options.seen() != Some(entry.version()) => Claim::Found(entry),
            _ => {
                let token = next_token();
                match marks.grant(key, token, options.life(), now) {
                    Ok(()) => Claim::Granted(Lease::new(key, token)),
                    Err(left) => Claim::Held {
                        retry_in: left.min(RETRY_IN),
                    },
                }
            }
        };
        drop(marks);
        self.deliver();
        claim
    }

    /// The mark alone decides, also for a refresh: every set, removal and fill of the key takes it
    /// away, so the entry is still the one that was seen, or has been evicted or has expired.
    /// Neither of these makes the value that was loaded wrong.
    fn fill(&self, lease: &Lease, value: Option<V>, options: &SetOptions) -> Fill {
        let key = lease.key();
        let slot = self.slot(key, value, options);
        let version = slot.version;
        let mut marks = self.leases.lock(key);
        // The time is read under the lock: waiting for it counts.
        if !marks.redeem(key, lease.token(), self.clock.now()) {
            return Fill::Refused;
        }
        let displaced = self.engine.insert(SmolStr::new(key), slot);
        drop(marks);
        self.settle(key, version, displaced);
        Fill::Stored
    }

    fn release(&self, lease: &Lease) {
        self.leases
            .lock(lease.key())
            .redeem(lease.key(), lease.token(), self.clock.now());
    }

    fn slot(&self, key: &str, value: Option<V>, options: &SetOptions) -> Slot<V> {
        // Nothing weighs nothing: an engine would keep weightless entries without bound.
        let weight = self
            .weigher
            .as_ref()
            .map_or(1, |weigh| weigh(key, value.as_ref()));
        let weight = u32::try_from(weight.max(1)).unwrap_or(u32::MAX);
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        Slot::new(value, options, self.clock.now(), version, weight)
    }

    /// The slot under `key`, taken out, if it has expired. To be called under the key's lock.
    fn take_expired(&self, key: &str, now: Moment) -> Option<Slot<V>> {
        self.engine.peek(key).filter(|slot| !slot.is_usable(now))?;
        self.engine.remove(key)
    }

    fn report(&self, key: SmolStr, expired: Option<Slot<V>>) {
        if let (Some(evictions), Some(slot)) = (&self.evictions, expired) {
            evictions.push(key, slot.value, EvictionCause::Expired);
        }
    }

    /// Reports what an insertion pushed out, and drops it.
    fn settle(&self, key: &str, version: u64, displaced: Displaced<V>) {
        if let Some(evictions) = &self.evictions {
            for (displaced, slot) in displaced.into_slots() {
                // Another version of the key that was written has been replaced, not evicted.
                if displaced != key || slot.version == version {
                    evictions.push(displaced, slot.value, EvictionCause::Capacity);
                }
            }
        }
        self.deliver();
    }

    #[inline]
    fn deliver(&self) {
        if let Some(evictions) = &self.evictions {
            evictions.deliver();
        }
    }
}

/// Unique in the process, so that no store takes another one's lease for its own.
fn next_token() -> u64 {
    static TOKENS: AtomicU64 = AtomicU64::new(1);
    TOKENS.fetch_add(1, Ordering::Relaxed)
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

#[cfg(all(test, feature = "quick-cache"))]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn an_entry_written_after_a_read_met_the_expired_one_stays() {
        let (clock, hands) = Clock::manual();
        let store = MemoryStore::builder()
            .capacity(10)
            .clock(clock)
            .build()
            .expect("valid");
        store
            .0
            .set("key", Some(1), &SetOptions::ttl(Duration::from_secs(1)));
        hands.advance(Duration::from_secs(1));
        // The read has seen that the first entry is over; the write comes before it goes on.
        let met = store.0.clock.coarse();
        store.0.set("key", Some(2), &SetOptions::forever());
        store.0.forget_expired("key", met);
        assert_eq!(store.0.get("key").and_then(Entry::into_value), Some(2));
    }

    #[test]
    fn a_read_that_meets_an_expired_entry_drops_it() {
        let (clock, hands) = Clock::manual();
        let store = MemoryStore::builder()
            .capacity(10)
            .clock(clock)
            .build()
            .expect("valid");
        store
            .0
            .set("key", Some(1), &SetOptions::ttl(Duration::from_secs(1)));
        hands.advance(Duration::from_secs(1));
        assert!(store.0.get("key").is_none());
        assert!(store.is_empty());
    }
}
