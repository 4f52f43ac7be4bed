//! Refreshes before the end of freshness.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    CacheAside, CacheStore, Clock, LoadTime, ManualClock, Outcome, ReadOptions, ReadThrough,
    SetOptions,
};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, Source};
use futures_util::FutureExt;
use rstest::rstest;
use tokio::time::{advance, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn store() -> (MemoryStore<u64>, ManualClock) {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(1_000).clock(clock).build();
    (store.expect("valid options"), hands)
}

fn through(
    store: MemoryStore<u64>,
    options: ReadOptions<u64>,
    source: &Arc<Source>,
) -> ReadThrough<MemoryStore<u64>, FromSource> {
    ReadThrough::new(store, FromSource(Arc::clone(source)), options).expect("valid options")
}

/// Draws that come from a seed.
fn seeded(options: ReadOptions<u64>, seed: u64) -> ReadOptions<u64> {
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
    options.random(move || random.lock().expect("no panic").f64())
}

/// Always, or never, early.
fn drawing(options: ReadOptions<u64>, draw: f64) -> ReadOptions<u64> {
    options.random(move || draw)
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// An entry whose load took three seconds, with so much of its time left.
async fn entry_with(left: Duration, store: &MemoryStore<u64>, hands: &ManualClock) {
    let load_time = LoadTime::from(3 * SECOND);
    let options = SetOptions::ttl(MINUTE).with_load_time(load_time);
    store.set("key", Some(1), options).await.expect("memory answers");
    hands.advance(MINUTE - left);
}

/// Over the whole way of a read: P(refresh | left) = e^(-left / (load time x beta)), four standard deviations of 100,000
/// reads. The source is held, so that the entry stays as it is.
#[rstest]
#[case::a_load_time_left(3 * SECOND, 0.36788, 0.0061)]
#[case::two_load_times_left(6 * SECOND, 0.13534, 0.0043)]
#[tokio::test(start_paused = true)]
async fn reads_refresh_early_as_often_as_the_formula_says(
    #[case] left: Duration,
    #[case] share: f64,
    #[case] off: f64,
) {
    const READS: u32 = 100_000;
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    entry_with(left, &store, &hands).await;
    let cache =
        CacheAside::new(store.clone(), seeded(ReadOptions::ttl(MINUTE).early_refresh(1.0), 7))
            .expect("valid options");
    source.hold();
    let mut early = 0_u32;
    for _ in 0..READS {
        // A read that refreshes in place gets as far as the source, and is given up there.
        let read = cache.get_or_load("key", || source.load("key")).now_or_never();
        early += u32::from(read.is_none());
    }
    let got = f64::from(early) / f64::from(READS);
    assert!((got - share).abs() <= off, "{got}");
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_is_in_the_background_and_one_at_a_time() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 2)]);
    entry_with(SECOND, &store, &hands).await;
    let options = || drawing(ReadOptions::ttl(MINUTE).early_refresh(1.0), 0.999);
    let caches = [(); 4].map(|()| through(store.clone(), options(), &source));
    source.hold();
    for _ in 0..250 {
        for cache in &caches {
            let got = timeout(SECOND, cache.get("key")).await.expect("at once");
            assert_eq!(got.expect("fresh still"), Some(1));
        }
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    source.release();
    settle().await;
    hands.advance(SECOND);
    for cache in &caches {
        assert_eq!(cache.get("key").await.expect("refreshed in time"), Some(2));
    }
    assert_eq!(source.loads(), 1, "nobody had to load when the first value ended");
}

/// A thousand readers each second until after the end of the first value: no storm.
#[tokio::test(start_paused = true)]
async fn with_early_refresh_the_end_of_a_value_is_no_storm() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    entry_with(30 * SECOND, &store, &hands).await;
    let cache = through(store, seeded(ReadOptions::ttl(MINUTE).early_refresh(1.0), 3), &source);
    for _ in 0..31_000 {
        cache.get("key").await.expect("a value");
        hands.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_that_fails_is_tried_once_per_pause_and_harms_nobody() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 2)]);
    source.fail(true);
    entry_with(SECOND, &store, &hands).await;
    let options = ReadOptions::ttl(MINUTE).early_refresh(1.0).retry_after(10 * SECOND);
    let cache = through(store, drawing(options, 0.999), &source);
    for attempts in 1..=3 {
        for _ in 0..1_000 {
            assert_eq!(cache.get("key").await.expect("fresh still"), Some(1));
            tokio::task::yield_now().await;
        }
        assert_eq!(source.loads(), attempts);
        advance(10 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_an_early_refresh_wins() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    entry_with(SECOND, &store, &hands).await;
    let options = drawing(ReadOptions::ttl(MINUTE).early_refresh(1.0), 0.999);
    let cache = through(store, options, &source);
    source.hold();
    cache.get("key").await.expect("fresh still");
    source.running(1).await;
    source.put("key", 2);
    cache.invalidate("key").await.expect("memory answers");
    source.release();
    settle().await;
    assert_eq!(cache.get("key").await.expect("the new one"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn without_luck_or_with_time_nothing_is_refreshed_early() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 2)]);
    entry_with(SECOND, &store, &hands).await;
    let never =
        through(store.clone(), drawing(ReadOptions::ttl(MINUTE).early_refresh(1.0), 0.0), &source);
    assert_eq!(never.get("key").await.expect("fresh"), Some(1));
    let off = through(store.clone(), drawing(ReadOptions::ttl(MINUTE), 0.999), &source);
    assert_eq!(off.get("key").await.expect("fresh"), Some(1));
    store.set("key", Some(1), SetOptions::forever()).await.expect("memory answers");
    let forever =
        through(store, drawing(ReadOptions::ttl(MINUTE).early_refresh(1e9), 0.999), &source);
    assert_eq!(forever.get("key").await.expect("fresh"), Some(1));
    settle().await;
    assert_eq!(source.loads(), 0);
}

/// Otherwise a load that takes longer than its value lives would never end: each read would begin it anew.
#[tokio::test(start_paused = true)]
async fn a_load_that_takes_longer_than_its_value_lives_is_not_refreshed_all_the_time() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let load_time = LoadTime::from(10 * MINUTE);
    let options = SetOptions::ttl(MINUTE).with_load_time(load_time);
    store.set("key", Some(1), options).await.expect("memory answers");
    let cache = through(store, seeded(ReadOptions::ttl(MINUTE).early_refresh(1.0), 5), &source);
    hands.advance(MINUTE / 4);
    for _ in 0..100 {
        cache.get("key").await.expect("fresh");
        settle().await;
    }
    assert_eq!(source.loads(), 0, "three quarters of its life are left");
}

#[tokio::test]
async fn whoever_refreshes_early_in_place_gets_the_new_value() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 2)]);
    entry_with(SECOND, &store, &hands).await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Outcomes(Arc<std::sync::Mutex<Vec<Outcome>>>);
    impl cache_core::Observer for Outcomes {
        fn observe(&self, event: &cache_core::Event<'_>) {
            if let cache_core::Event::Request { outcome, .. } = event {
                self.0.lock().expect("no panic").push(*outcome);
            }
        }
    }
    let options = drawing(ReadOptions::ttl(MINUTE).early_refresh(1.0), 0.999);
    let cache = CacheAside::new(store, options.observer(Outcomes(Arc::clone(&seen))));
    let cache = cache.expect("valid options");
    let got = cache.get_or_load("key", || source.load("key")).await;
    assert_eq!(got.expect("loaded"), Some(2));
    assert_eq!(*seen.lock().expect("no panic"), [Outcome::Loaded]);
}
