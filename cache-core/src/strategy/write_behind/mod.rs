mod flusher;
mod options;

use std::fmt;
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::flusher::{Flusher, Stop};
use super::inner::sealed::Inner;
use super::{ReadCache, ReadManyCache, ReadStrategy, WriteCache};
use crate::engine::{Failed, Fence, Pending, PendingWrite, Unfinished, runtime};
use crate::journal::Turn;
use crate::{
    BatchWriter, CacheKey, CacheStore, DeadLetter, Depth, Error, ErrorKind, Failure, Journal,
    Observer, ReadHints, Reading, Result, Seq,
};

pub use options::{BehindOptions, Overflow};

/// How many keys can be put into the cache at the same time.
const TURNS: usize = 64;
/// How long something may take, or has to wait, for which there is more time than clocks go.
const LATEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a write waits that has found too little room.
const CROWDED: Duration = Duration::from_millis(5);

/// Write-behind: a write goes into a journal and into the cache, and is acknowledged; to the source it goes later, in
/// batches, and only the last write of a key.
///
/// It stands around a reading strategy, and reads as that does: all methods of the inner strategy can be called on
/// it. Its `put` and `remove` take the place of the inner ones.
///
/// # What is promised
///
/// * A write that was acknowledged is as safe as the journal is durable, and is made at least once. Nothing is dropped
///   silently: what the source does not take becomes a [dead letter](Self::dead_letters), with its cause.
/// * Of each key, writes reach the source in their order; some may be skipped, since a later one takes the place of
///   one that still waits. A key that is being written is not written again before that has ended.
/// * Reads see what was acknowledged: from the cache, or, when that has forgotten it, from the journal. Loads,
///   refreshes and invalidations do not bring back what the source still has.
/// * A source that is down sees a trickle of attempts, at growing intervals. A write that it refuses ends up alone, and holds up
///   no other.
/// * Memory is bounded by the journal's [`Bounds`](crate::Bounds). When that is full, `put` waits or fails, as
///   [`Overflow`] says.
///
/// # What is not
///
/// Exactly once: the writer has to bear repetitions, for which [`Write::seq`](crate::Write::seq) helps. Order across
/// keys. That other processes see a write before it is in the source, unless they share the store or the journal.
/// Order against those who write to the source directly, or by a journal of their own: the source then has what
/// reached it last, and a cache may have the other until its end.
///
/// A write that is parked, as a dead letter, is not read any more: its entry is removed, and the source has the word again.
///
/// # Cancellation
///
/// A `put` that is dropped has been made or not, and leaves no wrong entry behind.
///
/// # Dropping it
///
/// When the last handle is dropped, writing stops after the batches that are under way. A durable journal keeps the rest for
/// the next start. One in memory is emptied in the background for as long as the source takes what it is given; what is then left is
/// lost. So call [`shutdown`](Self::shutdown).
///
/// ```
/// use cache_core::{BehindOptions, Bounds, MemoryJournal, ReadOptions, ReadThrough, Write, WriteBatch, WriteBehind};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let load = |id: u64| async move { Ok::<_, io::Error>(Some(format!("user {id}"))) };
/// let users = ReadThrough::new(MemoryStore::new(10_000), load, ReadOptions::ttl(Duration::from_secs(60)))?;
///
/// let writer = WriteBatch(|writes: Vec<Write<u64, String>>| async move {
///     // begin; upsert or delete each; commit
///     drop(writes);
///     Ok::<_, io::Error>(())
/// });
/// let journal = MemoryJournal::new(Bounds::default());
/// let users = WriteBehind::new(users, writer, journal, BehindOptions::default())?;
///
/// users.put(&7, "Ada".to_owned()).await?; // in the journal and in the cache
/// assert_eq!(users.get(&7).await?.as_deref(), Some("Ada"));
///
/// let left = users.shutdown(Duration::from_secs(10)).await?; // writes the rest
/// assert_eq!(left.writes, 0);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct WriteBehind<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    inner: R,
    shared: Arc<Shared<R, W, J>>,
}

struct Shared<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    flusher: Arc<Flusher<R::Store, R::Observer, W, J>>,
    /// Puts of one key into the cache come one after the other.
    turns: Box<[Mutex<()>]>,
    hasher: foldhash::fast::RandomState,
    closed: AtomicBool,
}

/// What is not in the source.
///
/// ```
/// use cache_core::Leftover;
///
/// assert!(Leftover::default().is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what is left in a journal that is not durable is lost at the end of the process"]
pub struct Leftover {
    /// Writes that are still in the journal; at least so many, if processes share it.
    pub writes: usize,
    /// Writes that the source has not taken.
    pub dead_letters: usize,
}

