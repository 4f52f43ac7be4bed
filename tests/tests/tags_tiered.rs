//! Invalidation by tag through tiers: near copies ask nobody, and are not served once they are invalid.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{Subject, fresh_name};
use cache_core::{
    Broadcast, Bus, CacheAside, CacheStore, CacheStoreExt, Clock, Delivery, Encoded, Error,
    ErrorKind, LocalBus, Marked, MemoryMarks, NearMarks, ReadOptions, Result, Resync, Subscription,
    TagStore, Tagged, TaggedCodec, Tiered, store_conformance,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisBus, RedisMarks, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Fault, Proxy, Server, eventually, foreign, patient_at, redis_url};

type Value = (String, u64);
type Far = Encoded<RedisStore, TaggedCodec<Json>, Marked<Value>>;
type Tiers = Tiered<MemoryStore<Marked<Value>>, Far>;
type Store = Tagged<Tiers, NearMarks<RedisMarks>, Value>;

const LONG: Duration = Duration::from_secs(600);

store_conformance!(memory_over_memory, {
    let (clock, hands) = Clock::manual();
    let memory = || {
        let store = MemoryStore::builder().capacity(10_000).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let tiers = Tiered::builder(memory(), memory()).clock(clock.clone()).near_ttl(Duration::MAX);
    let tiers = tiers.build().expect("valid options");
    let tags = |key: &str, _: Option<&String>| [format!("key:{key:.100}")];
    let store = tiers.tagged(MemoryMarks::new(), tags);
    Subject::new(store).manual_clock(hands).tagged_by(tags)
});
store_conformance!(memory_over_memory_with_tags, {
    let (clock, hands) = Clock::manual();
    let far = MemoryStore::builder().capacity(10_000).clock(clock.clone()).build();
    let tags = |key: &str, value: Option<&u64>| {
        [format!("key:{key:.100}"), format!("value:{}", value.is_some())]
    };
    let far = far.expect("valid options").tagged(MemoryMarks::new(), tags);
    let near = MemoryStore::builder().capacity(10_000).clock(clock.clone()).build();
    let tiers = Tiered::builder(near.expect("valid options"), far);
    let tiers = tiers.clock(clock).near_ttl(Duration::MAX).build().expect("valid options");
    Subject::new(tiers.shared()).manual_clock(hands).tagged_by(tags)
});
store_conformance!(memory_over_redis_with_near_marks, {
    let (bus, tags) = (LocalBus::new(1024), LocalBus::new(1024));
    let store = process(&redis_url().await, &fresh_name(), &bus, &tags).await;
    Subject::with_samples(store, |number| (format!("t{}", number % 3), number.into()))
        .real_time(Duration::from_millis(100))
        .tagged_by(tags_of)
});

/// The caches of one process, which others share a server and two buses with.
async fn process(url: &str, service: &str, keys: &LocalBus, tags: &LocalBus) -> Store {
    let redis = patient_at(url, service).connect().await.expect("a server");
    let store = over(redis, keys, Broadcast::over(tags.clone()).heartbeat(QUICK));
    store.inner().trusted().await;
    store.marks().trusted().await;
    store
}

/// Heartbeats; on a busy machine they come late, so the trust is long.
const QUICK: Duration = Duration::from_millis(50);

fn over<B: Bus>(redis: RedisStore, keys: &LocalBus, tags: Broadcast<B>) -> Store {
    let marks = RedisMarks::new(&redis);
    let far = redis.encoded(TaggedCodec::new(Json::new()));
    let near = Broadcast::over(keys.clone()).heartbeat(QUICK).trust(Duration::from_secs(60));
    let tiers = Tiered::builder(MemoryStore::new(10_000), far).coherent_by(near);
    let tiers = tiers.near_ttl(Duration::MAX);
    let marks = NearMarks::new(marks, tags.trust(Duration::from_secs(60)));
    tiers.build().expect("valid options").tagged(marks.expect("valid options"), tags_of)
}

fn tags_of(_: &str, value: Option<&Value>) -> Vec<String> {
    value.map(|(tags, _)| tags.split(' ').map(str::to_owned).collect()).unwrap_or(vec![])
}

fn value(tags: &str, number: u64) -> Value {
    (tags.to_owned(), number)
}

async fn number(store: &Store, key: &str) -> Option<u64> {
    store.value(key).await.expect("an answer").map(|(_, number)| number)
}

fn near(store: &Store, key: &str) -> bool {
    store.get_now(key).map(|entry| entry.is_some()).is_ready()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_near_hit_asks_nobody() {
    let server = Server::start().await;
    let (keys, tags) = (LocalBus::new(1024), LocalBus::new(1024));
    let here = process(&server.url(), "s", &keys, &tags).await;
    let there = process(&server.url(), "s", &keys, &tags).await;
    let ids: Vec<String> = (0..100).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for id in &ids {
        here.put(id, value("all t", 1), LONG).await.expect("stored");
    }
    eventually("they are near, as are their marks", async || {
        for id in &ids {
            number(&there, id).await;
        }
        ids.iter().all(|id| near(&there, id) && near(&here, id))
    })
    .await;

    let mut other = foreign(&server.url()).await;
    // On a busy machine heartbeats come late, and all that is near is dropped for it.
    let emptied = || -> u64 {
        let tiers =
            [&here, &there].map(|store| [store.inner().snapshot(), store.marks().snapshot()]);
        tiers.iter().flatten().flat_map(|tiers| tiers.resyncs).sum()
    };
    eventually("nothing is dropped meanwhile", async || {
        let before = emptied();
        for store in [&here, &there] {
            for id in &ids {
                number(store, id).await;
            }
        }
        let is_near = |id: &&str| near(&here, id) && near(&there, id);
        if !ids.iter().all(is_near) {
            return false;
        }
        redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut other).await.expect("an answer");
        let mut at_once = true;
        for store in [&here, &there] {
            for id in &ids {
                assert_eq!(number(store, id).await, Some(1));
                at_once &= store.get_now(id).is_ready();
            }
            assert!(store.get_many(&ids).await.iter().all(|entry| matches!(entry, Ok(Some(_)))));
        }
        let mut info = redis::cmd("INFO");
        let info: String =
            info.arg("commandstats").query_async(&mut other).await.expect("an answer");
        if emptied() != before {
            return false;
        }
        assert!(at_once, "all are near");
        for command in ["cmdstat_get:", "cmdstat_mget:", "cmdstat_evalsha:"] {
            assert!(!info.contains(command), "{info}");
        }
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_elsewhere_reaches_the_near_copies_of_its_tags_and_no_other() {
    let (url, service) = (redis_url().await, fresh_name());
    let (keys, tags) = (LocalBus::new(1024), LocalBus::new(1024));
    let here = process(&url, &service, &keys, &tags).await;
    let there = process(&url, &service, &keys, &tags).await;
    for id in 0..300_u64 {
        let key = id.to_string();
        there.put(&key, value(&format!("t{}", id % 3), id), LONG).await.expect("stored");
        eventually("it is seen", async || number(&here, &key).await == Some(id)).await;
    }
    there.invalidate_tags(&["t1"]).await.expect("invalidated");
    for id in 0..300_u64 {
        assert_eq!(number(&there, &id.to_string()).await.is_none(), id % 3 == 1, "{id}");
    }
    eventually("it is heard", async || number(&here, "1").await.is_none()).await;
    for id in 0..300_u64 {
        assert_eq!(number(&here, &id.to_string()).await.is_none(), id % 3 == 1, "{id}");
    }
    // What comes after it is near again, in both.
    there.put("1", value("t1", 7), LONG).await.expect("stored");
    eventually("it is near", async || number(&here, "1").await == Some(7) && near(&here, "1"))
        .await;
}

/// The reply of the far store, or of the marks, may be overtaken by an invalidation of the tag.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_invalidations_that_race_reads_no_near_copy_is_old() {
    let (url, service) = (redis_url().await, fresh_name());
    let (keys, tags) = (LocalBus::new(65_536), LocalBus::new(65_536));
    let here = process(&url, &service, &keys, &tags).await;
    let there = process(&url, &service, &keys, &tags).await;
    let source: Arc<AtomicU64> = Arc::default();
    let cache = |store: &Store| {
        CacheAside::new(store.clone(), ReadOptions::ttl(LONG).store_timeout(LONG)).expect("valid")
    };
    let (here, there) = (cache(&here), cache(&there));
    let read = |cache: CacheAside<Store>, source: Arc<AtomicU64>, key: &'static str| async move {
        let load =
            || async { Ok::<_, std::io::Error>(Some(value("t", source.load(Ordering::SeqCst)))) };
        cache.get_or_load(key, load).await.expect("an answer").expect("a value").1
    };
    let mut old = 0;
    for round in 1..=1000_u64 {
        let key = ["a", "b", "c"][round as usize % 3];
        let racing = tokio::spawn(read(here.clone(), source.clone(), key));
        for _ in 0..round % 29 {
            tokio::task::yield_now().await;
        }
        source.store(round, Ordering::SeqCst);
        there.invalidate_tag("t").await.expect("invalidated");
        assert_eq!(
            read(there.clone(), source.clone(), key).await,
            round,
            "its own is seen at once"
        );
        racing.await.expect("no panic");
        // The message is on its way for a moment; what is old after that stays old.
        eventually("it is heard", async || read(here.clone(), source.clone(), key).await == round)
            .await;
        for key in ["a", "b", "c"] {
            let seen = read(here.clone(), source.clone(), key).await;
            old += u64::from(seen != round);
        }
    }
    assert_eq!(old, 0, "a mark that is known to be new is new for all entries");
}

/// A bus on which nothing arrives.
struct Broken;

struct Never;

impl Bus for Broken {
    type Subscription = Never;

    async fn publish(&self, _: Bytes) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable))
    }

    async fn subscribe(&self) -> Result<Never> {
        Err(Error::new(ErrorKind::Unavailable))
    }
}

