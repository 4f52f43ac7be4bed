//! A store on a server that Sentinels watch over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{Subject, fresh_name, violations};
use cache_core::{CacheStore, CacheStoreExt, ErrorKind};
use cache_redis::{RedisBuilder, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Sentinels, answered, connected, eventually, foreign};
use cache_tests::{Source, Strategy, cache, minute};
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

fn store(url: &str) -> RedisBuilder {
    RedisStore::builder("s")
        .url(url)
        .operation_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(4))
        .reconnect_pauses(Duration::from_millis(20), Duration::from_millis(200))
}

async fn hits(store: &RedisStore) -> bool {
    store.put("hit", Bytes::from_static(b"value"), MINUTE).await.is_ok()
        && matches!(store.value("hit").await, Ok(Some(_)))
}

async fn is_in_database_3(server: &str, key: &str) -> bool {
    let mut other = foreign(server).await;
    let _: () = redis::cmd("SELECT").arg(3).query_async(&mut other).await.expect("selected");
    redis::cmd("EXISTS").arg(key).query_async(&mut other).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_callers_no_error_and_is_replaced() {
    let mut all = Sentinels::start_with(&[]).await;
    let store = connected(store(&all.url(3))).await;
    eventually("hits", async || hits(&store).await).await;
    assert!(is_in_database_3(&all.nodes[0].url(), "s:hit").await);
    let source = Source::with(&[("key", 1)]);
    let values = store.clone().encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Through, values.clone(), minute(), &source);
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (cache, ended) = (Arc::clone(&cache), Arc::clone(&ended));
        readers.spawn(async move {
            while !ended.load(Ordering::SeqCst) {
                assert_eq!(cache.get("key").await.expect("a value, from somewhere"), Some(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    // No claim and no fill is under way, which would have to be made up for as well.
    eventually("it is kept", async || {
        matches!(values.value("key").await, Ok(Some(1))) && cache.loading() == 0
    })
    .await;
    // One of those who are asked is gone as well: two are left, and agree.
    all.sentinels[0].kill();
    all.nodes[0].kill();
    eventually("the end is noticed", async || !store.is_connected()).await;
    store.remove("hit").await.expect_err("there is no server");
    assert_eq!(store.pending(), 1);
    eventually("the replica is found", async || store.is_connected()).await;
    let hit = answered(async || store.value("hit").await).await;
    assert_eq!(hit, None, "made up for before anybody reads");
    eventually("hits again", async || hits(&store).await).await;
    assert!(is_in_database_3(&all.nodes[1].url(), "s:hit").await);
    ended.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_followed() {
    let all = Sentinels::start_with(&[]).await;
    let store = connected(store(&all.url(0)).connections(2)).await;
    eventually("hits", async || hits(&store).await).await;
    all.switch().await;
    eventually("hits again", async || hits(&store).await).await;
    let mut other = foreign(&all.nodes[1].url()).await;
    let there: bool =
        redis::cmd("EXISTS").arg("s:hit").query_async(&mut other).await.expect("an answer");
    assert!(there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_hangs_or_knows_nothing_is_passed_over_and_said() {
    let all = Sentinels::start_with(&[]).await;
    all.sentinels[0].stop();
    for _ in 0..3 {
        let store = connected(store(&all.url(0))).await;
        eventually("hits", async || hits(&store).await).await;
    }
    all.sentinels[0].resume();
    let unknown = all.url(0).replace("mymaster", "nobody");
    let patient = |url: &str| store(url).connect_timeout(Duration::from_secs(20));
    let error = patient(&unknown).connect().await.expect_err("nobody knows it");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("nobody"), "{error}");
    // Somebody who takes a Sentinel for a server is told.
    let error = patient(&all.sentinels[1].url()).connect().await.expect_err("it is no server");
    assert!(error.to_string().contains("redis+sentinel"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_holds_behind_sentinels() {
    let all = Sentinels::start_with(&[]).await;
    let subject = || async {
        let builder = RedisStore::builder(&fresh_name()).url(&all.url(0));
        let builder = builder.operation_timeout(Duration::from_secs(20));
        let store = builder.connect_timeout(Duration::from_secs(20)).connect();
        Subject::new(store.await.expect("a server")).real_time(Duration::from_millis(100))
    };
    assert_eq!(violations(subject).await, []);
}
