//! Of many keys, some of them tagged, exactly the right ones go: on a Redis server, and through tiers, while sets and
//! invalidations of one tag race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{
    Broadcast, CacheStoreExt, LocalBus, Marked, NearMarks, SetOptions, TagStore, TaggedCodec,
    Tiered,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisMarks, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{eventually, patient_at, redis_url};

/// Its tag, or nothing, and a number.
type Value = (String, u64);

const LONG: Duration = Duration::from_secs(600);

/// So many, of which every other one has a tag, out of ten.
const KEYS: u64 = 10_000;
const RACING: usize = 40;
const WRITERS: usize = 4;
const ROUNDS: u64 = 100;

fn tag(_: &str, value: Option<&Value>) -> Option<String> {
    value.map(|(tag, _)| tag.clone()).filter(|tag| !tag.is_empty())
}

async fn redis(url: &str, service: &str) -> RedisStore {
    patient_at(url, service).connect().await.expect("a server")
}

fn org(id: u64) -> Option<u64> {
    id.is_multiple_of(2).then_some(id / 2 % 10)
}

fn value(id: u64) -> Value {
    (org(id).map(|org| format!("org:{org}")).unwrap_or_default(), id)
}

/// All keys but these are there, as they were written.
async fn exactly<S: TagStore<Value = Value>>(store: &S, moved: &Value, gone: impl Fn(u64) -> bool) {
    eventually("exactly the right ones are gone", async || {
        let keys: Vec<String> = (0..KEYS).map(|id| id.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let entries = store.get_many(&keys).await;
        let mut late = 0;
        for (id, entry) in (0..KEYS).zip(entries) {
            let found = entry.expect("an answer").and_then(cache_core::Entry::into_value);
            let written = if id == moved.1 { moved.clone() } else { value(id) };
            // What is gone for good can't come back, so only the one side may be late.
            assert!(found.is_some() || gone(id), "{id}: {written:?}");
            assert!(found.iter().all(|found| *found == written), "{id}: {found:?}");
            late += u64::from(found.is_some() && gone(id));
        }
        late == 0
    })
    .await;
}

/// The race, between two processes.
async fn exactly_the_right_ones_go<S: TagStore<Value = Value> + Clone>(here: S, there: S) {
    for ids in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let keys: Vec<String> = ids.iter().map(u64::to_string).collect();
        let entries = keys.iter().zip(ids);
        let entries =
            entries.map(|(key, id)| (key.as_str(), Some(value(*id)), SetOptions::ttl(LONG)));
        for set in here.set_many(entries.collect()).await {
            set.expect("stored");
        }
    }
    // From one tag to another.
    let moved = ("org:7".to_owned(), 8);
    here.put("8", moved.clone(), LONG).await.expect("stored");
    for store in [&here, &there] {
        eventually("it has moved", async || {
            store.value("8").await.expect("an answer").as_ref() == Some(&moved)
        })
        .await;
        exactly(store, &moved, |_| false).await;
    }

    let done = Arc::new(AtomicBool::new(false));
    // The last write of each key that has returned.
    let written: Arc<Vec<AtomicU64>> = Arc::new((0..RACING).map(|_| AtomicU64::new(0)).collect());
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = if writer % 2 == 0 { here.clone() } else { there.clone() };
            let (done, written) = (Arc::clone(&done), Arc::clone(&written));
            tokio::spawn(async move {
                for number in 1.. {
                    for key in (writer..RACING).step_by(WRITERS) {
                        let value = ("race".to_owned(), number);
                        store.put(&format!("race {key}"), value, LONG).await.expect("stored");
                        written[key].store(number, SeqCst);
                    }
                    if done.load(SeqCst) {
                        break;
                    }
                }
            })
        })
        .collect();
    let (mut old, mut found) = (0, 0);
    for _ in 0..ROUNDS {
        let before: Vec<u64> = written.iter().map(|written| written.load(SeqCst)).collect();
        there.invalidate_tags(&["race"]).await.expect("invalidated");
        for (key, before) in before.iter().enumerate() {
            // One that is there has been written since.
            if let Some((_, number)) = there.value(&format!("race {key}")).await.expect("an answer")
            {
                found += 1;
                old += usize::from(number <= *before);
            }
        }
    }
    done.store(true, SeqCst);
    for writing in writing {
        writing.await.expect("no panic");
    }
    assert_eq!(old, 0, "of {found} that were there");
    assert!(found > 0, "some were written meanwhile");
    for store in [&here, &there] {
        exactly(store, &moved, |_| false).await;
    }

    there.invalidate_tags(&["race"]).await.expect("invalidated");
    for store in [&here, &there] {
        eventually("none of them is left", async || {
            let mut left = 0;
            for key in 0..RACING {
                let found = store.value(&format!("race {key}")).await.expect("an answer");
                left += usize::from(found.is_some());
            }
            left == 0
        })
        .await;
        exactly(store, &moved, |_| false).await;
    }
    here.invalidate_tags(&["org:3", "org:4"]).await.expect("invalidated");
    for store in [&here, &there] {
        exactly(store, &moved, |id| matches!(org(id), Some(3 | 4)) && id != 8).await;
    }
    there.invalidate_tags(&["org:7"]).await.expect("invalidated");
    for store in [&here, &there] {
        exactly(store, &moved, |id| matches!(org(id), Some(3 | 4 | 7))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_keys_on_redis_exactly_the_right_ones_go() {
    let (url, service) = (redis_url().await, fresh_name());
    let process = async || {
        let redis = redis(&url, &service).await;
        let marks = RedisMarks::new(&redis);
        redis.encoded::<_, Marked<Value>>(TaggedCodec::new(Json::new())).tagged(marks, tag)
    };
    exactly_the_right_ones_go(process().await, process().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_keys_through_tiers_exactly_the_right_ones_go() {
    let (url, service) = (redis_url().await, fresh_name());
    let (keys, tags) = (LocalBus::new(1 << 16), LocalBus::new(1 << 16));
    let process = async || {
        let redis = redis(&url, &service).await;
        // So patient that a busy machine does not matter.
        let patient = |bus: &LocalBus| Broadcast::over(bus.clone()).trust(LONG);
        let marks = NearMarks::new(RedisMarks::new(&redis), patient(&tags)).expect("valid options");
        marks.trusted().await;
        let far = redis.encoded::<_, Marked<Value>>(TaggedCodec::new(Json::new()));
        let tiers = Tiered::builder(MemoryStore::new(100_000), far).coherent_by(patient(&keys));
        let tiers = tiers.build().expect("valid options");
        tiers.trusted().await;
        tiers.tagged(marks, tag)
    };
    let (here, there) = (process().await, process().await);
    exactly_the_right_ones_go(here.clone(), there.clone()).await;
    for store in [here, there] {
        let seen = store.inner().snapshot();
        assert!(seen.copies > KEYS, "the near tier is in use: {seen:?}");
    }
}
