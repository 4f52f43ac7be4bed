use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use crate::engine::Engine;
use crate::{
    BoxError, CacheKey, CacheStore, Key, Observer, ReadHints, ReadOptions, Reading, Result, Silent,
    TagStore, WarmUp,
};

/// Cache-aside: the caller brings the load to each read, and invalidates after each write.
///
/// Take it when what is to be loaded depends on the call: a borrowed connection, a request's rights.
/// Otherwise [`ReadThrough`](crate::ReadThrough) keeps the loader in one place.
///
/// * However many callers miss a key at once, one loads; the others get its result, or its error.
/// * A value that is invalidated during its load is returned at most to those who asked for it before, and not kept.
/// * When the store fails, or does not answer in time, reads go on without it, unless the cache [fails
///   closed](ReadOptions::fail_closed).
///
/// Clones share everything.
///
/// # In place
///
/// The load is polled in place, so it may borrow. When its caller goes away, one of those who wait
/// takes over with its own load. And it can't go on in the background: of those who find a stale value within
/// [`stale_for`](ReadOptions::stale_for), or draw an [early refresh](ReadOptions::early_refresh), one loads and waits for
/// it, and the others are served at once. [`get_or_load_owned`](Self::get_or_load_owned) has a background.
///
/// ```
/// use cache_core::{CacheAside, ReadOptions};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let names = CacheAside::new(MemoryStore::new(10_000), ReadOptions::ttl(Duration::from_secs(60)))?;
///
/// let load = || async { Ok::<_, io::Error>(Some("Ada".to_owned())) };
/// assert_eq!(names.get_or_load(&7, load).await?.as_deref(), Some("Ada"));
/// assert_eq!(names.get(&7).await?.as_deref(), Some("Ada")); // without a load
///
/// names.invalidate(&7).await?; // after the source has changed
/// assert_eq!(names.get(&7).await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct CacheAside<S: CacheStore, O = Silent> {
    pub(super) engine: Arc<Engine<S, O>>,
}

impl<S: CacheStore, O: Observer> CacheAside<S, O> {
    /// A cache in `store`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption), naming the option.
    pub fn new(store: S, options: ReadOptions<S::Value, O>) -> Result<Self> {
        Ok(Self { engine: Engine::new(store, options)? })
    }

    /// The value in the cache, if it has a fresh one. Nothing is loaded, and nothing stale is returned, because nobody
    /// would refresh it.
    ///
    /// # Errors
    ///
    /// The store's, if the cache fails closed.
    pub async fn get<K>(&self, key: &K) -> Result<Option<S::Value>>
    where
        K: CacheKey + Sync + ?Sized,
    {
        self.engine.get(&key.key()).await
    }

