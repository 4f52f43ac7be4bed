use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    BatchLoader, BatchWriter, BehindOptions, Bounds, CacheAside, CacheStore, Loader, MemoryJournal,
    Observer, ReadCache, ReadOptions, ReadStrategy, ReadThrough, Result, StaleWhileRevalidate,
    Write, WriteBehind, WriteCache, WriteOptions, WriteThrough, Writer,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::source::{Source, SourceDown};

/// A strategy over a [`Source`], with keys that are strings.
pub trait TestCache: Send + Sync {
    /// The value, loaded if need be.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<u64>>>;
    /// The values, loaded if need be.
    fn get_many<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<Option<u64>>>>;
    /// As the strategy's.
    fn put<'a>(&'a self, key: &'a str, value: Option<u64>) -> BoxFuture<'a, Result<()>>;
    /// As the strategy's.
    fn invalidate<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>>;
    /// As the strategy's.
    fn invalidate_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>>;
    /// As the strategy's.
    fn clear(&self) -> BoxFuture<'_, Result<()>>;
    /// How many keys are being loaded.
    fn loading(&self) -> usize;
    /// Waits until the source has what has been put, where a strategy writes to it.
    fn settle(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Which strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// [`CacheAside`].
    Aside,
    /// [`ReadThrough`].
    Through,
    /// [`StaleWhileRevalidate`], with the least window there is: for tests that are not about that.
    Revalidate,
    /// A strategy that writes to the source as well.
    Writing(Writing),
}

/// Which strategy that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// [`WriteThrough`] around [`ReadThrough`].
    Through,
    /// [`WriteThrough`] around [`StaleWhileRevalidate`].
    ThroughRevalidate,
    /// [`WriteBehind`] around [`ReadThrough`], with a [`MemoryJournal`].
    Behind,
    /// [`WriteBehind`] around [`StaleWhileRevalidate`], with a [`MemoryJournal`].
    BehindRevalidate,
}

/// A cache of what `source` has.
///
/// # Panics
///
/// If the options are invalid.
pub fn cache<S, O>(
    strategy: Strategy,
    store: S,
    options: ReadOptions<u64, O>,
    source: &Arc<Source>,
) -> Arc<dyn TestCache>
where
    S: CacheStore<Value = u64>,
    O: Observer,
{
    let source = Arc::clone(source);
    match strategy {
        Strategy::Aside => {
            let cache = CacheAside::new(store, options).expect("valid options");
            Arc::new(Aside { cache, source })
        }
        Strategy::Through => Arc::new(through(store, options, source)),
        Strategy::Revalidate => Arc::new(revalidating(store, options, source)),
        Strategy::Writing(Writing::Through) => {
            written_through(through(store, options, Arc::clone(&source)), source)
        }
        Strategy::Writing(Writing::ThroughRevalidate) => {
            written_through(revalidating(store, options, Arc::clone(&source)), source)
        }
        Strategy::Writing(Writing::Behind) => {
            written_behind(through(store, options, Arc::clone(&source)), source)
        }
        Strategy::Writing(Writing::BehindRevalidate) => {
            written_behind(revalidating(store, options, Arc::clone(&source)), source)
        }
    }
}

fn through<S, O>(
    store: S,
    options: ReadOptions<u64, O>,
    source: Arc<Source>,
) -> ReadThrough<S, FromSource, O>
where
    S: CacheStore<Value = u64>,
    O: Observer,
{
    ReadThrough::new(store, FromSource(source), options).expect("valid options")
}

fn revalidating<S, O>(
    store: S,
    options: ReadOptions<u64, O>,
    source: Arc<Source>,
) -> StaleWhileRevalidate<S, FromSource, O>
where
    S: CacheStore<Value = u64>,
    O: Observer,
{
    let options = options.stale_for(Duration::from_nanos(1));
    StaleWhileRevalidate::new(store, FromSource(source), options).expect("valid options")
}

fn written_through<R>(inner: R, source: Arc<Source>) -> Arc<dyn TestCache>
where
    R: ReadStrategy<Value = u64> + ReadCache<String, Value = u64> + TestCache,
{
    let cache = WriteThrough::new(inner, FromSource(source), WriteOptions::default());
    Arc::new(Written(cache.expect("valid options")))
}

fn written_behind<R>(inner: R, source: Arc<Source>) -> Arc<dyn TestCache>
where
    R: ReadStrategy<Value = u64> + ReadCache<String, Value = u64> + TestCache,
{
    let journal = MemoryJournal::new(Bounds::default());
    let cache = WriteBehind::new(inner, FromSource(source), journal, BehindOptions::default());
    Arc::new(Written(cache.expect("valid options")))
}

/// Options for tests that are not about options.
#[must_use]
pub fn minute() -> ReadOptions<u64> {
    ReadOptions::ttl(Duration::from_secs(60))
}

/// The same, for stores whose operations may take their time: on a busy machine, or because a test holds them.
#[must_use]
pub fn unhurried() -> ReadOptions<u64> {
    minute().store_timeout(Duration::from_secs(60))
}

