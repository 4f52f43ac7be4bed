use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheAside, ReadOptions, ReadThrough};
use cache_memory::MemoryStore;
use futures_util::future::BoxFuture;

use super::{Crowd, Down, Entrant, Source};
use crate::keys::Value;

/// The library's own, and the engine below.
pub const OWN: &[Entrant] = &[
    Entrant { name: "ReadThrough<MemoryStore>", make: |source| Box::pin(through(source)) },
    Entrant {
        name: "CacheAside<MemoryStore>, owned load",
        make: |source| Box::pin(aside_owned(source)),
    },
    Entrant { name: BORROWED, make: |source| Box::pin(aside(source)) },
    Entrant {
        name: "quick_cache, get_or_insert_async",
        make: |source| Box::pin(async { Arc::new(Quick::new(source)) as Arc<dyn Crowd> }),
    },
];

/// The one whose load borrows from its caller.
pub(super) const BORROWED: &str = "CacheAside<MemoryStore>, borrowing load";

const KEY: &str = "user:profile:00000007";

/// A cache whose callers are a closure.
pub struct By<F>(pub F);

impl<F> Crowd for By<F>
where
    F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync,
{
    fn get(&self) -> BoxFuture<'static, Result<(), String>> {
        self.0()
    }
}

fn options() -> ReadOptions<Arc<Value>> {
    ReadOptions::ttl(Duration::from_secs(60))
}

/// An error with its causes, as a user logs it.
fn shown(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn through(source: Source) -> Arc<dyn Crowd> {
    let load = move |_: String| {
        let source = source.clone();
        async move { source.load().await.map(Some) }
    };
    let cache = ReadThrough::new(MemoryStore::new(100), load, options()).expect("valid options");
    let cache = Arc::new(cache);
    Arc::new(By(move || -> BoxFuture<'static, _> {
        let cache = Arc::clone(&cache);
        Box::pin(async move { cache.get(KEY).await.map(drop).map_err(|error| shown(&error)) })
    }))
}

async fn aside(source: Source) -> Arc<dyn Crowd> {
    let cache = CacheAside::new(MemoryStore::new(100), options()).expect("valid options");
    Arc::new(By(move || -> BoxFuture<'static, _> {
        let (cache, source) = (cache.clone(), source.clone());
        Box::pin(async move {
            let load = || async { source.load().await.map(Some) };
            cache.get_or_load(KEY, load).await.map(drop).map_err(|error| shown(&error))
        })
    }))
}

async fn aside_owned(source: Source) -> Arc<dyn Crowd> {
    let cache = CacheAside::new(MemoryStore::new(100), options()).expect("valid options");
    Arc::new(By(move || -> BoxFuture<'static, _> {
        let (cache, source) = (cache.clone(), source.clone());
        Box::pin(async move {
            let load = move || async move { source.load().await.map(Some) };
            cache.get_or_load_owned(KEY, load).await.map(drop).map_err(|error| shown(&error))
        })
    }))
}

/// Its keys are not those of the hits, so that the two share no code, and each is compiled as if it were alone.
struct Quick {
    cache: Arc<quick_cache::sync::Cache<u64, Arc<Value>>>,
    source: Source,
}

impl Quick {
    fn new(source: Source) -> Self {
        Self { cache: Arc::new(quick_cache::sync::Cache::new(100)), source }
    }
}

impl Crowd for Quick {
    fn get(&self) -> BoxFuture<'static, Result<(), String>> {
        let (cache, source) = (Arc::clone(&self.cache), self.source.clone());
        Box::pin(async move {
            let load = async { source.load().await };
            let got: Result<_, Down> = cache.get_or_insert_async(&7, load).await;
            got.map(drop).map_err(|error| error.to_string())
        })
    }
}
