//! Redis servers for tests, and what can go wrong on the way to them.

mod cluster;
mod container;
mod proxy;
mod sentinel;
mod server;
mod tls;

use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{ErrorKind, Result};
use cache_redis::{RedisBuilder, RedisStore};
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use cluster::{Cluster, cluster_urls};
pub use container::Place;
pub use proxy::{Fault, Proxy};
pub use sentinel::Sentinels;
pub use server::{Machine, Server};
pub use tls::Authority;

/// The server that all tests of this process share, as a URL: the one that `CACHE_TEST_REDIS_URL` names, or
/// else one that is started here, where [`Place::of_servers`] says, and ends with the process.
///
/// # Panics
///
/// If there is neither.
pub async fn redis_url() -> String {
    static SERVER: OnceCell<(String, Option<Server>)> = OnceCell::const_new();
    let server = SERVER.get_or_init(|| async {
        match std::env::var("CACHE_TEST_REDIS_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let server = Server::start().await;
                (server.url(), Some(server))
            }
        }
    });
    server.await.0.clone()
}

/// A builder of stores on that server, for a service of its own, with limits so wide that a busy machine
/// does not matter.
pub async fn patient() -> RedisBuilder {
    patient_at(&redis_url().await, &fresh_name())
}

/// As [`patient`], on the [cluster of this process](cluster_urls).
pub async fn patient_cluster() -> RedisBuilder {
    let nodes = cluster_urls().await;
    let nodes = nodes.iter().map(|url| url.trim_start_matches("redis://").trim_end_matches('/'));
    let url = format!("redis+cluster://{}", nodes.collect::<Vec<_>>().join(","));
    patient_at(&url, &fresh_name())
}

/// As [`patient`], for the server at `url` and the service of this name.
pub fn patient_at(url: &str, service: &str) -> RedisBuilder {
    RedisStore::builder(service)
        .url(url)
        .operation_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
}

/// A store that has connected. With limits that are to be met, one attempt may fail on a busy machine, so
/// there are as many as it takes.
///
/// # Panics
///
/// If its options are invalid, or it does not connect within a minute.
pub async fn connected(builder: RedisBuilder) -> RedisStore {
    let store = builder.connect_lazily().expect("valid options");
    timeout(Duration::from_secs(60), store.connected()).await.expect("a server");
    store
}

/// What the server says, asked for again as long as there is no answer: for stores with limits that are to be
/// met, which a busy machine meets as well.
///
/// # Panics
///
/// If there is another error, or no answer.
pub async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> T {
    let mut answer = None;
    eventually("there is an answer", async || {
        answer = match ask().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => None,
            said => Some(said.expect("an answer")),
        };
        answer.is_some()
    })
    .await;
    answer.expect("it has come")
}

/// Another client of the server at `url`, which knows nothing of stores.
///
/// # Panics
///
/// If there is no connection.
pub async fn foreign(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a valid URL");
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(20)))
        .set_response_timeout(Some(Duration::from_secs(20)));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it does not within a minute.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
