//! A journal in Redis Streams, which processes share.

mod builder;
mod drain;
mod partition;
mod row;
mod scripts;
mod tenure;
mod unsaid;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{
    Backlog, Bounds, CacheKey, Codec, DeadLetter, Depth, Error, ErrorKind, Journal, Result, Seq,
    Taken, Write,
};
use futures_util::future::join_all;
use redis::Value;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use builder::RedisJournalBuilder;

use crate::RedisStore;
use crate::error::unexpected;
use crate::inner::Inner;
use crate::unique::unique;
use drain::POLL;
use row::Bodies;
use scripts::{Keys, Scripts, ask};
use tenure::Until;
use unsaid::{Saying, Unsaid};

/// So many writes are said to be done together.
const TOGETHER: usize = 500;

/// A journal on a Redis server, in streams that processes share: what one has acknowledged, another makes when
/// the first has died.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_core::Journal;
/// use cache_redis::{RedisJournal, RedisStore};
/// use cache_serde::Json;
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let journal = RedisJournal::open(&store, "orders", Json::new()).await?;
/// journal.append(7_u64, Some("two of them".to_owned())).await?; // on the server now
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
///
/// # What is promised
///
/// An acknowledged write is **as durable as that server**, and no more:
///
/// | `appendfsync` | what a `SIGKILL` of the server loses | what a crash of its machine loses |
/// |---|---|---|
/// | `always` | nothing | nothing, if the disk keeps its word |
/// | `everysec` (the server's default) | nothing | about the last second, at times two |
/// | `no` | nothing | what the kernel had not written yet, often 30 seconds |
///
/// A failover to a replica, by Sentinels or in a cluster, loses what the replica did not have yet: replication is
/// asynchronous, and nothing here waits for it, so only what had been replicated when the primary died is kept. (With
/// `min-replicas-to-write` and `min-replicas-max-lag` a server refuses writes when its replicas fall behind, which bounds the
/// loss to that lag.) The replicas are not looked at: they need the same settings. A server without an append-only file, or one whose `maxmemory-policy` evicts keys without a lifetime, is refused, unless
/// [`allow_volatile`](RedisJournalBuilder::allow_volatile) says otherwise.
///
/// Each write is made **at least once**. Of each key the last one counts: older ones that have not been made
/// are dropped from the log. Keys are spread over partitions, each of which is made by one process at a time: the one that
/// has its lease. When it ends or dies, another takes over what it was given and had not finished. Who can't renew its
/// lease lets go of what waits when a third of it is left, which is for what is being written just then. A write that takes
/// longer, and one of a process that stood still meanwhile, may reach the source after another has written newer values: if
/// that matters, let the source compare [`Write::seq`](cache_core::Write::seq), which grows with every write of a key, whoever
/// makes it. What such a process says to be done afterwards is refused.
///
/// Where a disk of one's own is at hand, the journal of `cache-journal` is the durable one; this is the shared one.
///
/// # What the server needs
///
/// In addition to what the [store](crate) needs: `~{shop:*` for a service `shop`, and
/// `+info +hget +hset +hlen +hgetall +hdel +hincrby +xadd +xack +xdel +xgroup +xreadgroup +xread +xclaim +xpending
/// +xrange +xrevrange +exists +del`. [`clear`](cache_core::CacheStore::clear) of the store does not touch the journal. All keys of a
/// partition are in one slot, so in a cluster the partitions are spread over the nodes, each of which is looked at.
///
/// An append, a look at a pending write and the end of a batch are a script or a command each, in one round trip. For each
/// partition that it owns, a process waits for news on a connection of its own.
pub struct RedisJournal<K, V> {
    shared: Arc<Shared<K, V>>,
    closing: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone, Copy)]
struct Options {
    partitions: usize,
    bounds: Bounds,
    lease: Duration,
    most_dead: usize,
    most_deliveries: u32,
}

struct Shared<K, V> {
    inner: Arc<Inner>,
    scripts: Scripts,
    bodies: Bodies<K, V>,
    backlog: Backlog<K, V>,
    partitions: Box<[Partition]>,
    options: Options,
    is_durable: bool,
    /// Tells this journal from those of others, and of those that were before.
    process: u64,
    sealed: AtomicBool,
}

