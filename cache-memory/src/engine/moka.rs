use std::sync::Arc;
use std::time::Duration;

use ::moka::notification::RemovalCause;
use ::moka::policy;
use ::moka::sync::Cache;
use cache_core::{Error, ErrorKind, Result};
use smol_str::SmolStr;

use super::{Bounds, Displaced, Engine};
use crate::EvictionCause;
use crate::eviction::Evictions;
use crate::hash::KeyHash;
use crate::slot::Slot;

/// The engine panics for longer times, so these are taken as never.
const LONGEST_IDLE: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);

/// Which entry of a [`MokaStore`](crate::MokaStore) has to make room.
///
/// ```
/// use cache_memory::{EvictionPolicy, MokaStore};
///
/// let newest = MokaStore::<u64>::builder().capacity(100).policy(EvictionPolicy::Lru).build()?;
/// # Ok::<_, cache_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// The least recently used one, unless it is used more often than the newcomer: then the
    /// newcomer is not taken in. Scans do not empty the store.
    #[default]
    TinyLfu,
    /// The least recently used one. Right where what was used last is what will be used next.
    Lru,
}

pub struct Moka<V> {
    cache: Cache<SmolStr, Slot<V>, KeyHash>,
    capacity: u64,
}

#[derive(Default)]
pub struct Options {
    pub(crate) policy: EvictionPolicy,
    pub(crate) idle: Option<Duration>,
}

impl<V: Clone + Send + Sync + 'static> Engine<V> for Moka<V> {
    type Options = Options;

    const READS_EVICT: bool = true;

    fn open(
        bounds: &Bounds,
        options: Options,
        evictions: Option<&Arc<Evictions<V>>>,
    ) -> Result<Self> {
        let mut builder = Cache::builder()
            .max_capacity(bounds.capacity)
            .weigher(|_, slot: &Slot<V>| slot.life.weight)
            .eviction_policy(match options.policy {
                EvictionPolicy::TinyLfu => policy::EvictionPolicy::tiny_lfu(),
                EvictionPolicy::Lru => policy::EvictionPolicy::lru(),
            });
        if options.idle.is_some_and(|idle| idle.is_zero()) {
            return Err(Error::with_cause(ErrorKind::InvalidOption, "idle: must not be zero"));
        }
        if let Some(idle) = options.idle.filter(|idle| *idle < LONGEST_IDLE) {
            builder = builder.time_to_idle(idle);
        }
        if let Some(evictions) = evictions {
            let evictions = Arc::clone(evictions);
            builder = builder.eviction_listener(move |key: Arc<SmolStr>, slot: Slot<V>, cause| {
                let cause = match cause {
                    RemovalCause::Size => EvictionCause::Capacity,
                    // The engine knows no other expiry.
                    RemovalCause::Expired => EvictionCause::Idle,
                    RemovalCause::Explicit | RemovalCause::Replaced => return,
                };
                evictions.push(SmolStr::clone(&key), slot.value, cause);
            });
        }
        let cache = builder.build_with_hasher(KeyHash::default());
        Ok(Self { cache, capacity: bounds.capacity })
    }

    #[inline]
    fn get<Caller>(&self, key: &str) -> Option<Slot<V>> {
        self.cache.get(key)
    }

    fn get_apart(&self, key: &str) -> Option<Slot<V>> {
        self.cache.get(key)
    }

    // The engine counts every look.
    fn peek(&self, key: &str) -> Option<Slot<V>> {
        self.cache.get(key)
    }

    fn insert(&self, key: SmolStr, slot: Slot<V>) -> Displaced<V> {
        let mut displaced = Displaced::default();
        if u64::from(slot.life.weight) > self.capacity {
            // The engine would show it until its next maintenance.
            self.cache.invalidate(key.as_str());
            displaced.push(key, slot);
        } else {
            self.cache.insert(key, slot);
        }
        displaced
    }

    fn remove(&self, key: &str) -> Option<Slot<V>> {
        self.cache.remove(key)
    }

    fn keys(&self, wanted: &dyn Fn(&str, &Slot<V>) -> bool) -> Vec<SmolStr> {
        let wanted = |(key, slot): (Arc<SmolStr>, Slot<V>)| {
            wanted(&key, &slot).then(|| SmolStr::clone(&key))
        };
        self.cache.iter().filter_map(wanted).collect()
    }

    fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    fn weight(&self) -> u64 {
        self.cache.weighted_size()
    }

    fn settle(&self) {
        self.cache.run_pending_tasks();
    }
}
