//! Invalidation by tag, in memory: what goes, what stays, and what is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{Operation, SlowStore, Subject};
use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, Claim, ClaimOptions, Clock, ErrorKind, Fill, Marked,
    Marks, MemoryMarks, ReadOptions, ReadThrough, Result, Revision, SetOptions, Stamp, TagStore,
    Tagged, TaggedCodec, store_conformance,
};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::{Json, Postcard};
use cache_tests::redis::eventually;
use rstest::rstest;
use tokio::sync::{Barrier, Notify};

type Memory<V> = Tagged<MemoryStore<Marked<V>>, MemoryMarks, V>;

const LONG: Duration = Duration::from_secs(3600);

fn store<V>(store: MemoryStore<Marked<V>>) -> Memory<V>
where
    V: Clone + Send + Sync + 'static,
{
    store.tagged(MemoryMarks::new(), own_and_all)
}

/// The tags of an entry: its own, and one that all have.
fn own_and_all<V>(key: &str, _: Option<&V>) -> [String; 2] {
    [short(key), "all".into()]
}

/// A tag for a key of any length.
fn short(key: &str) -> String {
    format!("key:{key:.100}")
}

store_conformance!(memory, {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::builder().capacity(10_000).clock(clock).build();
    let store = store::<String>(inner.expect("valid options"));
    Subject::new(store).manual_clock(hands).tagged_by(own_and_all)
});
store_conformance!(moka_within_a_namespace, {
    let (clock, hands) = Clock::manual();
    let inner = MokaStore::builder().capacity(10_000).clock(clock).build();
    let inner = inner.expect("valid options").namespaced("shop");
    let tags = |key: &str, value: Option<&u64>| [short(key), format!("value:{}", value.is_some())];
    let store = inner.tagged(MemoryMarks::new(), tags).shared();
    Subject::new(store).manual_clock(hands).tagged_by(tags)
});
store_conformance!(without_tags, {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::builder().capacity(10_000).clock(clock).build();
    let inner = inner.expect("valid options");
    let store = inner.tagged(MemoryMarks::new(), |_: &str, _: Option<&u64>| None::<String>);
    Subject::new(store).manual_clock(hands)
});
store_conformance!(within_a_namespace_of_a_namespace, {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::builder().capacity(10_000).clock(clock).build();
    let tags = |_: &str, value: Option<&String>| [format!("value:{value:?}"), "all".into()];
    let store = inner.expect("valid options").tagged(MemoryMarks::new(), tags);
    let store = store.namespaced("a*b").namespaced("100%");
    Subject::new(store).manual_clock(hands).tagged_by(tags)
});
store_conformance!(json_bytes, {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::<Bytes>::builder().capacity(10_000).clock(clock).build();
    let inner = inner.expect("valid options").encoded(TaggedCodec::new(Json::new()));
    let tags = |key: &str, _: Option<&String>| [short(key)];
    let store = inner.tagged(MemoryMarks::new(), tags);
    Subject::new(Arc::new(store)).manual_clock(hands).tagged_by(tags)
});
store_conformance!(positional_bytes, {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::<Bytes>::builder().capacity(10_000).clock(clock).build();
    let inner = inner.expect("valid options").encoded(TaggedCodec::new(Postcard::new()));
    let tags = |key: &str, _: Option<&u64>| [short(key)];
    let store = inner.tagged(MemoryMarks::new(), tags);
    Subject::new(store).manual_clock(hands).tagged_by(tags)
});

#[derive(Clone, Copy, Debug, PartialEq)]
struct User {
    org: u64,
    name: u64,
}

fn users(marks: &MemoryMarks) -> Memory<User> {
    MemoryStore::new(100_000).tagged(marks.clone(), |_: &str, user: Option<&User>| {
        user.filter(|user| user.org != 0).map(|user| format!("org:{}", user.org))
    })
}

