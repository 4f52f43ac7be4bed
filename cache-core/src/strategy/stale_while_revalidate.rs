use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::Stream;

use super::{ReadCache, ReadManyCache, ReadThrough};
use crate::{
    BatchLoader, CacheKey, CacheStore, Error, ErrorKind, Loader, Observer, ReadHints, ReadOptions,
    Reading, Result, Silent, TagStore, WarmUp,
};

/// Stale-while-revalidate: read-through whose readers do not wait for a refresh.
///
/// A value is fresh for [`ttl`](ReadOptions::ttl). For [`stale_for`](ReadOptions::stale_for) after that it is returned at once,
/// and one reader in all processes that share the store brings about a refresh in the background. After that
/// nobody sees it, unless the load fails within [`stale_if_error`](ReadOptions::stale_if_error). These are the two
/// windows of [RFC 5861](https://www.rfc-editor.org/rfc/rfc5861); both begin where freshness ends.
///
/// * A refresh that fails leaves the stale value where it is, and is tried again after
///   [`retry_after`](ReadOptions::retry_after).
/// * A value that the source has no more goes, or becomes a [negative entry](ReadOptions::negative_ttl).
/// * What is invalidated is not served stale, and a refresh under way does not bring it back.
///
/// It is a [`ReadThrough`] that insists on `stale_for`: every reading strategy takes these options.
/// Clones share everything.
///
/// ```
/// use cache_core::{Clock, Freshness, ReadOptions, StaleWhileRevalidate};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let second = Duration::from_secs(1);
/// let (clock, hands) = Clock::manual();
/// let store = MemoryStore::builder().capacity(100).clock(clock).build()?;
/// let load = |id: u64| async move { Ok::<_, io::Error>(Some(format!("rate {id}"))) };
/// let options = ReadOptions::ttl(60 * second).stale_for(30 * second).stale_if_error(600 * second);
/// let rates = StaleWhileRevalidate::new(store, load, options)?;
///
/// rates.get(&7).await?; // loaded
/// hands.advance(70 * second);
/// let reading = rates.get_detailed(&7).await?; // at once, and refreshed
/// assert!(matches!(reading.freshness, Freshness::Stale { age, .. } if age == 10 * second));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct StaleWhileRevalidate<S: CacheStore, L, O = Silent> {
    pub(super) inner: ReadThrough<S, L, O>,
}

impl<S: CacheStore, L, O: Observer> StaleWhileRevalidate<S, L, O> {
    /// A cache in `store` of what `loader` loads, whose options have [`stale_for`](ReadOptions::stale_for).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option.
    pub fn new(store: S, loader: L, options: ReadOptions<S::Value, O>) -> Result<Self> {
        if options.freshness.stale_for.is_zero() {
            let missing = "stale_for: StaleWhileRevalidate needs it";
            return Err(Error::with_cause(ErrorKind::InvalidOption, missing));
        }
        Ok(Self { inner: ReadThrough::new(store, loader, options)? })
    }

    /// As [`ReadThrough::get`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn get<'a, Q>(
        &'a self,
        key: &'a Q,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, Q, S, L, O>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.inner.get(key)
    }

    /// As [`ReadThrough::get_detailed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn get_detailed<Q>(&self, key: &Q) -> Result<Reading<S::Value>>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.inner.get_detailed(key).await
    }

    /// As [`ReadThrough::get_with`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn get_with<Q>(&self, key: &Q, hints: ReadHints) -> Result<Reading<S::Value>>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        self.inner.get_with(key, hints).await
    }

    /// As [`ReadThrough::get_many`]. The loader is asked once more, in the background, for all keys that are stale.
    ///
    /// # Errors
    ///
    /// Of each key its own, as there.
    pub async fn get_many<K>(&self, keys: &[K]) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        self.inner.get_many(keys).await
    }

    /// As [`ReadThrough::warm_up`].
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
        self.inner.warm_up(keys, at_a_time, progress).await
    }

    /// As [`ReadThrough::warm_up_many`].
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
        self.inner.warm_up_many(keys, at_a_time, progress).await
    }

    /// As [`ReadThrough::put`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn put<K>(&self, key: &K, value: Option<S::Value>) -> Result<()>
    where
        K: CacheKey + Sync + ?Sized,
    {
        self.inner.put(key, value).await
    }

    /// As [`ReadThrough::invalidate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn invalidate<K>(&self, key: &K) -> Result<()>
    where
        K: CacheKey + Sync + ?Sized,
    {
        self.inner.invalidate(key).await
    }

    /// As [`ReadThrough::invalidate_many`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn invalidate_many<K>(&self, keys: &[K]) -> Result<()>
    where
        K: CacheKey + Sync,
    {
        self.inner.invalidate_many(keys).await
    }

    /// As [`ReadThrough::invalidate_prefix`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn invalidate_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.invalidate_prefix(prefix).await
    }

    /// As [`ReadThrough::clear`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }

    /// As [`ReadThrough::store`].
    pub fn store(&self) -> &S {
        self.inner.store()
    }

    /// How many keys are being loaded right now, refreshes included.
    pub fn loading(&self) -> usize {
        self.inner.loading()
    }

    /// As [`ReadThrough::refreshing`].
    pub fn refreshing(&self) -> usize {
        self.inner.refreshing()
    }

    /// As [`ReadThrough::shutdown`].
    #[must_use = "it tells whether loads were left"]
    pub async fn shutdown(&self, limit: Duration) -> usize {
        self.inner.shutdown(limit).await
    }
}

impl<S: TagStore, L, O: Observer> StaleWhileRevalidate<S, L, O> {
    /// As [`ReadThrough::invalidate_tag`]. An entry that is invalid by its tag is not served stale either.
    ///
    /// # Errors
    ///
    /// As [`TagStore::invalidate_tags`].
    pub async fn invalidate_tag(&self, tag: &str) -> Result<()> {
        self.inner.invalidate_tag(tag).await
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), for entries that have any of these tags.
    ///
    /// # Errors
    ///
    /// As [`TagStore::invalidate_tags`].
    pub async fn invalidate_tags(&self, tags: &[&str]) -> Result<()> {
        self.inner.invalidate_tags(tags).await
    }
}

impl<K, S, L, O> ReadCache<K> for StaleWhileRevalidate<S, L, O>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    S: CacheStore,
    L: Loader<K, Value = S::Value>,
    O: Observer,
{
    type Value = S::Value;

    async fn get(&self, key: &K) -> Result<Option<S::Value>> {
        self.inner.get::<K>(key.borrow()).await
    }

    async fn get_with(&self, key: &K, hints: ReadHints) -> Result<Reading<S::Value>> {
        self.inner.get_with::<K>(key.borrow(), hints).await
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        self.inner.invalidate(key).await
    }
}

impl<K, S, L, O> ReadManyCache<K> for StaleWhileRevalidate<S, L, O>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    S: CacheStore,
    L: BatchLoader<K, Value = S::Value>,
    O: Observer,
{
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<S::Value>>> {
        self.inner.get_many(keys).await
    }
}

impl<S: CacheStore, L, O> Clone for StaleWhileRevalidate<S, L, O> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S: CacheStore, L, O> fmt::Debug for StaleWhileRevalidate<S, L, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleWhileRevalidate").field("inner", &self.inner).finish()
    }
}
