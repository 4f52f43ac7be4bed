//! What is known beside the store: entries that are not to be trusted, and writes that are not in the source yet.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use smol_str::SmolStr;
use tokio::runtime::Handle;

use super::Engine;
use super::repair::Repair;
use crate::{CacheStore, Claim, ClaimOptions, Entry, Error, ErrorKind, Observer, Result};

/// So many keys are doubted at most.
const MOST: usize = 10_000;

/// Writes that a load must not miss: what it finds in the source is older.
pub(crate) trait Pending<V>: Send + Sync {
    /// The last write of the key, if it is not in the source yet.
    fn pending<'a>(&'a self, key: &'a str) -> PendingWrite<'a, V>;
}

pub(crate) type PendingWrite<'a, V> =
    Pin<Box<dyn Future<Output = Result<Option<Option<V>>>> + Send + 'a>>;

pub(super) struct Beside<V> {
    pub(super) doubts: Doubts,
    /// Where writes have run: they may be dropped elsewhere.
    runtime: OnceLock<Handle>,
    pending: OnceLock<Box<dyn Pending<V>>>,
}

/// The keys whose entries may be older than the source, because a removal has failed. Reads go past the store for
/// them, until a removal has succeeded.
#[derive(Default)]
pub(super) struct Doubts {
    list: Mutex<List>,
    /// How many there are: what each read looks at.
    count: AtomicUsize,
    clock: AtomicU64,
}

#[derive(Default)]
struct List {
    keys: HashMap<SmolStr, Doubt>,
    /// Whether somebody is about to remove them.
    in_repair: bool,
}

#[derive(Default)]
struct Doubt {
    /// When it came last.
    since: u64,
    /// When its removal failed last; 0 if it has not been tried.
    failed: u64,
}

