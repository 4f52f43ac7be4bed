use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use super::{ReadCache, ReadManyCache};
use crate::engine::Engine;
use crate::{
    BatchLoader, CacheKey, CacheStore, Key, Loader, Observer, ReadHints, ReadOptions, Reading,
    Result, Silent, TagStore, WarmUp,
};

/// Read-through: the cache has the loader, and readers only say the key.
///
/// * However many callers miss a key at once, one load is made; all get its result, or its error.
/// * The load runs in a task of its own: a caller that goes away does not stop it for the others.
/// * A value that is invalidated during its load is returned at most to those who asked for it before, and not kept.
/// * When the store fails, or does not answer in time, reads go on without it, unless the cache [fails
///   closed](ReadOptions::fail_closed).
///
/// Clones share everything.
///
/// ```
/// use cache_core::{ReadOptions, ReadThrough};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let load = |id: u64| async move { Ok::<_, io::Error>(Some(format!("user {id}"))) };
/// let options = ReadOptions::ttl(Duration::from_secs(60));
/// let users = ReadThrough::new(MemoryStore::new(10_000), load, options)?;
///
/// assert_eq!(users.get(&7).await?.as_deref(), Some("user 7"));
/// users.invalidate(&7).await?; // after the source has changed
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct ReadThrough<S: CacheStore, L, O = Silent> {
    pub(super) engine: Arc<Engine<S, O>>,
    loader: Arc<L>,
}

impl<S: CacheStore, L, O: Observer> ReadThrough<S, L, O> {
    /// A cache in `store` of what `loader` loads: a closure, or a type that implements [`Loader`] and
    /// perhaps [`BatchLoader`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption), naming the option.
    pub fn new(store: S, loader: L, options: ReadOptions<S::Value, O>) -> Result<Self> {
        Ok(Self { engine: Engine::new(store, options)?, loader: Arc::new(loader) })
    }

    /// The value under `key`, loaded if the cache has no fresh one; `None` if the source has none.
    ///
    /// Needs a tokio runtime with its time enabled, on a miss.
    ///
    /// # Errors
    ///
    /// The load's, for all that waited for it: [`ErrorKind::Load`](crate::ErrorKind::Load) with the loader's own error as
    /// the [cause](crate::Error::cause), `LoaderPanicked`, `LoadTimeout`, `WaitTimeout`, `RecursiveLoad`; `NoRuntime` for a miss
    /// outside of a runtime. The store's, if the cache fails closed.
    ///
    /// # Cancellation
    ///
    /// A load that has begun goes on, and its value is kept.
    #[inline]
    pub fn get<'a, Q>(
        &'a self,
        key: &'a Q,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, Q, S, L, O>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.engine.get_through(key, &self.loader)
    }

    /// As [`get`](Self::get), and tells whether the value is fresh, stale (since when, and why), or could not be kept.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_detailed<Q>(&self, key: &Q) -> Result<Reading<S::Value>>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.get_with(key, ReadHints::new()).await
    }

    /// As [`get_detailed`](Self::get_detailed), with wishes of this one read: how stale a value it takes.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_with<Q>(&self, key: &Q, hints: ReadHints) -> Result<Reading<S::Value>>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.engine.get_through_with(key, hints, &self.loader).await
    }

    /// The values under `keys`, in their order; a key may occur twice. The loader is asked once for all
    /// keys that the cache does not have and nobody else is loading.
    ///
    /// # Errors
    ///
    /// Of each key its own, as [`get`](Self::get).
    pub async fn get_many<K>(&self, keys: &[K]) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        self.engine.get_through_many(keys, &self.loader).await
    }

    /// Loads those of `keys` that the cache does not have fresh, `at_a_time` of them together (at least one): before the
    /// traffic comes. Each load is one like any other, so readers share it, and what is invalidated meanwhile is not
    /// kept. `progress` is told after each key; failures are counted and not tried again.
    ///
    /// No requests are counted for it, only loads.
    ///
    /// # Cancellation
    ///
    /// No more loads begin; those under way go on.
    ///
    /// ```
    /// use cache_core::{ReadOptions, ReadThrough};
    /// use cache_memory::MemoryStore;
    /// use futures_util::stream;
    /// use std::{io, time::Duration};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let load = |id: u64| async move { Ok::<_, io::Error>(Some(id * id)) };
    /// let options = ReadOptions::ttl(Duration::from_secs(60));
    /// let squares = ReadThrough::new(MemoryStore::new(1_000), load, options)?;
    ///
    /// let best_sellers = stream::iter(0..100_u64);
    /// let done = squares
    ///     .warm_up(best_sellers, 8, |so_far| println!("{} keys", so_far.keys()))
    ///     .await;
    /// assert_eq!((done.loaded, done.failed), (100, 0));
    /// # Ok::<(), cache_core::Error>(()) }).unwrap();
    /// ```
    pub async fn warm_up<K>(
        &self,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Send + Sync + 'static,
        L: Loader<K, Value = S::Value>,
    {
        self.engine.warm_up(keys, at_a_time, &self.loader, progress).await
    }

    /// As [`warm_up`](Self::warm_up), with one question to the source for `at_a_time` keys (at least one), of which it is
    /// asked those that are not fresh and nobody else is loading. The next question comes when this one is answered; `progress` is
    /// told after each.
    ///
    /// # Cancellation
    ///
    /// As [`warm_up`](Self::warm_up).
    ///
    /// ```
    /// use cache_core::{Batch, ReadOptions, ReadThrough};
    /// use cache_memory::MemoryStore;
    /// use futures_util::stream;
    /// use std::{io, time::Duration};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let load = Batch(|ids: Vec<u64>| async move {
    ///     Ok::<_, io::Error>(ids.into_iter().map(|id| (id, id * id)).collect())
    /// });
    /// let options = ReadOptions::ttl(Duration::from_secs(60));
    /// let squares = ReadThrough::new(MemoryStore::new(1_000), load, options)?;
    ///
    /// let best_sellers = stream::iter(0..100_u64);
    /// let done = squares.warm_up_many(best_sellers, 50, |_| {}).await; // two questions
    /// assert_eq!((done.loaded, done.failed), (100, 0));
    /// # Ok::<(), cache_core::Error>(()) }).unwrap();
    /// ```
    pub async fn warm_up_many<K>(
        &self,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        self.engine.warm_up_many(keys, at_a_time, &self.loader, progress).await
    }

    /// Puts a value, or that the source has none, into the cache, as if it had just been loaded. A load that is
    /// under way does not overwrite it.
    ///
    /// Two callers who change the source and then `put` may do the two in different orders, and leave the older
    /// value in the cache. [`invalidate`](Self::invalidate) has no such race.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::set`].
    pub async fn put<K>(&self, key: &K, value: Option<S::Value>) -> Result<()>
    where
        K: CacheKey + Sync + ?Sized,
    {
        self.engine.put(&key.key(), value).await
    }

    /// Removes the entry under `key`. Call it after the source has changed (and committed): no read that
    /// begins after it has returned gets anything older, whatever loads are under way. On a store that does not
    /// [fence](crate::Capabilities::fenced) it first waits for a fill of the key, up to `store_timeout`.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::remove`]. The old value may then still be read; it is for the caller to try
    /// again, or to fail.
    ///
    /// # Cancellation
    ///
    /// As an error: the entry may still be there.
    pub async fn invalidate<K>(&self, key: &K) -> Result<()>
    where
        K: CacheKey + Sync + ?Sized,
    {
        self.engine.invalidate(&key.key()).await
    }

    /// As [`invalidate`](Self::invalidate), for many keys.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::remove_many`].
    pub async fn invalidate_many<K>(&self, keys: &[K]) -> Result<()>
    where
        K: CacheKey + Sync,
    {
        let keys: Vec<Key<'_>> = keys.iter().map(CacheKey::key).collect();
        self.engine.invalidate_many(&keys).await
    }

    /// As [`invalidate`](Self::invalidate), for all keys whose spelling begins with `prefix`.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::remove_prefix`].
    pub async fn invalidate_prefix(&self, prefix: &str) -> Result<()> {
        self.engine.invalidate_prefix(prefix).await
    }

    /// As [`invalidate`](Self::invalidate), for everything in the store.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::clear`].
    pub async fn clear(&self) -> Result<()> {
        self.engine.clear().await
    }

    /// The store below. What is written there directly is not fenced against loads of this cache, unless the store
    /// [fences](crate::Capabilities::fenced) by itself.
    pub fn store(&self) -> &S {
        &self.engine.store
    }

    /// How many keys are being loaded right now.
    pub fn loading(&self) -> usize {
        self.engine.loading()
    }

    /// How many refreshes are under way in the background.
    pub fn refreshing(&self) -> usize {
        self.engine.refreshing()
    }

    /// Begins no refresh any more, and waits for what is under way in the background, up to `limit`; then refreshes are given
    /// up, and their leases with them. Returns how many loads were left: 0 if all had ended.
    ///
    /// Reads go on to work, stale ones too, without refreshes; a load that somebody waits for goes on as well.
    #[must_use = "it tells whether loads were left"]
    pub async fn shutdown(&self, limit: Duration) -> usize {
        self.engine.shutdown(limit).await
    }
}