#[tokio::test]
async fn an_invalidated_tag_takes_its_own_entries_and_no_other() {
    let store = users(&MemoryMarks::new());
    for id in 0..10_000_u64 {
        // Every other one has a tag, out of ten.
        let org = if id % 2 == 0 { id / 2 % 10 + 1 } else { 0 };
        store.put(&id.to_string(), User { org, name: id }, LONG).await.unwrap();
    }
    // One moves from one tag to another.
    store.put("4", User { org: 7, name: 4 }, LONG).await.unwrap();

    store.invalidate_tags(&["org:3", "org:8"]).await.unwrap();
    let mut gone = 0;
    for id in 0..10_000_u64 {
        let org = if id % 2 == 0 { id / 2 % 10 + 1 } else { 0 };
        let goes = matches!(org, 3 | 8) && id != 4;
        let found = store.value(&id.to_string()).await.unwrap();
        assert_eq!(found.is_none(), goes, "{id} of {org}");
        gone += u64::from(goes);
    }
    assert_eq!(gone, 999);
    store.invalidate_tags(&["org:7"]).await.unwrap();
    assert_eq!(store.value("4").await.unwrap(), None, "it has moved");
}

/// Marks that count how often stamps are compared with them.
#[derive(Clone)]
struct Counted {
    marks: MemoryMarks,
    compared: Arc<AtomicU64>,
}

impl Marks for Counted {
    async fn epoch(&self) -> Result<u64> {
        self.marks.epoch().await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        self.marks.stamp(tags, since, life).await
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        self.marks.generations(tags).await
    }

    fn holds_now(&self, stamps: &[Stamp]) -> Poll<bool> {
        self.compared.fetch_add(1, Ordering::SeqCst);
        self.marks.holds_now(stamps)
    }

    fn revision(&self) -> Option<&Revision> {
        self.marks.revision()
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        self.marks.invalidate(tags).await
    }

    async fn invalidate_all(&self) -> Result<()> {
        self.marks.invalidate_all().await
    }
}

#[tokio::test]
async fn a_hit_compares_its_stamps_only_after_a_mark_has_changed() {
    let marks = Counted { marks: MemoryMarks::new(), compared: Arc::default() };
    let tags = |key: &str, _: Option<&u64>| [key.to_owned(), "all".to_owned()];
    let store = MemoryStore::new(100).tagged(marks.clone(), tags);
    let hits = || {
        let before = marks.compared.load(Ordering::SeqCst);
        let hit = |key| matches!(store.get_now(key), Poll::Ready(Some(_)));
        let found = (0..10).map(|_| (hit("a"), hit("b"))).collect::<Vec<_>>();
        assert!(found.iter().all(|hit| *hit == found[0]), "{found:?}");
        (found[0], marks.compared.load(Ordering::SeqCst) - before)
    };
    store.put("a", 1, LONG).await.unwrap();
    store.put("b", 2, LONG).await.unwrap();
    assert_eq!(hits(), ((true, true), 2), "each once");
    assert_eq!(hits(), ((true, true), 0));
    store.invalidate_tags(&["c"]).await.unwrap();
    assert_eq!(hits(), ((true, true), 2), "it might have been theirs");
    store.invalidate_tags(&["a"]).await.unwrap();
    assert_eq!(hits(), ((false, true), 10 + 1), "what does not hold is never taken to hold");
    store.put("a", 3, LONG).await.unwrap();
    assert_eq!(hits(), ((true, true), 1), "it is another entry");
    marks.invalidate_all().await.unwrap();
    assert_eq!(hits(), ((false, false), 20));
}

#[tokio::test]
async fn marks_of_which_another_entry_was_found_to_hold_are_not_taken_for_each_other() {
    // One entry, read through two sets of marks of which one has invalidated it.
    let inner = MemoryStore::<Marked<u64>>::new(100);
    let tagged = |marks| inner.clone().tagged(marks, |_: &str, _: Option<&u64>| ["tag"]);
    let (ours, theirs) = (tagged(MemoryMarks::new()), tagged(MemoryMarks::new()));
    ours.put("a", 1, LONG).await.unwrap();
    assert!(matches!(ours.get_now("a"), Poll::Ready(Some(_))));
    assert!(matches!(ours.get_now("a"), Poll::Ready(Some(_))));
    ours.invalidate_tags(&["tag"]).await.unwrap();
    assert_eq!(ours.get_now("a"), Poll::Ready(None));
    for _ in 0..100 {
        theirs.invalidate_tags(&["tag"]).await.unwrap();
        assert_eq!(ours.get_now("a"), Poll::Ready(None));
        assert_eq!(theirs.get_now("a"), Poll::Ready(None));
    }
}

