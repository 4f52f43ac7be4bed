//! Races for a key between stores that share a server, and foreign clients of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::fresh_name;
use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions, Encoded, Fill, SetOptions};
use cache_redis::RedisStore;
use cache_serde::{Json, Postcard};
use cache_tests::redis::{eventually, foreign, patient, patient_at, redis_url};
use cache_tests::{Source, Strategy, TestCache, cache, unhurried};
use futures_util::FutureExt;
use rstest::rstest;
use tokio::task::JoinSet;

const LIFE: Duration = Duration::from_secs(60);

fn json(store: RedisStore) -> Encoded<RedisStore, Json, u64> {
    store.encoded(Json::new())
}

async fn granted(store: &RedisStore, key: &str) -> cache_core::Lease {
    match store.claim(key, ClaimOptions::new(LIFE)).await.expect("an answer") {
        Claim::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_reads_loads_and_invalidates(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(false, true)] positional: bool,
) {
    let store = patient().await.connect().await.expect("a server");
    let source = Source::with(&[("a", 1), ("b", 2)]);
    let cache: Arc<dyn TestCache> = if positional {
        let store = store.encoded::<_, u64>(Postcard::new());
        cache(strategy, store, unhurried(), &source)
    } else {
        cache(strategy, json(store), unhurried(), &source)
    };

    assert_eq!(cache.get("a").await.expect("loaded"), Some(1));
    eventually("the fill lands", async || cache.loading() == 0).await;
    assert_eq!(cache.get("a").await.expect("kept"), Some(1));
    assert_eq!(source.loads(), 1);

    let keys = ["a", "b", "missing"].map(str::to_owned);
    let many = cache.get_many(&keys).await;
    let many: Vec<_> = many.into_iter().map(|value| value.expect("loaded")).collect();
    assert_eq!(many, [Some(1), Some(2), None]);
    assert_eq!(source.questions()[1], ["b", "missing"]);

    source.put("a", 3);
    cache.invalidate("a").await.expect("removed");
    assert_eq!(cache.get("a").await.expect("loaded"), Some(3));
    cache.put("a", Some(4)).await.expect("replaced");
    assert_eq!(cache.get("a").await.expect("kept"), Some(4));
    cache.clear().await.expect("cleared");
    assert_eq!(cache.get("b").await.expect("loaded"), Some(2));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_client_deletes_during_its_load_is_not_kept(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (url, service) = (redis_url().await, fresh_name());
    let store = patient_at(&url, &service).connect().await.expect("a server");
    let mut other = foreign(&url).await;
    let source = Source::with(&[("key", 0)]);
    let cache = cache(strategy, json(store), unhurried(), &source);
    for round in 0..200 {
        source.forget_questions();
        source.hold();
        let first = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.get("key").await }
        });
        eventually("the load has its answer", async || source.loads() == 1).await;
        source.put("key", round + 1);
        let deleted: usize = redis::cmd("DEL")
            .arg(format!("{service}:key"))
            .query_async(&mut other)
            .await
            .expect("an answer");
        assert_eq!(deleted, 1, "the lease stands in the key's own slot");
        source.release();

        let loaded = first.await.expect("no panic").expect("loaded");
        assert_eq!(loaded, Some(round), "the one who asked before gets what was there then");
        // Until it has landed, others in this process may still join the flight: nobody told it.
        eventually("the flight lands", async || cache.loading() == 0).await;
        assert_eq!(cache.get("key").await.expect("a value"), Some(round + 1));
        cache.invalidate("key").await.expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_miss_together_make_one_load() {
    let (url, service) = (redis_url().await, fresh_name());
    let source = Source::with(&[]);
    let mut caches = Vec::new();
    for _ in 0..2 {
        let store = patient_at(&url, &service).connect().await.expect("a server");
        caches.push(cache(Strategy::Through, json(store), unhurried(), &source));
    }
    for round in 0..20 {
        let key = format!("key {round}");
        source.put(&key, round);
        let mut readers = JoinSet::new();
        for reader in 0..100 {
            let (cache, key) = (Arc::clone(&caches[reader % 2]), key.clone());
            readers.spawn(async move { cache.get(&key).await });
        }
        while let Some(read) = readers.join_next().await {
            assert_eq!(read.expect("no panic").expect("loaded"), Some(round));
        }
    }
    assert_eq!(source.loads(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_owner_never_fills_is_loaded_by_another() {
    let (url, service) = (redis_url().await, fresh_name());
    let owner = patient_at(&url, &service).connect().await.expect("a server");
    let life = Duration::from_millis(300);
    let claim = owner.claim("key", ClaimOptions::new(life)).await.expect("an answer");
    let Claim::Granted(lost) = claim else { panic!("{claim:?}") };

    let store = patient_at(&url, &service).connect().await.expect("a server");
    let source = Source::with(&[("key", 2)]);
    let options = unhurried().wait_limit(LIFE);
    let cache = cache(Strategy::Through, json(store.clone()), options, &source);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
    eventually("the fill lands", async || cache.loading() == 0).await;

    let late = owner.fill(lost, Some(Bytes::from_static(b"1")), SetOptions::forever());
    assert_eq!(late.await.expect("an answer"), Fill::Refused);
    assert_eq!(cache.get("key").await.expect("kept"), Some(2));
    assert_eq!(source.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_survive_a_script_flush() {
    // A server of its own: the flush would make other tests slower.
    let mut server = cache_tests::redis::Server::start().await;
    let store = patient_at(&server.url(), "s").connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    let mut flush = async || {
        let flushed = redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut other).await;
        flushed.expect("flushed");
    };
    let value = Some(Bytes::from_static(b"value"));

    flush().await;
    store.set("set", value.clone(), SetOptions::forever()).await.expect("set");
    flush().await;
    let lease = granted(&store, "key").await;
    flush().await;
    let filled = store.fill(lease, value.clone(), SetOptions::forever()).await;
    assert_eq!(filled.expect("an answer"), Fill::Stored);
    let lease = granted(&store, "released").await;
    flush().await;
    store.release(lease).await.expect("released");
    flush().await;
    let twice = [("many", None), ("set", None), ("many", value.clone())];
    let twice = twice.map(|(key, value)| (key, value, SetOptions::forever()));
    for result in store.set_many(twice.to_vec()).await {
        result.expect("set");
    }

    assert_eq!(store.value("key").await.expect("an answer"), value);
    assert_eq!(store.value("set").await.expect("an answer"), None);
    assert_eq!(store.value("many").await.expect("an answer"), value);
    let _lease = granted(&store, "released").await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_go_away_do_not_shift_the_answers_of_others() {
    let store = patient().await.connect().await.expect("a server");
    let keys: Vec<String> = (0..64).map(|number| format!("key {number}")).collect();
    for key in &keys {
        store.put(key, key.clone().into(), LIFE).await.expect("set");
    }
    let keys = Arc::new(keys);
    let mut readers = JoinSet::new();
    for reader in 0..64_usize {
        let (store, keys) = (store.clone(), Arc::clone(&keys));
        readers.spawn(async move {
            for read in 0..320_usize {
                let key = &keys[(reader * 7 + read) % keys.len()];
                if read % 2 == 0 {
                    let mut reading = Box::pin(store.value(key));
                    // Goes away at one of the points at which it waits, or never gets that far.
                    for _ in 0..(reader + read) % 3 {
                        if let Some(value) = (&mut reading).now_or_never() {
                            assert_eq!(value.expect("an answer"), Some(key.clone().into()));
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                } else {
                    let value = store.value(key).await.expect("an answer");
                    assert_eq!(value, Some(key.clone().into()));
                }
            }
        });
    }
    let done = readers.join_all().await;
    assert_eq!(done.len(), 64, "20480 reads, half of which went away");
    assert_eq!(store.undecodable(), 0);
}