impl<S: TagStore, L, O: Observer> ReadThrough<S, L, O> {
    /// Invalidates every entry that has this tag, in one step. A load of such an entry that is under way is not kept,
    /// and whoever comes after this call does not get its value.
    ///
    /// Entries of other caches whose stores share the [marks](crate::Marks) go as well.
    ///
    /// # Errors
    ///
    /// As [`TagStore::invalidate_tags`]. Entries of the tag may then still be read; it is for the caller to try
    /// again, or to fail.
    ///
    /// # Cancellation
    ///
    /// As an error.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<()> {
        self.engine.invalidate_tags(&[tag]).await
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), for entries that have any of these tags.
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag).
    pub async fn invalidate_tags(&self, tags: &[&str]) -> Result<()> {
        self.engine.invalidate_tags(tags).await
    }
}

impl<K, S, L, O> ReadCache<K> for ReadThrough<S, L, O>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    S: CacheStore,
    L: Loader<K, Value = S::Value>,
    O: Observer,
{
    type Value = S::Value;

    async fn get(&self, key: &K) -> Result<Option<S::Value>> {
        self.get::<K>(key.borrow()).await
    }

    async fn get_with(&self, key: &K, hints: ReadHints) -> Result<Reading<S::Value>> {
        self.get_with::<K>(key.borrow(), hints).await
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        self.invalidate(key).await
    }
}

impl<K, S, L, O> ReadManyCache<K> for ReadThrough<S, L, O>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    S: CacheStore,
    L: BatchLoader<K, Value = S::Value>,
    O: Observer,
{
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<S::Value>>> {
        self.get_many(keys).await
    }
}

impl<S: CacheStore, L, O> Clone for ReadThrough<S, L, O> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), loader: Arc::clone(&self.loader) }
    }
}

impl<S: CacheStore, L, O> fmt::Debug for ReadThrough<S, L, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough").field("options", &self.engine.options).finish_non_exhaustive()
    }
}