#[tokio::test]
async fn a_negative_entry_has_tags() {
    let store = MemoryStore::new(100)
        .tagged(MemoryMarks::new(), |key: &str, user: Option<&u64>| {
            user.is_none().then(|| format!("missing:{key}"))
        });
    store.set("a", None, SetOptions::forever()).await.unwrap();
    assert!(store.get("a").await.unwrap().unwrap().is_negative());
    store.invalidate_tags(&["missing:a"]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn the_function_sees_the_key_that_was_asked_for() {
    let inner = MemoryStore::<Marked<u64>>::new(100).namespaced("shop");
    let store = inner.tagged(MemoryMarks::new(), |key: &str, _: Option<&u64>| [key.to_owned()]);
    let cache = CacheAside::new(store.clone(), ReadOptions::ttl(LONG)).unwrap();
    let load = || async { Ok::<_, std::io::Error>(Some(1)) };
    cache.get_or_load("a", load).await.unwrap();
    store.invalidate_tags(&["shop:a"]).await.unwrap();
    assert_eq!(store.value("a").await.unwrap(), Some(1));
    cache.invalidate_tag("a").await.unwrap();
    assert_eq!(store.value("a").await.unwrap(), None);
}

#[tokio::test]
async fn tags_that_are_too_many_too_long_or_empty_are_an_error_and_nothing_is_stored() {
    let tags = |key: &str, _: Option<&u64>| match key {
        "many" => (0..65).map(|n| n.to_string()).collect(),
        "most" => (0..64).map(|n| n.to_string()).collect(),
        "long" => vec!["x".repeat(251)],
        "empty" => vec![String::new()],
        "panic" => panic!("the user's"),
        _ => vec!["x".repeat(250), "x".repeat(250)],
    };
    let store = MemoryStore::new(100).tagged(MemoryMarks::new(), tags);
    for (key, kind) in [
        ("many", Some(ErrorKind::TooLarge)),
        ("most", None),
        ("long", Some(ErrorKind::TooLarge)),
        ("empty", Some(ErrorKind::TooLarge)),
        ("panic", Some(ErrorKind::InvalidOption)),
        ("twice", None),
    ] {
        let set = store.put(key, 1, LONG).await;
        assert_eq!(set.as_ref().err().map(cache_core::Error::kind), kind, "{key}");
        let many = store.set_many(vec![(key, Some(1), SetOptions::ttl(LONG))]).await;
        assert_eq!(many[0].as_ref().err().map(cache_core::Error::kind), kind, "{key}");
        assert_eq!(store.value(key).await.unwrap().is_some(), kind.is_none(), "{key}");

        // A load is answered all the same, and leaves no lease.
        store.remove(key).await.unwrap();
        let cache = CacheAside::new(store.clone(), ReadOptions::ttl(LONG)).unwrap();
        let load = || async { Ok::<_, std::io::Error>(Some(2)) };
        assert_eq!(cache.get_or_load(key, load).await.unwrap(), Some(2));
        let claim = store.claim(key, ClaimOptions::new(LONG)).await.unwrap();
        assert_eq!(matches!(claim, Claim::Granted(_)), kind.is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_tag_invalidated_during_a_load_keeps_its_value_out_and_from_whoever_comes_later() {
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
                Ok::<_, std::io::Error>(Some(User { org: 7, name: read }))
            }
        }
    };
    let store = users(&MemoryMarks::new());
    let cache = ReadThrough::new(store.clone(), load, ReadOptions::ttl(LONG)).unwrap();
    let read = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("a").await.unwrap().unwrap().name })
    };
    let early = read();
    loading.wait().await;
    source.store(2, Ordering::SeqCst);
    cache.invalidate_tag("org:7").await.unwrap();
    let late = read();
    // It waits with the flight, or has begun its own.
    tokio::task::yield_now().await;
    go_on.notify_one();
    assert_eq!(early.await.unwrap(), 1, "it came before");
    assert_eq!(late.await.unwrap(), 2);
    assert_eq!(store.value("a").await.unwrap().unwrap().name, 2);
}

