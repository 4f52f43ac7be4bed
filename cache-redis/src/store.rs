use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use cache_core::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Error, ErrorKind, Fill, Lease, NearTier,
    Result, SetOptions,
};

use crate::RedisBuilder;
use crate::inner::Inner;

/// A store of bytes on a Redis server, or a cluster of them.
///
/// Wrap it in [`Encoded`](cache_core::Encoded) for a store of values. A clone is a handle to the same
/// connection, so one store serves many types of value:
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_core::{CacheStoreExt, SetOptions};
/// use cache_redis::RedisStore;
/// use std::time::Duration;
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let pages = store.clone().namespaced("page"); // keys are `shop:page:..`
/// pages.put("home", "<html>".into(), Duration::from_secs(60)).await?;
/// assert_eq!(pages.value("home").await?, Some("<html>".into()));
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
///
/// The connection is kept by tasks on the runtime on which the store was made. They end with the last
/// handle.
#[derive(Clone)]
pub struct RedisStore(pub(crate) Arc<Inner>);

impl RedisStore {
    /// Connects to the server at `url`. Every key begins with the name of the `service`.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::connect`].
    pub async fn connect(url: &str, service: &str) -> Result<Self> {
        Self::builder(service).url(url).connect().await
    }

    /// A store with more options, whose keys begin with the name of the `service` and a colon. In the
    /// name, `:` and `%` are escaped as in [`Key::join`](cache_core::Key::join).
    pub fn builder(service: &str) -> RedisBuilder {
        RedisBuilder::new(service)
    }

    /// Whether every server is connected. If not, the reason is the error of every operation.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        self.0.connected().await;
    }

    /// How many slots could not be read, by this handle and its clones: foreign, damaged, or of a newer
    /// format. Each was a miss.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.0.undecodable.load(Ordering::Relaxed)
    }

    /// How many invalidations wait for the server, by this handle and its clones.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.backlog.len()
    }
}

#[deny(clippy::missing_trait_methods)]
impl CacheStore for RedisStore {
    type Value = Bytes;

    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry<Bytes>>>> + Send {
        self.0.get(key)
    }

    /// Never at once: the answer is on another machine.
    fn get_now(&self, _key: &str) -> Poll<Option<Entry<Bytes>>> {
        Poll::Pending
    }

    fn get_now_as<T>(
        &self,
        _key: &str,
        _look: impl FnOnce(Option<Bytes>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Poll::Pending
    }

    async fn set(&self, key: &str, value: Option<Bytes>, options: SetOptions) -> Result<()> {
        self.0.set(key, value, &options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.0.remove(&[key]).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<Bytes>>>> {
        self.0.get_many(keys).await
    }

    async fn set_many(&self, entries: Vec<(&str, Option<Bytes>, SetOptions)>) -> Vec<Result<()>> {
        self.0.set_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.0.remove(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.0.remove_prefix(prefix).await
    }

    async fn remove_tagged(&self, _tags: &[&str]) -> Result<()> {
        Err(Error::with_cause(ErrorKind::Unsupported, "remove_tagged"))
    }

    async fn clear(&self) -> Result<()> {
        self.remove_prefix("").await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<Bytes>> {
        self.0.claim(key, options).await
    }

    async fn fill(&self, lease: Lease, value: Option<Bytes>, options: SetOptions) -> Result<Fill> {
        self.0.fill(lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.0.release(&lease).await
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.fenced = !self.0.settings.bare;
        capabilities.versioned = !self.0.settings.bare;
        capabilities.prefix = true;
        capabilities.shared = true;
        capabilities
    }

    // It keeps no copies.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("servers", &format_args!("{}", self.0.settings.servers))
            .field("prefix", &self.0.settings.prefix)
            .field("connected", &self.is_connected())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
