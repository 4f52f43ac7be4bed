//! Invalidation by tag on a Redis server, by several processes' worth of caches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{Subject, fresh_name};
use cache_core::{
    CacheStore, CacheStoreExt, Capabilities, Claim, ClaimOptions, Encoded, Entry, ErrorKind, Fill,
    Lease, Marked, Marks, Namespaced, ReadOptions, ReadThrough, Result, SetOptions, Stamp,
    TagStore, Tagged, TaggedCodec, store_conformance,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisMarks, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{
    Server, eventually, foreign, patient, patient_at, patient_cluster, redis_url,
};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Barrier, Notify};

/// Values are a tag and a number.
type Value = (String, u64);
type Bytes = Encoded<Namespaced<RedisStore>, TaggedCodec<Json>, Marked<Value>>;
type Store = Tagged<Bytes, RedisMarks, Value>;

const LONG: Duration = Duration::from_secs(600);

fn tagged(redis: RedisStore) -> Store {
    let marks = RedisMarks::new(&redis);
    let store = redis.namespaced("n").encoded(TaggedCodec::new(Json::new()));
    store.tagged(marks, tags_of)
}

fn tags_of(_: &str, value: Option<&Value>) -> Vec<String> {
    value.map(|(tags, _)| tags.split(' ').map(str::to_owned).collect()).unwrap_or(vec![])
}

/// A store as another process has it.
async fn another(url: &str, service: &str) -> Store {
    tagged(patient_at(url, service).connect().await.expect("a server"))
}

async fn store() -> Store {
    another(&redis_url().await, &fresh_name()).await
}

fn value(tags: &str, number: u64) -> Value {
    (tags.to_owned(), number)
}

async fn number(store: &impl CacheStore<Value = Value>, key: &str) -> Option<u64> {
    store.value(key).await.expect("an answer").map(|(_, number)| number)
}

