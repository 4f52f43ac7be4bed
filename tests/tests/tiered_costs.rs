//! What a read through tiers costs the server, by its own count of commands.

use std::collections::BTreeMap;
use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Coherence, LocalBus, Marked, NearMarks, TaggedCodec,
    Tiered,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisMarks, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Server, eventually, foreign, patient_at};
use redis::aio::MultiplexedConnection;

const LONG: Duration = Duration::from_secs(600);

/// A bus that says nothing to the server; so patient that a busy machine does not matter.
fn quiet() -> impl Coherence {
    Broadcast::over(LocalBus::new(1024)).trust(LONG)
}

async fn store(server: &Server, service: &str) -> RedisStore {
    patient_at(&server.url(), service).connect().await.expect("a server")
}

/// Which commands the server is given for this.
async fn asked(other: &mut MultiplexedConnection, read: impl Future) -> BTreeMap<String, u64> {
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(other).await.expect("an answer");
    read.await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(other).await.expect("statistics");
    let calls = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    // Without the test's own questions, and those by which a connection learns now and then how the server is.
    let others = ["config|resetstat", "info", "ping", "time"];
    calls.filter(|(name, _)| !others.contains(&name.as_str())).collect()
}

fn commands<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.into_iter().map(|(name, calls)| (name.to_owned(), calls)).collect()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| key.to_string()).collect()
}

async fn read_each(store: &impl CacheStore<Value = u64>, keys: &[&str]) {
    for key in keys {
        assert_eq!(store.value(key).await.expect("an answer"), Some(1), "{key}");
    }
}

async fn read_all(store: &impl CacheStore<Value = u64>, keys: &[&str]) {
    assert!(store.get_many(keys).await.iter().all(|entry| matches!(entry, Ok(Some(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_hit_is_one_command_and_a_near_hit_none() {
    let (server, service) = (Server::start().await, fresh_name());
    let mut other = foreign(&server.url()).await;
    let there = store(&server, &service).await.encoded::<_, u64>(Json::new());
    let far = store(&server, &service).await.encoded::<_, u64>(Json::new());
    let here = Tiered::builder(MemoryStore::new(10_000), far).coherent_by(quiet()).build();
    let here = here.expect("valid options");
    here.trusted().await;
    let keys = keys(200);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        there.put(key, 1, LONG).await.expect("stored");
    }
    let (one_by_one, together) = keys.split_at(100);
    let far = asked(&mut other, read_each(&here, one_by_one)).await;
    assert_eq!(far, commands([("get", 100)]));
    let far = asked(&mut other, read_all(&here, together)).await;
    assert_eq!(far, commands([("mget", 1)]));
    assert_eq!(here.snapshot().copies, 200);
    for read in [true, false] {
        let near = asked(&mut other, async {
            match read {
                true => read_each(&here, &keys).await,
                false => read_all(&here, &keys).await,
            }
        });
        assert_eq!(near.await, commands([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_far_hit_is_one_command_once_its_marks_are_near() {
    let (server, service) = (Server::start().await, fresh_name());
    let mut other = foreign(&server.url()).await;
    let tags = |key: &str, _: Option<&u64>| ["all".to_owned(), format!("t{}", key.len())];
    let redis = store(&server, &service).await;
    let marks = RedisMarks::new(&redis);
    let there = redis.encoded::<_, Marked<u64>>(TaggedCodec::new(Json::new())).tagged(marks, tags);
    let redis = store(&server, &service).await;
    let marks = NearMarks::new(RedisMarks::new(&redis), quiet()).expect("valid options");
    let far = redis.encoded::<_, Marked<u64>>(TaggedCodec::new(Json::new()));
    let here = Tiered::builder(MemoryStore::new(10_000), far).coherent_by(quiet()).build();
    let here = here.expect("valid options").tagged(marks, tags);
    here.inner().trusted().await;
    here.marks().trusted().await;
    let keys: Vec<String> = keys(1000).into_iter().skip(100).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        there.put(key, 1, LONG).await.expect("stored");
    }
    let (first, rest) = keys.split_at(1);
    let (one_by_one, together) = rest.split_at(400);
    // Nobody knows which tags it has before it is there.
    let unknown = asked(&mut other, read_each(&here, first)).await;
    assert_eq!(unknown.get("get"), Some(&1), "{unknown:?}");
    assert_eq!(unknown.values().sum::<u64>(), 2, "{unknown:?}");
    let far = asked(&mut other, read_each(&here, one_by_one)).await;
    assert_eq!(far, commands([("get", 400)]));
    let far = asked(&mut other, read_all(&here, together)).await;
    assert_eq!(far.values().sum::<u64>(), far["mget"], "{far:?}");
    eventually("all is near", async || keys.iter().all(|key| here.get_now(key).is_ready())).await;
    assert_eq!(asked(&mut other, read_each(&here, &keys)).await, commands([]));
}