    /// The value under `key`, loaded if the cache has no fresh one; `None` if the source has none.
    ///
    /// Needs a tokio runtime with its time enabled, on a miss.
    ///
    /// # Errors
    ///
    /// The load's, for all that waited for it: [`ErrorKind::Load`](crate::ErrorKind::Load) with the closure's own error as
    /// the [cause](crate::Error::cause), `LoaderPanicked`, `LoadTimeout`, `WaitTimeout`, `RecursiveLoad`; `NoRuntime` for a miss
    /// outside of a runtime. The store's, if the cache fails closed.
    #[inline]
    pub fn get_or_load<'a, K, F, Fut, E>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, K, F, Fut, E, S, O>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        self.engine.get_or_load(key, load)
    }

    /// As [`get_or_load`](Self::get_or_load), with wishes of this one read, and tells whether the value is fresh, stale (since
    /// when, and why), or could not be kept.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_with<K, F, Fut, E>(
        &self,
        key: &K,
        hints: ReadHints,
        load: F,
    ) -> Result<Reading<S::Value>>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        self.engine.get_or_load_with(&key.key(), hints, load).await
    }

    /// As [`get_or_load`](Self::get_or_load), with a load that owns all it needs. It runs in a task of its own: it goes on when its
    /// caller goes away, refreshes go on in the background, and
    /// [`soft_timeout`](ReadOptions::soft_timeout) holds.
    ///
    /// ```
    /// use cache_core::{CacheAside, ReadOptions};
    /// use cache_memory::MemoryStore;
    /// use std::{io, time::Duration};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let second = Duration::from_secs(1);
    /// let options = ReadOptions::ttl(60 * second).stale_for(10 * second);
    /// let names = CacheAside::new(MemoryStore::new(10_000), options)?;
    /// let id = 7;
    /// let load = move || async move { Ok::<_, io::Error>(Some(format!("user {id}"))) };
    /// assert_eq!(names.get_or_load_owned(&id, load).await?.as_deref(), Some("user 7"));
    /// # Ok::<(), cache_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    #[inline]
    pub fn get_or_load_owned<'a, K, F, Fut, E>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, K, F, Fut, E, S, O>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.engine.get_or_load_owned(key, load)
    }

    /// The values under `keys`, in their order; a key may occur twice. `load` is asked once for all keys
    /// that the cache does not have and nobody else is loading, and answers with those that it finds.
    ///
    /// A key that is stale, or due for an early refresh, is loaded with the others, unless somebody else is refreshing it.
    ///
    /// (It is asked again, for single keys, if somebody else goes away during a load, or holds a lease
    /// on a key for too long.)
    ///
    /// # Errors
    ///
    /// Of each key its own, as [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_many<K, F, Fut, E>(
        &self,
        keys: &[K],
        load: F,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send,
        E: Into<BoxError>,
    {
        self.engine.get_or_load_many(keys, load).await
    }

    /// Loads those of `keys` that the cache does not have fresh, `at_a_time` of them together (at least one): before the
    /// traffic comes. Each load is one like any other, so readers share it, and what is invalidated meanwhile is not
    /// kept. `progress` is told after each key; failures are counted and not tried again.
    ///
    /// No requests are counted for it, only loads.
    ///
    /// # Cancellation
    ///
    /// The loads are polled in place, so they end; who waits for one of them loads by himself.
    ///
    /// ```
    /// use cache_core::{CacheAside, ReadOptions};
    /// use cache_memory::MemoryStore;
    /// use futures_util::stream;
    /// use std::{io, time::Duration};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let names = CacheAside::new(MemoryStore::new(10_000), ReadOptions::ttl(Duration::from_secs(60)))?;
    ///
    /// let load = |id: u64| async move { Ok::<_, io::Error>(Some(format!("user {id}"))) };
    /// let done = names.warm_up(stream::iter(0..100), 8, load, |_| {}).await;
    /// assert_eq!((done.loaded, done.failed), (100, 0));
    /// # Ok::<(), cache_core::Error>(()) }).unwrap();
    /// ```
    pub async fn warm_up<K, F, Fut, E>(
        &self,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        load: F,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Send + Sync,
        F: Fn(K) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        self.engine.warm_up_in_place(keys, at_a_time, load, progress).await
    }

    /// As [`warm_up`](Self::warm_up), with one question to the source for `at_a_time` keys (at least one), of which it is
    /// asked those that are not fresh and nobody else is loading. The next question comes when this one is answered; `progress` is
    /// told after each.
    ///
    /// # Cancellation
    ///
    /// As [`warm_up`](Self::warm_up).
    pub async fn warm_up_many<K, F, Fut, E>(
        &self,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        load: F,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Clone + Send + Sync,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send,
        E: Into<BoxError>,
    {
        self.engine.warm_up_many_in_place(keys, at_a_time, load, progress).await
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

impl<S: TagStore, O: Observer> CacheAside<S, O> {
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

impl<S: CacheStore, O> Clone for CacheAside<S, O> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<S: CacheStore, O> fmt::Debug for CacheAside<S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheAside").field("options", &self.engine.options).finish_non_exhaustive()
    }
}