impl Leftover {
    /// Whether everything is in the source.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How the writing goes. Counts are since the strategy was made.
///
/// ```
/// use cache_core::WriteBehindStats;
///
/// fn alarming(stats: &WriteBehindStats) -> bool {
///     stats.dead_letters > 0 || stats.depth.oldest.is_some_and(|age| age.as_secs() > 60)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteBehindStats {
    /// How much waits, and for how long.
    pub depth: Depth,
    /// How many dead letters there are.
    pub dead_letters: usize,
    /// Batches that were tried.
    pub flushes: u64,
    /// Writes that have reached the source.
    pub flushed: u64,
    /// Writes that are, or were, to be tried again.
    pub retries: u64,
    /// Writes that became dead letters.
    pub parked: u64,
    /// Keys whose entries may be old and could not be removed, so that they are not read.
    pub doubted: usize,
    /// Whether the source has refused what it was given last.
    pub failing: bool,
}

impl<R, W, J> WriteBehind<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    /// Writes by `writer`, later, what is put into `journal`, and reads as `inner` does. What the journal has from
    /// before is written first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option, or saying that `inner` belongs to another `WriteBehind`;
    /// [`ErrorKind::NoRuntime`] outside of a tokio runtime.
    pub fn new(inner: R, writer: W, journal: J, options: BehindOptions) -> Result<Self> {
        options.check()?;
        let runtime = runtime()?;
        let engine = Arc::clone(inner.engine().0);
        let flusher = Arc::new(Flusher::new(Arc::clone(&engine), writer, journal, options));
        engine.watch_pending(Box::new(InJournal(Arc::downgrade(&flusher))))?;
        runtime.spawn(Arc::clone(&flusher).run());
        let shared = Shared {
            flusher,
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Self { inner, shared: Arc::new(shared) })
    }

    /// Puts a value into the journal and into the cache. When it has returned, the write is as safe as the journal is
    /// durable, and reads see it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`] if the journal has no room, [`ErrorKind::Closed`] after a [`shutdown`](Self::shutdown), the
    /// [journal's own](Journal::append). The write was not acknowledged then. That the cache failed is no error: what it
    /// may still have of the key is not read.
    ///
    /// # Cancellation
    ///
    /// The write has been made or not.
    pub async fn put<Q>(&self, key: &Q, value: R::Value) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned = J::Key> + Sync + ?Sized,
    {
        self.write(key, Some(value)).await
    }

    /// Puts into the journal that the key is to be removed, and removes it from the cache; that it is gone is kept for
    /// [`negative_ttl`](crate::ReadOptions::negative_ttl).
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    ///
    /// # Cancellation
    ///
    /// As [`put`](Self::put).
    pub async fn remove<Q>(&self, key: &Q) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned = J::Key> + Sync + ?Sized,
    {
        self.write(key, None).await
    }

    /// Has everything written that was put so far, and waits for it, but no longer than `limit`. Says what is left.
    ///
    /// # Errors
    ///
    /// Those of a journal that has to be asked.
    pub async fn flush(&self, limit: Duration) -> Result<Leftover> {
        // What is left is what is asked for, late or not.
        timeout(limit, self.journal().drained()).await.unwrap_or(Ok(()))?;
        Ok(self.leftover())
    }

    /// Takes no more writes, has those written that it has, lets go of the journal, and ends the refreshes of the inner
    /// strategy, all within `limit`. Says what is left: a durable journal keeps it, any other loses it. Reads go on. May
    /// be called again.
    ///
    /// A batch that is under way at the end of `limit` is let finish, and the journal is let go of only then, in the background: until
    /// then nobody else can open it and write what is newer.
    ///
    /// # Errors
    ///
    /// Those of the journal.
    pub async fn shutdown(&self, limit: Duration) -> Result<Leftover> {
        let now = Instant::now();
        let until = now.checked_add(limit).unwrap_or(now + LATEST);
        self.shared.closed.store(true, Ordering::Release);
        let flusher = &self.shared.flusher;
        self.journal().seal();
        let drained = timeout_at(until, self.journal().drained()).await;
        flusher.stop(Stop::Now);
        let ended = timeout_at(until, flusher.ended()).await;
        let left = self.leftover();
        let rest = || until.saturating_duration_since(Instant::now());
        let closed = if ended.is_ok() {
            self.journal().close(rest()).await
        } else {
            // Whoever opened it now would write what is newer than what is under way, and be overtaken by it.
            tokio::spawn(Arc::clone(flusher).close_when_ended());
            Ok(())
        };
        self.inner.engine().0.shutdown(rest()).await;
        match drained {
            Ok(drained) => drained.and(closed)?,
            // There was no time left to close in, and that something is left is what is answered.
            Err(_) => drop(closed),
        }
        Ok(left)
    }

    /// The dead letters, oldest first, at most so many. One that [can't be read](DeadLetter::unreadable) is among
    /// them, to be discarded, or left for a version of this program that can.
    ///
    /// # Errors
    ///
    /// Those of the journal.
    pub async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<J::Key, J::Value>>> {
        self.journal().dead_letters(most).await
    }

    /// Puts a dead letter again, as if it were put now: it comes after everything that has been put under its key meanwhile.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`ErrorKind::Codec`] for a letter whose write can't be read; the dead letter is still
    /// there then.
    ///
    /// # Cancellation
    ///
    /// The dead letter may be there although it has been put again.
    pub async fn replay(&self, letter: &DeadLetter<J::Key, J::Value>) -> Result<()> {
        let Some(write) = letter.write.clone() else {
            return Err(Error::with_cause(ErrorKind::Codec, letter.cause.clone()));
        };
        self.write(&write.key, write.value).await?;
        self.discard(letter).await.map(drop)
    }

    /// Drops a dead letter; says whether it was there.
    ///
    /// # Errors
    ///
    /// Those of the journal.
    pub async fn discard(&self, letter: &DeadLetter<J::Key, J::Value>) -> Result<bool> {
        self.journal().discard(&letter.key, letter.seq).await
    }

    /// How the writing goes.
    #[must_use]
    pub fn stats(&self) -> WriteBehindStats {
        let counts = &self.shared.flusher.counts;
        WriteBehindStats {
            depth: self.journal().depth(),
            dead_letters: self.journal().dead(),
            flushes: counts.flushes.load(Ordering::Relaxed),
            flushed: counts.flushed.load(Ordering::Relaxed),
            retries: counts.retries.load(Ordering::Relaxed),
            parked: counts.parked.load(Ordering::Relaxed),
            doubted: self.inner.engine().0.doubted(),
            failing: self.shared.flusher.is_failing(),
        }
    }

    /// The strategy that reads.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.shared.flusher.journal
    }

    fn leftover(&self) -> Leftover {
        Leftover { writes: self.journal().depth().writes(), dead_letters: self.journal().dead() }
    }

    async fn write<Q>(&self, key: &Q, value: Option<R::Value>) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned = J::Key> + Sync + ?Sized,
    {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let spelled = key.key().to_smol();
        if self.inner.engine().0.store.capabilities().shared {
            return Box::pin(self.write_shared(spelled, key, value)).await;
        }
        // Another process may make what is appended here, and tells nobody.
        let unfinished = Unfinished::new(self.inner.engine().0, [spelled.clone()]);
        let cached = match self.append(key, value.as_ref()).await {
            Ok(seq) => self.cache(spelled, seq, value).await,
            Err(error) if is_refusal(&error) => Err(error),
            // Nobody knows, so the entry is doubted.
            Err(error) => return Err(error),
        };
        unfinished.ended();
        cached
    }

    /// Puts a write into a cache of which only this process knows.
    async fn cache(&self, key: SmolStr, seq: Seq, value: Option<R::Value>) -> Result<()> {
        let engine = self.inner.engine().0;
        let turn = self.shared.hasher.hash_one(&key) as usize % TURNS;
        let turn = &self.shared.turns[turn];
        let _turn = match turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => turn.lock().await,
        };
        match self.journal().backlog().turn(&key, seq) {
            Turn::Last => engine.put_or_doubt(&key, value).await,
            // The cache has to have it as soon as one of the two is acknowledged.
            Turn::Overtaken(later) => engine.put_or_doubt(&key, later).await,
            // It is in the source, perhaps with a later one.
            Turn::Done => engine.remove_or_doubt(&key).await,
        }
    }

    /// Puts a write into the journal, and into a cache into which other processes put theirs: as if the journal were the
    /// source.
    async fn write_shared<Q>(
        &self,
        spelled: SmolStr,
        key: &Q,
        value: Option<R::Value>,
    ) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned = J::Key> + Sync + ?Sized,
    {
        let engine = self.inner.engine().0;
        let limit = self.shared.flusher.options.write_timeout;
        let life = limit.saturating_add(engine.options.store_timeout);
        let mut appended = None;
        let writes = vec![(spelled.clone(), value.clone())];
        let fence = Fence { life, evicts_first: false };
        let append = async {
            let seq = self.append(key, value.as_ref()).await.map_err(|error| {
                let refused = is_refusal(&error);
                let failure = if refused { Failure::NotWritten } else { Failure::Unknown };
                Failed { error, failure }
            })?;
            appended = Some(seq);
            Ok(())
        };
        engine.write_through(writes, fence, append).await?;
        if let Some(seq) = appended {
            // From here on the cache has it, or something later, or nothing.
            self.journal().backlog().mark_cached(&spelled, seq);
        }
        Ok(())
    }

    /// Appends to the journal; waits for room, if that is wanted.
    async fn append<Q>(&self, key: &Q, value: Option<&R::Value>) -> Result<Seq>
    where
        Q: CacheKey + ToOwned<Owned = J::Key> + Sync + ?Sized,
    {
        let journal = self.journal();
        let append = || journal.append(key.to_owned(), value.cloned());
        let is_full = |appended: &Result<Seq>| {
            appended.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full)
        };
        // The first attempt needs no timer.
        let first = append().await;
        let limit = match self.shared.flusher.options.overflow {
            Overflow::Block(limit) if is_full(&first) => limit,
            _ => return first,
        };
        let now = Instant::now();
        let until = now.checked_add(limit).unwrap_or(now + LATEST);
        let retry = async {
            // Only the waiting ends early: of an append that is given up nobody knows whether it was made.
            while Instant::now() < until && timeout_at(until, journal.room()).await.is_ok() {
                let appended = append().await;
                if !is_full(&appended) {
                    return appended;
                }
                // Others were faster, or it needs more room than that.
                sleep(CROWDED).await;
            }
            Err(Error::new(ErrorKind::Full))
        };
        Box::pin(retry).await
    }
}

