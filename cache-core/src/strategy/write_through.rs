use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::inner::sealed::Inner;
use super::{ReadCache, ReadManyCache, ReadStrategy, WriteCache};
use crate::engine::{Engine, Failed, Fence, message, runtime};
use crate::{
    BatchWriter, BoxError, CacheKey, Error, ErrorKind, Failure, Observer, ReadHints, Reading,
    Result, Write, Writer,
};

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Write-through: a write goes to the source first, and then to the cache. When it returns, both have it.
///
/// It stands around a reading strategy, and reads as that does: all methods of the inner strategy can be called on
/// it. Its `put` and `remove` take the place of the inner ones.
///
/// # What is promised
///
/// * However many writers, in however many processes, write one key at the same time: in the end the cache has
///   what the source has, or nothing. That needs a store that [fences](crate::Capabilities::fenced); on
///   one that does not, the entry is removed after the write instead of replaced, which is as good but for what loads
///   of *other* processes that are under way keep.
/// * A value is not read from the cache before it is in the source. While a write is under way, readers get what the
///   cache had before; if it had nothing, they wait for the write, as for a load.
/// * A read that begins after a write has returned gets nothing older.
/// * No stale entry is left behind silently. One that can be neither replaced nor removed is *doubted*: reads of the key go to the
///   source, past the store, until it has been removed, which is tried again in the background.
///
/// | the source | the fill | the removal | the caller gets | the cache has | reads of the key |
/// |---|---|---|---|---|---|
/// | ok | ok | - | ok | the new value | from the cache |
/// | ok | refused | ok | ok | nothing | load |
/// | ok | refused | fails | ok | unknown | past the cache |
/// | ok | fails | ok | ok | nothing | load |
/// | ok | fails | fails | ok | unknown | past the cache |
/// | fails | - | - | error | the old value | from the cache |
/// | unknown | - | ok | error | nothing | load |
/// | unknown | - | fails | error | unknown | past the cache |
///
/// *Fails* is a writer's error of which it says that nothing was [written](Failure::NotWritten). (The old value goes all the
/// same if a load of its key was under way.) *Unknown* is an error of which it says [so](Failure::Unknown), which is what they
/// all say by default, a closure too; a time-out; and a panic.
///
/// # Cancellation
///
/// A write that has begun goes on in a task of its own.
///
/// # What is not promised
///
/// Nothing is kept on disk: if the process is killed between the source's commit and the fill, the old entry lives
/// until its end. [`WriteOptions::evict_first`] closes that gap, and then readers wait for each write of their key. Other
/// processes do not know what this one doubts.
///
/// ```
/// use cache_core::{ReadOptions, ReadThrough, Write, WriteOptions, WriteThrough};
/// use cache_memory::MemoryStore;
/// use std::collections::HashMap;
/// use std::{io, sync::Arc, sync::Mutex, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let table = Arc::new(Mutex::new(HashMap::<u64, String>::new()));
/// let rows = Arc::clone(&table);
/// let load = move |id| {
///     let row = rows.lock().unwrap().get(&id).cloned();
///     async { Ok::<_, io::Error>(row) }
/// };
/// let rows = Arc::clone(&table);
/// let write = move |write: Write<u64, String>| {
///     let mut rows = rows.lock().unwrap();
///     match write.value {
///         Some(name) => rows.insert(write.key, name),
///         None => rows.remove(&write.key),
///     };
///     async { Ok::<_, io::Error>(()) }
/// };
///
/// let options = ReadOptions::ttl(Duration::from_secs(60));
/// let users = ReadThrough::new(MemoryStore::new(10_000), load, options)?;
/// let users = WriteThrough::new(users, write, WriteOptions::default())?;
///
/// users.put(&7, "Ada".to_owned()).await?;
/// assert_eq!(users.get(&7).await?.as_deref(), Some("Ada"));
/// assert_eq!(table.lock().unwrap()[&7], "Ada");
/// users.remove(&7).await?;
/// assert_eq!(users.get(&7).await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct WriteThrough<R, W> {
    inner: R,
    writer: Arc<W>,
    options: WriteOptions,
}

