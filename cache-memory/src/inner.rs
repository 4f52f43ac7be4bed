use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::{Claim, ClaimOptions, Clock, Entry, Fill, Lease, Moment, SetOptions};
use smol_str::SmolStr;

use crate::EvictionCause;
use crate::builder::Weigher;
use crate::engine::{Displaced, Engine};
use crate::eviction::Evictions;
use crate::leases::Leases;
use crate::slot::Slot;

/// How soon who waits for somebody else's load in this process should ask again, at the latest.
const RETRY_IN: Duration = Duration::from_millis(10);

/// A store below its handles: every operation in one synchronous step.
pub(crate) struct Inner<V, E> {
    pub(crate) engine: E,
    clock: Clock,
    leases: Leases,
    versions: AtomicU64,
    pub(crate) capacity: u64,
    weigher: Option<Box<Weigher<V>>>,
    evictions: Option<Arc<Evictions<V>>>,
}

impl<V: Clone + Send + Sync + 'static, E: Engine<V>> Inner<V, E> {
    pub(crate) fn new(
        engine: E,
        clock: Clock,
        capacity: u64,
        weigher: Option<Box<Weigher<V>>>,
        evictions: Option<Arc<Evictions<V>>>,
    ) -> Self {
        let (leases, versions) = (Leases::new(), AtomicU64::new(1));
        Self { engine, clock, leases, versions, capacity, weigher, evictions }
    }

    /// The entry as it was at the last tick of the clock.
    #[inline(always)]
    pub(crate) fn get_coarsely<T, Look>(&self, key: &str, look: Look) -> Poll<Option<Entry<T>>>
    where
        Look: FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    {
        self.seen(key, self.engine.get::<Look>(key), || self.clock.coarse(), look)
    }

    /// The entry with what is left of its lifetime to the nanosecond, for those who copy it.
    pub(crate) fn get_exactly(&self, key: &str) -> Option<Entry<V>> {
        match self.seen(key, self.engine.get_apart(key), || self.clock.now(), Entry::as_it_is) {
            Poll::Ready(entry) => entry,
            Poll::Pending => None,
        }
    }

    #[inline(always)]
    fn seen<T>(
        &self,
        key: &str,
        slot: Option<Slot<V>>,
        now: impl FnOnce() -> Moment,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        if E::READS_EVICT {
            self.deliver();
        }
        let Some(Slot { value, life }) = slot else {
            return Poll::Ready(None);
        };
        // Not before the look-up, or an entry that was written in between would have too long to live.
        let now = now();
        if !life.is_usable(now) {
            self.forget_expired(key, now);
            return Poll::Ready(None);
        }
        life.looked_at(value, now, look)
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

    pub(crate) fn set(&self, key: &str, value: Option<V>, options: &SetOptions) {
        let slot = self.slot(key, value, options);
        let version = slot.life.version;
        let mut marks = self.leases.lock(key);
        marks.revoke(key);
        let displaced = self.engine.insert(SmolStr::new(key), slot);
        drop(marks);
        self.settle(key, version, displaced);
    }

    pub(crate) fn remove(&self, key: &str) {
        let mut marks = self.leases.lock(key);
        marks.revoke(key);
        let removed = self.engine.remove(key);
        drop(marks);
        drop(removed);
        self.deliver();
    }

    pub(crate) fn remove_prefix(&self, prefix: &str) {
        // Marks first, then entries: a fill in between would put an old value behind the visit.
        // Every stripe is held throughout, so nobody adds to the map while it is visited, and for
        // writers it is one step: what was written before is gone, what is written after stays.
        let mut stripes = self.leases.lock_all();
        stripes.iter_mut().for_each(|marks| marks.revoke_prefix(prefix));
        let keys = self.engine.keys(&|key, _| key.starts_with(prefix));
        let removed: Vec<_> = keys.iter().map(|key| self.engine.remove(key)).collect();
        drop(stripes);
        drop(removed);
        self.deliver();
    }

    pub(crate) fn claim(&self, key: &str, options: ClaimOptions) -> Claim<V> {
        let now = self.clock.now();
        let mut marks = self.leases.lock(key);
        let entry = self.engine.peek(key).and_then(|slot| slot.seen(now));
        let claim = match entry {
            Some(entry) if options.seen() != Some(entry.version()) => Claim::Found(entry),
            _ => {
                let token = next_token();
                match marks.grant(key, token, options.life(), now) {
                    Ok(()) => Claim::Granted(Lease::new(key, token)),
                    Err(left) => Claim::Held { retry_in: left.min(RETRY_IN) },
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
    pub(crate) fn fill(&self, lease: &Lease, value: Option<V>, options: &SetOptions) -> Fill {
        let key = lease.key();
        let slot = self.slot(key, value, options);
        let version = slot.life.version;
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

    pub(crate) fn release(&self, lease: &Lease) -> bool {
        let mut marks = self.leases.lock(lease.key());
        marks.redeem(lease.key(), lease.token(), self.clock.now())
    }

    pub(crate) fn purge_expired(&self) {
        self.engine.settle();
        let now = self.clock.now();
        for key in self.engine.keys(&|_, slot| !slot.life.is_usable(now)) {
            let marks = self.leases.lock(&key);
            let expired = self.take_expired(&key, now);
            drop(marks);
            self.report(key, expired);
        }
        self.leases.sweep(now);
        self.engine.settle();
        self.deliver();
    }

    fn slot(&self, key: &str, value: Option<V>, options: &SetOptions) -> Slot<V> {
        // Nothing weighs nothing: an engine would keep weightless entries without bound.
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(key, value.as_ref()));
        let weight = u32::try_from(weight.max(1)).unwrap_or(u32::MAX);
        let version = match options.version() {
            Some(version) => version.get(),
            None => self.versions.fetch_add(1, Ordering::Relaxed),
        };
        Slot::new(value, options, self.clock.now(), version, weight)
    }

    /// The slot under `key`, taken out, if it has expired. To be called under the key's lock.
    fn take_expired(&self, key: &str, now: Moment) -> Option<Slot<V>> {
        self.engine.peek(key).filter(|slot| !slot.life.is_usable(now))?;
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
                if displaced != key || slot.life.version == version {
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

#[cfg(all(test, feature = "quick-cache"))]
mod tests {
    use super::*;
    use crate::engine::{Bounds, Quick};

    fn inner(clock: Clock) -> Inner<u64, Quick<u64>> {
        let bounds = Bounds { capacity: 10, weighted: false };
        let engine = Quick::open(&bounds, Default::default(), None).expect("valid bounds");
        Inner::new(engine, clock, bounds.capacity, None, None)
    }

    #[test]
    fn an_entry_written_after_a_read_met_the_expired_one_stays() {
        let (clock, hands) = Clock::manual();
        let inner = inner(clock);
        inner.set("key", Some(1), &SetOptions::ttl(Duration::from_secs(1)));
        hands.advance(Duration::from_secs(1));
        // The read has seen that the first entry is over; the write comes before it goes on.
        let met = inner.clock.coarse();
        inner.set("key", Some(2), &SetOptions::forever());
        inner.forget_expired("key", met);
        assert_eq!(inner.get_exactly("key").and_then(Entry::into_value), Some(2));
    }

    #[test]
    fn a_read_that_meets_an_expired_entry_drops_it() {
        let (clock, hands) = Clock::manual();
        let inner = inner(clock);
        inner.set("key", Some(1), &SetOptions::ttl(Duration::from_secs(1)));
        hands.advance(Duration::from_secs(1));
        assert!(inner.get_exactly("key").is_none());
        assert_eq!(inner.engine.len(), 0);
    }
}
