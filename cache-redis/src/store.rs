use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cache_core::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Error, ErrorKind, Fill, Lease, Result,
    SetOptions,
};
use smol_str::{SmolStr, SmolStrBuilder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::link::{Backlog, Link, Pending};
use crate::scripts::Scripts;
use crate::settings::Settings;
use crate::{RedisBuilder, prefix};

/// A store of bytes on a Redis server.
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

pub(crate) struct Inner {
    pub(crate) links: Box<[Arc<Link>]>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) undecodable: AtomicU64,
    hasher: RandomState,
    runtime: Handle,
    supervisors: std::sync::OnceLock<Vec<AbortHandle>>,
}

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

    /// Whether there is a connection. If not, the reason is the error of every operation.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.links.iter().all(|link| link.live().is_ok())
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        for link in &self.0.links {
            link.connected().await;
        }
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

    pub(crate) fn assemble(settings: Settings) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        let settings = Arc::new(settings);
        let scripts = Arc::new(Scripts::new());
        let everything = settings.prefix.clone();
        let backlog = Arc::new(Backlog::new(settings.max_pending, everything));
        let in_flight = Arc::new(Semaphore::new(settings.max_in_flight));
        let link = |_| {
            Link::new(
                Arc::clone(&settings),
                Arc::clone(&scripts),
                Arc::clone(&backlog),
                Arc::clone(&in_flight),
            )
        };
        Ok(Self(Arc::new(Inner {
            links: (0..settings.connections).map(link).collect(),
            settings: Arc::clone(&settings),
            scripts: Arc::clone(&scripts),
            backlog: Arc::clone(&backlog),
            undecodable: AtomicU64::new(0),
            hasher: RandomState::new(),
            runtime,
            supervisors: std::sync::OnceLock::new(),
        })))
    }

    pub(crate) async fn connected_now(self) -> Result<Self> {
        for link in &self.0.links {
            link.connect_now().await?;
        }
        self.supervise();
        Ok(self)
    }

    pub(crate) fn supervise(&self) {
        self.0.supervisors.get_or_init(|| {
            let links = self.0.links.iter();
            let tasks = links.map(|link| self.0.runtime.spawn(Arc::clone(link).supervise()));
            tasks.map(|task| task.abort_handle()).collect()
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for supervisor in self.supervisors.get().into_iter().flatten() {
            supervisor.abort();
        }
    }
}

impl Inner {
    /// The key as the server knows it.
    pub(crate) fn full(&self, key: &str) -> SmolStr {
        let mut full = SmolStrBuilder::new();
        full.push_str(&self.settings.prefix);
        full.push_str(key);
        full.finish()
    }

    /// The connection for a key.
    pub(crate) fn link(&self, key: &str) -> &Arc<Link> {
        match &*self.links {
            [link] => link,
            links => &links[self.hasher.hash_one(key) as usize % links.len()],
        }
    }

    pub(crate) fn check(&self, value: Option<&Bytes>, options: &SetOptions) -> Result<()> {
        options.check()?;
        let (length, most) = (value.map_or(0, Bytes::len), self.settings.max_value);
        if length > most {
            return Err(Error::with_cause(
                ErrorKind::TooLarge,
                format!("the value has {length} bytes, of at most {most}"),
            ));
        }
        Ok(())
    }

    /// Keeps an invalidation until it can be sent.
    pub(crate) fn keep(&self, pending: Pending) {
        self.backlog.add(pending);
        // All of them, since the one that was used may stay down for longer.
        self.links.iter().for_each(|link| link.wake());
    }

    /// Hands an error on, after what could not be done has been put down, if that may still help.
    pub(crate) fn keep_if_unsent<T>(
        &self,
        result: Result<T>,
        pending: impl FnOnce() -> Pending,
    ) -> Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::Unavailable
        {
            self.keep(pending());
        }
        result
    }
}

#[deny(clippy::missing_trait_methods)]
impl CacheStore for RedisStore {
    type Value = Bytes;

    async fn get(&self, key: &str) -> Result<Option<Entry<Bytes>>> {
        self.0.get(key).await
    }

    /// Never at once: the answer is on another machine.
    fn get_now(&self, _key: &str) -> std::task::Poll<Option<Entry<Bytes>>> {
        std::task::Poll::Pending
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
        let full = self.0.full(prefix);
        let removed = async {
            let link = &self.0.links[0];
            prefix::remove(link, &*link.live()?, &full).await
        };
        let removed = removed.await;
        self.0
            .keep_if_unsent(removed, || Pending::RemovePrefix(full))
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

    async fn release(&self, lease: Lease) -> Result<()> {
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
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.0.settings.server.addr().to_string())
            .field("prefix", &self.0.settings.prefix)
            .field("connected", &self.is_connected())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
