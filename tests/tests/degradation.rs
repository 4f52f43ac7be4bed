//! What callers see when the store fails.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::{FailingStore, ModelStore, Operation};
use cache_core::{Clock, ErrorKind, Stats};
use cache_tests::{Source, Strategy, TestCache, cache, minute};
use rstest::rstest;

struct Setup {
    cache: Arc<dyn TestCache>,
    source: Arc<Source>,
    store: FailingStore<ModelStore<u64>>,
    stats: Arc<Stats>,
}

fn setup(strategy: Strategy, fails_closed: bool) -> Setup {
    let source = Source::with(&[("key", 1)]);
    let stats = Arc::new(Stats::default());
    let store = FailingStore::new(ModelStore::new(Clock::system()));
    let options = minute().observer(Arc::clone(&stats));
    let options = if fails_closed { options.fail_closed() } else { options };
    let cache = cache(strategy, store.clone(), options, &source);
    Setup { cache, source, store, stats }
}

#[rstest]
#[tokio::test]
async fn a_store_that_fails_is_done_without(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, false);
    it.store.fail_all(ErrorKind::Unavailable);
    for _ in 0..3 {
        assert_eq!(it.cache.get("key").await.expect("loaded"), Some(1));
    }
    assert_eq!(it.source.loads(), 3);
    // One failed read each: it is not asked again in the same miss.
    assert_eq!(it.stats.snapshot().store_errors, 3);

    it.store.heal();
    it.cache.get("key").await.expect("loaded");
    it.cache.get("key").await.expect("kept again");
    assert_eq!(it.source.loads(), 4);
}

#[rstest]
#[tokio::test]
async fn a_store_that_fails_does_not_let_a_stampede_through(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, false);
    it.store.fail_all(ErrorKind::Unavailable);
    it.source.hold();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let cache = Arc::clone(&it.cache);
            tokio::spawn(async move { cache.get("key").await })
        })
        .collect();
    it.source.running(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    it.source.release();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("loaded"), Some(1));
    }
    assert_eq!(it.source.loads(), 1);
}

#[rstest]
#[case::claim(Operation::Claim)]
#[case::fill(Operation::Fill)]
#[tokio::test]
async fn a_value_that_can_not_be_kept_is_returned(
    #[case] operation: Operation,
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, false);
    it.store.fail(operation, ErrorKind::Unavailable);
    assert_eq!(it.cache.get("key").await.expect("loaded"), Some(1));
    assert_eq!(it.stats.snapshot().store_errors, 1);
    assert_eq!(it.cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_cache_that_fails_closed_returns_the_stores_error(
    #[values(Operation::Get, Operation::Claim)] operation: Operation,
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, true);
    it.store.fail(operation, ErrorKind::Unavailable);
    let error = it.cache.get("key").await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient());
    assert_eq!(it.source.loads(), 0);
    assert_eq!(it.stats.snapshot().failed, 1);
    assert_eq!(it.cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_cache_that_fails_closed_still_returns_what_it_has_loaded(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, true);
    it.store.fail(Operation::Fill, ErrorKind::Unavailable);
    assert_eq!(it.cache.get("key").await.expect("loaded"), Some(1));
}

#[rstest]
#[tokio::test]
async fn an_invalidation_that_fails_is_not_hidden(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values("key", "prefix", "clear", "put")] how: &str,
) {
    let it = setup(strategy, false);
    it.store.fail_all(ErrorKind::Unavailable);
    let error = match how {
        "key" => it.cache.invalidate("key").await,
        "prefix" => it.cache.invalidate_prefix("k").await,
        "clear" => it.cache.clear().await,
        _ => it.cache.put("key", Some(2)).await,
    };
    assert_eq!(error.expect_err("the store is down").kind(), ErrorKind::Unavailable);
}

/// The load began before the invalidation, whose removal fails: the fence in the process holds all the same.
#[rstest]
#[tokio::test]
async fn a_load_is_not_kept_although_the_removal_failed(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let it = setup(strategy, false);
    it.source.hold();
    let reader = tokio::spawn({
        let cache = Arc::clone(&it.cache);
        async move { cache.get("key").await }
    });
    it.source.running(1).await;
    it.source.put("key", 2);
    it.store.fail(Operation::Remove, ErrorKind::Unavailable);
    it.cache.invalidate("key").await.expect_err("the store is down");
    it.store.heal();
    it.source.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(it.cache.get("key").await.expect("loaded"), Some(2));
    assert_eq!(it.stats.snapshot().refused_fills, 1);
}

#[tokio::test]
async fn outside_of_a_runtime_a_read_through_miss_is_an_error_and_a_hit_is_not() {
    let it = setup(Strategy::Through, false);
    it.cache.get("key").await.expect("loaded");
    let cache = Arc::clone(&it.cache);
    let (hit, miss) = std::thread::spawn(move || {
        use futures_util::FutureExt;
        (cache.get("key").now_or_never(), cache.get("new").now_or_never())
    })
    .join()
    .expect("no panic");
    assert_eq!(hit.expect("at once").expect("cached"), Some(1));
    assert_eq!(miss.expect("at once").expect_err("nowhere to run").kind(), ErrorKind::NoRuntime);
    assert_eq!(it.cache.loading(), 0);
}

/// Who came before the load began is served at once; who came later has to know that nothing was invalidated.
#[tokio::test]
async fn a_fill_behind_a_slow_network_delays_only_those_who_came_late() {
    let source = Source::with(&[("key", 1)]);
    let store = cache_core::testing::SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let gate = store.hold(Operation::Fill);
    let options = minute().store_timeout(Duration::from_secs(60));
    let cache = cache(Strategy::Through, store.clone(), options, &source);
    assert_eq!(cache.get("key").await.expect("not held up"), Some(1));
    let late = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!late.is_finished());
    gate.open();
    assert_eq!(late.await.expect("no panic").expect("shared"), Some(1));
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.loading(), 0);
}

#[tokio::test]
async fn a_plain_get_of_a_cache_that_fails_closed_returns_the_stores_error() {
    let stats = Arc::new(Stats::default());
    let store = FailingStore::new(ModelStore::<u64>::new(Clock::system()));
    store.fail_all(ErrorKind::Unavailable);
    let options = minute().fail_closed().observer(Arc::clone(&stats));
    let cache = cache_core::CacheAside::new(store, options).expect("valid options");
    assert_eq!(cache.get("key").await.expect_err("closed").kind(), ErrorKind::Unavailable);
    assert_eq!((stats.snapshot().failed, stats.snapshot().missed), (1, 0));
}

/// The release takes its time, so it has to go on by itself after its caller has gone.
#[tokio::test(start_paused = true)]
async fn a_slow_release_of_a_load_that_was_dropped_still_happens() {
    let source = Source::with(&[("key", 1)]);
    let store = cache_core::testing::SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    store.delay(Operation::Release, Duration::from_millis(10));
    source.hold();
    let cache = cache(Strategy::Aside, store.clone(), minute(), &source);
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    source.running(1).await;
    reader.abort();
    let _ = reader.await;
    source.release();
    let began = tokio::time::Instant::now();
    assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the end of the lease");
}
