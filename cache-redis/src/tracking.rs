use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    Announce, CacheKey, Change, Coherence, Error, ErrorKind, Keeper, Key, NearTier, Result, Resync,
};
use futures_util::future::{Either, join_all, select, try_join_all};
use redis::Value;
use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::RedisStore;
use crate::error::failure;
use crate::listener::{Listener, Push, Pushes};

/// So many changes are remembered while it is not known who is to be told.
const UNDECIDED: usize = 1000;

/// Keeps near tiers coherent by what the Redis server says about changed keys (`CLIENT TRACKING`): of
/// everybody's changes, also by `redis-cli`, and without anybody publishing anything.
///
/// It has a connection of its own to the server (in a cluster, to each primary), on which it asks for news of
/// every key that begins with the store's service and [`namespace`](Self::namespace) (`BCAST`).
///
/// # What it promises
///
/// A near copy is made only if no news of its key has come since the read of the far store began. So the
/// connection being another one than that of the reads does no harm. When the connection ends, when the server
/// is flushed, and when news came faster than they were taken, the near tier is emptied before it is used again.
/// A server that hangs gives no sign at all, so it is asked all the time (`HELLO`, which also tells whether it is a replica by now): the near tier is used for
/// [`trust`](Self::trust) after a question that was answered. A near hit is behind by the time that a push takes, and
/// by `trust` if the connection hangs.
///
/// At the beginning it has the far store write a key, and waits until the server says so. If the names don't match,
/// because the far store has another namespace, say, the near tier stays closed, and
/// [`kept_by`](cache_core::TierSnapshot::kept_by) says why.
///
/// # What it costs
///
/// Every change of a key goes to every process, if it has a copy or not: also leases that are granted for a load,
/// and entries that expire. A process's own writes come back to it, too, and take the near copy with them; the
/// next read makes another.
///
/// # Why by prefix, and not by key
///
/// Without `BCAST` the server remembers which connection has read which key, and tells that one, once. That spares messages
/// only where processes read less often than others write. Keys that each of four clients was told of for each write, together,
/// by the number of reads that each made between two writes:
///
/// | reads | by prefix | by key |
/// |---:|---:|---:|
/// | 0 | 4.00 | 0.00 |
/// | 1 | 4.00 | 1.92 |
/// | 10 | 4.00 | 3.76 |
///
/// (`cargo test -p cache-tests --test coherence tracking_by_prefix_tells -- --nocapture`.) A cache is for keys that are read more often
/// than written. And there the price is that what the server remembers ends with the reading connection, without a word: each of the
/// connections by which this store reads, which are shared with whatever else it is used for, which are made anew
/// by themselves, and which in a cluster belong to nodes that come and go, would have to empty the near tier before anybody reads by
/// its successor; and a near copy would have to know by which of them it was read. With a prefix all that is remembered is in the one
/// connection that listens, whose end is seen by who has to know.
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

struct Watch {
    store: RedisStore,
    /// What the far store puts before the tiers' keys.
    prefix: String,
    probe_every: Duration,
    trust: Duration,
}

impl Tracking {
    /// Of the keys of this store, the one at the bottom of the far store.
    pub fn of(store: &RedisStore) -> Self {
        let prefix = store.0.settings.prefix.to_string();
        let (probe_every, trust) = (Duration::from_millis(250), Duration::from_secs(1));
        let watch = Watch { store: store.clone(), prefix, probe_every, trust };
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
}

impl Coherence for Tracking {
    fn keep(self, near: NearTier) -> Result<Keeper> {
        if self.watch.probe_every.is_zero() || self.watch.trust <= self.watch.probe_every * 2 {
            return Err(Error::with_cause(
                ErrorKind::InvalidOption,
                "trust: must be longer than twice `probe_every`, which must not be zero",
            ));
        }
        let runtime =
            Handle::try_current().map_err(|e| Error::with_cause(ErrorKind::NoRuntime, e))?;
        near.kept_by("tracking");
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
            .field("probe_every", &self.watch.probe_every)
            .field("trust", &self.watch.trust)
            .field("falls_back", &self.fallback.is_some())
            .finish_non_exhaustive()
    }
}

/// Why tracking has ended.
enum End {
    /// The server, or the user's permissions, don't have it.
    Refused(Error),
    Other(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

async fn run(
    watch: Watch,
    near: NearTier,
    mut fallback: Option<Fallback>,
    switch: Option<Arc<Switch>>,
) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let end = watch.session(&near, switch.as_deref()).await;
        near.distrust();
        if let (End::Refused(error), Some(switch)) = (&end, &switch)
            && let Some(fall_back) = fallback.take_if(|_| !switch.is_decided())
            && let Ok(keeper) = fall_back(near.clone())
        {
            near.kept_by(&format!("something else, since tracking was refused: {error}"));
            switch.fall_back(keeper);
            return;
        }
        let (End::Refused(error) | End::Other(error)) = &end;
        near.kept_by(&format!("tracking, which has failed: {error}"));
        failures = if began.elapsed() > watch.trust { 0 } else { failures + 1 };
        sleep(watch.store.0.settings.pause(failures).max(Duration::from_millis(5))).await;
    }
}

impl Watch {
    /// Tracks until that ends.
    async fn session(&self, near: &NearTier, switch: Option<&Switch>) -> End {
        match self.track(near, switch).await {
            Ok(()) => {
                End::Other(Error::with_cause(ErrorKind::Unavailable, "the cluster has changed"))
            }
            Err(end) => end,
        }
    }