/// The store has said that the lease held, and then another process invalidates, while that answer is on its way.
#[rstest]
#[tokio::test]
async fn who_comes_while_the_answer_to_a_fill_is_on_its_way_gets_nothing_that_was_invalidated_meanwhile(
    #[values(false, true)] by_tag: bool,
) {
    let source = Arc::new(AtomicU64::new(1));
    let load = {
        let source = source.clone();
        move |_: String| {
            let name = source.load(Ordering::SeqCst);
            async move { Ok::<_, std::io::Error>(Some(User { org: 7, name })) }
        }
    };
    let there = users(&MemoryMarks::new());
    let here = SlowStore::new(there.clone());
    let gate = here.hold_answer(Operation::Fill);
    let cache = ReadThrough::new(here, load, ReadOptions::ttl(LONG)).unwrap();
    let read = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("a").await.unwrap().unwrap().name })
    };
    assert_eq!(read().await.unwrap(), 1, "who came first does not wait for it");
    gate.arrived(1).await;
    source.store(2, Ordering::SeqCst);
    match by_tag {
        true => there.invalidate_tags(&["org:7"]).await.unwrap(),
        false => there.remove("a").await.unwrap(),
    }
    let late = read();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(late.await.unwrap(), 2);
}

#[tokio::test]
async fn an_entry_that_is_invalid_by_its_tag_can_be_claimed_and_filled() {
    let store = users(&MemoryMarks::new());
    store.put("a", User { org: 7, name: 1 }, LONG).await.unwrap();
    let options = ClaimOptions::new(LONG);
    assert!(matches!(store.claim("a", options).await.unwrap(), Claim::Found(_)));
    store.invalidate_tags(&["org:7"]).await.unwrap();
    let Claim::Granted(lease) = store.claim("a", options).await.unwrap() else {
        panic!("it is free");
    };
    assert!(matches!(store.claim("a", options).await.unwrap(), Claim::Held { .. }));
    let fill = store.fill(lease, Some(User { org: 7, name: 2 }), SetOptions::forever()).await;
    assert_eq!(fill.unwrap(), Fill::Stored);
    assert_eq!(store.value("a").await.unwrap().unwrap().name, 2);
}

#[tokio::test]
async fn a_fill_whose_tag_was_invalidated_is_refused_and_frees_the_key() {
    let store = users(&MemoryMarks::new());
    let options = ClaimOptions::new(LONG);
    for known in [false, true] {
        let Claim::Granted(lease) = store.claim("a", options).await.unwrap() else {
            panic!("it is free");
        };
        if known {
            store.put("b", User { org: 7, name: 1 }, LONG).await.unwrap();
        }
        store.invalidate_tags(&["org:7"]).await.unwrap();
        let user = User { org: 7, name: 1 };
        assert_eq!(
            store.fill(lease, Some(user), SetOptions::forever()).await.unwrap(),
            Fill::Refused
        );
        assert_eq!(store.value("a").await.unwrap(), None);
    }
    // Another tag is nobody's business here.
    let Claim::Granted(lease) = store.claim("a", options).await.unwrap() else {
        panic!("it is free");
    };
    store.invalidate_tags(&["org:7"]).await.unwrap();
    let user = User { org: 8, name: 1 };
    assert_eq!(store.fill(lease, Some(user), SetOptions::forever()).await.unwrap(), Fill::Stored);
}

