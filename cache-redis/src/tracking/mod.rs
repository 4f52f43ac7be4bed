mod ears;
mod recognise;
mod switch;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheKey, Coherence, Error, ErrorKind, Keeper, Key, NearTier, Result};
use tokio::runtime::Handle;

use self::switch::Switch;
use self::watch::{Of, Watch, run};
use crate::{RedisMarks, RedisStore};

/// Nobody wants to wait longer for a server that hangs, and longer times can't be added to any moment.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Keeps near tiers coherent by what the Redis server says about changed keys (`CLIENT TRACKING`): of
/// everybody's changes, also by `redis-cli`, and without anybody publishing anything.
///
/// It has a connection of its own to the server (in a cluster, to each primary), on which it asks for news of
/// every key that begins with the store's service and [`namespace`](Self::namespace) (`BCAST`).
///
/// # What it promises
///
/// A near copy is made only if no news of its key has come since the read of the far store began. So the
/// connection being another one than that of the reads does no harm, as long as both are to the same server: when the store
/// connects again, to what a Sentinel or a name leads to by then, all begins anew, and while it is not connected, the trust runs
/// out. When the connection ends, when the server is flushed, and when news came faster than they were taken, the near tier is emptied before it is used again.
/// A server that hangs gives no sign at all, so it is asked all the time (`HELLO`, which also tells whether it is a replica by now): the near tier is used for
/// [`trust`](Self::trust) after a question that was answered. A near hit is behind by the time that a push takes, and
/// by `trust` if the connection hangs.
///
/// At the beginning it has the far store write a key, and waits until the server says so. (A [bare](crate::RedisBuilder::bare) store removes
/// it instead, so it is put there before, empty, for a moment.) If the names don't match,
/// because the far store has another namespace, say, the near tier stays closed, and
/// [`kept_by`](cache_core::TierSnapshot::kept_by) says why.
///
/// # By prefix, or by key
///
/// *By prefix* every change of a key goes to every process, if it has a copy or not: also leases that are granted for a load,
/// and entries that expire. A process's own writes come back to it, too, and take the near copy with them; the
/// next read makes another. All that the server remembers is in the connection that listens.
///
/// [*By key*](Self::by_key) the server remembers which connection has read which key, and tells that one, once. What it remembers ends with the
/// connection, so there is no connection apart: the store that reads for the tiers is built
/// [`tracked`](crate::RedisBuilder::tracked), and each of its connections hears of what it has read itself. When one of them ends, or
/// another takes its place, what it was to be told is lost, so the near tier is emptied before it is used again.
/// Near copies are made of what was read only, and not of what this process has written, since of that the server tells nobody.
///
/// Keys that each of four clients was told of for each write, together, by the number of reads that each made between two writes
/// (`cargo test -p cache-tests --test tracking tracking_by_prefix_tells -- --nocapture`):
///
/// | reads | by prefix | by key |
/// |---:|---:|---:|
/// | 0 | 4.00 | 0.00 |
/// | 1 | 4.00 | 1.92 |
/// | 10 | 4.00 | 3.76 |
///
/// So take it by prefix, unless processes read other keys than others write, or much is written that few read: then by key
/// spares messages, and costs the server memory for each key that is read (`tracking-table-max-keys`, a million by default,
/// beyond which it tells of keys that have not changed).
///
/// # Tags
///
/// [`of_marks`](Self::of_marks) keeps [`NearMarks`](cache_core::NearMarks) coherent in the same way, so nobody has to publish
/// what is invalidated by tag either. Put the tags above the tiers, which copy entries that are marked then. Tags *below* the
/// tiers are refused, unless the marks there are such `NearMarks`, or tiers in between hear of them by a bus: the server tells of
/// the mark, and nobody knows which copies it is about.
///
/// # Where it is refused
///
/// Some servers, and users without `+client|tracking`, are refused. With [`or_else`](Self::or_else) something else
/// takes its place then, which `kept_by` tells; otherwise the near tier stays closed, and it is tried again.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_core::{Broadcast, CacheStoreExt, Tiered};
/// use cache_redis::{RedisBus, RedisStore, Tracking};
/// # use {bytes::Bytes, cache_core::{Codec, Result}};
/// # struct Utf8;
/// # impl Codec<String> for Utf8 {
/// #     fn encode(&self, value: &String) -> Result<Bytes> { Ok(Bytes::from(value.clone())) }
/// #     fn decode(&self, bytes: &Bytes) -> Result<String> { Ok(String::from_utf8_lossy(bytes).into()) }
/// # }
/// # use cache_core::testing::ModelStore;
/// # let near = ModelStore::<String>::new(cache_core::Clock::system());
///
/// let redis = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let bus = RedisBus::new(&redis, "page");
/// let tracking = Tracking::of(&redis).namespace("page").or_else(Broadcast::over(bus));
/// let pages = Tiered::builder(near, redis.namespaced("page").encoded(Utf8))
///     .coherent_by(tracking)
///     .build()?;
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "it does nothing until tiers are made coherent by it"]
pub struct Tracking {
    watch: Watch,
    fallback: Option<Fallback>,
}

