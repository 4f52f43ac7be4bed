//! The caches that are measured: every strategy with every store.
//!
//! A new strategy is a variant of [`Strategy`] and an arm of [`Scenario::open`]; a new store is a
//! variant of [`Store`] and an arm of [`Scenario::open`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, ReadCache, ReadOptions, ReadThrough,
    StaleWhileRevalidate, Stats,
};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::{Json, Postcard};
use clap::ValueEnum;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::measure::Counts;
use crate::redis::Redis;
use crate::source::{Change, Product, Source};
use crate::writing;

/// Who loads, who writes, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strategy {
    /// Every read goes to SQLite: what the others are compared with
    NoCache,
    /// The caller brings the load to each read, and invalidates after each write
    CacheAside,
    /// The cache has the loader; the caller invalidates after each write
    ReadThrough,
    /// As read-through, but values in demand are refreshed shortly before their lifetime is over (in memory, and as postcard on Redis)
    EarlyRefresh,
    /// As read-through, but what is past its lifetime is returned at once for as long again, and refreshed (in memory, and as postcard on Redis)
    StaleWhileRevalidate,
    /// The cache writes to SQLite, and then to its store (in memory, and as postcard on Redis)
    WriteThrough,
    /// The cache writes to a journal in memory, and in batches to SQLite later (in memory, and as postcard on Redis)
    WriteBehind,
    /// The same with a journal on disk, which survives a crash (in memory, and as postcard on Redis)
    WriteBehindDisk,
}

impl Strategy {
    /// Whether it runs on every store, or on one in this process and one that is shared, which shows what is its own.
    fn runs_on(self, store: Store) -> bool {
        match self {
            Self::NoCache => false,
            Self::CacheAside | Self::ReadThrough => true,
            _ => matches!(store, Store::Memory | Store::RedisPostcard),
        }
    }
}

/// Where the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Store {
    /// In this process, values as they are (quick_cache)
    Memory,
    /// In this process, values as they are (moka)
    Moka,
    /// In this process, as bytes: JSON
    Json,
    /// In this process, as bytes: postcard
    Postcard,
    /// On a Redis server: JSON
    RedisJson,
    /// On a Redis server: postcard
    RedisPostcard,
}

impl Store {
    /// Whether it needs a Redis server.
    pub(crate) fn is_redis(self) -> bool {
        matches!(self, Self::RedisJson | Self::RedisPostcard)
    }
}

/// One row of the result: a strategy over a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Scenario {
    pub(crate) strategy: Strategy,
    /// `None` for the strategy that has none.
    pub(crate) store: Option<Store>,
}

/// The settings that all caches have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) capacity: usize,
    pub(crate) ttl: Duration,
    pub(crate) jitter: f64,
    pub(crate) negative_ttl: Duration,
}

/// A cache as its clients see it.
pub(crate) trait CacheUnderTest: Send + Sync {
    /// The product with this id, if there is one.
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>>;

    /// Changes a product. Returns its new version when no read that begins from now on may see an
    /// older one.
    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>>;

    /// What the cache has counted; `None` if there is no cache.
    fn counts(&self) -> Option<Counts>;

