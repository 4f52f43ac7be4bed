use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    BatchLoader, CacheAside, CacheStore, Loader, Observer, ReadOptions, ReadThrough, Result,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

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
}

/// Which strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// [`CacheAside`].
    Aside,
    /// [`ReadThrough`].
    Through,
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
        Strategy::Through => {
            let loader = FromSource(source);
            Arc::new(ReadThrough::new(store, loader, options).expect("valid options"))
        }
    }
}

/// Options for tests that are not about options.
#[must_use]
pub fn minute() -> ReadOptions<u64> {
    ReadOptions::ttl(Duration::from_secs(60))
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