type Fallback = Box<dyn FnOnce(NearTier) -> Result<Keeper> + Send>;

impl Tracking {
    /// Of the keys of this store, the one at the bottom of the far store.
    pub fn of(store: &RedisStore) -> Self {
        Self::watching(store, store.0.settings.prefix.to_string(), Of::Entries)
    }

    /// Of these marks, for [`NearMarks`](cache_core::NearMarks) of them.
    ///
    /// ```no_run
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::NearMarks;
    /// use cache_redis::{RedisMarks, RedisStore, Tracking};
    ///
    /// let redis = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
    /// let marks = RedisMarks::new(&redis);
    /// let of_marks = Tracking::of_marks(&marks);
    /// let marks = NearMarks::new(marks, of_marks)?;
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub fn of_marks(marks: &RedisMarks) -> Self {
        Self::watching(&marks.store, marks.prefix.to_string(), Of::Marks)
    }

    fn watching(store: &RedisStore, prefix: String, of: Of) -> Self {
        let (probe_every, trust) = (Duration::from_millis(250), Duration::from_secs(1));
        let store = store.clone();
        let watch = Watch { store, prefix, of, by_key: false, probe_every, trust };
        Self { watch, fallback: None }
    }

    /// The keys of the tiers are in this namespace of the store. Call it once for each
    /// [`namespaced`](cache_core::CacheStoreExt::namespaced) between the store and the tiers, in their order.
    pub fn namespace(mut self, name: &str) -> Self {
        let name = Key::join(&[&name as &dyn CacheKey]);
        self.watch.prefix.push_str(&name);
        self.watch.prefix.push(':');
        self
    }

    /// Hears of the keys that were read here only, instead of all. The store has to be built
    /// [`tracked`](crate::RedisBuilder::tracked).
    ///
    /// ```no_run
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use bytes::Bytes;
    /// use cache_core::{CacheStoreExt, Tiered};
    /// use cache_redis::{RedisStore, Tracking};
    /// # let near = cache_core::testing::ModelStore::<Bytes>::new(cache_core::Clock::system());
    ///
    /// let redis = RedisStore::builder("shop").url("redis://127.0.0.1:6379").tracked().connect().await?;
    /// let pages = Tiered::builder(near, redis.clone().namespaced("page"))
    ///     .coherent_by(Tracking::of(&redis).namespace("page").by_key())
    ///     .build()?;
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub fn by_key(mut self) -> Self {
        self.watch.by_key = true;
        self
    }

    /// How often the server is asked whether it is there: 250 ms by default.
    pub fn probe_every(mut self, every: Duration) -> Self {
        self.watch.probe_every = every;
        self
    }

    /// For how long the near tier answers after a question was sent that has been answered: 1 s by default.
    pub fn trust(mut self, trust: Duration) -> Self {
        self.watch.trust = trust;
        self
    }

    /// What takes its place if the server refuses. It has to be refused to all processes of a fleet, or to none:
    /// who falls back hears only of those who have done so as well.
    pub fn or_else(mut self, fallback: impl Coherence) -> Self {
        self.fallback = Some(Box::new(|near| fallback.keep(near)));
        self
    }

    fn check(&self, near: &NearTier) -> Result<()> {
        let Watch { probe_every, trust, by_key, .. } = self.watch;
        let why = if probe_every.is_zero() || trust <= probe_every.saturating_mul(2) {
            "trust: must be longer than twice `probe_every`, which must not be zero"
        } else if trust > LONGEST {
            "trust: must not be longer than a day"
        } else if by_key && self.watch.store.0.news.is_none() {
            "by_key: the store has to be built with `tracked`"
        } else if near.needs_tags() {
            "coherent_by: nobody tells the tiers of the far store's tags: put the tags above the tiers, or `NearMarks`, \
             kept by `Tracking::of_marks`, around the marks"
        } else {
            return Ok(());
        };
        Err(Error::with_cause(ErrorKind::InvalidOption, why))
    }
}

impl Coherence for Tracking {
    fn keep(self, near: NearTier) -> Result<Keeper> {
        self.check(&near)?;
        let runtime =
            Handle::try_current().map_err(|e| Error::with_cause(ErrorKind::NoRuntime, e))?;
        near.kept_by(self.watch.name());
        let switch = self.fallback.is_some().then(Arc::<Switch>::default);
        let run = run(self.watch, near, self.fallback, switch.clone());
        let keeper = Keeper::new(vec![runtime.spawn(run).abort_handle()]);
        Ok(match switch {
            Some(switch) => keeper.announcing(switch),
            None => keeper,
        })
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracking")
            .field("prefix", &self.watch.prefix)
            .field("by_key", &self.watch.by_key)
            .field("probe_every", &self.watch.probe_every)
            .field("trust", &self.watch.trust)
            .field("falls_back", &self.fallback.is_some())
            .finish_non_exhaustive()
    }
}