/// A write that is not to be made any more: key, number, and its letter if it is parked.
type Settled = (Vec<u8>, u64, Vec<u8>);

struct Partition {
    keys: Keys,
    /// The number of the lease that this process has, or 0.
    token: AtomicU64,
    /// Until when this process may begin to make its writes.
    until: Until,
    unsaid: Unsaid,
    /// As far as is known: what is in the log, and among the dead letters.
    writes: AtomicUsize,
    dead: AtomicUsize,
}

/// The partitions of a journal of this name.
fn partitions(journal: &str, count: usize) -> Box<[Partition]> {
    let partition = |index| Partition {
        keys: Keys::new(journal, index),
        token: AtomicU64::new(0),
        until: Until::new(),
        unsaid: Unsaid::default(),
        writes: AtomicUsize::new(0),
        dead: AtomicUsize::new(0),
    };
    (0..count).map(partition).collect()
}

impl<K, V> RedisJournal<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Opens the journal of this name on the server of the store, with the default options.
    ///
    /// # Errors
    ///
    /// As [`RedisJournalBuilder::open`].
    pub async fn open(
        store: &RedisStore,
        name: &str,
        codec: impl Codec<K> + Codec<V>,
    ) -> Result<Self> {
        Self::builder(store, name, codec).open().await
    }

    /// A journal with more options. It uses the connections and the settings of the store, and keys of its own, with
    /// the store's service and this name in them.
    pub fn builder(
        store: &RedisStore,
        name: &str,
        codec: impl Codec<K> + Codec<V>,
    ) -> RedisJournalBuilder<K, V> {
        RedisJournalBuilder::new(store, name, codec)
    }

    fn start(shared: Arc<Shared<K, V>>) -> Self {
        let closing = watch::Sender::new(false);
        let tasks = (0..shared.partitions.len())
            .map(|index| tokio::spawn(Arc::clone(&shared).serve(index, closing.subscribe())));
        Self { tasks: Mutex::new(tasks.collect()), closing, shared }
    }
}