    /// Ends what goes on after the last client has gone: then every write is in the source.
    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Scenario {
    /// Every one of the strategies with every one of the stores that it runs on.
    pub(crate) fn all(strategies: &[Strategy], stores: &[Store]) -> Vec<Self> {
        let mut scenarios = Vec::new();
        for &strategy in strategies {
            if strategy == Strategy::NoCache {
                scenarios.push(Self { strategy, store: None });
            } else {
                let stores = stores.iter().filter(|&&store| strategy.runs_on(store));
                scenarios.extend(stores.map(|&store| Self { strategy, store: Some(store) }));
            }
        }
        scenarios
    }

    /// An empty cache in front of `source`; `redis` is there if it is needed.
    pub(crate) async fn open(
        self,
        source: Source,
        settings: &Settings,
        redis: Option<&Redis>,
    ) -> Result<Arc<dyn CacheUnderTest>> {
        let capacity = settings.capacity;
        let bytes = || MemoryStore::<Bytes>::new(capacity);
        let redis = || {
            let none = || Failure::new(self.to_string(), "there is no Redis server");
            Ok::<_, Failure>(redis.ok_or_else(none)?.empty_store(&self.to_string()))
        };
        match self.store {
            None => Ok(Arc::new(source)),
            Some(Store::Memory) => self.over(MemoryStore::new(capacity), source, settings).await,
            Some(Store::Moka) => self.over(MokaStore::new(capacity), source, settings).await,
            Some(Store::Json) => self.over(bytes().encoded(Json::new()), source, settings).await,
            Some(Store::Postcard) => {
                self.over(bytes().encoded(Postcard::new()), source, settings).await
            }
            Some(Store::RedisJson) => {
                self.over(redis()?.encoded(Json::new()), source, settings).await
            }
            Some(Store::RedisPostcard) => {
                self.over(redis()?.encoded(Postcard::new()), source, settings).await
            }
        }
    }

    async fn over<S>(
        self,
        store: S,
        source: Source,
        settings: &Settings,
    ) -> Result<Arc<dyn CacheUnderTest>>
    where
        S: CacheStore<Value = Arc<Product>>,
    {
        let stats = Arc::new(Stats::default());
        let options = settings.options(&stats);
        let load = loader(&source);
        match self.strategy {
            Strategy::NoCache => Ok(Arc::new(source)),
            Strategy::CacheAside => {
                let cache = CacheAside::new(store, options)?;
                Ok(Arc::new(Aside { cache, source, stats }))
            }
            Strategy::ReadThrough => {
                let cache = ReadThrough::new(store, load, options)?;
                Ok(Arc::new(Invalidated { cache, source, stats }))
            }
            Strategy::EarlyRefresh => {
                let cache = ReadThrough::new(store, load, options.early_refresh(1.0))?;
                Ok(Arc::new(Invalidated { cache, source, stats }))
            }
            Strategy::StaleWhileRevalidate => {
                let options = options.stale_for(settings.ttl);
                let cache = StaleWhileRevalidate::new(store, load, options)?;
                Ok(Arc::new(Invalidated { cache, source, stats }))
            }
            Strategy::WriteThrough => {
                writing::through(ReadThrough::new(store, load, options)?, source, stats)
            }
            Strategy::WriteBehind => {
                let reads = ReadThrough::new(store, load, options)?;
                writing::behind(reads, source, stats)
            }
            Strategy::WriteBehindDisk => {
                let reads = ReadThrough::new(store, load, options)?;
                writing::behind_on_disk(reads, source, stats).await
            }
        }
    }
}

impl Settings {
    fn options(&self, stats: &Arc<Stats>) -> ReadOptions<Arc<Product>, Arc<Stats>> {
        ReadOptions::ttl(self.ttl)
            .jitter(self.jitter)
            .negative_ttl(self.negative_ttl)
            // Redis has a limit of its own, and nothing else takes long.
            .store_timeout(Duration::from_secs(60))
            .observer(Arc::clone(stats))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, self.strategy)?;
        if let Some(store) = self.store {
            f.write_str(" x ")?;
            write_name(f, store)?;
        }
        Ok(())
    }
}

/// The name as the command line takes it.
fn write_name(f: &mut fmt::Formatter<'_>, value: impl ValueEnum) -> fmt::Result {
    value.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
}

fn loader(
    source: &Source,
) -> impl Fn(u64) -> BoxFuture<'static, Result<Option<Arc<Product>>>> + Send + Sync + 'static {
    let source = source.clone();
    move |id| Box::pin(load(source.clone(), id))
}

async fn load(source: Source, id: u64) -> Result<Option<Arc<Product>>> {
    Ok(source.read(id).await?.map(Arc::new))
}

/// No cache.
impl CacheUnderTest for Source {
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>> {
        Box::pin(load(self.clone(), id))
    }

    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { Ok(Self::write(self, id, change).await?.version) })
    }

    fn counts(&self) -> Option<Counts> {
        None
    }
}

/// The caller loads and invalidates.
struct Aside<S: CacheStore> {
    cache: CacheAside<S, Arc<Stats>>,
    source: Source,
    stats: Arc<Stats>,
}

impl<S: CacheStore<Value = Arc<Product>>> CacheUnderTest for Aside<S> {
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>> {
        let load = move || load(self.source.clone(), id);
        Box::pin(async move { Ok(self.cache.get_or_load(&id, load).await?) })
    }

    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let version = self.source.write(id, change).await?.version;
            self.cache.invalidate(&id).await?;
            Ok(version)
        })
    }

    fn counts(&self) -> Option<Counts> {
        Some(counts(&self.stats))
    }
}

/// The cache loads, and the caller invalidates.
struct Invalidated<C> {
    cache: C,
    source: Source,
    stats: Arc<Stats>,
}

impl<C: ReadCache<u64, Value = Arc<Product>>> CacheUnderTest for Invalidated<C> {
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>> {
        Box::pin(async move { Ok(self.cache.get(&id).await?) })
    }

    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let version = self.source.write(id, change).await?.version;
            self.cache.invalidate(&id).await?;
            Ok(version)
        })
    }

    fn counts(&self) -> Option<Counts> {
        Some(counts(&self.stats))
    }
}

pub(crate) fn counts(stats: &Stats) -> Counts {
    let now = stats.snapshot();
    Counts {
        hits: now.hits + now.negative_hits + now.stale,
        misses: now.misses(),
        loads: now.loads,
        past_lifetime: now.stale,
        coalesced: now.coalesced,
        refused_fills: now.refused_fills,
    }
}