/// Whether a journal that fails like this has appended nothing.
fn is_refusal(error: &Error) -> bool {
    use ErrorKind::{Closed, Codec, Full, TooLarge};
    matches!(error.kind(), Full | Closed | Codec | TooLarge)
}

/// Asks the journal, for as long as there is one.
struct InJournal<F>(Weak<F>);

impl<S, O, W, J> Pending<S::Value> for InJournal<Flusher<S, O, W, J>>
where
    S: CacheStore,
    O: Observer,
    W: BatchWriter<J::Key, S::Value>,
    J: Journal<Value = S::Value>,
{
    fn pending<'a>(&'a self, key: &'a str) -> PendingWrite<'a, S::Value> {
        Box::pin(async move {
            let Some(flusher) = self.0.upgrade() else { return Ok(None) };
            Ok(flusher.journal.pending(key).await?.map(|(_, value)| value))
        })
    }
}

impl<R, W, J> Drop for Shared<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    fn drop(&mut self) {
        if self.flusher.journal.is_durable() {
            self.flusher.stop(Stop::Now);
        } else {
            self.flusher.stop(Stop::AtFailure);
            self.flusher.journal.backlog().close();
        }
    }
}

/// Reads as the inner strategy does.
impl<R, W, J> Deref for WriteBehind<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    type Target = R;

    fn deref(&self) -> &R {
        &self.inner
    }
}

