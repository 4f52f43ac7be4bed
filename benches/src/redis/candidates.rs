//! The client below, and the stores that are built on it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheAside, CacheStore, ReadOptions, SetOptions};
use cache_redis::{RedisBuilder, RedisStore};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// One key that is there.
    Get,
    /// One key.
    Set,
    /// A key that is not there, with a loader that does not wait.
    GetOrLoad,
    /// A hundred keys that are there.
    GetMany,
}

/// What can be asked. Every answer is a count of the values that were there, or written.
pub trait Remote: Send + Sync + 'static {
    /// Whether it has this operation.
    fn does(&self, op: Op) -> bool;

    /// Does it.
    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize>;
}

/// What is stored.
#[must_use]
pub fn value() -> Bytes {
    Bytes::from_static(&[b'x'; 200])
}

/// How long it lives.
pub const TTL: Duration = Duration::from_secs(600);

const PATIENCE: Duration = Duration::from_secs(20);

/// The `redis` crate's multiplexed connection.
pub(super) struct Raw(MultiplexedConnection);

impl Raw {
    pub(super) async fn connect(url: &str) -> Result<Self, String> {
        let connect = async {
            let nodelay = TcpSettings::default().set_nodelay(true);
            let client = Client::open(url.into_connection_info()?.set_tcp_settings(nodelay))?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        connect.await.map(Self).map_err(|e| format!("redis: {e}"))
    }
}

impl Remote for Raw {
    fn does(&self, _: Op) -> bool {
        true
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        let mut raw = self.0.clone();
        Box::pin(async move {
            let value = value();
            let set = (TTL.as_secs(), &value[..]);
            match op {
                Op::Get => usize::from(raw.get(&keys[0]).await == Ok(Some(value))),
                Op::Set => usize::from(raw.set_ex(&keys[0], set.1, set.0).await == Ok(())),
                Op::GetOrLoad => {
                    let found: Result<Option<Bytes>, _> = raw.get(&keys[0]).await;
                    assert_eq!(found, Ok(None), "the key is cold");
                    usize::from(raw.set_ex(&keys[0], set.1, set.0).await == Ok(()))
                }
                Op::GetMany => {
                    let found: Result<Vec<Option<Bytes>>, _> = raw.mget(keys).await;
                    found.unwrap_or_default().iter().flatten().count()
                }
            }
        })
    }
}

/// The store, and a strategy on it.
pub(super) struct Store(CacheAside<RedisStore>);

impl Store {
    pub(super) async fn connect(
        url: &str,
        build: impl FnOnce(RedisBuilder) -> RedisBuilder,
    ) -> Result<Self, String> {
        let builder = RedisStore::builder("benches").url(url);
        let builder = build(builder.operation_timeout(PATIENCE).connect_timeout(PATIENCE));
        let store = builder.connect().await.map_err(|e| e.to_string())?;
        let options = ReadOptions::ttl(TTL).store_timeout(PATIENCE);
        CacheAside::new(store, options).map(Self).map_err(|e| e.to_string())
    }
}

impl Remote for Store {
    fn does(&self, _: Op) -> bool {
        true
    }

    fn run<'a>(&'a self, op: Op, keys: &'a [String]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            let store = self.0.store();
            match op {
                Op::Get => usize::from(matches!(store.get(&keys[0]).await, Ok(Some(_)))),
                Op::Set => {
                    let set = store.set(&keys[0], Some(value()), SetOptions::ttl(TTL));
                    usize::from(set.await.is_ok())
                }
                Op::GetOrLoad => {
                    let load = || async { Ok::<_, io::Error>(Some(value())) };
                    let loaded = self.0.get_or_load(&keys[0], load).await;
                    usize::from(matches!(loaded, Ok(Some(_))))
                }
                Op::GetMany => {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let found = store.get_many(&keys).await;
                    found.iter().filter(|entry| matches!(entry, Ok(Some(_)))).count()
                }
            }
        })
    }
}
