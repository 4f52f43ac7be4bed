//! What an observer sees adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{Event, Observer, Outcome, Snapshot, Stats};
use cache_tests::{Kind, Source, Strategy, cache_on, minute};
use futures_util::FutureExt;
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn every_request_has_one_outcome(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("key", 1)]);
    let options = minute().negative_ttl(Duration::from_secs(5)).observer(Arc::clone(&stats));
    let cache = cache_on(Kind::Memory, strategy, options, &source);

    cache.get("key").await.expect("loaded");
    cache.get("key").await.expect("hit");
    cache.get("missing").await.expect("asked");
    cache.get("missing").await.expect("negative hit");
    source.fail(true);
    cache.get("other").await.expect_err("failed");
    source.fail(false);
    source.hold();
    drop(cache.get("cancelled").now_or_never());
    source.release();
    let seen = stats.snapshot();
    let outcomes = (seen.hits, seen.negative_hits, seen.loaded, seen.failed, seen.cancelled);
    assert_eq!(outcomes, (1, 1, 2, 1, 1));
    assert_eq!(seen.requests(), 6);
    assert_eq!(seen.misses(), 4);
    assert!((seen.hit_rate() - 2.0 / 6.0).abs() < 1e-9);
    assert_eq!(seen.load_errors, 1);
}

#[rstest]
#[tokio::test]
async fn those_who_wait_are_counted_apart_from_the_one_who_loads(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let options = minute().observer(Arc::clone(&stats));
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get("key").await })
        })
        .collect();
    source.running(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    source.release();
    for caller in callers {
        caller.await.expect("no panic").expect("loaded");
    }
    let seen = stats.snapshot();
    assert_eq!((seen.loaded, seen.coalesced, seen.loads), (1, 9, 1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_are_the_sum_of_their_outcomes_whatever_happens(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka, Kind::NoRoom)] kind: Kind,
) {
    const TASKS: u64 = 8;
    const ROUNDS: u64 = 400;
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("0", 1), ("1", 1), ("2", 1)]);
    let options = minute().negative_ttl(Duration::from_secs(5)).observer(Arc::clone(&stats));
    let cache = cache_on(kind, strategy, options, &source);
    let made = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (cache, source, made) =
                (Arc::clone(&cache), Arc::clone(&source), Arc::clone(&made));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(task);
                for _ in 0..ROUNDS {
                    let key = random.u8(0..6).to_string();
                    match random.u8(0..10) {
                        0 => cache.invalidate(&key).await.expect("the store works"),
                        1 => source.fail(random.bool()),
                        2 => {
                            made.fetch_add(1, Ordering::SeqCst);
                            drop(cache.get(&key).now_or_never());
                        }
                        3 => {
                            let keys: Vec<_> =
                                (0..4).map(|_| random.u8(0..6).to_string()).collect();
                            made.fetch_add(4, Ordering::SeqCst);
                            cache.get_many(&keys).await;
                        }
                        _ => {
                            made.fetch_add(1, Ordering::SeqCst);
                            let _ = cache.get(&key).await;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let seen: Snapshot = stats.snapshot();
    assert_eq!(seen.requests(), made.load(Ordering::SeqCst), "{seen:?}");
    while cache.loading() > 0 {
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[tokio::test]
async fn a_panicking_observer_breaks_nothing(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, event: &Event<'_>) {
            panic!("at {event:?}");
        }
    }
    let source = Source::with(&[("key", 1)]);
    let cache = cache_on(Kind::Memory, strategy, minute().observer(Panics), &source);
    for _ in 0..2 {
        assert_eq!(cache.get("key").await.expect("loaded, then hit"), Some(1));
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_refused_fill_is_counted(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute().observer(Arc::clone(&stats)), &source);
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    source.running(1).await;
    cache.invalidate("key").await.expect("the store works");
    source.release();
    reader.await.expect("no panic").expect("loaded");
    assert_eq!(stats.snapshot().refused_fills, 1);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn loads_and_a_sample_of_requests_are_timed(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("key", 1)]);
    let cache = cache_on(Kind::Memory, strategy, minute().observer(Arc::clone(&stats)), &source);
    source.hold();
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("key").await }
    });
    source.running(1).await;
    tokio::time::advance(Duration::from_millis(100)).await;
    source.release();
    reader.await.expect("no panic").expect("loaded");
    for _ in 0..640 {
        cache.get("key").await.expect("hit");
    }
    let seen = stats.snapshot();
    assert_eq!(seen.load_times.count(), 1);
    let took = seen.load_times.quantile(0.5);
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(125), "{took:?}");
    assert!((10..=11).contains(&seen.request_times.count()), "one in 64 of 641");
}

#[test]
fn two_observers_see_the_same() {
    let (one, other) = (Arc::new(Stats::default()), Arc::new(Stats::default()));
    let both = (Arc::clone(&one), Some(Arc::clone(&other)));
    both.observe(&Event::Request { outcome: Outcome::Hit, took: None });
    assert_eq!((one.snapshot().hits, other.snapshot().hits), (1, 1));
}
