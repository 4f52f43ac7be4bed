//! Stale values: who is served one, who never is, and who loads meanwhile.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::{FailingStore, ModelStore, Operation};
use cache_core::{
    CacheAside, CacheStore, Clock, ErrorKind, Freshness, ManualClock, ReadCache, ReadHints,
    ReadOptions, ReadThrough, SetOptions, StaleReason, StaleWhileRevalidate, Stats,
};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, PlainStore, Source};
use rstest::rstest;
use tokio::time::{advance, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Swr<S = MemoryStore<u64>, O = cache_core::Silent> = StaleWhileRevalidate<S, FromSource, O>;
type Through<S = MemoryStore<u64>, O = cache_core::Silent> = ReadThrough<S, FromSource, O>;

fn store() -> (MemoryStore<u64>, ManualClock) {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(1_000).clock(clock).build();
    (store.expect("valid options"), hands)
}

/// Fresh for a minute, then stale for another.
fn two_minutes() -> ReadOptions<u64> {
    ReadOptions::ttl(MINUTE).stale_for(MINUTE)
}

/// Fresh for a minute, then a reserve for an hour.
fn reserve() -> ReadOptions<u64> {
    ReadOptions::ttl(MINUTE).stale_if_error(60 * MINUTE)
}

fn swr<S, O>(store: S, options: ReadOptions<u64, O>, source: &Arc<Source>) -> Swr<S, O>
where
    S: CacheStore<Value = u64>,
    O: cache_core::Observer,
{
    let loader = FromSource(Arc::clone(source));
    StaleWhileRevalidate::new(store, loader, options).expect("valid options")
}

fn through<S, O>(store: S, options: ReadOptions<u64, O>, source: &Arc<Source>) -> Through<S, O>
where
    S: CacheStore<Value = u64>,
    O: cache_core::Observer,
{
    ReadThrough::new(store, FromSource(Arc::clone(source)), options).expect("valid options")
}

fn stale(age: Duration, reason: StaleReason) -> Freshness {
    Freshness::Stale { age, reason }
}

/// Lets every task run until it waits for something.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

// ---- served at once, and refreshed once

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_of_a_stale_value_are_served_at_once_and_one_of_them_refreshes() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store, two_minutes(), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    source.hold();
    hands.advance(MINUTE);
    let readers = (0..1_000).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("key").await })
    });
    for reader in readers.collect::<Vec<_>>() {
        // The load is held back, so whoever waited for it would be here for ever.
        let got = timeout(SECOND, reader).await.expect("at once").expect("no panic");
        assert_eq!(got.expect("served"), Some(1));
    }
    source.running(1).await;
    assert_eq!(source.loads(), 2);
    source.release();
    settle().await;
    assert_eq!(cache.get("key").await.expect("refreshed"), Some(2));
    assert_eq!((source.loads(), cache.loading(), cache.refreshing()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn caches_on_one_store_refresh_a_stale_value_once() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let caches: Vec<_> = (0..4).map(|_| swr(store.clone(), two_minutes(), &source)).collect();
    caches[0].get("key").await.expect("loaded");
    source.hold();
    hands.advance(MINUTE);
    for _ in 0..250 {
        for cache in &caches {
            assert_eq!(cache.get("key").await.expect("served"), Some(1));
        }
        settle().await;
    }
    assert_eq!(source.loads(), 2, "the first load, and one refresh");
    source.put("key", 2);
    source.release();
    settle().await;
    assert_eq!(source.loads(), 2);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn past_the_window_nobody_sees_the_old_value(#[values(true, false)] source_fails: bool) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store, two_minutes(), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    hands.advance(2 * MINUTE - Duration::from_nanos(1));
    source.fail(true);
    assert_eq!(cache.get("key").await.expect("served"), Some(1), "at the very end of the window");
    settle().await; // the refresh fails
    hands.advance(Duration::from_nanos(1));
    source.fail(source_fails);
    match source_fails {
        true => assert_eq!(cache.get("key").await.expect_err("down").kind(), ErrorKind::Load),
        false => assert_eq!(cache.get("key").await.expect("loaded"), Some(2)),
    }
}

/// The entry was written by somebody with a wider window, and says how stale it is.
#[tokio::test]
async fn the_window_is_that_of_the_reader() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 2)]);
    let options = SetOptions::ttl(MINUTE).stale_for(60 * MINUTE);
    store.set("key", Some(1), options).await.expect("memory answers");
    hands.advance(2 * MINUTE);
    assert_eq!(swr(store, two_minutes(), &source).get("key").await.expect("loaded"), Some(2));
}