#[tokio::test]
async fn an_entry_that_is_stale_and_invalid_by_its_tag_is_a_miss() {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::builder().capacity(100).clock(clock).build().unwrap();
    let store = inner.tagged(MemoryMarks::new(), |_: &str, _: Option<&u64>| ["t"]);
    let options = SetOptions::ttl(Duration::from_secs(1)).stale_for(LONG);
    store.set("a", Some(1), options).await.unwrap();
    hands.advance(Duration::from_secs(2));
    assert!(!store.get("a").await.unwrap().unwrap().is_fresh());
    store.invalidate_tags(&["t"]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn marks_leave_no_trace_once_all_has_expired() {
    let (clock, hands) = Clock::manual();
    let inner = MemoryStore::builder().capacity(100_000).clock(clock).build().unwrap();
    let marks = MemoryMarks::new();
    let tags = |key: &str, _: Option<&u64>| [format!("own:{key}"), "all".to_owned()];
    let store = inner.clone().tagged(marks.clone(), tags);
    for id in 0..50_000 {
        store.put(&id.to_string(), id, Duration::from_secs(60)).await.unwrap();
    }
    assert_eq!(marks.len(), 50_001, "each is needed");
    hands.advance(Duration::from_secs(60));
    inner.purge_expired();
    // Nobody calls `purge`: what comes next sweeps.
    for id in 0..110_000 {
        marks_of(&store, &format!("gone:{id}")).await;
    }
    assert!(marks.len() <= 4 * 1024, "{} marks", marks.len());
    marks.purge();
    assert_eq!(marks.len(), 0);
}

async fn marks_of<S: TagStore>(store: &S, tag: &str) {
    store.invalidate_tags(&[tag]).await.unwrap();
}

#[tokio::test]
async fn a_million_tags_that_are_only_invalidated_take_bounded_room() {
    let marks = MemoryMarks::new();
    let store = users(&marks);
    for id in 0..1_000_000 {
        store.invalidate_tags(&[&format!("org:{id}")]).await.unwrap();
    }
    assert!(marks.len() <= 2 * 1024, "{} marks", marks.len());
}

#[tokio::test]
async fn a_mark_that_is_forgotten_never_makes_an_old_entry_valid() {
    // As bytes, entries do not keep their marks.
    let marks = MemoryMarks::new();
    let inner = MemoryStore::<Bytes>::new(100).encoded(TaggedCodec::new(Json::new()));
    let store = inner.tagged(marks.clone(), |_: &str, _: Option<&u64>| ["t"]);
    store.put("a", 1, LONG).await.unwrap();
    marks.purge();
    assert_eq!(store.value("a").await.unwrap(), None, "a lost mark is an invalid one");

    store.put("a", 2, LONG).await.unwrap();
    store.invalidate_tags(&["t"]).await.unwrap();
    marks.purge();
    // The mark is made anew.
    store.put("b", 3, LONG).await.unwrap();
    assert_eq!(store.value("a").await.unwrap(), None);
    assert_eq!(store.value("b").await.unwrap(), Some(3));
}

/// Writers, loaders and invalidations at the same time. The source of a tag counts its changes; who
/// reads after an invalidation gets nothing older than what the source had when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_returns_what_was_invalidated_by_tag_before_it_began() {
    const ORGS: usize = 4;
    let source: Arc<[AtomicU64; ORGS]> = Arc::default();
    let store = users(&MemoryMarks::new());
    let load = {
        let source = source.clone();
        move |key: String| {
            let source = source.clone();
            async move {
                let org: usize = key.split('.').next().unwrap().parse().unwrap();
                let name = source[org].load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(Some(User { org: org as u64 + 1, name }))
            }
        }
    };
    let cache = ReadThrough::new(store.clone(), load, ReadOptions::ttl(LONG)).unwrap();
    let mut tasks = Vec::new();
    for org in 0..ORGS {
        let (cache, source) = (cache.clone(), source.clone());
        tasks.push(tokio::spawn(async move {
            for round in 1..=1000 {
                source[org].store(round, Ordering::SeqCst);
                cache.invalidate_tag(&format!("org:{}", org + 1)).await.unwrap();
                // From now on, nothing older.
                let key = format!("{org}.{}", round % 5);
                assert_eq!(cache.get(&key).await.unwrap().unwrap().name, round);
                tokio::task::yield_now().await;
            }
        }));
    }
    for reader in 0..4_u64 {
        let (cache, source, store) = (cache.clone(), source.clone(), store.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..4000_u64 {
                let org = (round + reader) as usize % ORGS;
                let key = format!("{org}.{}", round % 5);
                let before = source[org].load(Ordering::SeqCst);
                if round % 7 == 0 {
                    // A direct write is as new as it claims.
                    let user = User { org: org as u64 + 1, name: before };
                    store.put(&format!("{key}.w"), user, LONG).await.unwrap();
                }
                cache.get(&key).await.unwrap().unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    eventually("all loads have landed", async || cache.loading() == 0).await;
}