/// Loads from a [`Source`].
#[derive(Clone, Debug)]
pub struct FromSource(pub Arc<Source>);

impl Loader<String> for FromSource {
    type Value = u64;
    type Error = SourceDown;

    async fn load(&self, key: String) -> Result<Option<u64>, SourceDown> {
        self.0.load(&key).await
    }
}

impl BatchLoader<String> for FromSource {
    async fn load_many(&self, keys: Vec<String>) -> Result<Vec<(String, u64)>, SourceDown> {
        self.0.load_many(keys).await
    }
}

impl Writer<String, u64> for FromSource {
    type Error = SourceDown;

    async fn write(&self, write: Write<String, u64>) -> Result<(), SourceDown> {
        match write.value {
            Some(value) => self.0.put(&write.key, value),
            None => self.0.remove(&write.key),
        }
        Ok(())
    }
}

impl BatchWriter<String, u64> for FromSource {
    async fn write_many(&self, writes: Vec<Write<String, u64>>) -> Result<(), SourceDown> {
        for write in writes {
            self.write(write).await?;
        }
        Ok(())
    }
}

/// A strategy that writes, around one that reads.
struct Written<C>(C);

/// Waits until the source has everything.
trait Settle {
    fn settle(&self) -> BoxFuture<'_, ()>;
}

impl<R: ReadStrategy, W: Send + Sync> Settle for WriteThrough<R, W> {
    fn settle(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

impl<R: ReadStrategy<Value = u64>> Settle
    for WriteBehind<R, FromSource, MemoryJournal<String, u64>>
{
    fn settle(&self) -> BoxFuture<'_, ()> {
        async {
            let left =
                self.flush(Duration::from_secs(60)).await.expect("the journal does not fail");
            assert!(left.is_empty(), "{left:?}");
        }
        .boxed()
    }
}

impl<C> TestCache for Written<C>
where
    C: WriteCache<String, Value = u64> + Deref<Target: TestCache> + Settle,
{
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        TestCache::get(&*self.0, key)
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<Option<u64>>>> {
        TestCache::get_many(&*self.0, keys)
    }

    fn put<'a>(&'a self, key: &'a str, value: Option<u64>) -> BoxFuture<'a, Result<()>> {
        let key = key.to_owned();
        async move {
            match value {
                Some(value) => WriteCache::put(&self.0, &key, value).await,
                None => WriteCache::remove(&self.0, &key).await,
            }
        }
        .boxed()
    }

    fn invalidate<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        TestCache::invalidate(&*self.0, key)
    }

    fn invalidate_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        TestCache::invalidate_prefix(&*self.0, prefix)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        TestCache::clear(&*self.0)
    }

    fn loading(&self) -> usize {
        TestCache::loading(&*self.0)
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Settle::settle(&self.0)
    }
}

struct Aside<S: CacheStore, O> {
    cache: CacheAside<S, O>,
    source: Arc<Source>,
}

impl<S: CacheStore<Value = u64>, O: Observer> TestCache for Aside<S, O> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.cache.get_or_load(key, || self.source.load(key)).boxed()
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<Option<u64>>>> {
        self.cache.get_or_load_many(keys, |keys| self.source.load_many(keys)).boxed()
    }

    fn put<'a>(&'a self, key: &'a str, value: Option<u64>) -> BoxFuture<'a, Result<()>> {
        self.cache.put(key, value).boxed()
    }

    fn invalidate<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.cache.invalidate(key).boxed()
    }

    fn invalidate_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        self.cache.invalidate_prefix(prefix).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.cache.clear().boxed()
    }

    fn loading(&self) -> usize {
        self.cache.loading()
    }
}

impl<S: CacheStore<Value = u64>, O: Observer> TestCache for ReadThrough<S, FromSource, O> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.get(key).boxed()
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<Option<u64>>>> {
        self.get_many(keys).boxed()
    }

    fn put<'a>(&'a self, key: &'a str, value: Option<u64>) -> BoxFuture<'a, Result<()>> {
        self.put(key, value).boxed()
    }

    fn invalidate<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.invalidate(key).boxed()
    }

    fn invalidate_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        self.invalidate_prefix(prefix).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.clear().boxed()
    }

    fn loading(&self) -> usize {
        self.loading()
    }
}

impl<S: CacheStore<Value = u64>, O: Observer> TestCache for StaleWhileRevalidate<S, FromSource, O> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.get(key).boxed()
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<Option<u64>>>> {
        self.get_many(keys).boxed()
    }

    fn put<'a>(&'a self, key: &'a str, value: Option<u64>) -> BoxFuture<'a, Result<()>> {
        self.put(key, value).boxed()
    }

    fn invalidate<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.invalidate(key).boxed()
    }

    fn invalidate_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        self.invalidate_prefix(prefix).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.clear().boxed()
    }

    fn loading(&self) -> usize {
        self.loading()
    }
}
