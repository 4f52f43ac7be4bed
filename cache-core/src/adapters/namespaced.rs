use std::cell::Cell;
use std::task::Poll;

use smol_str::{SmolStr, SmolStrBuilder};

use crate::key::escape;
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Fill, Lease, NearTier, Result, SetOptions,
};

thread_local! {
    /// Room for the key of a look-up. One that is inside another finds it empty.
    static SPELLED: Cell<String> = const { Cell::new(String::new()) };
}

/// Room for longer keys than this is given back.
const LONGEST_KEPT: usize = 1024;

/// Puts every key of a store inside a namespace: `namespace:key`.
///
/// Namespaces that stand side by side never meet, whatever their names and keys, because `:` and `%`
/// in a name are escaped as in [`Key::join`](crate::Key::join). Namespaces nest, and an outer one
/// holds what is in its inner ones: `shop` holds `product:42`, which is `42` in `shop`'s `product`.
///
/// `clear` clears the namespace only.
///
/// # Order
///
/// Anywhere. Around the store that all share, it is decided once.
///
/// ```
/// use cache_core::CacheStoreExt;
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new(10_000);
/// let prices = store.clone().namespaced("shop").namespaced("price");
/// prices.put("42", 99, Duration::from_secs(60)).await?;
/// assert_eq!(store.value("shop:price:42").await?, Some(99));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Namespaced<S> {
    inner: S,
    prefix: SmolStr,
}

impl<S> Namespaced<S> {
    /// Everything in `inner` that is inside `namespace`.
    #[must_use]
    pub fn new(inner: S, namespace: &str) -> Self {
        let mut prefix = SmolStrBuilder::new();
        escape(namespace, &mut prefix);
        prefix.push(':');
        Self { inner, prefix: prefix.finish() }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn full(&self, key: &str) -> SmolStr {
        let mut full = SmolStrBuilder::new();
        full.push_str(&self.prefix);
        full.push_str(key);
        full.finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: CacheStore> CacheStore for Namespaced<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.inner.get(&self.full(key)).await
    }

    fn get_now(&self, key: &str) -> Poll<Option<Entry<S::Value>>> {
        self.get_now_as(key, Entry::as_it_is)
    }

    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<S::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        // A hit in memory costs less than to allocate its key.
        let mut full = SPELLED.try_with(Cell::take).unwrap_or_default();
        full.clear();
        full.push_str(&self.prefix);
        full.push_str(key);
        let found = self.inner.get_now_as(&full, look);
        if full.capacity() <= LONGEST_KEPT {
            let _ = SPELLED.try_with(|spelled| spelled.set(full));
        }
        found
    }

    async fn set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        self.inner.set(&self.full(key), value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.inner.remove(&self.full(key)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        let full: Vec<_> = keys.iter().map(|key| self.full(key)).collect();
        let full: Vec<_> = full.iter().map(SmolStr::as_str).collect();
        self.inner.get_many(&full).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let full: Vec<_> = entries.iter().map(|(key, ..)| self.full(key)).collect();
        let entries = full.iter().zip(entries);
        let entries = entries.map(|(key, (_, value, options))| (key.as_str(), value, options));
        self.inner.set_many(entries.collect()).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        let full: Vec<_> = keys.iter().map(|key| self.full(key)).collect();
        let full: Vec<_> = full.iter().map(SmolStr::as_str).collect();
        self.inner.remove_many(&full).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.remove_prefix(&self.full(prefix)).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.inner.remove_tagged(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.inner.remove_prefix(&self.prefix).await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        self.inner.claim(&self.full(key), options).await
    }

    // A lease carries the key as the inner store spells it.
    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.inner.fill(lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.inner.release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near.within(&self.prefix));
    }
}