    async fn track(&self, near: &NearTier, switch: Option<&Switch>) -> Result<(), End> {
        let mut pushes = Pushes::new();
        let servers = self.store.0.servers()?;
        let listeners = try_join_all(servers.iter().map(|link| pushes.listen(link))).await?;
        for listener in &listeners {
            self.arm(listener).await?;
        }
        // From now on every change is heard of. What was copied before goes.
        near.resync(Resync::Connected).await?;
        self.recognise(near, &mut pushes).await?;
        if let Some(switch) = switch {
            switch.stay();
        }
        near.kept_by("tracking");
        let mut known = None;
        let mut next_probe = Instant::now();
        loop {
            match timeout_at(next_probe, pushes.next()).await {
                Ok(push) => self.heard(near, push?, known).await?,
                Err(_) => {
                    let now = self.store.0.servers()?;
                    let same = |link| servers.iter().any(|server| Arc::ptr_eq(server, link));
                    if now.len() != servers.len() || !now.iter().all(same) {
                        return Ok(());
                    }
                    known = self.probe(near, &listeners, &mut pushes, known).await?;
                    next_probe =
                        Instant::now() + self.probe_every.mul_f64(0.9 + fastrand::f64() / 10.0);
                }
            }
        }
    }

    /// Asks for the news of all keys with the prefix.
    async fn arm(&self, listener: &Listener) -> Result<(), End> {
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.prefix);
        match listener.ask(&command, self.store.0.settings.operation_timeout).await? {
            Value::ServerError(error) => Err(End::Refused(failure(&error.into()).error)),
            _ => Ok(()),
        }
    }

    /// Finds out whether the far store's keys are the ones that are heard of.
    async fn recognise(&self, near: &NearTier, pushes: &mut Pushes) -> Result<(), End> {
        let mark = format!("probe-{:016x}", fastrand::u64(..));
        let full = format!("{}{mark}", self.prefix);
        near.mark_far(&mark).await?;
        let heard = timeout(self.trust.max(self.store.0.settings.operation_timeout), async {
            loop {
                let push = pushes.next().await?;
                if let Push::Invalidated(keys) = &push
                    && keys.iter().any(|key| key[..] == *full.as_bytes())
                {
                    return Ok(());
                }
                self.heard(near, push, None).await?;
            }
        });
        heard.await.unwrap_or_else(|_| {
            Err(End::Other(Error::with_cause(
                ErrorKind::InvalidOption,
                format!("namespace: the far store's keys do not begin with {:?}", self.prefix),
            )))
        })
    }