impl<V> Default for Beside<V> {
    fn default() -> Self {
        Self { doubts: Doubts::default(), runtime: OnceLock::new(), pending: OnceLock::new() }
    }
}

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, key: &str) -> bool {
        self.count.load(Ordering::Acquire) != 0 && self.lists(key)
    }

    // Out of line, because every hit asks.
    #[cold]
    #[inline(never)]
    fn lists(&self, key: &str) -> bool {
        self.lock().keys.contains_key(key)
    }

    /// An error if there are too many.
    fn add(&self, key: &SmolStr) -> Result<()> {
        let keys = &mut self.lock().keys;
        if keys.len() >= MOST && !keys.contains_key(key) {
            return Err(Error::with_cause(
                ErrorKind::Unavailable,
                "the source is written, but the entry could not be removed",
            ));
        }
        keys.entry(key.clone()).or_default().since = self.tick();
        self.count.store(keys.len(), Ordering::Release);
        Ok(())
    }

    /// Trusts the key again, if it has not been doubted since.
    fn drop_until(&self, key: &str, since: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let keys = &mut self.lock().keys;
        if keys.get(key).is_some_and(|doubt| doubt.since <= since) {
            keys.remove(key);
        }
        self.count.store(keys.len(), Ordering::Release);
    }

    /// Whether there is something to repair, and nobody to do it. Whoever is told so does it.
    fn begin_repair(&self) -> bool {
        let mut list = self.lock();
        !list.keys.is_empty() && !std::mem::replace(&mut list.in_repair, true)
    }

    /// What is to be repaired: what has not been tried comes first, and what has failed last comes last.
    pub(super) fn to_repair(&self) -> Vec<SmolStr> {
        let mut keys: Vec<(u64, SmolStr)> =
            self.lock().keys.iter().map(|(key, doubt)| (doubt.failed, key.clone())).collect();
        keys.sort_unstable_by_key(|(failed, _)| *failed);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The removal of this key has failed again: the others come first.
    pub(super) fn put_back(&self, key: &str) {
        if let Some(doubt) = self.lock().keys.get_mut(key) {
            doubt.failed = self.tick();
        }
    }

    /// Whether nothing is left to repair. Whoever adds something after this begins a new repair.
    pub(super) fn end_repair(&self) -> bool {
        let mut list = self.lock();
        list.in_repair = !list.keys.is_empty();
        !list.in_repair
    }

    /// Nobody repairs any more, although something is left.
    pub(super) fn abandon_repair(&self) {
        self.lock().in_repair = false;
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What the store can tell at once, of a key that can be trusted.
    #[inline]
    pub(super) fn look_now(&self, key: &str) -> Poll<Option<Entry<S::Value>>> {
        if self.beside.doubts.holds(key) { Entry::not_now() } else { self.store.get_now(key) }
    }

    /// What the store has. An entry that is not to be trusted is as good as a store that failed.
    pub(super) async fn look(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.check_trust(key)?;
        self.within_limit(self.store.get(key)).await
    }

    /// Claims the key. An entry that is not to be trusted is no answer.
    pub(super) async fn claim_trusted(
        &self,
        key: &str,
        options: ClaimOptions,
    ) -> Result<Claim<S::Value>> {
        // Before it is asked: what is trusted again meanwhile may have been read before that.
        let trust = self.check_trust(key);
        let claim = self.within_limit(self.store.claim(key, options)).await?;
        if matches!(claim, Claim::Found(_)) {
            trust?;
        }
        Ok(claim)
    }

    /// What the store has of many keys, as [`look`](Self::look).
    pub(super) async fn look_many(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Result<Option<Entry<S::Value>>>>> {
        let doubts = self.doubted() != 0;
        let trusted = keys.iter().filter(|_| doubts).map(|key| self.check_trust(key));
        let trusted: Vec<Result<()>> = trusted.collect();
        let mut found = self.within_limit(async { Ok(self.store.get_many(keys).await) }).await?;
        for (found, trusted) in found.iter_mut().zip(trusted) {
            if let Err(error) = trusted {
                *found = Err(error);
            }
        }
        Ok(found)
    }

    fn check_trust(&self, key: &str) -> Result<()> {
        if self.beside.doubts.holds(key) {
            let cause = "the entry may be old: its removal has failed";
            return Err(Error::with_cause(ErrorKind::Unavailable, cause));
        }
        Ok(())
    }

    /// How many keys are not to be trusted.
    pub(crate) fn doubted(&self) -> usize {
        self.beside.doubts.count.load(Ordering::Relaxed)
    }

    /// A moment to which [`trust`](Self::trust) can refer.
    pub(super) fn moment(&self) -> u64 {
        self.beside.doubts.clock.load(Ordering::Relaxed)
    }

    /// The entry is good, or gone: what was doubted until then need not be any more.
    pub(super) fn trust(&self, key: &str, until: u64) {
        self.beside.doubts.drop_until(key, until);
    }

    /// A write begins, perhaps of a caller who drops it where there is no runtime.
    pub(super) fn remember_runtime(&self) {
        if self.beside.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            self.beside.runtime.get_or_init(|| runtime);
        }
    }

    /// Reads past the entry of this key from now on, and tries in the background to remove it.
    pub(crate) fn doubt(self: &Arc<Self>, key: &SmolStr) -> Result<()> {
        self.beside.doubts.add(key)?;
        let here = Handle::try_current().ok();
        if let Some(runtime) = here.or_else(|| self.beside.runtime.get().cloned())
            && self.beside.doubts.begin_repair()
        {
            runtime.spawn(Repair::new(self).run());
        }
        Ok(())
    }

    /// From now on, loads ask `pending` first.
    pub(crate) fn watch_pending(&self, pending: Box<dyn Pending<S::Value>>) -> Result<()> {
        let taken = "inner: it belongs to another WriteBehind already";
        let set = self.beside.pending.set(pending);
        set.map_err(|_| Error::with_cause(ErrorKind::InvalidOption, taken))
    }

    /// Loads, unless the last write of the key is not in the source yet: then that is what it has.
    pub(super) async fn load_unless_pending<Fut>(
        &self,
        key: &str,
        load: impl FnOnce() -> Fut,
    ) -> Result<Option<S::Value>>
    where
        Fut: Future<Output = Result<Option<S::Value>>>,
    {
        if let Some(pending) = self.beside.pending.get()
            && let Some(value) = pending.pending(key).await?
        {
            return Ok(value);
        }
        load().await
    }

    /// The values of the keys whose last write is not in the source yet; what is removed is `None`.
    pub(super) async fn pending_of<'a>(
        &self,
        keys: impl Iterator<Item = &'a SmolStr>,
    ) -> Result<HashMap<SmolStr, Option<S::Value>>> {
        let mut found = HashMap::new();
        if let Some(pending) = self.beside.pending.get() {
            for key in keys.collect::<HashSet<_>>() {
                if let Some(value) = pending.pending(key).await? {
                    found.insert(key.clone(), value);
                }
            }
        }
        Ok(found)
    }
}
