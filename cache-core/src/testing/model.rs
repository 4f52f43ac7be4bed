use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Clock, Entry, Error, ErrorKind, Fill, Lease,
    Moment, NearTier, Result, SetOptions, Version,
};

/// The simplest store that keeps every promise: one map behind one lock.
///
/// It is for tests only: it is unbounded, and entries that are over stay in memory until they are
/// replaced or removed. Clones share the entries.
///
/// ```
/// use cache_core::testing::ModelStore;
/// use cache_core::{CacheStoreExt, Clock, Result};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (clock, hands) = Clock::manual();
/// let store = ModelStore::new(clock);
/// store.put("colour", "blue", Duration::from_secs(60)).await?;
/// assert_eq!(store.value("colour").await?, Some("blue"));
/// hands.advance(Duration::from_secs(60));
/// assert_eq!(store.value("colour").await?, None);
/// # Result::<()>::Ok(()) }).unwrap();
/// ```
pub struct ModelStore<V> {
    clock: Clock,
    state: Arc<Mutex<State<V>>>,
}

struct State<V> {
    slots: HashMap<String, Slot<V>>,
    /// How many writes and leases there have been; their versions and tokens.
    count: u64,
}

/// The entry and the lease of a key stand in one slot, so that whatever takes the one takes the other.
struct Slot<V> {
    stored: Option<Stored<V>>,
    /// Its token and its end.
    lease: Option<(u64, Moment)>,
}

struct Stored<V> {
    value: Option<V>,
    options: SetOptions,
    at: Moment,
    version: Version,
}

impl<V> ModelStore<V> {
    /// An empty store whose lifetimes go by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = State { slots: HashMap::new(), count: 0 };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> State<V> {
    fn entry(&self, key: &str, now: Moment) -> Option<Entry<V>> {
        let stored = self.slots.get(key)?.stored.as_ref()?;
        let entry = Entry::aged(stored.value.clone(), &stored.options, now.since(stored.at))?;
        Some(entry.with_version(stored.version))
    }

    fn store(&mut self, key: &str, value: Option<V>, options: SetOptions, at: Moment) {
        self.count += 1;
        let version = options.version().unwrap_or(Version::new(self.count));
        let stored = Some(Stored { value, options, at, version });
        self.slots.insert(key.to_owned(), Slot { stored, lease: None });
    }

    fn lease_end(&self, key: &str, now: Moment) -> Option<(u64, Moment)> {
        self.slots.get(key)?.lease.filter(|(_, end)| now < *end)
    }

    /// Ends a lease, and says whether it was still good.
    fn end(&mut self, lease: &Lease, now: Moment) -> bool {
        let good =
            self.lease_end(lease.key(), now).is_some_and(|(token, _)| token == lease.token());
        if good && let Some(slot) = self.slots.get_mut(lease.key()) {
            slot.lease = None;
        }
        good
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V: Clone + Send + Sync + 'static> CacheStore for ModelStore<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        Ok(self.state().entry(key, self.clock.now()))
    }

    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        Poll::Ready(self.state().entry(key, self.clock.now()))
    }

    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Entry::look_at(self.get_now(key), look)
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        options.check()?;
        self.state().store(key, value, options, self.clock.now());
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.state().slots.remove(key);
        Ok(())
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>> {
        let state = self.state();
        keys.iter().map(|key| Ok(state.entry(key, self.clock.now()))).collect()
    }

    async fn set_many(&self, entries: Vec<(&str, Option<V>, SetOptions)>) -> Vec<Result<()>> {
        let mut state = self.state();
        let results = entries.into_iter().map(|(key, value, options)| {
            options.check()?;
            state.store(key, value, options, self.clock.now());
            Ok(())
        });
        results.collect()
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        let mut state = self.state();
        for key in keys {
            state.slots.remove(*key);
        }
        Ok(())
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.state().slots.retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn remove_tagged(&self, _tags: &[&str]) -> Result<()> {
        Err(Error::with_cause(ErrorKind::Unsupported, "remove_tagged"))
    }

    async fn clear(&self) -> Result<()> {
        self.state().slots.clear();
        Ok(())
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<V>> {
        let now = self.clock.now();
        let mut state = self.state();
        let entry = state.entry(key, now);
        if let Some(entry) = entry
            && options.seen() != Some(entry.version())
        {
            return Ok(Claim::Found(entry));
        }
        if let Some((_, end)) = state.lease_end(key, now) {
            return Ok(Claim::Held { retry_in: end.since(now) });
        }
        state.count += 1;
        let token = state.count;
        let slot = state.slots.entry(key.to_owned()).or_insert(Slot { stored: None, lease: None });
        slot.lease = Some((token, now.plus(options.life())));
        Ok(Claim::Granted(Lease::new(key, token)))
    }

    async fn fill(&self, lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill> {
        let now = self.clock.now();
        let mut state = self.state();
        let good = state.end(&lease, now);
        options.check()?;
        if !good {
            return Ok(Fill::Refused);
        }
        state.store(lease.key(), value, options, now);
        Ok(Fill::Stored)
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        Ok(self.state().end(&lease, self.clock.now()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::LOCAL
    }

    // It keeps no copies.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

impl<V> Clone for ModelStore<V> {
    fn clone(&self) -> Self {
        Self { clock: self.clock.clone(), state: Arc::clone(&self.state) }
    }
}

impl<V> fmt::Debug for ModelStore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}
