//! Lifetimes that slide.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::{ModelStore, Operation, RecordingStore, SlowStore};
use cache_core::{CacheStore, Clock, ErrorKind, ManualClock, ReadOptions, ReadThrough, Tiered};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, PlainStore, Source};
use rstest::rstest;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Eight seconds without a read, and a minute at most.
fn options() -> ReadOptions<u64> {
    ReadOptions::ttl(MINUTE).sliding(8 * SECOND)
}

fn through<S: CacheStore<Value = u64>>(
    store: S,
    options: ReadOptions<u64>,
    source: &Arc<Source>,
) -> ReadThrough<S, FromSource> {
    ReadThrough::new(store, FromSource(Arc::clone(source)), options).expect("valid options")
}

fn memory() -> (MemoryStore<u64>, ManualClock) {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(100).clock(clock).build();
    (store.expect("valid options"), hands)
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_value_that_is_read_lives_on_and_one_that_is_not_goes() {
    let (store, hands) = memory();
    let source = Source::with(&[("read", 1), ("idle", 1)]);
    let cache = through(store, options(), &source);
    cache.get("read").await.expect("loaded");
    cache.get("idle").await.expect("loaded");
    for _ in 0..5 {
        hands.advance(7 * SECOND);
        cache.get("read").await.expect("cached");
        settle().await;
    }
    assert_eq!(source.loads(), 2);
    cache.get("idle").await.expect("loaded again");
    assert_eq!(source.loads(), 3);
}

#[tokio::test]
async fn however_often_a_value_is_read_it_ends_at_its_cap() {
    let (store, hands) = memory();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, options(), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    for _ in 0..599 {
        hands.advance(SECOND / 10);
        assert_eq!(cache.get("key").await.expect("cached"), Some(1));
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    hands.advance(SECOND / 10);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_hot_value_is_touched_once_per_eighth_of_its_idle_time_at_most() {
    let (clock, hands) = Clock::manual();
    let source = Source::with(&[("key", 1)]);
    let store = RecordingStore::new(ModelStore::<u64>::new(clock));
    let cache = through(store.clone(), options(), &source);
    cache.get("key").await.expect("loaded");
    drop(store.take());
    for _ in 0..4_000 {
        hands.advance(SECOND / 100);
        cache.get("key").await.expect("cached");
        settle().await;
    }
    let fills = store.count(Operation::Fill);
    assert!((38..=40).contains(&fills), "{fills} touches in 40 s, of which an eighth is one");
}

/// The entry goes after the read has seen it and before the touch claims the key, which is granted then as well.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_touch_does_not_bring_back_what_was_invalidated_before_it(
    #[values(Operation::Claim, Operation::Get, Operation::Fill)] at: Operation,
) {
    let (clock, hands) = Clock::manual();
    let source = Source::with(&[("key", 1)]);
    let store = SlowStore::new(ModelStore::<u64>::new(clock));
    let cache = through(store.clone(), options(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(4 * SECOND);
    let held = match at {
        Operation::Get => None,
        _ => Some(store.hold(at)),
    };
    cache.get("key").await.expect("cached");
    let held = held.unwrap_or_else(|| store.hold(Operation::Get));
    held.arrived(1).await;
    // By somebody who knows nothing of this cache's flights.
    store.inner().remove("key").await.expect("the model answers");
    held.open();
    settle().await;
    assert!(store.inner().get("key").await.expect("the model answers").is_none());
    source.fail(true);
    assert_eq!(cache.get("key").await.expect_err("gone").kind(), ErrorKind::Load);
}

/// On a store without fences the ticket of the flight does it.
#[tokio::test]
async fn a_touch_does_not_bring_back_what_was_invalidated_on_a_store_without_fences() {
    let (clock, hands) = Clock::manual();
    let source = Source::with(&[("key", 1)]);
    let store = PlainStore::new(clock);
    let cache = through(store.clone(), options(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(4 * SECOND);
    cache.get("key").await.expect("cached"); // and its touch is about to run
    cache.invalidate("key").await.expect("the store works");
    settle().await;
    assert_eq!(store.value_now("key"), None);
}

#[tokio::test]
async fn a_value_that_tells_its_lifetime_ends_with_it() {
    let (store, hands) = memory();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store, options().ttl_of(|_| Some(10 * SECOND)), &source);
    cache.get("key").await.expect("loaded");
    for _ in 0..9 {
        hands.advance(SECOND);
        cache.get("key").await.expect("cached");
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    hands.advance(SECOND);
    cache.get("key").await.expect("loaded again");
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_reader_who_begins_after_the_idle_time_loads() {
    let (store, hands) = memory();
    let source = Source::with(&[("key", 1)]);
    let cache = through(store.clone(), options(), &source);
    cache.get("key").await.expect("loaded");
    hands.advance(8 * SECOND);
    source.put("key", 2);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
    let entry = store.get("key").await.expect("memory answers").expect("kept");
    assert_eq!((entry.fresh_for(), entry.usable_for()), (8 * SECOND, MINUTE));
}

#[tokio::test]
async fn that_there_is_nothing_does_not_slide() {
    let (store, hands) = memory();
    let source = Source::with(&[]);
    let cache = through(store, options().negative_ttl(4 * SECOND), &source);
    for _ in 0..8 {
        cache.get("key").await.expect("nothing");
        settle().await;
        hands.advance(SECOND / 2);
    }
    cache.get("key").await.expect("nothing");
    assert_eq!(source.loads(), 2);
}

/// A near copy ends before its original, and does not tell when that ends: a touch goes by the original.
#[rstest]
#[tokio::test]
async fn through_two_tiers_a_value_that_is_read_lives_on_until_its_cap(
    #[values(2, 5, 7, 30)] near_ttl: u32,
) {
    let (clock, hands) = Clock::manual();
    let memory = || {
        let store = MemoryStore::<u64>::builder().capacity(100).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let tiers = Tiered::builder(memory(), memory()).near_ttl(near_ttl * SECOND);
    let source = Source::with(&[("key", 1)]);
    let cache = through(tiers.clock(clock.clone()).build().expect("valid"), options(), &source);
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    for tenth in 1..600 {
        hands.advance(SECOND / 10);
        assert_eq!(cache.get("key").await.expect("cached"), Some(1), "after {tenth} tenths");
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    hands.advance(SECOND / 10);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}