impl Subscription for Never {
    async fn next(&mut self) -> Result<Delivery> {
        Err(Error::new(ErrorKind::Unavailable))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_bus_a_mark_is_asked_for_and_nothing_old_is_served() {
    let (url, service) = (redis_url().await, fresh_name());
    let (keys, tags) = (LocalBus::new(1024), LocalBus::new(1024));
    let there = process(&url, &service, &keys, &tags).await;
    let redis = patient_at(&url, &service).connect().await.expect("a server");
    let here = over(redis, &keys, Broadcast::over(Broken).heartbeat(QUICK));
    here.inner().trusted().await;
    for round in 0..100 {
        there.put("a", value("t", round), LONG).await.expect("stored");
        // The message about the new entry may come after the copy, and drop it.
        eventually("the entry is near", async || {
            number(&here, "a").await == Some(round) && here.inner().get_now("a").is_ready()
        })
        .await;
        assert!(!here.marks().is_trusted());
        there.invalidate_tags(&["t"]).await.expect("invalidated");
        assert_eq!(number(&here, "a").await, None);
        assert!(here.get_many(&["a"]).await.remove(0).expect("an answer").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_failed_is_made_up_for_and_heard() {
    let server = Server::start().await;
    let (keys, tags) = (LocalBus::new(1024), LocalBus::new(1024));
    let redis = patient_at(&server.url(), "s").operation_timeout(Duration::from_millis(300));
    let redis = redis.connect().await.expect("a server");
    let here = over(redis, &keys, Broadcast::over(tags.clone()).heartbeat(QUICK));
    here.inner().trusted().await;
    here.marks().trusted().await;
    let there = process(&server.url(), "s", &keys, &tags).await;
    there.put("a", value("t", 1), LONG).await.expect("stored");
    eventually("it is near", async || number(&there, "a").await == Some(1) && near(&there, "a"))
        .await;

    server.stop();
    let failed = here.invalidate_tags(&["t"]).await.expect_err("the server hangs");
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    server.resume();
    eventually("it is heard", async || number(&there, "a").await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_twentieth_of_the_messages_about_tags_is_lost_no_copy_of_a_mark_stays_old() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let keys = LocalBus::new(65_536);
    let process = async |url: &str| {
        let redis = patient_at(url, "s").connect().await.expect("a server");
        let bus = RedisBus::new(&redis, "tags");
        let store = over(redis, &keys, Broadcast::over(bus).heartbeat(QUICK));
        store.inner().trusted().await;
        store.marks().trusted().await;
        store
    };
    let (there, here) = (process(&server.url()).await, process(&proxy.url()).await);
    let ids: Vec<String> = (0..500).map(|id| id.to_string()).collect();
    for id in &ids {
        there.put(id, value(&format!("t{id}"), 1), LONG).await.expect("stored");
    }
    eventually("they are near, as are their marks", async || {
        for id in &ids {
            number(&here, id).await;
        }
        ids.iter().all(|id| near(&here, id))
    })
    .await;
    proxy.fault(Fault::LoseMessages(20));
    for id in &ids {
        there.invalidate_tags(&[&format!("t{id}")]).await.expect("invalidated");
    }
    eventually("all are heard of, or known to be missing", async || {
        let mut old = 0;
        for id in &ids {
            old += usize::from(number(&here, id).await.is_some());
        }
        old == 0
    })
    .await;
    // Heartbeats are lost as well.
    eventually("a hole is seen", async || here.marks().snapshot().resyncs(Resync::Hole) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_marks_that_no_entry_refers_to_are_bounded() {
    let (clock, _hands) = Clock::manual();
    let near = MemoryStore::builder().capacity(100).clock(clock.clone()).build();
    let tiers = Tiered::builder(near.expect("valid options"), MemoryStore::new(100_000));
    let tiers = tiers.clock(clock).build().expect("valid options");
    let marks = NearMarks::new(
        MemoryMarks::new(),
        Broadcast::over(LocalBus::new(1024)).heartbeat(QUICK).trust(Duration::from_secs(60)),
    );
    let marks = marks.expect("valid options");
    marks.trusted().await;
    let store = tiers.tagged(marks.clone(), |key: &str, _: Option<&u64>| [key.to_owned()]);
    for id in 0..20_000 {
        store.put(&id.to_string(), id, LONG).await.expect("stored");
    }
    assert!(marks.len() <= 4 * 1024, "{} copies", marks.len());
}