async fn granted(store: &Store, key: &str) -> Lease {
    match store.claim(key, ClaimOptions::new(LONG)).await.expect("an answer") {
        Claim::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn log_of(service: &str) -> String {
    format!("{service}:%{{t:{service}:}}log")
}

fn mark_of(service: &str, tag: &str) -> String {
    format!("{service}:%{{t:{service}:}}tag:{tag}")
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &str,
    arguments: &[&str],
) -> T {
    redis::cmd(command).arg(arguments).query_async(connection).await.expect("an answer")
}

store_conformance!(json_with_tags, {
    let redis = patient().await.connect().await.expect("a server");
    let marks = RedisMarks::new(&redis);
    let inner = redis.namespaced("n").encoded(TaggedCodec::new(Json::new()));
    let store = inner.tagged(marks, key_and_kind);
    Subject::new(store).real_time(Duration::from_millis(100)).tagged_by(key_and_kind)
});
store_conformance!(json_with_tags_on_a_cluster, {
    let redis = patient_cluster().await.connect().await.expect("a cluster");
    let marks = RedisMarks::new(&redis);
    let store = redis.encoded(TaggedCodec::new(Json::new())).tagged(marks, key_and_kind);
    Subject::new(store).real_time(Duration::from_millis(100)).tagged_by(key_and_kind)
});
store_conformance!(values_with_tags_within_a_namespace, {
    let redis = patient().await.connect().await.expect("a server");
    let store = tagged(redis).namespaced("shop").shared();
    Subject::with_samples(store, |number| (format!("t{} all", number % 3), number.into()))
        .real_time(Duration::from_millis(100))
        .tagged_by(tags_of)
});
store_conformance!(memory_with_marks_on_redis, {
    let redis = patient().await.connect().await.expect("a server");
    let inner = MemoryStore::<Marked<u64>>::new(1000);
    let tags = |key: &str, _: Option<&u64>| [format!("key:{key:.100}")];
    let store = inner.tagged(RedisMarks::new(&redis), tags).shared();
    Subject::new(store).real_time(Duration::from_millis(100)).tagged_by(tags)
});

fn key_and_kind(key: &str, value: Option<&String>) -> [String; 2] {
    [format!("key:{key:.100}"), format!("value:{}", value.is_some())]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_tag_takes_its_own_entries_and_no_other_in_every_process() {
    let (url, service) = (redis_url().await, fresh_name());
    let (here, there) = (another(&url, &service).await, another(&url, &service).await);
    let tags = |id: u64| match id % 4 {
        0 | 2 => format!("org:{}", id % 10),
        1 => format!("org:{} country:{}", id % 10, id % 3),
        _ => "plain".to_owned(),
    };
    for ids in (0..10_000_u64).collect::<Vec<_>>().chunks(500) {
        let keys: Vec<String> = ids.iter().map(u64::to_string).collect();
        let entries = keys
            .iter()
            .zip(ids)
            .map(|(key, id)| (key.as_str(), Some(value(&tags(*id), *id)), SetOptions::ttl(LONG)));
        for set in here.set_many(entries.collect()).await {
            set.expect("stored");
        }
    }
    here.put("4", value("org:7", 4), LONG).await.expect("moved");
    let before: Vec<_> = (0..10_000_u64).map(|id| id.to_string()).collect();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    assert!(there.get_many(&before).await.iter().all(|entry| matches!(entry, Ok(Some(_)))));

    there.invalidate_tags(&["org:4", "country:1"]).await.expect("invalidated");
    let entries = here.get_many(&before).await;
    for (id, entry) in (0..10_000_u64).zip(entries) {
        let tags = tags(id);
        let goes = tags.split(' ').any(|tag| tag == "org:4" || tag == "country:1") && id != 4;
        assert_eq!(entry.expect("an answer").is_none(), goes, "{id}: {tags}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_invalidations_at_the_same_time_leave_nothing_older() {
    let (url, service) = (redis_url().await, fresh_name());
    let source: Arc<AtomicU64> = Arc::default();
    let mut tasks = Vec::new();
    for process in 0..3_u64 {
        let store = another(&url, &service).await;
        let source = source.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..300 {
                if process == 0 {
                    let now = source.fetch_add(1, Ordering::SeqCst) + 1;
                    store.invalidate_tags(&["t"]).await.expect("invalidated");
                    for key in ["0", "1", "2"] {
                        // Loaded since, or gone.
                        let found = number(&store, key).await;
                        assert!(found.is_none_or(|found| found >= now), "{found:?} < {now}");
                    }
                } else {
                    // As a load does it: the value is read between claim and fill.
                    let key = (round % 3).to_string();
                    if let Claim::Granted(lease) =
                        store.claim(&key, ClaimOptions::new(LONG)).await.expect("an answer")
                    {
                        let read = source.load(Ordering::SeqCst);
                        let options = SetOptions::ttl(LONG);
                        let _ = store
                            .fill(lease, Some(value("t", read)), options)
                            .await
                            .expect("an answer");
                    }
                }
            }
        }));
    }
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_another_process_invalidates_during_a_load_keeps_its_value_out() {
    let (url, service) = (redis_url().await, fresh_name());
    let (here, there) = (another(&url, &service).await, another(&url, &service).await);
    let source = Arc::new(AtomicU64::new(1));
    let (loading, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Notify::new()));
    let load = {
        let (source, loading, go_on) = (source.clone(), loading.clone(), go_on.clone());
        move |_: String| {
            let (source, loading, go_on) = (source.clone(), loading.clone(), go_on.clone());
            async move {
                let read = source.load(Ordering::SeqCst);
                if read == 1 {
                    loading.wait().await;
                    go_on.notified().await;
                }
                Ok::<_, std::io::Error>(Some(value("t", read)))
            }
        }
    };
    let cache =
        ReadThrough::new(here.clone(), load, ReadOptions::ttl(LONG)).expect("valid options");
    let read = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("a").await.expect("loaded").expect("a value").1 })
    };
    let early = read();
    loading.wait().await;
    source.store(2, Ordering::SeqCst);
    there.invalidate_tags(&["t"]).await.expect("invalidated");
    let late = read();
    tokio::time::sleep(Duration::from_millis(50)).await;
    go_on.notify_one();
    assert_eq!(early.await.expect("no panic"), 1, "it came before");
    assert_eq!(late.await.expect("no panic"), 2);
    eventually("it is kept", async || number(&there, "a").await == Some(2)).await;
}

