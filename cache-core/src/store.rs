use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::{
    Claim, ClaimOptions, Encoded, Entry, Error, ErrorKind, Fill, Lease, Marked, Namespaced,
    NearTier, Result, SetOptions, SharedStore, Tagged,
};

/// Holds entries of one type of value under string keys.
///
/// # Implementing it
///
/// Three methods are required; [`Entry::aged`] does the arithmetic of lifetimes. The others have
/// defaults that are right but slow (bulk), unfenced (leases) or an error (prefix removal), and
/// [`capabilities`](Self::capabilities) says which of them are more than that. The kit in
/// `cache_core::testing` (feature `testing`) has a named test for every promise made here.
///
/// A **wrapper** must forward every method, or it silently loses what the inner store can do;
/// `#[deny(clippy::missing_trait_methods)]` on its impl proves that it does.
///
/// # Promises
///
/// - `get` returns what the last finished `set` of that key stored, or nothing: a store may forget.
/// - `set` replaces value *and* lifetime, atomically.
/// - A [negative entry](Entry) is told from no entry.
/// - An entry is never returned once its usable lifetime is over, and a zero lifetime is refused.
/// - After `remove`, `remove_prefix`, `remove_tagged` or `clear` has returned, nothing older comes back,
///   neither from a `get` nor through a lease that was granted before.
/// - A future that is dropped leaves the store consistent, the operation done or not done.
///
/// ```
/// use cache_core::{CacheStore, CacheStoreExt, Entry, Result, SetOptions};
/// use std::{collections::HashMap, sync::Mutex, time::Instant};
///
/// #[derive(Default)]
/// struct Map(Mutex<HashMap<String, (Option<u32>, SetOptions, Instant)>>);
///
/// impl CacheStore for Map {
///     type Value = u32;
///
///     async fn get(&self, key: &str) -> Result<Option<Entry<u32>>> {
///         let map = self.0.lock().unwrap();
///         Ok(map.get(key).and_then(|(value, options, at)| Entry::aged(*value, options, at.elapsed())))
///     }
///
///     async fn set(&self, key: &str, value: Option<u32>, options: SetOptions) -> Result<()> {
///         options.check()?;
///         self.0.lock().unwrap().insert(key.to_owned(), (value, options, Instant::now()));
///         Ok(())
///     }
///
///     async fn remove(&self, key: &str) -> Result<()> {
///         self.0.lock().unwrap().remove(key);
///         Ok(())
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = Map::default();
/// store.set("answer", Some(42), SetOptions::forever()).await?;
/// assert_eq!(store.value("answer").await?, Some(42));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cache store",
    note = "a store of bytes becomes a store of values with `Encoded::new(store, codec)`",
    note = "a `dyn` store goes through `SharedStore`"
)]
pub trait CacheStore: Send + Sync + 'static {
    /// What the store holds. It is cloned on every hit: use an `Arc` for what is costly to clone.
    type Value: Clone + Send + Sync + 'static;

    /// The entry under `key`, fresh or stale, if there is one that is still usable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the store does not answer in time. An entry that can't be read
    /// (damaged, foreign, or written by a newer version) is a miss, not an error.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry<Self::Value>>>> + Send;

    /// Stores a value, or that there is none, in place of whatever was there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for a zero lifetime, [`ErrorKind::TooLarge`],
    /// [`ErrorKind::Codec`], [`ErrorKind::Unavailable`] (then the write may have happened or not).
    fn set(
        &self,
        key: &str,
        value: Option<Self::Value>,
        options: SetOptions,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes an entry, and with it any lease on the key. It need not be there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] (then the removal may have happened or not).
    fn remove(&self, key: &str) -> impl Future<Output = Result<()>> + Send;

    /// What [`get`](Self::get) would answer, from a store that can tell without waiting;
    /// [`Poll::Pending`] from one that can't.
    ///
    /// A hit then costs no future. A store in this process overrides it, and so does a wrapper of one.
    /// It may read a [coarse clock](crate::Clock), so lifetimes may be off by a tick; ask `get` for an
    /// entry that is to be copied elsewhere.
    #[inline]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<Self::Value>>> {
        let _ = key;
        Poll::Pending
    }

    /// What [`get_now`](Self::get_now) would answer, with what `look` makes of the value in place of it. `look` is given the
    /// value, or none of a negative entry, and returns the same; or that there is no entry, or that it can't be told.
    ///
    /// A store whose look-up is short overrides it, and so does a wrapper that looks at what it hands on: the look-up and
    /// the looks are compiled as one then, and a hit moves no entry from one to the next.
    #[inline]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<Self::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Entry::look_at(self.get_now(key), look)
    }

    /// The entries under `keys`, in their order; a key may occur twice. One that can't be read
    /// spoils only itself.
    fn get_many(
        &self,
        keys: &[&str],
    ) -> impl Future<Output = Vec<Result<Option<Entry<Self::Value>>>>> + Send {
        async move {
            let mut entries = Vec::with_capacity(keys.len());
            for key in keys {
                entries.push(self.get(key).await);
            }
            entries
        }
    }

    /// Stores many values; of a key that occurs twice, the last one. The results are in the order of
    /// the entries.
    fn set_many(
        &self,
        entries: Vec<(&str, Option<Self::Value>, SetOptions)>,
    ) -> impl Future<Output = Vec<Result<()>>> + Send {
        async move {
            let mut results = Vec::with_capacity(entries.len());
            for (key, value, options) in entries {
                results.push(self.set(key, value, options).await);
            }
            results
        }
    }

    /// Removes many entries. All are tried, also after an error.
    ///
    /// # Errors
    ///
    /// The first of them, as [`remove`](Self::remove).
    fn remove_many(&self, keys: &[&str]) -> impl Future<Output = Result<()>> + Send {
        async move {
            let mut result = Ok(());
            for key in keys {
                result = result.and(self.remove(key).await);
            }
            result
        }
    }

    /// Removes every entry, and every lease, whose key begins with `prefix`, character for character.
    ///
    /// Entries that are written while it runs may stay.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the store can't; otherwise as [`remove`](Self::remove).
    fn remove_prefix(&self, prefix: &str) -> impl Future<Output = Result<()>> + Send {
        let _ = prefix;
        async { Err(Error::with_cause(ErrorKind::Unsupported, "remove_prefix")) }
    }

    /// Removes every entry that has one of these tags, and no other.
    ///
    /// Loads of such entries that are under way are not kept: their [`fill`](Self::fill) is refused, also in a store that
    /// fences nothing else, and a [`release`](Self::release) says that the lease has not held, since nobody knows
    /// any more which tags the value has. What is written with these tags afterwards stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the store knows no tags, as all do that are not within a
    /// [`Tagged`] one; otherwise as [`Marks::invalidate`](crate::Marks::invalidate).
    fn remove_tagged(&self, tags: &[&str]) -> impl Future<Output = Result<()>> + Send {
        let _ = tags;
        async { Err(Error::with_cause(ErrorKind::Unsupported, "remove_tagged")) }
    }

    /// Removes everything that is this store's own, and nothing else.
    ///
    /// # Errors
    ///
    /// As [`remove_prefix`](Self::remove_prefix).
    fn clear(&self) -> impl Future<Output = Result<()>> + Send {
        self.remove_prefix("")
    }

    /// Asks for the right to load `key`.
    ///
    /// A store with [`Capabilities::fenced`] grants one lease per key at a time. The default looks
    /// for an entry and otherwise grants everybody a lease that fences nothing.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn claim(
        &self,
        key: &str,
        options: ClaimOptions,
    ) -> impl Future<Output = Result<Claim<Self::Value>>> + Send {
        async move {
            Ok(match self.get(key).await? {
                Some(entry) if options.seen() != Some(entry.version()) => Claim::Found(entry),
                _ => Claim::Granted(Lease::new(key, 0)),
            })
        }
    }

    /// Stores what was loaded, provided that the lease has not been lost: to its end, to another
    /// write, or to a removal.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set). The lease is over in any case.
    fn fill(
        &self,
        lease: Lease,
        value: Option<Self::Value>,
        options: SetOptions,
    ) -> impl Future<Output = Result<Fill>> + Send {
        async move { self.set(lease.key(), value, options).await.map(|()| Fill::Stored) }
    }

    /// Gives a lease back unused, so that others need not wait for its end; says whether it had held
    /// until now, so that what was loaded under it has not been invalidated meanwhile.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove). The lease then ends by itself.
    fn release(&self, lease: Lease) -> impl Future<Output = Result<bool>> + Send {
        drop(lease);
        async { Ok(true) }
    }

    /// What this store does beyond the defaults.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Has a near tier in front of this store told of what the store itself forgets because others have changed it, and has
    /// it trusted only while the store trusts its own copies.
    ///
    /// [`Tiered`](crate::Tiered) stores ask for it, of a far store that keeps copies: there is no other that has to do
    /// anything. A wrapper hands the near tier down, [within](NearTier::within) whatever it puts before each key.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

