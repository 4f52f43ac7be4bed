use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Fill, Lease, NearTier, Result, SetOptions,
};

/// The twin of [`CacheStore`] that can be a `dyn`. Every store is one; [`SharedStore`] is made of it.
///
/// Each call costs a dynamic dispatch, and an allocation unless it is `dyn_get_now`.
///
/// ```
/// use cache_core::{DynCacheStore, SetOptions};
/// use cache_memory::MemoryStore;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store: Box<dyn DynCacheStore<u32>> = Box::new(MemoryStore::new(100));
/// store.dyn_set("answer", Some(42), SetOptions::forever()).await?;
/// assert_eq!(store.dyn_get("answer").await?.unwrap().into_value(), Some(42));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait DynCacheStore<V>: Send + Sync + 'static {
    /// As [`CacheStore::get`].
    async fn dyn_get(&self, key: &str) -> Result<Option<Entry<V>>>;
    /// As [`CacheStore::get_now`].
    fn dyn_get_now(&self, key: &str) -> Poll<Option<Entry<V>>>;
    /// As [`CacheStore::set`].
    async fn dyn_set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()>;
    /// As [`CacheStore::remove`].
    async fn dyn_remove(&self, key: &str) -> Result<()>;
    /// As [`CacheStore::get_many`].
    async fn dyn_get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>>;
    /// As [`CacheStore::set_many`].
    async fn dyn_set_many(&self, entries: Vec<(&str, Option<V>, SetOptions)>) -> Vec<Result<()>>;
    /// As [`CacheStore::remove_many`].
    async fn dyn_remove_many(&self, keys: &[&str]) -> Result<()>;
    /// As [`CacheStore::remove_prefix`].
    async fn dyn_remove_prefix(&self, prefix: &str) -> Result<()>;
    /// As [`CacheStore::remove_tagged`].
    async fn dyn_remove_tagged(&self, tags: &[&str]) -> Result<()>;
    /// As [`CacheStore::clear`].
    async fn dyn_clear(&self) -> Result<()>;
    /// As [`CacheStore::claim`].
    async fn dyn_claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<V>>;
    /// As [`CacheStore::fill`].
    async fn dyn_fill(&self, lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill>;
    /// As [`CacheStore::release`].
    async fn dyn_release(&self, lease: Lease) -> Result<bool>;
    /// As [`CacheStore::capabilities`].
    fn dyn_capabilities(&self) -> Capabilities;
    /// As [`CacheStore::attach_near`].
    fn dyn_attach_near(&self, near: NearTier);
}

#[async_trait]
impl<S: CacheStore> DynCacheStore<S::Value> for S {
    async fn dyn_get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.get(key).await
    }

    fn dyn_get_now(&self, key: &str) -> Poll<Option<Entry<S::Value>>> {
        self.get_now(key)
    }

    async fn dyn_set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        self.set(key, value, options).await
    }

    async fn dyn_remove(&self, key: &str) -> Result<()> {
        self.remove(key).await
    }

    async fn dyn_get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        self.get_many(keys).await
    }

    async fn dyn_set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        self.set_many(entries).await
    }

    async fn dyn_remove_many(&self, keys: &[&str]) -> Result<()> {
        self.remove_many(keys).await
    }

    async fn dyn_remove_prefix(&self, prefix: &str) -> Result<()> {
        self.remove_prefix(prefix).await
    }

    async fn dyn_remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.remove_tagged(tags).await
    }

    async fn dyn_clear(&self) -> Result<()> {
        self.clear().await
    }

    async fn dyn_claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        self.claim(key, options).await
    }

    async fn dyn_fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.fill(lease, value, options).await
    }

    async fn dyn_release(&self, lease: Lease) -> Result<bool> {
        self.release(lease).await
    }

    fn dyn_capabilities(&self) -> Capabilities {
        self.capabilities()
    }

    fn dyn_attach_near(&self, near: NearTier) {
        self.attach_near(near);
    }
}

/// A store whose type tells only what it holds: for choosing the store at run time, and for keeping
/// type parameters out of application code.
///
/// It is a store itself, so it goes wherever a store goes. Make it once, at the edge.
///
/// ```
/// use cache_core::{CacheStoreExt, SharedStore};
/// use cache_memory::MemoryStore;
///
/// struct App {
///     prices: SharedStore<u32>,
/// }
///
/// let app = App { prices: MemoryStore::new(10_000).shared() };
/// ```
pub struct SharedStore<V>(Arc<dyn DynCacheStore<V>>);

impl<V> SharedStore<V> {
    /// Hides the type of `store`.
    pub fn new(store: impl CacheStore<Value = V>) -> Self
    where
        V: Clone + Send + Sync + 'static,
    {
        Self(Arc::new(store))
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V: Clone + Send + Sync + 'static> CacheStore for SharedStore<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        self.0.dyn_get(key).await
    }

    #[inline]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        self.0.dyn_get_now(key)
    }

    #[inline]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Entry::look_at(self.0.dyn_get_now(key), look)
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        self.0.dyn_set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.0.dyn_remove(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>> {
        self.0.dyn_get_many(keys).await
    }

    async fn set_many(&self, entries: Vec<(&str, Option<V>, SetOptions)>) -> Vec<Result<()>> {
        self.0.dyn_set_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.0.dyn_remove_many(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.0.dyn_remove_prefix(prefix).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.0.dyn_remove_tagged(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.dyn_clear().await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<V>> {
        self.0.dyn_claim(key, options).await
    }

    async fn fill(&self, lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill> {
        self.0.dyn_fill(lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.0.dyn_release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.dyn_capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.0.dyn_attach_near(near);
    }
}

impl<V> Clone for SharedStore<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for SharedStore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").finish_non_exhaustive()
    }
}