/// The answer to the fill may be on its way when a tag is invalidated elsewhere: who comes after that
/// does not get what was loaded before.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_races_of_a_load_with_an_invalidation_elsewhere_return_nothing_old() {
    let (url, service) = (redis_url().await, fresh_name());
    let (here, there) = (another(&url, &service).await, another(&url, &service).await);
    let source: Arc<AtomicU64> = Arc::default();
    let load = {
        let source = source.clone();
        move |_: String| {
            let read = source.load(Ordering::SeqCst);
            async move { Ok::<_, std::io::Error>(Some(value("t", read))) }
        }
    };
    let cache = ReadThrough::new(here, load, ReadOptions::ttl(LONG)).expect("valid options");
    for round in 1..=1000_u64 {
        let racing = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("a").await }
        });
        for _ in 0..round % 23 {
            tokio::task::yield_now().await;
        }
        source.store(round, Ordering::SeqCst);
        there.invalidate_tags(&["t"]).await.expect("invalidated");
        let after = cache.get("a").await.expect("loaded").expect("a value").1;
        assert_eq!(after, round);
        racing.await.expect("no panic").expect("loaded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_mark_is_an_invalid_one() {
    let (url, service) = (redis_url().await, fresh_name());
    let (store, mut other) = (another(&url, &service).await, foreign(&url).await);
    let mark = mark_of(&service, "t");
    for lose in [
        ("UNLINK", vec![mark.as_str()]),
        ("SET", vec![&mark, "foreign"]),
        ("LPUSH", vec![&mark, "foreign"]),
    ] {
        // Known here, so that its mark is asked for together with it, and unknown.
        for known in [true, false] {
            let _: () = ask(&mut other, "DEL", &[&mark]).await;
            store.put("a", value("t", 1), LONG).await.expect("stored");
            if known {
                assert_eq!(number(&store, "a").await, Some(1));
            }
            let _: redis::Value = ask(&mut other, "DEL", &[&mark]).await;
            if lose.0 != "UNLINK" {
                let _: redis::Value = ask(&mut other, lose.0, &lose.1).await;
            }
            assert_eq!(number(&store, "a").await, None, "{lose:?}");
            let many = store.get_many(&["a"]).await.remove(0);
            assert!(many.expect("an answer").is_none(), "{lose:?}");
            // It is free to be loaded.
            let lease = granted(&store, "a").await;
            let fill = store.fill(lease, Some(value("t", 2)), SetOptions::ttl(LONG)).await;
            assert_eq!(fill.expect("an answer"), Fill::Stored, "{lose:?}");
            assert_eq!(number(&store, "a").await, Some(2), "{lose:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_server_was_flushed_nothing_from_before_is_valid() {
    let server = Server::start().await;
    let (store, mut other) = (another(&server.url(), "s").await, foreign(&server.url()).await);
    store.put("a", value("t", 1), LONG).await.expect("stored");
    let saved: Vec<u8> = ask(&mut other, "GET", &["s:n:a"]).await;
    store.invalidate_tags(&["t"]).await.expect("invalidated");
    let lease = granted(&store, "b").await;
    let _: () = ask(&mut other, "FLUSHALL", &[]).await;

    // The entry survives somewhere, say as a near copy; its mark does not.
    let put_back = redis::cmd("SET").arg("s:n:a").arg(saved).exec_async(&mut other).await;
    put_back.expect("an answer");
    assert_eq!(number(&store, "a").await, None);
    store.put("c", value("t", 3), LONG).await.expect("stored");
    assert_eq!(number(&store, "a").await, None, "its mark has been made anew");
    assert_eq!(number(&store, "c").await, Some(3));
    let fill = store.fill(lease, Some(value("t", 2)), SetOptions::ttl(LONG)).await;
    assert_eq!(fill.expect("an answer"), Fill::Refused, "nobody knows what it has missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_not_kept_if_the_log_of_invalidations_was_lost_meanwhile() {
    let (url, service) = (redis_url().await, fresh_name());
    let (store, mut other) = (another(&url, &service).await, foreign(&url).await);
    for (tag, mark_is_lost) in [("known", false), ("new", true)] {
        store.put("another", value("known", 0), LONG).await.expect("stored");
        let lease = granted(&store, tag).await;
        store.invalidate_tags(&[tag]).await.expect("invalidated");
        let _: () = ask(&mut other, "DEL", &[&log_of(&service)]).await;
        if mark_is_lost {
            let _: () = ask(&mut other, "DEL", &[&mark_of(&service, tag)]).await;
        }
        let fill = store.fill(lease, Some(value(tag, 1)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Refused, "{tag}");
        let lease = granted(&store, tag).await;
        let fill = store.fill(lease, Some(value(tag, 1)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Stored, "{tag}: the next load is kept");
        assert_eq!(number(&store, tag).await, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_invalidation_of_its_own_tags_refuses_a_fill() {
    let store = store().await;
    for new in [true, false] {
        let lease = granted(&store, "a").await;
        store.invalidate_tags(&["other", "third"]).await.expect("invalidated");
        let fill = store.fill(lease, Some(value("t u", 1)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Stored, "new tags: {new}");

        store.remove("a").await.expect("removed");
        let lease = granted(&store, "a").await;
        store.invalidate_tags(&["u"]).await.expect("invalidated");
        let fill = store.fill(lease, Some(value("t u", 1)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Refused, "new tags: {new}");
        let _free_again = granted(&store, "a").await;
        store.remove("a").await.expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_outlive_what_they_guard_and_then_expire() {
    let (url, service) = (redis_url().await, fresh_name());
    let (store, mut other) = (another(&url, &service).await, foreign(&url).await);
    let mark = mark_of(&service, "t");
    let set = async |key: &str, options| store.set(key, Some(value("t", 1)), options).await;
    set("long", SetOptions::ttl(LONG)).await.expect("stored");
    let long: i64 = ask(&mut other, "PTTL", &[&mark]).await;
    let entry: i64 = ask(&mut other, "PTTL", &[&format!("{service}:n:long")]).await;
    assert!(long > entry, "{long} > {entry}");
    assert!(long < 2 * LONG.as_millis() as i64, "bounded: {long}");

    set("short", SetOptions::ttl(Duration::from_secs(1))).await.expect("stored");
    let left: i64 = ask(&mut other, "PTTL", &[&mark]).await;
    assert!(left > entry - 60_000, "a shorter life does not shorten it: {left}");
    set("longer", SetOptions::ttl(LONG).stale_for(LONG)).await.expect("stored");
    let left: i64 = ask(&mut other, "PTTL", &[&mark]).await;
    assert!(left > 2 * LONG.as_millis() as i64 - 60_000, "a longer one does: {left}");
    store.invalidate_tags(&["t"]).await.expect("invalidated");
    let after: i64 = ask(&mut other, "PTTL", &[&mark]).await;
    assert!(after > 0 && after <= left, "an invalidation does not change it: {after}");

    // Nothing without an end is left behind, however many tags there have been.
    let unused: Vec<String> = (0..5000).map(|id| format!("unused:{id}")).collect();
    let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
    store.invalidate_tags(&unused).await.expect("invalidated");
    let mut keys: Vec<String> = ask(&mut other, "KEYS", &[&format!("{service}:*")]).await;
    keys.retain(|key| !key.ends_with("short"));
    assert_eq!(keys.len(), 2 + 2, "two entries, a mark and the log");
    for key in keys {
        let left: i64 = ask(&mut other, "PTTL", &[&key]).await;
        assert!(left > 0, "{key} ends: {left}");
    }
    let log: i64 = ask(&mut other, "ZCARD", &[&log_of(&service)]).await;
    assert_eq!(log, 4096 + 1);

    set("ever", SetOptions::forever()).await.expect("stored");
    let ever: i64 = ask(&mut other, "PTTL", &[&mark]).await;
    assert_eq!(ever, -1, "for what is for ever, for ever");
    // And an epoch that the log does not reach back to is not vouched for.
    let lease = granted(&store, "old").await;
    store.invalidate_tags(&unused).await.expect("invalidated");
    let fill = store.fill(lease, Some(value("never seen", 1)), SetOptions::ttl(LONG)).await;
    assert_eq!(fill.expect("an answer"), Fill::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_leaves_nothing_on_the_server() {
    let (url, service) = (redis_url().await, fresh_name());
    let redis = patient_at(&url, &service).operation_timeout(Duration::from_secs(4));
    let redis = redis.connect().await.expect("a server");
    let (store, mut other) = (tagged(redis), foreign(&url).await);
    for id in 0..200 {
        let tags = format!("own:{id} all");
        eventually("it is stored", async || {
            let tagged = value(&tags, id);
            store.put(&id.to_string(), tagged, Duration::from_millis(1)).await.is_ok()
        })
        .await;
    }
    eventually("nothing but the log is left", async || {
        let keys: Vec<String> = ask(&mut other, "KEYS", &[&format!("{service}:*")]).await;
        keys == [log_of(&service)]
    })
    .await;
}

/// How often the server has been asked for each command.
async fn commands(connection: &mut MultiplexedConnection) -> Vec<(String, u64)> {
    let info: String = ask(connection, "INFO", &["commandstats"]).await;
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    let counts = lines.filter_map(|line| {
        let (name, rest) = line.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    counts.filter(|(name, _)| ["get", "mget", "evalsha"].contains(&name.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_hit_is_one_question_for_the_entry_and_one_for_its_marks() {
    let server = Server::start().await;
    let (store, mut other) = (another(&server.url(), "s").await, foreign(&server.url()).await);
    let keys: Vec<String> = (0..100).map(|id| id.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        store.put(key, value("all t", 1), LONG).await.expect("stored");
        assert_eq!(number(&store, key).await, Some(1));
    }
    let _: () = ask(&mut other, "CONFIG", &["RESETSTAT"]).await;
    for key in &keys {
        assert_eq!(number(&store, key).await, Some(1));
    }
    let counted = commands(&mut other).await;
    assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 200, "{counted:?}");

    let _: () = ask(&mut other, "CONFIG", &["RESETSTAT"]).await;
    assert!(store.get_many(&keys).await.iter().all(|entry| matches!(entry, Ok(Some(_)))));
    let counted = commands(&mut other).await;
    assert_eq!(counted, [("mget".to_owned(), 2)], "all entries, and all marks");
}

/// Answers only once both the entry and its marks have been asked for.
struct Together<T> {
    inner: T,
    both: Arc<Barrier>,
}

impl<S: CacheStore> CacheStore for Together<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.both.wait().await;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        self.both.wait().await;
        self.inner.get_many(keys).await
    }

    fn get_now(&self, _: &str) -> Poll<Option<Entry<S::Value>>> {
        Poll::Pending
    }

    async fn set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        self.inner.set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.inner.remove(key).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

impl<M: Marks> Marks for Together<M> {
    async fn epoch(&self) -> Result<u64> {
        self.inner.epoch().await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        self.inner.stamp(tags, since, life).await
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        self.both.wait().await;
        self.inner.generations(tags).await
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        self.inner.invalidate(tags).await
    }

    async fn invalidate_all(&self) -> Result<()> {
        self.inner.invalidate_all().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_hit_takes_one_round_trip() {
    let redis = patient().await.connect().await.expect("a server");
    let both = Arc::new(Barrier::new(2));
    let marks = Together { inner: RedisMarks::new(&redis), both: both.clone() };
    let inner = redis.encoded::<_, Marked<u64>>(TaggedCodec::new(Json::new()));
    let inner = Together { inner, both: both.clone() };
    let store = Arc::new(inner.tagged(marks, |_: &str, _: Option<&u64>| ["t", "u"]));
    store.put("a", 1, LONG).await.expect("stored");

    // The first time the tags are not known, so the two questions come one after the other.
    let (first, _, _) = tokio::join!(store.value("a"), both.wait(), async {
        both.wait().await;
    });
    assert_eq!(first.expect("an answer"), Some(1));
    // From then on neither waits for the other: one alone would wait here for ever.
    let limit = Duration::from_secs(60);
    for _ in 0..3 {
        let hit = tokio::time::timeout(limit, store.value("a")).await.expect("both are asked");
        assert_eq!(hit.expect("an answer"), Some(1));
        let hits = tokio::time::timeout(limit, store.get_many(&["a", "a"])).await;
        assert!(hits.expect("both are asked").iter().all(|entry| matches!(entry, Ok(Some(_)))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreigner_writes_over_a_mark_is_as_good_as_nothing() {
    let (url, service) = (redis_url().await, fresh_name());
    let store = another(&url, &service).await;
    let mut other = foreign(&url).await;
    let mark = format!("{service}:%{{t:{service}:}}tag:t");
    for garbage in ["", "x", "inf", "nan", "-1", "0x10", "1.5", "99999999999999999999", "7 "] {
        store.put("a", value("t", 1), LONG).await.expect("stored");
        assert_eq!(number(&store, "a").await, Some(1));
        let _: () = ask(&mut other, "SET", &[&mark, garbage]).await;
        assert_eq!(number(&store, "a").await, None, "{garbage:?}");
        // It is put right by whoever writes next.
        store.put("a", value("t", 2), LONG).await.expect("stored");
        assert_eq!(number(&store, "a").await, Some(2), "{garbage:?}");
    }
    let _: () = ask(&mut other, "DEL", &[&mark]).await;
    let _: i64 = ask(&mut other, "RPUSH", &[&mark, "x"]).await;
    assert_eq!(number(&store, "a").await, None, "it is not even text");
    store.put("a", value("t", 3), LONG).await.expect("stored");
    assert_eq!(number(&store, "a").await, Some(3));
}

/// A mark that is made anew while they go one after the other is not to be as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn all_tags_are_invalidated_together_also_while_entries_are_being_stamped() {
    let redis = patient().await.connect().await.expect("a server");
    let marks = RedisMarks::new(&redis);
    let stamp = async |tag: &str, since| {
        let stamps = marks.stamp(&[tag], since, LONG).await.expect("an answer");
        stamps.map(|stamps| stamps[0].generation())
    };
    for round in 0..10 {
        let many: Vec<String> = (0..5000).map(|tag| format!("{round}-{tag}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        marks.stamp(&many, None, LONG).await.expect("an answer").expect("nothing is asked");
        let before = stamp("t", None).await;
        let epoch = marks.epoch().await.expect("an answer");
        let stamping = tokio::spawn({
            let marks = marks.clone();
            async move {
                loop {
                    marks.stamp(&["t"], None, LONG).await.expect("an answer");
                }
            }
        });
        marks.invalidate_all().await.expect("no failure");
        stamping.abort();
        assert_eq!(stamp("t", Some(epoch)).await, None, "a load from before");
        assert!(stamp("t", None).await > before, "an entry from before");
        let generations = marks.generations(&many).await.expect("an answer");
        assert!(generations.iter().all(Option::is_none), "their entries are invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_could_not_be_sent_is_made_up_for() {
    let mut server = Server::start().await;
    let redis = patient_at(&server.url(), "s").operation_timeout(Duration::from_millis(300));
    let redis = redis.connect().await.expect("a server");
    let (store, there) = (tagged(redis), another(&server.url(), "s").await);
    there.put("a", value("t", 1), LONG).await.expect("stored");
    there.put("b", value("u", 1), LONG).await.expect("stored");
    server.stop();
    let failed = store.invalidate_tags(&["t"]).await.expect_err("the server hangs");
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    server.resume();
    eventually("it is made up for", async || number(&there, "a").await.is_none()).await;
    assert_eq!(number(&there, "b").await, Some(1));
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_work_in_a_cluster_whatever_slots_their_entries_are_in() {
    let builder = || async { tagged(patient_cluster().await.connect().await.expect("a cluster")) };
    let store = builder().await;
    let ids: Vec<String> = (0..300).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let entries = ids.iter().enumerate().map(|(number, id)| {
        let tags = format!("t{} all", number % 3);
        (*id, Some(value(&tags, number as u64)), SetOptions::ttl(LONG))
    });
    for set in store.set_many(entries.collect()).await {
        set.expect("stored");
    }
    store.invalidate_tags(&["t1", "unknown"]).await.expect("invalidated");
    for (number, entry) in store.get_many(&ids).await.into_iter().enumerate() {
        assert_eq!(entry.expect("an answer").is_none(), number % 3 == 1, "{number}");
    }
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(number(&store, id).await.is_none(), at % 3 == 1, "{id}");
    }
    for id in ids.iter().skip(1).step_by(3).take(20) {
        let lease = granted(&store, id).await;
        store.invalidate_tags(&["t1"]).await.expect("invalidated");
        let fill = store.fill(lease, Some(value("t1", 1)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Refused);
        let lease = granted(&store, id).await;
        let fill = store.fill(lease, Some(value("t1", 2)), SetOptions::ttl(LONG)).await;
        assert_eq!(fill.expect("an answer"), Fill::Stored);
        assert_eq!(number(&store, id).await, Some(2));
    }
}