/// How a [`WriteThrough`] writes.
///
/// ```
/// use cache_core::WriteOptions;
/// use std::time::Duration;
///
/// let options = WriteOptions::default().write_timeout(Duration::from_secs(2)).evict_first();
/// assert!(options.check().is_ok());
/// assert!(options.write_timeout(Duration::ZERO).check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct WriteOptions {
    write_timeout: Duration,
    evict_first: bool,
}

impl Default for WriteOptions {
    /// A write may take 10 s.
    fn default() -> Self {
        Self { write_timeout: WRITE_TIMEOUT, evict_first: false }
    }
}

impl WriteOptions {
    /// Gives up a write after this long. Nobody knows then whether it was made, so the entry is removed. The
    /// source should have a shorter limit of its own: what it commits later than this, a reader may have missed.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// Removes the entry before the source is written. Then no old entry outlives a process that is killed in between,
    /// but readers wait for the end of each write of their key (no longer than their `wait_limit`), and a write
    /// that the source refuses costs the entry.
    pub fn evict_first(mut self) -> Self {
        self.evict_first = true;
        self
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option.
    pub fn check(&self) -> Result<()> {
        if self.write_timeout.is_zero() {
            let cause = "write_timeout: must not be zero";
            return Err(Error::with_cause(ErrorKind::InvalidOption, cause));
        }
        Ok(())
    }
}

impl<R: ReadStrategy, W> WriteThrough<R, W> {
    /// Writes by `writer` (a closure, or a type that implements [`Writer`] and perhaps [`BatchWriter`]) what `inner` reads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option.
    pub fn new(inner: R, writer: W, options: WriteOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { inner, writer: Arc::new(writer), options })
    }

    /// Writes a value to the source, and then to the cache.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Write`] with the writer's own error as the [cause](Error::cause), `WriteTimeout`, `WriterPanicked`;
    /// `NoRuntime` outside of a tokio runtime. [`ErrorKind::Unavailable`] if the source has the value, but the store's
    /// old entry can't be removed and too many (10,000) keys are doubted already.
    ///
    /// # Cancellation
    ///
    /// The write goes on.
    pub async fn put<Q>(&self, key: &Q, value: R::Value) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        W: Writer<Q::Owned, R::Value>,
    {
        self.write(key, Some(value)).await
    }

    /// Removes a key from the source, and then from the cache; that it is gone is kept for
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
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        W: Writer<Q::Owned, R::Value>,
    {
        self.write(key, None).await
    }

    /// Makes many writes in one go; of a key that occurs twice, the last one. After an error any of them may have been
    /// made, so all their entries are removed from the cache.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    ///
    /// # Cancellation
    ///
    /// As [`put`](Self::put).
    pub async fn write_many<K>(&self, writes: Vec<(K, Option<R::Value>)>) -> Result<()>
    where
        K: CacheKey + Send + 'static,
        W: BatchWriter<K, R::Value>,
    {
        let mut seen = HashSet::new();
        let mut writes: Vec<_> =
            writes.into_iter().rev().filter(|(key, _)| seen.insert(key.key().to_smol())).collect();
        writes.reverse();
        if writes.is_empty() {
            return Ok(());
        }
        let spelled = writes.iter().map(|(key, value)| (key.key().to_smol(), value.clone()));
        let spelled = spelled.collect();
        let writer = Arc::clone(&self.writer);
        self.run(spelled, async move {
            let alone = writes.len() == 1;
            let writes = writes.into_iter().map(|(key, value)| Write::new(key, value)).collect();
            let written = writer.write_many(writes).await;
            written.map_err(|error| match failed(&*writer, error) {
                failed if alone => failed,
                failed => Failed { failure: Failure::Unknown, ..failed },
            })
        })
        .await
    }

    /// The strategy that reads.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// How many keys are doubted right now: their entries in the store may be old and could not be removed, so they are not read.
    pub fn doubted(&self) -> usize {
        self.inner.engine().0.doubted()
    }

