use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Codec, Entry, Error, ErrorKind, Fill, Lease,
    NearTier, Result, SetOptions,
};

/// Makes a store of bytes a store of values.
///
/// Bytes that can't be decoded are a miss: they are counted by [`undecodable`](Self::undecodable),
/// and the next load replaces them.
///
/// # Order
///
/// Right around the store of bytes, so that everything above holds values.
///
/// ```
/// use bytes::Bytes;
/// use cache_core::{Codec, CacheStore, CacheStoreExt, Encoded, Result};
/// # use cache_core::{Error, ErrorKind};
/// # struct Utf8;
/// # impl Codec<String> for Utf8 {
/// #     fn encode(&self, value: &String) -> Result<Bytes> { Ok(Bytes::from(value.clone())) }
/// #     fn decode(&self, bytes: &Bytes) -> Result<String> {
/// #         String::from_utf8(bytes.to_vec()).map_err(|e| Error::with_cause(ErrorKind::Codec, e))
/// #     }
/// # }
///
/// fn texts(bytes: impl CacheStore<Value = Bytes>) -> impl CacheStore<Value = String> {
///     bytes.encoded(Utf8)
/// }
/// ```
pub struct Encoded<S, C, V> {
    inner: S,
    codec: C,
    undecodable: Arc<AtomicU64>,
    value: PhantomData<fn() -> V>,
}

impl<S, C, V> Encoded<S, C, V> {
    /// The values that `codec` makes of the bytes in `inner`.
    pub fn new(inner: S, codec: C) -> Self {
        Self { inner, codec, undecodable: Arc::default(), value: PhantomData }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The codec.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// How many entries could not be decoded, by this handle and its clones, since they were made.
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    fn decode(&self, entry: Entry<Bytes>) -> Option<Entry<V>>
    where
        C: Codec<V>,
    {
        let entry = entry.try_map(|bytes| self.codec.decode(&bytes));
        self.counted(entry)
    }

    /// What was decoded, if it was.
    fn counted<T>(&self, decoded: Result<T>) -> Option<T> {
        if decoded.is_err() {
            self.undecodable.fetch_add(1, Ordering::Relaxed);
        }
        decoded.ok()
    }

    fn encode(&self, value: Option<V>) -> Result<Option<Bytes>>
    where
        C: Codec<V>,
    {
        value.map(|value| self.codec.encode(&value)).transpose()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S, C, V> CacheStore for Encoded<S, C, V>
where
    S: CacheStore<Value = Bytes>,
    C: Codec<V>,
    V: Clone + Send + Sync + 'static,
{
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        Ok(self.inner.get(key).await?.and_then(|entry| self.decode(entry)))
    }

    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        self.get_now_as(key, Entry::as_it_is)
    }

    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        self.inner.get_now_as(key, |bytes| {
            let value = bytes.map(|bytes| self.codec.decode(&bytes)).transpose();
            self.counted(value).map_or(Poll::Ready(None), look)
        })
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        self.inner.set(key, self.encode(value)?, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.inner.remove(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>> {
        let entries = self.inner.get_many(keys).await.into_iter();
        entries.map(|entry| Ok(entry?.and_then(|entry| self.decode(entry)))).collect()
    }

    async fn set_many(&self, entries: Vec<(&str, Option<V>, SetOptions)>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(entries.len());
        let mut encoded = Vec::with_capacity(entries.len());
        for (key, value, options) in entries {
            results.push(self.encode(value).map(|value| encoded.push((key, value, options))));
        }
        let mut stored = self.inner.set_many(encoded).await.into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = stored.next().unwrap_or_else(|| Err(Error::new(ErrorKind::Store)));
        }
        results
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.inner.remove_many(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.remove_prefix(prefix).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.inner.remove_tagged(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }

    async fn claim(&self, key: &str, asked: ClaimOptions) -> Result<Claim<V>> {
        let mut options = asked;
        // An entry may change while it is asked for, but not for ever.
        for _ in 0..3 {
            let entry = match self.inner.claim(key, options).await? {
                Claim::Granted(lease) => return Ok(Claim::Granted(lease)),
                Claim::Held { retry_in } => return Ok(Claim::Held { retry_in }),
                Claim::Found(entry) => entry,
            };
            let version = entry.version();
            if let Some(entry) = self.decode(entry) {
                return Ok(Claim::Found(entry));
            }
            // What is there is of no use to anybody here, so it may be replaced.
            options = if options.seen() == Some(version) {
                // But not under a lease, as far as this store goes.
                self.inner.remove(key).await?;
                asked
            } else {
                asked.refreshing(version)
            };
        }
        Ok(Claim::Held { retry_in: Duration::from_millis(1) })
    }

    async fn fill(&self, lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill> {
        match self.encode(value) {
            Ok(value) => self.inner.fill(lease, value, options).await,
            Err(error) => {
                // A lease that can't be given back ends by itself; that the value can't be encoded is the news.
                let _ = self.inner.release(lease).await;
                Err(error)
            }
        }
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.inner.release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near);
    }
}

impl<S: Clone, C: Clone, V> Clone for Encoded<S, C, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            codec: self.codec.clone(),
            undecodable: Arc::clone(&self.undecodable),
            value: PhantomData,
        }
    }
}

impl<S: fmt::Debug, C: fmt::Debug, V> fmt::Debug for Encoded<S, C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("inner", &self.inner)
            .field("codec", &self.codec)
            .field("undecodable", &self.undecodable())
            .finish()
    }
}
