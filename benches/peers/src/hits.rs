//! Hits of the libraries beside.

use std::future::Future;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cache_benches::hit::{Ask, Candidate, OWN};
use cache_benches::keys::{Value, spell, value};
use cached::macros::{cached, concurrent_cached};
use cachekit::backend::{Backend, HealthStatus};
use cachekit::{BackendError, CacheKit};
use hitbox_fn::prelude::*;
use hitbox_moka::MokaBackend;

use crate::values::{User, user};

const MOKA: &str = "raw moka";

pub(crate) const NOTE: &str = "\
`oxcache`, `cachekit-rs` and `hitbox` hold bytes: a hit decodes the value, a struct of ten fields, by the format that they use \
unless told otherwise. All others hold an `Arc`. `cached` is used by its macros, so its loader is part of it, as it is of \
`ReadThrough`. `raw moka, future` is moka's own `get` in its asynchronous cache.";

/// The library's own that matter here, and the peers.
pub(crate) fn all() -> Vec<Candidate> {
    let own = ["raw quick_cache", "ReadThrough<MemoryStore>", "raw moka", "ReadThrough<MokaStore>"];
    let own = OWN.iter().filter(|candidate| own.contains(&candidate.name)).copied();
    own.chain([
        Candidate::new("raw moka, future", MOKA, moka_future),
        Candidate::new("foyer", MOKA, foyer),
        Candidate::new("amalgam-cache, try_get", MOKA, amalgam),
        Candidate::new("cached, concurrent_cached", MOKA, cached_concurrent),
        Candidate::new("cached, cached", MOKA, cached_plain),
        Candidate::new("cachekit-rs, L1", MOKA, cachekit_l1),
        Candidate::new("oxcache", MOKA, oxcache),
        Candidate::new("hitbox + hitbox-moka", MOKA, hitbox),
    ])
    .collect()
}

/// One future for a whole pass over the keys, on a runtime of this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn moka_future(keys: usize) -> Ask {
    let cache = moka::future::Cache::<String, Arc<Value>>::new(keys as u64 * 2);
    block_on(async {
        for key in 0..keys as u64 {
            cache.insert(spell(key), value()).await;
        }
        cache.run_pending_tasks().await;
    });
    Box::new(move |order| {
        block_on(async {
            let mut found = 0;
            for key in &order.strings {
                found += usize::from(black_box(cache.get(key.as_str()).await).is_some());
            }
            found
        })
    })
}

fn foyer(keys: usize) -> Ask {
    let cache: foyer::Cache<String, Arc<Value>> = foyer::CacheBuilder::new(keys * 2).build();
    for key in 0..keys as u64 {
        cache.insert(spell(key), value());
    }
    Box::new(move |order| {
        let found = |key: &&String| {
            black_box(cache.get(key.as_str()).map(|entry| Arc::clone(entry.value()))).is_some()
        };
        order.strings.iter().filter(found).count()
    })
}

fn amalgam(keys: usize) -> Ask {
    let cache: amalgam::Cache<Arc<Value>> = amalgam::Cache::new();
    block_on(async {
        for key in 0..keys as u64 {
            cache.set(spell(key), value()).await.expect("it is set");
        }
    });
    Box::new(move |order| {
        block_on(async {
            let mut found = 0;
            for key in &order.strings {
                let got = cache.try_get(key).await.expect("it answers");
                found += usize::from(black_box(got).is_some());
            }
            found
        })
    })
}

#[concurrent_cached(max_size = 20_000, ttl_secs = 3600)]
async fn concurrent(key: String) -> Arc<Value> {
    let _ = key;
    value()
}

fn cached_concurrent(keys: usize) -> Ask {
    block_on(async {
        for key in 0..keys as u64 {
            concurrent(spell(key)).await;
        }
    });
    Box::new(|order| {
        block_on(async {
            for key in &order.strings {
                black_box(concurrent(key.clone()).await);
            }
            order.strings.len()
        })
    })
}

#[cached(max_size = 20_000, ttl_secs = 3600)]
async fn plain(key: String) -> Arc<Value> {
    let _ = key;
    value()
}

fn cached_plain(keys: usize) -> Ask {
    block_on(async {
        for key in 0..keys as u64 {
            plain(spell(key)).await;
        }
    });
    Box::new(|order| {
        block_on(async {
            for key in &order.strings {
                black_box(plain(key.clone()).await);
            }
            order.strings.len()
        })
    })
}

/// What is behind cachekit's memory. It is never asked on a hit.
#[derive(Default)]
pub(crate) struct Behind(Mutex<std::collections::HashMap<String, Vec<u8>>>);

impl Behind {
    fn map(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for Behind {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.map().get(key).cloned())
    }

    async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        _: Option<Duration>,
    ) -> Result<(), BackendError> {
        self.map().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        Ok(self.map().remove(key).is_some())
    }

    async fn exists(&self, key: &str) -> Result<bool, BackendError> {
        Ok(self.map().contains_key(key))
    }

    async fn health(&self) -> Result<HealthStatus, BackendError> {
        let (latency_ms, details) = (0.0, std::collections::HashMap::new());
        Ok(HealthStatus { is_healthy: true, latency_ms, backend_type: "map".into(), details })
    }
}

pub(crate) fn cachekit(entries: usize) -> CacheKit {
    let builder = CacheKit::builder().backend(Arc::new(Behind::default())).l1_capacity(entries);
    builder.default_ttl(Duration::from_secs(3600)).build().expect("valid options")
}

fn cachekit_l1(keys: usize) -> Ask {
    let cache = cachekit(keys * 2);
    block_on(async {
        for key in 0..keys as u64 {
            cache.set(&spell(key), &user(key)).await.expect("it is set");
        }
    });
    Box::new(move |order| {
        block_on(async {
            let mut found = 0;
            for key in &order.strings {
                let got: Option<User> = cache.get(key).await.expect("it answers");
                found += usize::from(black_box(got).is_some());
            }
            found
        })
    })
}

fn oxcache(keys: usize) -> Ask {
    let cache: oxcache::Cache<String, User> = block_on(async {
        let builder = oxcache::Cache::builder().capacity(keys as u64 * 2);
        let cache = builder.ttl(Duration::from_secs(3600)).build().await.expect("valid options");
        for key in 0..keys as u64 {
            cache.set(&spell(key), &user(key)).await.expect("it is set");
        }
        cache
    });
    Box::new(move |order| {
        block_on(async {
            let mut found = 0;
            for key in &order.strings {
                let got: Option<User> = cache.get(key).await.expect("it answers");
                found += usize::from(black_box(got).is_some());
            }
            found
        })
    })
}

#[derive(Clone, Debug, KeyExtract)]
struct Name(String);

#[hitbox_fn::cached]
async fn memoized(name: Name) -> Result<User, std::convert::Infallible> {
    let _ = name;
    Ok(user(7))
}

fn hitbox(keys: usize) -> Ask {
    let cache = Cache::builder()
        .backend(MokaBackend::builder().max_entries(keys as u64 * 2).build())
        .policy(PolicyConfig::builder().ttl(Duration::from_secs(3600)).build())
        .build();
    block_on(async {
        for key in 0..keys as u64 {
            let _ = memoized(Name(spell(key))).cache(&cache).await;
        }
    });
    Box::new(move |order| {
        block_on(async {
            let mut found = 0;
            for key in &order.strings {
                let got = memoized(Name(key.clone())).cache(&cache).await;
                found += usize::from(black_box(got).is_ok());
            }
            found
        })
    })
}
