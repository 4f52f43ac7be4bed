//! Stampedes at the libraries beside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_benches::keys::Value;
use cache_benches::stampede::{By, Crowd, Down, Entrant, Source};
use cached::macros::cached;
use futures_util::future::BoxFuture;
use hitbox_fn::prelude::*;
use hitbox_moka::MokaBackend;

use crate::hits::cachekit;
use crate::values::{User, user};

/// The libraries beside.
pub(crate) const PEERS: &[Entrant] = &[
    Entrant { name: "moka, try_get_with", make: |source| Box::pin(moka(source)) },
    Entrant { name: "foyer, get_or_fetch", make: |source| Box::pin(foyer(source)) },
    Entrant { name: "amalgam-cache, get_or_set", make: |source| Box::pin(amalgam(source)) },
    Entrant { name: "cached, as it is", make: |source| Box::pin(cached_plain(source)) },
    Entrant { name: "cached, sync_writes by_key", make: |source| Box::pin(cached_by_key(source)) },
    Entrant { name: "cachekit-rs, single_flight", make: |source| Box::pin(cachekit_rs(source)) },
    Entrant { name: "oxcache, get_or", make: |source| Box::pin(oxcache(source)) },
    Entrant { name: "hitbox + hitbox-moka", make: |source| Box::pin(hitbox(source)) },
];

const KEY: &str = "user:profile:00000007";

type Got = BoxFuture<'static, Result<(), String>>;

async fn moka(source: Source) -> Arc<dyn Crowd> {
    let cache = moka::future::Cache::<String, Arc<Value>>::new(100);
    Arc::new(By(move || -> Got {
        let (cache, source) = (cache.clone(), source.clone());
        Box::pin(async move {
            let got = cache.try_get_with_by_ref(KEY, async { source.load().await }).await;
            got.map(drop).map_err(|error| error.to_string())
        })
    }))
}

async fn foyer(source: Source) -> Arc<dyn Crowd> {
    let cache: foyer::Cache<String, Arc<Value>> = foyer::CacheBuilder::new(100).build();
    Arc::new(By(move || -> Got {
        let (cache, source) = (cache.clone(), source.clone());
        Box::pin(async move {
            let load = || async move { source.load().await };
            let got = cache.get_or_fetch(KEY, load).await;
            got.map(drop).map_err(|error| format!("{error:?}"))
        })
    }))
}

async fn amalgam(source: Source) -> Arc<dyn Crowd> {
    let cache: Arc<amalgam::Cache<Arc<Value>>> = Arc::new(amalgam::Cache::new());
    Arc::new(By(move || -> Got {
        let (cache, source) = (Arc::clone(&cache), source.clone());
        Box::pin(async move {
            let load = move |_| async move { source.load().await };
            let got = cache.get_or_set(KEY, load).await;
            got.map(drop).map_err(|error| format!("{error:?}"))
        })
    }))
}

/// A memoized function can't own its source, so each run has a number, which is the key.
static SOURCES: Mutex<Vec<Source>> = Mutex::new(Vec::new());

fn remember(source: Source) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    sources.push(source);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn load(run: u64) -> Result<Arc<Value>, Down> {
    let source = SOURCES.lock().unwrap_or_else(PoisonError::into_inner)[run as usize].clone();
    source.load().await
}

#[cached(max_size = 1000, ttl_secs = 3600)]
async fn plain(run: u64) -> Result<Arc<Value>, Down> {
    load(run).await
}

async fn cached_plain(source: Source) -> Arc<dyn Crowd> {
    let run = remember(source);
    Arc::new(By(move || -> Got {
        Box::pin(async move { plain(run).await.map(drop).map_err(|error| error.to_string()) })
    }))
}

#[cached(max_size = 1000, ttl_secs = 3600, sync_writes = "by_key")]
async fn by_key(run: u64) -> Result<Arc<Value>, Down> {
    load(run).await
}

async fn cached_by_key(source: Source) -> Arc<dyn Crowd> {
    let run = remember(source);
    Arc::new(By(move || -> Got {
        Box::pin(async move { by_key(run).await.map(drop).map_err(|error| error.to_string()) })
    }))
}

/// As the documentation of `single_flight` has it.
async fn cachekit_rs(source: Source) -> Arc<dyn Crowd> {
    let cache = cachekit(100);
    Arc::new(By(move || -> Got {
        let (cache, source) = (cache.clone(), source.clone());
        Box::pin(async move {
            let shown = |error: cachekit::CachekitError| error.to_string();
            if cache.get::<User>(KEY).await.map_err(shown)?.is_some() {
                return Ok(());
            }
            let mut flight = cache.single_flight(KEY).await;
            while flight.wait_for_fill().await {
                if cache.get::<User>(KEY).await.map_err(shown)?.is_some() {
                    flight.release().await;
                    return Ok(());
                }
            }
            source.load().await.map_err(|error| error.to_string())?;
            cache.set(KEY, &user(7)).await.map_err(shown)?;
            flight.release().await;
            Ok(())
        })
    }))
}

async fn oxcache(source: Source) -> Arc<dyn Crowd> {
    // Its flights are found by the key alone, in all caches of the process.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let key = format!("{KEY}:{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let builder = oxcache::Cache::<String, User>::builder().capacity(100);
    let cache = builder.ttl(Duration::from_secs(3600)).build().await.expect("valid options");
    let cache = Arc::new(cache);
    Arc::new(By(move || -> Got {
        let (cache, source, key) = (Arc::clone(&cache), source.clone(), key.clone());
        Box::pin(async move {
            let load = || async move {
                let loaded = source.load().await;
                loaded.map_err(|e| oxcache::OxCacheError::Internal(e.to_string()))?;
                Ok(user(7))
            };
            cache.get_or(&key, load).await.map(drop).map_err(|error| error.to_string())
        })
    }))
}

#[derive(Clone, Debug, KeyExtract)]
struct Run(u64);

#[hitbox_fn::cached]
async fn memoized(run: Run) -> Result<User, Down> {
    load(run.0).await.map(|_| user(7))
}

async fn hitbox(source: Source) -> Arc<dyn Crowd> {
    let cache = Cache::builder()
        .backend(MokaBackend::builder().max_entries(1000).build())
        .policy(PolicyConfig::builder().ttl(Duration::from_secs(3600)).build())
        .build();
    let (cache, run) = (Arc::new(cache), remember(source));
    Arc::new(By(move || -> Got {
        let cache = Arc::clone(&cache);
        Box::pin(async move {
            memoized(Run(run)).cache(&*cache).await.map(drop).map_err(|error| error.to_string())
        })
    }))
}