    async fn write<Q>(&self, key: &Q, value: Option<R::Value>) -> Result<()>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        W: Writer<Q::Owned, R::Value>,
    {
        let spelled = vec![(key.key().to_smol(), value.clone())];
        let (writer, key) = (Arc::clone(&self.writer), key.to_owned());
        self.run(spelled, async move {
            let written = writer.write(Write::new(key, value)).await;
            written.map_err(|error| failed(&*writer, error))
        })
        .await
    }

    /// Runs a write, and what has to be done before and after it, in a task which no caller can cancel.
    async fn run(
        &self,
        writes: Vec<(smol_str::SmolStr, Option<R::Value>)>,
        write: impl Future<Output = Result<(), Failed>> + Send + 'static,
    ) -> Result<()> {
        let limit = self.options.write_timeout;
        let engine = Arc::clone(self.inner.engine().0);
        let life = limit.saturating_add(engine.options.store_timeout);
        let fence = Fence { life, evicts_first: self.options.evict_first };
        let task = runtime()?.spawn(async move {
            let write = bounded(&engine, writes.len(), limit, write);
            engine.write_through(writes, fence, write).await
        });
        task.await.unwrap_or_else(|gone| Err(Error::with_cause(ErrorKind::WriterPanicked, gone)))
    }
}

/// A write within its time, its panic an error, told to the observer.
pub(super) async fn bounded<S: crate::CacheStore, O: Observer>(
    engine: &Engine<S, O>,
    writes: usize,
    limit: Duration,
    write: impl Future<Output = Result<(), Failed>>,
) -> Result<(), Failed> {
    let began = Instant::now();
    let unknown = |error| Err(Failed { error, failure: Failure::Unknown });
    let written = match timeout(limit, AssertUnwindSafe(write).catch_unwind()).await {
        Ok(Ok(written)) => written,
        Ok(Err(panic)) => unknown(Error::with_cause(ErrorKind::WriterPanicked, message(&*panic))),
        Err(_) => unknown(Error::new(ErrorKind::WriteTimeout)),
    };
    engine.wrote(writes, began.elapsed(), written.as_ref().err().map(|failed| &failed.error));
    written
}

/// What a writer's error says.
pub(super) fn failed<K, V, W: Writer<K, V>>(writer: &W, error: W::Error) -> Failed {
    let failure = writer.failure(&error);
    let error = match Into::<BoxError>::into(error).downcast::<Error>() {
        // That of a cache below passes as it is.
        Ok(error) => *error,
        Err(error) => Error::with_cause(ErrorKind::Write, error),
    };
    Failed { error, failure }
}

/// Reads as the inner strategy does.
impl<R, W> Deref for WriteThrough<R, W> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.inner
    }
}

impl<K, R, W> ReadCache<K> for WriteThrough<R, W>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadCache<K, Value = <R as Inner>::Value>,
    W: Writer<K, <R as Inner>::Value>,
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

impl<K, R, W> ReadManyCache<K> for WriteThrough<R, W>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadManyCache<K, Value = <R as Inner>::Value>,
    W: Writer<K, <R as Inner>::Value>,
{
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Self::Value>>> {
        self.inner.get_many(keys).await
    }
}

impl<K, R, W> WriteCache<K> for WriteThrough<R, W>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    R: ReadStrategy + ReadCache<K, Value = <R as Inner>::Value>,
    W: Writer<K, <R as Inner>::Value>,
{
    async fn put(&self, key: &K, value: Self::Value) -> Result<()> {
        self.put::<K>(key, value).await
    }

    async fn remove(&self, key: &K) -> Result<()> {
        self.remove::<K>(key).await
    }
}

impl<R: Clone, W> Clone for WriteThrough<R, W> {
    fn clone(&self) -> Self {
        let Self { inner, writer, options } = self;
        Self { inner: inner.clone(), writer: Arc::clone(writer), options: *options }
    }
}

impl<R: fmt::Debug, W> fmt::Debug for WriteThrough<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteThrough")
            .field("inner", &self.inner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