#[tokio::test]
async fn that_there_is_nothing_is_never_served_stale() {
    let (store, hands) = store();
    let source = Source::with(&[]);
    let cache = swr(store, two_minutes().negative_ttl(SECOND), &source);
    assert_eq!(cache.get("key").await.expect("asked"), None);
    source.put("key", 1);
    hands.advance(SECOND);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_value_that_the_source_has_no_more_goes_when_it_is_refreshed(
    #[values(None, Some(SECOND))] negative_ttl: Option<Duration>,
) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let options = match negative_ttl {
        Some(ttl) => two_minutes().negative_ttl(ttl),
        None => two_minutes(),
    };
    let cache = swr(store, options, &source);
    cache.get("key").await.expect("loaded");
    source.remove("key");
    hands.advance(MINUTE);
    assert_eq!(cache.get("key").await.expect("served"), Some(1));
    settle().await;
    let loads = source.loads();
    assert_eq!(cache.get("key").await.expect("known"), None);
    let asked_again = usize::from(negative_ttl.is_none());
    assert_eq!(source.loads() - loads, asked_again);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_not_to_be_kept_takes_the_old_one_with_it() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache =
        swr(store.clone(), two_minutes().ttl_of(|v| (*v == 2).then_some(Duration::ZERO)), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    hands.advance(MINUTE);
    assert_eq!(cache.get("key").await.expect("served"), Some(1));
    settle().await;
    assert!(store.get("key").await.expect("memory answers").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_stale_values_of_a_list_are_served_and_refreshed_with_one_question() {
    let (store, hands) = store();
    let source = Source::with(&[("a", 1), ("b", 1), ("c", 1)]);
    let cache = swr(store, two_minutes(), &source);
    let keys = ["a", "b", "c"].map(str::to_owned);
    cache.get_many(&keys[..2]).await;
    hands.advance(MINUTE);
    for key in ["a", "b", "c"] {
        source.put(key, 2);
    }
    source.forget_questions();
    let got: Result<Vec<_>, _> = cache.get_many(&keys).await.into_iter().collect();
    assert_eq!(got.expect("served and loaded"), [Some(1), Some(1), Some(2)]);
    settle().await;
    let mut questions = source.questions();
    questions.iter_mut().for_each(|keys| keys.sort());
    questions.sort();
    assert_eq!(questions, [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
    let got: Result<Vec<_>, _> = cache.get_many(&keys).await.into_iter().collect();
    assert_eq!(got.expect("refreshed"), [Some(2); 3]);
}

/// Neither the fence of the store nor the ticket of the flight may be missing here: one store has the first, the
/// other the second only.
#[rstest]
#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_refresh_wins(
    #[values("key", "prefix", "clear", "put")] how: &str,
    #[values(true, false)] fenced: bool,
) {
    async fn check<S: CacheStore<Value = u64>>(store: S, hands: &ManualClock, how: &str) {
        let source = Source::with(&[("key", 1)]);
        let cache = swr(store, two_minutes(), &source);
        cache.get("key").await.expect("loaded");
        hands.advance(MINUTE);
        source.hold();
        assert_eq!(cache.get("key").await.expect("served"), Some(1));
        source.running(1).await; // it has read the old value
        source.put("key", 2);
        match how {
            "key" => cache.invalidate("key").await,
            "prefix" => cache.invalidate_prefix("k").await,
            "clear" => cache.clear().await,
            _ => cache.put("key", Some(2)).await,
        }
        .expect("the store works");
        source.release();
        settle().await;
        assert_eq!(cache.get("key").await.expect("the new one"), Some(2));
    }
    let (clock, hands) = Clock::manual();
    match fenced {
        true => check(ModelStore::new(clock), &hands, how).await,
        false => check(PlainStore::new(clock), &hands, how).await,
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_is_invalidated_is_never_served_stale(
    #[values("key", "keys", "prefix", "clear", "another")] how: &str,
) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store.clone(), two_minutes().stale_if_error(60 * MINUTE), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.fail(true);
    match how {
        "key" => cache.invalidate("key").await,
        "keys" => cache.invalidate_many(&["key"]).await,
        "prefix" => cache.invalidate_prefix("").await,
        "clear" => cache.clear().await,
        _ => store.remove("key").await,
    }
    .expect("memory answers");
    assert_eq!(cache.get("key").await.expect_err("nothing is left").kind(), ErrorKind::Load);
}

// ---- when the load fails, or takes long

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_tried_once_per_pause() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store, two_minutes().retry_after(10 * SECOND), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.fail(true);
    for attempts in 1..=3 {
        for _ in 0..1_000 {
            assert_eq!(cache.get("key").await.expect("served"), Some(1));
            tokio::task::yield_now().await;
        }
        assert_eq!(source.loads(), 1 + attempts);
        advance(10 * SECOND).await;
    }
    source.fail(false);
    source.put("key", 2);
    cache.get("key").await.expect("served");
    settle().await;
    assert_eq!(cache.get("key").await.expect("refreshed"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_returns_the_stale_value_and_is_tried_once_per_pause() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let stats = Arc::new(Stats::default());
    let options = reserve().retry_after(10 * SECOND).observer(Arc::clone(&stats));
    let cache = through(store, options, &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE + SECOND);
    source.fail(true);
    for attempts in 1..=3 {
        for _ in 0..1_000 {
            let reading = cache.get_detailed("key").await.expect("the reserve");
            assert_eq!(reading.value, Some(1));
            assert_eq!(reading.freshness, stale(SECOND, StaleReason::LoadFailed));
        }
        assert_eq!(source.loads(), 1 + attempts);
        advance(10 * SECOND).await;
    }
    assert_eq!(stats.snapshot().stale, 3_000);
    source.fail(false);
    source.put("key", 2);
    assert_eq!(cache.get("key").await.expect("loaded, and waited for"), Some(2));
    source.fail(true);
    hands.advance(61 * MINUTE);
    assert_eq!(cache.get("key").await.expect_err("past the window").kind(), ErrorKind::Load);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn panics_and_time_outs_of_the_load_are_covered_by_the_reserve(
    #[values(true, false)] panics: bool,
) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, reserve(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    match panics {
        true => source.panic(true),
        false => source.hold(),
    }
    assert_eq!(cache.get("key").await.expect("the reserve"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_while_its_load_fails_is_not_returned_instead() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, reserve(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.hold();
    source.fail(true);
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("key").await }
    });
    source.running(1).await;
    cache.invalidate("key").await.expect("memory answers");
    source.release();
    let got = reader.await.expect("no panic");
    assert_eq!(got.expect_err("nothing is left").kind(), ErrorKind::Load);
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_returns_the_stale_value_and_goes_on() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, reserve().soft_timeout(SECOND), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.put("key", 2);
    source.hold();
    let began = tokio::time::Instant::now();
    let reading = cache.get_detailed("key").await.expect("the reserve");
    assert_eq!(
        (reading.value, reading.freshness),
        (Some(1), stale(Duration::ZERO, StaleReason::LoadSlow))
    );
    assert!(began.elapsed() >= SECOND && began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    source.release();
    settle().await;
    assert_eq!(cache.get("key").await.expect("kept"), Some(2));
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_with_nothing_in_reserve_is_waited_for() {
    let (store, _) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, reserve().soft_timeout(SECOND), &source);
    source.hold();
    let reader = tokio::spawn(async move { cache.get("key").await });
    advance(5 * SECOND).await;
    source.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_slow_keys_of_a_list_have_their_stale_values() {
    let (store, hands) = store();
    let source = Source::with(&[("a", 1), ("b", 1)]);
    let cache = through(store, reserve().soft_timeout(SECOND), &source);
    let keys = ["a", "b"].map(str::to_owned);
    cache.get_many(&keys).await;
    hands.advance(MINUTE);
    source.hold();
    let got = timeout(2 * SECOND, cache.get_many(&keys)).await.expect("not the whole load");
    let got: Result<Vec<_>, _> = got.into_iter().collect();
    assert_eq!(got.expect("the reserve"), [Some(1), Some(1)]);
    source.release();
}

// ---- what one read wants, and what it is told

#[rstest]
#[tokio::test(start_paused = true)]
async fn who_wants_nothing_stale_gets_nothing_stale(#[values("serve", "reserve")] window: &str) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let options = if window == "serve" { two_minutes() } else { reserve() };
    let cache = through(store, options, &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE + SECOND);
    source.fail(true);
    let at_most = |limit| cache.get_with("key", ReadHints::new().max_staleness(limit));
    assert_eq!(at_most(2 * SECOND).await.expect("that will do").value, Some(1));
    settle().await;
    for limit in [Duration::ZERO, SECOND] {
        assert_eq!(at_most(limit).await.expect_err("too stale").kind(), ErrorKind::Load);
    }
    source.fail(false);
    source.put("key", 2);
    let reading = at_most(Duration::ZERO).await.expect("loaded");
    assert_eq!((reading.value, reading.freshness), (Some(2), Freshness::Fresh));
}

#[tokio::test(start_paused = true)]
async fn who_wants_nothing_stale_shares_the_refresh() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store, two_minutes(), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    hands.advance(MINUTE);
    source.hold();
    assert_eq!(cache.get("key").await.expect("served"), Some(1));
    let exact = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_with("key", ReadHints::new().max_staleness(Duration::ZERO)).await }
    });
    source.running(1).await;
    settle().await;
    source.release();
    assert_eq!(exact.await.expect("no panic").expect("loaded").value, Some(2));
    assert_eq!(source.loads(), 2);
}

/// The caller knows the trait, and no store.
async fn freshness_of(cache: &impl ReadCache<String, Value = u64>) -> Freshness {
    cache.get_detailed(&"key".to_owned()).await.expect("a value").freshness
}

#[tokio::test(start_paused = true)]
async fn a_reading_tells_what_it_is_worth() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let failing = FailingStore::new(store);
    let cache = swr(failing.clone(), two_minutes(), &source);
    assert_eq!(freshness_of(&cache).await, Freshness::Fresh);
    assert_eq!(freshness_of(&cache).await, Freshness::Fresh);
    hands.advance(MINUTE + 2 * SECOND);
    assert_eq!(freshness_of(&cache).await, stale(2 * SECOND, StaleReason::Refreshing));
    settle().await;
    assert_eq!(freshness_of(&cache).await, Freshness::Fresh);
    failing.fail_all(ErrorKind::Unavailable);
    assert_eq!(freshness_of(&cache).await, Freshness::Degraded);
}

// ---- in the background, and in place

#[tokio::test(start_paused = true)]
async fn refreshes_are_bounded_and_counted() {
    let (store, hands) = store();
    let keys: Vec<String> = (0..10).map(|key| key.to_string()).collect();
    let values: Vec<(&str, u64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    let source = Source::with(&values);
    let stats = Arc::new(Stats::default());
    let options = two_minutes().most_refreshes(2).observer(Arc::clone(&stats));
    let cache = swr(store, options, &source);
    cache.get_many(&keys).await;
    hands.advance(MINUTE);
    source.hold();
    for key in &keys {
        assert_eq!(cache.get(key).await.expect("served"), Some(1));
    }
    settle().await;
    assert_eq!(source.loads(), 1 + 2);
    let seen = stats.snapshot();
    assert_eq!((seen.refreshes, seen.refreshing, seen.skipped_refreshes), (2, 2, 8));
    assert_eq!((cache.refreshing(), cache.loading()), (2, 2));
    source.release();
    settle().await;
    let seen = stats.snapshot();
    assert_eq!((seen.refreshes, seen.refreshing, cache.refreshing()), (2, 0, 0));
    assert_eq!((seen.stale, seen.requests()), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_hangs_is_over_at_the_time_limit_of_loads() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store, two_minutes().load_timeout(5 * SECOND), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.hold();
    cache.get("key").await.expect("served");
    source.running(1).await;
    advance(5 * SECOND).await;
    settle().await;
    assert_eq!((cache.refreshing(), cache.loading()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_claim_fails_asks_nobody_and_pauses() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let failing = FailingStore::new(store);
    let stats = Arc::new(Stats::default());
    let cache = swr(failing.clone(), two_minutes().observer(Arc::clone(&stats)), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    failing.fail(Operation::Claim, ErrorKind::Unavailable);
    for _ in 0..100 {
        assert_eq!(cache.get("key").await.expect("served"), Some(1));
        tokio::task::yield_now().await;
    }
    assert_eq!((source.loads(), stats.snapshot().store_errors), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_refreshes_and_begins_no_more() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1), ("other", 1)]);
    let cache = swr(store, two_minutes(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.hold();
    source.put("key", 2);
    cache.get("key").await.expect("served");
    source.running(1).await;
    let down = tokio::spawn({
        let cache = cache.clone();
        async move { cache.shutdown(MINUTE).await }
    });
    settle().await;
    source.release();
    assert_eq!(down.await.expect("no panic"), 0);
    assert_eq!(cache.get("key").await.expect("it was waited for"), Some(2));
    // Reads go on: stale ones without a refresh, others with their load.
    hands.advance(MINUTE);
    assert_eq!(cache.get("key").await.expect("served"), Some(2));
    settle().await;
    assert_eq!(source.loads(), 2);
    assert_eq!(cache.get("other").await.expect("loaded"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_gives_up_what_takes_too_long_and_says_so() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = swr(store.clone(), two_minutes(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(MINUTE);
    source.hold();
    cache.get("key").await.expect("served");
    source.running(1).await;
    assert_eq!(cache.shutdown(SECOND).await, 1);
    timeout(SECOND, source.running(0)).await.expect("long before the time limit of loads");
    settle().await;
    assert_eq!((cache.refreshing(), cache.loading()), (0, 0));
    // The lease is back: another cache can refresh the key.
    source.release();
    source.put("key", 2);
    let other = swr(store, two_minutes(), &source);
    other.get("key").await.expect("served");
    settle().await;
    assert_eq!(other.get("key").await.expect("refreshed"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_borrowing_load_refreshes_in_place_while_the_others_are_served() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = CacheAside::new(store, two_minutes()).expect("valid options");
    cache.get_or_load("key", || source.load("key")).await.expect("loaded");
    source.put("key", 2);
    hands.advance(MINUTE);
    source.hold();
    let first = tokio::spawn({
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        async move { cache.get_or_load("key", || source.load("key")).await }
    });
    source.running(1).await;
    for _ in 0..100 {
        let other = cache.get_or_load("key", || source.load("key"));
        let got = timeout(SECOND, other).await.expect("at once");
        assert_eq!(got.expect("served"), Some(1));
    }
    source.release();
    assert_eq!(first.await.expect("no panic").expect("loaded"), Some(2));
    assert_eq!(source.loads(), 2);

    // And if it fails, it has what the others have.
    hands.advance(MINUTE);
    source.fail(true);
    let got = cache.get_or_load_with("key", ReadHints::new(), || source.load("key")).await;
    let got = got.expect("the stale value");
    assert_eq!(
        (got.value, got.freshness),
        (Some(2), stale(Duration::ZERO, StaleReason::LoadFailed))
    );
}

#[tokio::test(start_paused = true)]
async fn an_owned_load_of_cache_aside_refreshes_in_the_background() {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = CacheAside::new(store, two_minutes()).expect("valid options");
    let load = || {
        let source = Arc::clone(&source);
        move || async move { source.load("key").await }
    };
    cache.get_or_load_owned("key", load()).await.expect("loaded");
    source.put("key", 2);
    hands.advance(MINUTE);
    source.hold();
    let got = timeout(SECOND, cache.get_or_load_owned("key", load())).await.expect("at once");
    assert_eq!(got.expect("served"), Some(1));
    source.running(1).await;
    source.release();
    settle().await;
    assert_eq!(cache.get("key").await.expect("refreshed"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_stale_keys_of_a_list_without_a_loader_are_loaded_with_its_misses() {
    let (store, hands) = store();
    let source = Source::with(&[("a", 1), ("b", 1)]);
    let cache = CacheAside::new(store, two_minutes()).expect("valid options");
    let keys = ["a", "b"].map(str::to_owned);
    cache.get_or_load_many(&keys[..1], |keys| source.load_many(keys)).await;
    source.put("a", 2);
    hands.advance(MINUTE);
    let got = cache.get_or_load_many(&keys, |keys| source.load_many(keys)).await;
    let got: Result<Vec<_>, _> = got.into_iter().collect();
    assert_eq!(got.expect("loaded"), [Some(2), Some(1)]);
    hands.advance(MINUTE);
    source.fail(true);
    let got = cache.get_or_load_many(&keys, |keys| source.load_many(keys)).await;
    let got: Result<Vec<_>, _> = got.into_iter().collect();
    assert_eq!(got.expect("the stale values"), [Some(2), Some(1)]);
}

#[test]
fn stale_while_revalidate_insists_on_its_window() {
    let load = |_: u64| async { Ok::<_, std::io::Error>(Some(1_u64)) };
    let error =
        StaleWhileRevalidate::new(MemoryStore::<u64>::new(1), load, ReadOptions::ttl(MINUTE));
    let error = error.expect_err("no window");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("stale_for"), "{error}");
}
