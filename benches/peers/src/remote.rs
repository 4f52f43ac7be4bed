//! Redis clients, and caches on Redis, of the libraries beside.

use std::sync::Arc;
use std::time::Duration;

use amalgam::distributed::DistributedCache;
use amalgam::redis_backend::RedisDistributedCache;
use cache_benches::redis::{Entrant, Op, Remote, TTL, value};
use cached::{AsyncRedisCache, ConcurrentCachedAsync};
use cachekit::CacheKit;
use cachekit::backend::redis::RedisBackend as KitBackend;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::Expiration;
use futures_util::future::BoxFuture;
use hitbox::backend::Backend as _;
use hitbox::{CacheKey, CacheValue, EntityPolicyConfig};
use hitbox_redis::{ConnectionMode, RedisBackend};
use rustis::commands::{SetCondition, SetExpiration, StringCommands as _};

/// A peer that has not connected by then does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// The peers on the server at `url`.
pub(crate) async fn peers(url: &str) -> Vec<Entrant> {
    vec![
        ("fred", connected(Fred::connect(url)).await),
        ("rustis", connected(Rustis::connect(url)).await),
        ("cached, AsyncRedisCache", connected(Cached::connect(url)).await),
        ("cachekit-rs, no L1", connected(Kit::connect(url)).await),
        ("amalgam-cache, RedisDistributedCache", connected(Amalgam::connect(url)).await),
        ("hitbox-redis", connected(Hitbox::connect(url)).await),
    ]
}

async fn connected<R: Remote>(
    connect: impl Future<Output = Result<R, String>>,
) -> Result<Arc<dyn Remote>, String> {
    match tokio::time::timeout(PATIENCE, connect).await {
        Ok(connected) => Ok(Arc::new(connected?)),
        Err(_) => Err(format!("has not connected in {PATIENCE:?}")),
    }
}

struct Fred(fred::clients::Client);

impl Fred {
    async fn connect(url: &str) -> Result<Self, String> {
        let config = fred::types::config::Config::from_url(url).map_err(|e| e.to_string())?;
        let client =
            fred::types::Builder::from_config(config).build().map_err(|e| e.to_string())?;
        client.init().await.map_err(|e| e.to_string())?;
        Ok(Self(client))
    }
}

impl Remote for Fred {
    fn does(&self, op: Op) -> bool {
        op != Op::GetOrLoad
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            match op {
                Op::Get => {
                    let got: Result<Option<bytes::Bytes>, _> = self.0.get(&keys[0]).await;
                    usize::from(matches!(got, Ok(Some(_))))
                }
                Op::Set => {
                    let life = Some(Expiration::EX(TTL.as_secs() as i64));
                    let set: Result<(), _> = self.0.set(&keys[0], value(), life, None, false).await;
                    usize::from(set.is_ok())
                }
                _ => {
                    let got: Result<Vec<Option<bytes::Bytes>>, _> =
                        self.0.mget(keys.to_vec()).await;
                    got.unwrap_or_default().iter().flatten().count()
                }
            }
        })
    }
}

struct Rustis(rustis::client::Client);

impl Rustis {
    async fn connect(url: &str) -> Result<Self, String> {
        rustis::client::Client::connect(url).await.map(Self).map_err(|e| e.to_string())
    }
}

impl Remote for Rustis {
    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            if op == Op::Get {
                let got: Result<Option<String>, _> = self.0.get(keys[0].as_str()).await;
                return usize::from(matches!(got, Ok(Some(_))));
            }
            let (key, life) = (keys[0].as_str(), SetExpiration::Ex(TTL.as_secs()));
            let always = None::<SetCondition<'_>>;
            let set = self.0.set_with_options(key, "x".repeat(200), always, life).await;
            usize::from(set.is_ok())
        })
    }
}

struct Cached(AsyncRedisCache<String, String>);

impl Cached {
    async fn connect(url: &str) -> Result<Self, String> {
        let builder = AsyncRedisCache::builder("benches").connection_string(url).ttl(TTL);
        builder.build().await.map(Self).map_err(|e| format!("{e:?}"))
    }
}

impl Remote for Cached {
    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            if op == Op::Get {
                let got = ConcurrentCachedAsync::async_cache_get(&self.0, &keys[0]).await;
                return usize::from(matches!(got, Ok(Some(_))));
            }
            let (key, value) = (keys[0].clone(), "x".repeat(200));
            usize::from(ConcurrentCachedAsync::async_cache_set(&self.0, key, value).await.is_ok())
        })
    }
}

struct Kit(CacheKit);

impl Kit {
    async fn connect(url: &str) -> Result<Self, String> {
        let backend = KitBackend::builder().url(url).build().map_err(|e| e.to_string())?;
        // Until it is connected, it waits for ever.
        backend.connect().await.map_err(|e| e.to_string())?;
        // Its values have a format of its own, which the clients would find under their keys.
        let builder = CacheKit::builder().backend(Arc::new(backend)).no_l1().namespace("kit");
        let builder = builder.default_ttl(Duration::from_secs(600));
        builder.build().map(Self).map_err(|e| e.to_string())
    }
}

impl Remote for Kit {
    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            if op == Op::Get {
                let got: Result<Option<String>, _> = self.0.get(&keys[0]).await;
                return usize::from(matches!(got, Ok(Some(_))));
            }
            usize::from(self.0.set(&keys[0], &"x".repeat(200)).await.is_ok())
        })
    }
}

/// Its backend alone: what it stores and finds is bytes with their dates.
struct Hitbox(RedisBackend);

impl Hitbox {
    async fn connect(url: &str) -> Result<Self, String> {
        let builder = RedisBackend::builder().connection(ConnectionMode::single(url));
        builder.build().map(Self).map_err(|e| e.to_string())
    }
}

impl Remote for Hitbox {
    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            let key = CacheKey::from_str("hitbox", &keys[0]);
            if op == Op::Get {
                return usize::from(matches!(self.0.read(&key).await, Ok(Some(_))));
            }
            let life = EntityPolicyConfig { ttl: Some(TTL), stale_ttl: None };
            let value = CacheValue::from_config(value(), &life);
            usize::from(self.0.write(&key, value).await.is_ok())
        })
    }
}

/// Its store alone.
struct Amalgam(RedisDistributedCache);

impl Amalgam {
    async fn connect(url: &str) -> Result<Self, String> {
        RedisDistributedCache::connect(url).await.map(Self).map_err(|e| format!("{e:?}"))
    }
}

impl Remote for Amalgam {
    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            if op == Op::Get {
                return usize::from(matches!(self.0.get(&keys[0]).await, Ok(Some(_))));
            }
            usize::from(self.0.set(&keys[0], value().to_vec(), Some(TTL)).await.is_ok())
        })
    }
}