    /// Asks every server whether it is there, and hears what it says meanwhile.
    async fn probe(
        &self,
        near: &NearTier,
        listeners: &[Listener],
        pushes: &mut Pushes,
        before: Option<cache_core::Moment>,
    ) -> Result<Option<cache_core::Moment>, End> {
        // Whatever was changed before it is asked comes before the answer.
        let known = near.now();
        let asked = Instant::now();
        let ping = redis::cmd("HELLO");
        let mut answers = pin!(join_all(listeners.iter().map(|one| one.ask(&ping, self.trust))));
        let answers = loop {
            match select(answers.as_mut(), pin!(pushes.next())).await {
                Either::Left((answers, _)) => break answers,
                Either::Right((push, _)) => self.heard(near, push?, before).await?,
            }
        };
        for answer in answers {
            match answer? {
                Value::ServerError(error) => {
                    return Err(End::Other(failure(&error.into()).error));
                }
                answer if is_replica(&answer) => {
                    let why = "the server has become a replica";
                    return Err(End::Other(Error::with_cause(ErrorKind::Unavailable, why)));
                }
                _ => {}
            }
        }
        while let Some(push) = pushes.now()? {
            self.heard(near, push, before).await?;
        }
        near.lag(asked.elapsed());
        if let Some(known) = known {
            near.trust(known, self.trust);
        }
        Ok(known)
    }

    async fn heard(
        &self,
        near: &NearTier,
        push: Push,
        known: Option<cache_core::Moment>,
    ) -> Result<(), End> {
        let reason = match push {
            Push::Invalidated(keys) => {
                let own = keys.iter().filter_map(|key| self.own(key));
                let keys: Vec<_> = own.collect();
                if !keys.is_empty() {
                    near.forget(&Change::Keys(keys)).await?;
                }
                return Ok(());
            }
            Push::Flushed => Resync::Flushed,
            Push::Missed => Resync::Lag,
            Push::Message(_) => return Ok(()),
        };
        near.resync(reason).await?;
        if let Some(known) = known {
            near.trust(known, self.trust);
        }
        Ok(())
    }

    /// The key as the tiers spell it.
    fn own(&self, key: &Bytes) -> Option<SmolStr> {
        let key = std::str::from_utf8(key).ok()?;
        key.strip_prefix(&self.prefix).map(SmolStr::new)
    }
}

/// Whether the answer to `HELLO` is that of a replica, which hears of changes late.
fn is_replica(answer: &Value) -> bool {
    let is = |value: &Value, texts: &[&str]| match value {
        Value::BulkString(text) => texts.iter().any(|one| one.as_bytes() == text),
        Value::SimpleString(text) => texts.contains(&text.as_str()),
        _ => false,
    };
    let Value::Map(facts) = answer else {
        return false;
    };
    facts.iter().any(|(fact, value)| is(fact, &["role"]) && is(value, &["replica", "slave"]))
}

/// Who is told of this process's changes: nobody, unless tracking is refused.
#[derive(Default)]
struct Switch(Mutex<Decision>);

#[derive(Default)]
enum Decision {
    #[default]
    Open,
    /// What has been changed until then, and whether it is settled.
    Waiting(Vec<(Change, bool)>),
    Tracking,
    Fallback(Keeper),
}

impl Switch {
    fn is_decided(&self) -> bool {
        matches!(*self.lock(), Decision::Tracking | Decision::Fallback(_))
    }

    fn stay(&self) {
        *self.lock() = Decision::Tracking;
    }

    fn fall_back(&self, keeper: Keeper) {
        let mut decision = self.lock();
        if let (Decision::Waiting(changes), Some(announcer)) = (&*decision, keeper.announcer()) {
            for (change, settled) in changes.clone() {
                tell(&*announcer, change, settled);
            }
        }
        *decision = Decision::Fallback(keeper);
    }

    fn told(&self, change: Change, settled: bool) {
        let mut decision = self.lock();
        match &mut *decision {
            Decision::Tracking => {}
            Decision::Fallback(keeper) => {
                if let Some(announcer) = keeper.announcer() {
                    tell(&*announcer, change, settled);
                }
            }
            Decision::Open => *decision = Decision::Waiting(vec![(change, settled)]),
            Decision::Waiting(changes) if changes.len() < UNDECIDED => {
                changes.push((change, settled));
            }
            Decision::Waiting(changes) => {
                let settled = changes.iter().all(|(_, settled)| *settled);
                *changes = vec![(Change::Clear, settled)];
            }
        }
    }

    // Nothing in here panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Decision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(announcer: &dyn Announce, change: Change, settled: bool) {
    if settled {
        announcer.changed(change);
    } else {
        announcer.unsettled(change);
    }
}

impl Announce for Switch {
    fn changed(&self, change: Change) {
        self.told(change, true);
    }

    fn unsettled(&self, change: Change) {
        self.told(change, false);
    }

    fn ended(&self) {
        *self.lock() = Decision::Tracking;
    }
}