/// What a store does beyond the defaults of [`CacheStore`].
///
/// ```
/// use cache_core::{CacheStore, Capabilities};
/// use cache_memory::MemoryStore;
///
/// let store = MemoryStore::<u32>::new(100);
/// assert!(store.capabilities().fenced && !store.capabilities().shared);
/// assert!(!Capabilities::default().fenced);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Leases are exclusive, and a fill whose lease was lost is refused.
    pub fenced: bool,
    /// Entries have versions, so an entry that is still there can be refreshed under a lease.
    pub versioned: bool,
    /// `remove_prefix` and `clear` work.
    pub prefix: bool,
    /// Other processes see the same entries.
    pub shared: bool,
    /// Entries have tags, and `remove_tagged` works.
    pub tags: bool,
}

impl Capabilities {
    /// Everything that a store in this process can do.
    pub const LOCAL: Self =
        Self { fenced: true, versioned: true, prefix: true, shared: false, tags: false };
}

/// Conveniences for users of a store. Nobody implements it; every store has them.
///
/// ```
/// use cache_core::CacheStoreExt;
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let prices = MemoryStore::new(100).namespaced("price");
/// prices.put("tea", 3, Duration::from_secs(60)).await?;
/// assert_eq!(prices.value("tea").await?, Some(3));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait CacheStoreExt: CacheStore {
    /// The value under `key`; `None` if there is no entry or a negative one.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::get`].
    fn value(&self, key: &str) -> impl Future<Output = Result<Option<Self::Value>>> + Send {
        async move { Ok(self.get(key).await?.and_then(Entry::into_value)) }
    }

    /// Stores a value that lives for `ttl`.
    ///
    /// # Errors
    ///
    /// As [`CacheStore::set`].
    fn put(
        &self,
        key: &str,
        value: Self::Value,
        ttl: Duration,
    ) -> impl Future<Output = Result<()>> + Send {
        self.set(key, Some(value), SetOptions::ttl(ttl))
    }

    /// This store, with every key inside `namespace`.
    fn namespaced(self, namespace: &str) -> Namespaced<Self>
    where
        Self: Sized,
    {
        Namespaced::new(self, namespace)
    }

    /// This store of bytes as a store of values.
    fn encoded<C, V>(self, codec: C) -> Encoded<Self, C, V>
    where
        Self: CacheStore<Value = bytes::Bytes> + Sized,
    {
        Encoded::new(self, codec)
    }

    /// This store, with entries that have tags: those that `tags` tells of a key and a value.
    fn tagged<M, V, T>(
        self,
        marks: M,
        tags: impl Fn(&str, Option<&V>) -> T + Send + Sync + 'static,
    ) -> Tagged<Self, M, V>
    where
        Self: CacheStore<Value = Marked<V>> + Sized,
        T: IntoIterator<Item: AsRef<str>>,
    {
        Tagged::new(self, marks, tags)
    }

    /// This store behind a handle whose type tells only the values', for a choice at run time.
    fn shared(self) -> SharedStore<Self::Value>
    where
        Self: Sized,
    {
        SharedStore::new(self)
    }
}

impl<S: CacheStore + ?Sized> CacheStoreExt for S {}

#[deny(clippy::missing_trait_methods)]
impl<S: CacheStore> CacheStore for Arc<S> {
    type Value = S::Value;

    #[inline]
    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        S::get(self, key).await
    }

    #[inline]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<S::Value>>> {
        S::get_now(self, key)
    }

    #[inline]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<S::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        S::get_now_as(self, key, look)
    }

    async fn set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        S::set(self, key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        S::remove(self, key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        S::get_many(self, keys).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        S::set_many(self, entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        S::remove_many(self, keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        S::remove_prefix(self, prefix).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        S::remove_tagged(self, tags).await
    }

    async fn clear(&self) -> Result<()> {
        S::clear(self).await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        S::claim(self, key, options).await
    }

    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        S::fill(self, lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        S::release(self, lease).await
    }

    fn capabilities(&self) -> Capabilities {
        S::capabilities(self)
    }

    fn attach_near(&self, near: NearTier) {
        S::attach_near(self, near);
    }
}
