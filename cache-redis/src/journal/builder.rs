use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Bounds, CacheKey, Codec, Error, ErrorKind, Key, Result};
use redis::Value;
use smol_str::format_smolstr;

use super::row::Bodies;
use super::scripts::ask;
use super::{Options, RedisJournal, Shared, partitions};
use crate::RedisStore;
use crate::inner::Inner;

/// Servers do not take times without end, and for so long nobody makes what a process has left that died.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);

/// The options of a [`RedisJournal`]; [`RedisJournal::builder`] begins one.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_redis::{RedisJournal, RedisStore};
/// use cache_serde::Json;
/// use std::time::Duration;
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let journal: RedisJournal<u64, String> = RedisJournal::builder(&store, "orders", Json::new())
///     .partitions(16)
///     .lease(Duration::from_secs(5))
///     .open()
///     .await?;
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "a builder does nothing until `open` is called"]
pub struct RedisJournalBuilder<K, V> {
    store: RedisStore,
    name: String,
    bodies: Bodies<K, V>,
    options: Options,
    volatile: bool,
}

impl<K, V> RedisJournalBuilder<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(store: &RedisStore, name: &str, codec: impl Codec<K> + Codec<V>) -> Self {
        Self {
            store: store.clone(),
            name: name.to_owned(),
            bodies: Bodies::new(codec),
            options: Options {
                partitions: 4,
                bounds: Bounds::default(),
                lease: Duration::from_secs(10),
                most_dead: 10_000,
                most_deliveries: 100,
            },
            volatile: false,
        }
    }

    /// How many parts the journal has, 4 by default. Each is one stream, which one process at a time makes the writes
    /// of, over a connection of its own. It can't be changed later.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.options.partitions = partitions;
        self
    }

    /// How many writes wait in the journal at most, of all processes, and how many bytes of them; 100,000 of whatever
    /// size by default. Each partition has its share of it.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.options.bounds = bounds;
        self
    }

    /// For how long a process that does not answer keeps its partitions, 10 s by default. A third of it should be longer than
    /// a write to the source takes, and pauses of the process: that much is left for what has begun when it can't be
    /// renewed. A day at most.
    pub fn lease(mut self, life: Duration) -> Self {
        self.options.lease = life;
        self
    }

    /// How many dead letters are kept in each partition, 10,000 by default. When there are more, further ones stay in the
    /// journal and are tried again.
    pub fn most_dead_letters(mut self, most: usize) -> Self {
        self.options.most_dead = most;
        self
    }

    /// How many processes in a row may be given a write, not finish it, and end without giving their lease back, 100 by
    /// default: then it is taken for one that they die of, and becomes a dead letter. All that waits in a process when it
    /// dies counts, since nobody knows which write it was. A process whose connection fails counts only if another takes over.
    pub fn most_deliveries(mut self, most: u32) -> Self {
        self.options.most_deliveries = most;
        self
    }

    /// Takes a server that keeps no append-only file, or may evict what is in the journal, instead of refusing it.
    /// Acknowledged writes can then be lost with the server.
    pub fn allow_volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Looks at the server, and begins to take part in making the writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option; [`ErrorKind::Journal`] if the server does not keep what it is
    /// given; those of the server.
    ///
    /// # Cancellation
    ///
    /// Nothing is left.
    pub async fn open(self) -> Result<RedisJournal<K, V>> {
        for (option, wrong, why) in [
            ("partitions", self.options.partitions == 0, "is too small"),
            ("lease", self.options.lease < Duration::from_millis(10), "is too short"),
            ("lease", self.options.lease > LONGEST_LEASE, "is longer than a day"),
            ("most_deliveries", self.options.most_deliveries == 0, "is too small"),
        ] {
            if wrong {
                let why = format!("{option}: {why}");
                return Err(Error::with_cause(ErrorKind::InvalidOption, why));
            }
        }
        let inner = Arc::clone(&self.store.0);
        let name = Key::join(&[&self.name.as_str() as &dyn CacheKey]);
        let journal = format_smolstr!("{}journal:{name}", inner.settings.prefix);
        let partitions = partitions(&journal, self.options.partitions);
        let mut is_durable = true;
        for partition in &partitions {
            // In a cluster, each may be on another node.
            if let Some(why) = doubts(&inner, &partition.keys.log).await? {
                if !self.volatile {
                    return Err(Error::with_cause(ErrorKind::Journal, why));
                }
                is_durable = false;
            }
        }
        self.agree_on_partitions(&inner, &journal).await?;
        let shared = Shared::new(inner, partitions, self.bodies, is_durable, self.options);
        Ok(RedisJournal::start(shared))
    }

    /// All processes have to look for a key in the same partition.
    async fn agree_on_partitions(&self, inner: &Inner, journal: &str) -> Result<()> {
        let key = format_smolstr!("{{{journal}}}:partitions");
        let own = self.options.partitions.to_string();
        let mut set = redis::cmd("SET");
        set.arg(key.as_str()).arg(&own).arg("NX");
        ask(inner, &key, || set.clone()).await?;
        let mut get = redis::cmd("GET");
        get.arg(key.as_str());
        let Value::BulkString(found) = ask(inner, &key, || get.clone()).await? else {
            return Err(crate::error::unexpected());
        };
        let found = String::from_utf8_lossy(&found);
        if found == own {
            return Ok(());
        }
        let why = format!("partitions: the journal {journal:?} has {found}, not {own}");
        Err(Error::with_cause(ErrorKind::InvalidOption, why))
    }
}

/// Why the server that has this key may lose what it has acknowledged, if it may.
async fn doubts(inner: &Inner, key: &str) -> Result<Option<String>> {
    let mut info = redis::cmd("INFO");
    info.arg("everything");
    let answer = ask(inner, key, || info.clone()).await?;
    let info = match &answer {
        Value::BulkString(info) => String::from_utf8_lossy(info),
        Value::VerbatimString { text, .. } => text.as_str().into(),
        _ => return Err(crate::error::unexpected()),
    };
    let field = |name: &str| {
        info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
    };
    if field("aof_enabled") != Some("1") {
        return Ok(Some(
            "the server keeps no append-only file (`appendonly no`), so acknowledged writes would be lost with it; \
             `allow_volatile` takes it even so"
                .to_owned(),
        ));
    }
    Ok(field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")).map(|policy| {
        format!(
            "the server may evict what is in the journal (`maxmemory-policy {policy}`): choose `noeviction` or one of \
             `volatile-*`; `allow_volatile` takes it even so"
        )
    }))
}

impl<K, V> fmt::Debug for RedisJournalBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisJournalBuilder")
            .field("store", &self.store)
            .field("name", &self.name)
            .field("partitions", &self.options.partitions)
            .finish_non_exhaustive()
    }
}
