//! Nothing that has been invalidated comes back.

use std::sync::Arc;

use cache_core::Clock;
use cache_tests::{
    Kind, PlainStore, Source, Strategy, TestCache, cache, cache_on, minute, unhurried,
};
use rstest::rstest;
use tokio::task::JoinHandle;

/// The ways in which a key can be invalidated.
#[derive(Clone, Copy, Debug)]
enum How {
    Key,
    Prefix,
    Clear,
}

async fn invalidate(cache: &Arc<dyn TestCache>, how: How, key: &str) {
    match how {
        How::Key => cache.invalidate(key).await,
        How::Prefix => cache.invalidate_prefix(&key[..1]).await,
        How::Clear => cache.clear().await,
    }
    .expect("the store works");
}

#[rstest]
#[tokio::test]
async fn a_value_invalidated_during_its_load_is_not_kept(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
    #[values(How::Key, How::Prefix, How::Clear)] how: How,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    source.running(1).await;
    source.put("key", 2);
    invalidate(&cache, how, "key").await;
    source.release();
    let early = reader.await.expect("no panic").expect("loaded");
    assert_eq!(early, Some(1), "its caller asked before");
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

#[rstest]
#[tokio::test]
async fn whoever_comes_after_an_invalidation_does_not_join_the_load_before_it(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
    #[values(How::Key, How::Prefix, How::Clear)] how: How,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let read = |cache: &Arc<dyn TestCache>| {
        let cache = Arc::clone(cache);
        tokio::spawn(async move { cache.get("key").await })
    };
    let early = read(&cache);
    source.running(1).await;
    source.put("key", 2);
    invalidate(&cache, how, "key").await;
    let late = read(&cache);
    source.running(2).await;
    source.release();
    assert_eq!(early.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(late.await.expect("no panic").expect("loaded"), Some(2));
    assert_eq!(cache.get("key").await.expect("kept"), Some(2));
    assert_eq!(source.loads(), 2, "the second value was kept");
}

/// The store fences nothing, and the fill is already on its way when the invalidation comes.
#[rstest]
#[tokio::test]
async fn an_invalidation_in_the_middle_of_a_fill_comes_after_it(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(How::Key, How::Prefix, How::Clear)] how: How,
) {
    let source = Source::with(&[("key", 1)]);
    let store = PlainStore::new(Clock::system());
    let cache = cache(strategy, store.clone(), unhurried(), &source);
    store.hold();
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    store.writing(1).await;
    source.put("key", 2);
    let invalidation = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { invalidate(&cache, how, "key").await }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!invalidation.is_finished(), "it waits for the fill");
    store.release();
    invalidation.await.expect("no panic");
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

#[rstest]
#[tokio::test]
async fn an_invalidation_whose_fill_hangs_does_not_hang_and_still_wins(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let store = PlainStore::new(Clock::system());
    let options = minute().wait_limit(std::time::Duration::from_millis(20));
    let cache = cache(strategy, store.clone(), options, &source);
    store.hold();
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    store.writing(1).await;
    source.put("key", 2);
    cache.invalidate("key").await.expect("it does not wait for ever");
    store.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    while cache.loading() > 0 || store.value_now("key").is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

#[rstest]
#[tokio::test]
async fn keys_invalidated_during_the_load_of_many_are_not_kept_and_the_others_are(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("a", 1), ("b", 1), ("c", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&["a", "b", "c"].map(str::to_owned)).await }
    });
    source.running(1).await;
    source.put("b", 2);
    cache.invalidate("b").await.expect("the store works");
    source.release();
    let early = reader.await.expect("no panic");
    assert!(early.iter().all(|value| matches!(value, Ok(Some(1)))));
    for (key, value) in [("a", 1), ("b", 2), ("c", 1)] {
        assert_eq!(cache.get(key).await.expect("loaded"), Some(value));
    }
    assert_eq!(source.loads(), 2, "only `b` was loaded again");
}

#[rstest]
#[tokio::test]
async fn a_load_under_way_does_not_overwrite_what_was_put(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    source.running(1).await;
    cache.put("key", Some(2)).await.expect("the store works");
    source.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(cache.get("key").await.expect("cached"), Some(2));
    assert_eq!(source.loads(), 1);
}

#[rstest]
#[tokio::test]
async fn a_prefix_takes_what_begins_with_it_and_nothing_else(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("user:1", 1), ("user*", 1), ("usual", 1)]);
    let cache = cache_on(kind, strategy, minute(), &source);
    let all = ["user:1", "user*", "usual"];
    for key in all {
        cache.get(key).await.expect("loaded");
        source.put(key, 2);
    }
    cache.invalidate_prefix("user*").await.expect("the store works");
    let now = futures_util::future::join_all(all.map(|key| cache.get(key))).await;
    let now: Vec<_> = now.into_iter().map(|value| value.expect("loaded")).collect();
    assert_eq!(now, [Some(1), Some(2), Some(1)]);
}

/// Many readers and one writer for a while: what a read returns is never older than the last
/// invalidation that had ended before it began.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_returns_what_was_invalidated_before_it_began(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka, Kind::NoRoom)] kind: Kind,
) {
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    const WRITES: u64 = 3000;
    let source = Source::with(&[("key", 0)]);
    let cache = cache_on(kind, strategy, minute(), &source);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let started = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cache, acknowledged) = (Arc::clone(&cache), Arc::clone(&acknowledged));
            let (done, started) = (Arc::clone(&done), Arc::clone(&started));
            tokio::spawn(async move {
                let mut reads = 0_u64;
                while !done.load(Ordering::SeqCst) {
                    let bound = acknowledged.load(Ordering::SeqCst);
                    let value = cache.get("key").await.expect("loaded").expect("it is there");
                    assert!(value >= bound, "read {value} after {bound} had been acknowledged");
                    reads += 1;
                    if reads == 1 {
                        started.fetch_add(1, Ordering::SeqCst);
                    }
                    if reads.is_multiple_of(16) {
                        tokio::task::yield_now().await;
                    }
                }
                reads
            })
        })
        .collect();
    // Who has not had its turn by the last write would have seen none of them.
    while started.load(Ordering::SeqCst) < 4 && !readers.iter().any(JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    for version in 1..=WRITES {
        source.put("key", version);
        match version % 3 {
            0 => cache.invalidate("key").await,
            1 => cache.invalidate_prefix("k").await,
            _ => cache.clear().await,
        }
        .expect("the store works");
        acknowledged.store(version, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.expect("never stale") > 0);
    }
    assert_eq!(cache.get("key").await.expect("loaded"), Some(WRITES));
}