impl<K, R, W, J> ReadCache<K> for WriteBehind<R, W, J>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadCache<K, Value = <R as Inner>::Value>,
    W: BatchWriter<K, <R as Inner>::Value>,
    J: Journal<Key = K, Value = <R as Inner>::Value>,
{
    type Value = <R as Inner>::Value;

    async fn get(&self, key: &K) -> Result<Option<Self::Value>> {
        self.inner.get(key).await
    }

    async fn get_with(&self, key: &K, hints: ReadHints) -> Result<Reading<Self::Value>> {
        self.inner.get_with(key, hints).await
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        self.inner.invalidate(key).await
    }
}

impl<K, R, W, J> ReadManyCache<K> for WriteBehind<R, W, J>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadManyCache<K, Value = <R as Inner>::Value>,
    W: BatchWriter<K, <R as Inner>::Value>,
    J: Journal<Key = K, Value = <R as Inner>::Value>,
{
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Self::Value>>> {
        self.inner.get_many(keys).await
    }
}

impl<K, R, W, J> WriteCache<K> for WriteBehind<R, W, J>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadCache<K, Value = <R as Inner>::Value>,
    W: BatchWriter<K, <R as Inner>::Value>,
    J: Journal<Key = K, Value = <R as Inner>::Value>,
{
    async fn put(&self, key: &K, value: Self::Value) -> Result<()> {
        self.put::<K>(key, value).await
    }

    async fn remove(&self, key: &K) -> Result<()> {
        self.remove::<K>(key).await
    }
}

impl<R, W, J> Clone for WriteBehind<R, W, J>
where
    R: ReadStrategy + Clone,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<R, W, J> fmt::Debug for WriteBehind<R, W, J>
where
    R: ReadStrategy,
    W: BatchWriter<J::Key, R::Value>,
    J: Journal<Value = R::Value>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("options", &self.shared.flusher.options)
            .field("depth", &self.journal().depth())
            .finish_non_exhaustive()
    }
}