impl<K, V> Shared<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(
        inner: Arc<Inner>,
        partitions: Box<[Partition]>,
        bodies: Bodies<K, V>,
        is_durable: bool,
        options: Options,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            scripts: Scripts::new(),
            bodies,
            // The log knows how full it is: what others append is in nobody's backlog.
            backlog: Backlog::new(Bounds { writes: usize::MAX, bytes: usize::MAX }),
            partitions,
            options,
            is_durable,
            process: unique(),
            sealed: AtomicBool::new(false),
        })
    }

    /// Which partition a key is in: FNV-1a, so that all processes of all versions agree.
    fn index_of(&self, spelled: &str) -> usize {
        let hash = spelled.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash % self.partitions.len() as u64) as usize
    }

    fn partition(&self, spelled: &str) -> &Partition {
        &self.partitions[self.index_of(spelled)]
    }

    /// The token of this process's lease with this number. By the process in it nobody else has it, whatever becomes of
    /// the numbers.
    fn token(&self, number: u64) -> String {
        format!("{number}:{}", self.process)
    }

    /// Says that writes of one partition are not to be made any more.
    async fn settle(&self, partition: &Partition, writes: &[Settled]) -> Result<()> {
        let token = partition.token.load(Ordering::Acquire);
        let taken_over = || {
            let why = "another process has taken over this part of the journal";
            Error::with_cause(ErrorKind::Unavailable, why)
        };
        if token == 0 {
            return Err(taken_over());
        }
        for writes in writes.chunks(TOGETHER) {
            let (token, most) = (self.token(token), self.options.most_dead.to_string());
            let numbers: Vec<_> = writes.iter().map(|(_, seq, _)| seq.to_string()).collect();
            let mut arguments: Vec<&[u8]> = vec![token.as_bytes(), most.as_bytes()];
            for ((key, _, letter), seq) in writes.iter().zip(&numbers) {
                arguments.extend([key, seq.as_bytes(), letter]);
            }
            match self.scripts.done.run(&self.inner, &partition.keys, &arguments).await? {
                Value::Int(-1) => return Err(taken_over()),
                Value::Int(-2) => return Err(Error::with_cause(ErrorKind::Full, "dead letters")),
                Value::Int(dead) => partition.dead.store(unsigned(dead), Ordering::Relaxed),
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<K, V> Journal for RedisJournal<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Key = K;
    type Value = V;

    fn backlog(&self) -> &Backlog<K, V> {
        &self.shared.backlog
    }

    /// What is sent and not answered may be in the log: its error says that nobody knows.
    async fn append(&self, key: K, value: Option<V>) -> Result<Seq> {
        let Shared { inner, scripts, bodies, sealed, options, .. } = &*self.shared;
        if sealed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let spelled = SmolStr::new(&*key.key());
        let body = bodies.encode(&key, value.as_ref())?;
        if body.len() > inner.settings.max_value {
            let why = format!("the write has {} bytes", body.len());
            return Err(Error::with_cause(ErrorKind::TooLarge, why));
        }
        let partition = self.shared.partition(&spelled);
        let share = |all: usize| all.div_ceil(options.partitions).to_string();
        let (writes, bytes) = (share(options.bounds.writes), share(options.bounds.bytes));
        let arguments = [spelled.as_bytes(), &body, writes.as_bytes(), bytes.as_bytes()];
        // A server that was only slow must not append what its caller has given up.
        match scripts.append.run_in_time(inner, &partition.keys, &arguments).await? {
            Value::Int(-1) => Err(Error::new(ErrorKind::Full)),
            Value::Int(0) => Err(Error::with_cause(
                ErrorKind::Unavailable,
                "the write came too late, or the server's clock has been set",
            )),
            Value::Int(seq) => {
                // At least so much; the owner of the partition knows better, and says so now and then.
                partition.writes.fetch_max(1, Ordering::Relaxed);
                Ok(Seq::new(seq.unsigned_abs()))
            }
            _ => Err(unexpected()),
        }
    }

    /// There is nobody to tell that another process has made room, so this is a short pause.
    async fn room(&self) {
        sleep(POLL).await;
    }

    /// It has the lease of the write's partition, and more than a third of that is left.
    fn is_ours(&self, write: &Write<K, V>) -> bool {
        self.shared.partition(&write.key.key()).until.is_ahead()
    }

    async fn pending(&self, key: &str) -> Result<Option<(Seq, Option<V>)>> {
        let keys = &self.shared.partition(key).keys;
        let mut command = redis::cmd("HGET");
        command.arg(keys.last.as_str()).arg(key);
        match ask(&self.shared.inner, &keys.last, || command.clone()).await? {
            Value::Nil => Ok(None),
            Value::BulkString(last) => {
                let (seq, body) = row::last(&last).ok_or_else(unexpected)?;
                Ok(Some((Seq::new(seq), self.shared.bodies.decode(key, body)?.1)))
            }
            _ => Err(unexpected()),
        }
    }

    /// What can't be said now is said again for as long as this process has the partition.
    async fn done(&self, writes: &[Taken<K, V>]) -> Result<()> {
        let mut parts = vec![Vec::new(); self.shared.partitions.len()];
        for Taken { write, .. } in writes {
            let spelled = SmolStr::new(&*write.key.key());
            let settled = (spelled.as_bytes().to_vec(), write.seq.get(), Vec::new());
            parts[self.shared.index_of(&spelled)].push(settled);
        }
        let parts = self.shared.partitions.iter().zip(parts);
        let parts = parts.filter(|(_, writes)| !writes.is_empty());
        // All at once, so that nothing is left out if this is given up.
        let parts: Vec<_> = parts.map(|(one, writes)| Saying::new(one, writes)).collect();
        let mut result = Ok(());
        for saying in parts {
            // Those of the others are done even so.
            result = result.and(self.shared.say(saying).await);
        }
        result
    }

    async fn park(&self, taken: &Taken<K, V>, cause: &Error) -> Result<()> {
        let write = &taken.write;
        let spelled = SmolStr::new(&*write.key.key());
        let body = self.shared.bodies.encode(&write.key, write.value.as_ref())?;
        let letter = row::letter(taken.tries(), &spelled, &cause.to_string(), &body);
        let partition = self.shared.partition(&spelled);
        self.shared
            .settle(partition, &[(spelled.as_bytes().to_vec(), write.seq.get(), letter)])
            .await
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<K, V>>> {
        let mut letters = Vec::new();
        for partition in &self.shared.partitions {
            let mut command = redis::cmd("HGETALL");
            command.arg(partition.keys.dead.as_str());
            let all = ask(&self.shared.inner, &partition.keys.dead, || command.clone()).await?;
            let all: Vec<(u64, Vec<u8>)> =
                redis::from_redis_value(all).map_err(|_| unexpected())?;
            letters.extend(all);
        }
        letters.sort_unstable_by_key(|(seq, _)| *seq);
        let first = letters.iter().take(most);
        Ok(first.map(|(seq, letter)| self.shared.bodies.letter(*seq, letter)).collect())
    }

    async fn discard(&self, key: &str, seq: Seq) -> Result<bool> {
        // One whose key can't be read may be anywhere.
        let all = self.shared.partitions.iter().enumerate();
        let own = self.shared.index_of(key);
        for (_, partition) in all.filter(|(index, _)| key.is_empty() || *index == own) {
            let dead = partition.keys.dead.as_str();
            let command = |name: &str| {
                let mut command = redis::cmd(name);
                command.arg(dead).arg(seq.get());
                command
            };
            let letter = ask(&self.shared.inner, dead, || command("HGET")).await?;
            let Value::BulkString(letter) = letter else { continue };
            if row::parts(&letter).map_or("", |(_, spelled, ..)| spelled) == key {
                let removed = ask(&self.shared.inner, dead, || command("HDEL")).await?;
                self.shared.count(partition).await?;
                return Ok(removed == Value::Int(1));
            }
        }
        Ok(false)
    }

    /// What others append is still made here.
    fn seal(&self) {
        self.shared.sealed.store(true, Ordering::Release);
    }

    /// Whoever makes the writes: if that is another process, this waits for it.
    async fn drained(&self) -> Result<()> {
        self.shared.drain().await
    }

    /// Of all processes, as it was a moment ago.
    fn depth(&self) -> Depth {
        let mut depth = self.shared.backlog.depth();
        let writes = self.shared.partitions.iter().map(|one| one.writes.load(Ordering::Relaxed));
        depth.waiting = depth.waiting.max(writes.sum::<usize>().saturating_sub(depth.in_flight));
        depth
    }

    fn dead(&self) -> usize {
        self.shared.partitions.iter().map(|one| one.dead.load(Ordering::Relaxed)).sum()
    }

    fn is_durable(&self) -> bool {
        self.shared.is_durable
    }

    /// Gives the partitions back, so that another process takes over at once; but for those of which writes are being
    /// made, which it gets when the lease has ended.
    async fn close(&self, limit: Duration) -> Result<()> {
        self.seal();
        self.shared.backlog.close();
        self.closing.send_replace(true);
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        let ended = join_all(tasks);
        match timeout(limit, ended).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let why = format!("not closed within {limit:?}; its leases end by themselves");
                Err(Error::with_cause(ErrorKind::Unavailable, why))
            }
        }
    }
}

impl<K, V> Drop for RedisJournal<K, V> {
    fn drop(&mut self) {
        // Another process takes over when the leases have ended.
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl<K, V> fmt::Debug for RedisJournal<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owned = |one: &&Partition| one.token.load(Ordering::Relaxed) > 0;
        f.debug_struct("RedisJournal")
            .field("partitions", &self.shared.partitions.len())
            .field("owned", &self.shared.partitions.iter().filter(owned).count())
            .field("backlog", &self.shared.backlog)
            .finish_non_exhaustive()
    }
}

fn unsigned(length: i64) -> usize {
    usize::try_from(length).unwrap_or(0)
}
