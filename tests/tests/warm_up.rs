//! Loading ahead of the traffic.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Clock, ReadOptions, ReadThrough, StaleWhileRevalidate, Stats};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, Source};
use futures_util::{StreamExt, stream};

const MINUTE: Duration = Duration::from_secs(60);

fn keys(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|key| key.to_string()).collect()
}

fn source(keys: &[String]) -> Arc<Source> {
    let values: Vec<(&str, u64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    Source::with(&values)
}

#[tokio::test]
async fn a_warm_up_loads_what_is_not_fresh_and_tells_how_far_it_is() {
    let all = keys(0..100);
    let source = source(&all[..90]);
    let stats = Arc::new(Stats::default());
    let options = ReadOptions::ttl(MINUTE).negative_ttl(MINUTE).observer(Arc::clone(&stats));
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(1_000), loader, options).expect("valid options");
    cache.get_many(&all[..20]).await;
    source.forget_questions();
    let (requests, mut told) = (stats.snapshot().requests(), Vec::new());
    let done = cache.warm_up(stream::iter(all.clone()), 8, |so_far| told.push(so_far.keys())).await;
    assert_eq!((done.loaded, done.skipped, done.failed), (80, 20, 0));
    assert_eq!(told, (1..=100).collect::<Vec<u64>>());
    assert_eq!(source.loads(), 80);
    assert_eq!(stats.snapshot().requests(), requests, "nobody has asked");
    for key in &all {
        cache.get(key).await.expect("cached");
    }
    assert_eq!(source.loads(), 80);
}

#[tokio::test]
async fn a_warm_up_loads_so_many_at_a_time_and_takes_no_more_of_the_stream() {
    let all = keys(0..50);
    let source = source(&all);
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(1_000), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.hold();
    let warming = tokio::spawn({
        let (cache, all) = (cache.clone(), all.clone());
        async move { cache.warm_up(stream::iter(all), 4, |_| {}).await }
    });
    source.running(4).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!((source.loads(), cache.loading()), (4, 4));
    source.release();
    assert_eq!(warming.await.expect("no panic").loaded, 50);
    assert!(source.most_running() <= 4);
}

#[tokio::test]
async fn what_is_invalidated_during_a_warm_up_is_not_kept() {
    let source = source(&keys(0..1));
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(10), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.hold();
    let warming = tokio::spawn({
        let cache = cache.clone();
        async move { cache.warm_up(stream::iter(keys(0..1)), 1, |_| {}).await }
    });
    source.running(1).await;
    source.put("0", 2);
    cache.invalidate("0").await.expect("memory answers");
    source.release();
    warming.await.expect("no panic");
    assert_eq!(cache.get("0").await.expect("loaded"), Some(2));
}

#[tokio::test]
async fn failures_of_a_warm_up_are_counted_and_a_reader_shares_its_loads() {
    let source = source(&keys(0..2));
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(10), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.fail(true);
    let done = cache.warm_up(stream::iter(keys(0..2)), 2, |_| {}).await;
    assert_eq!((done.loaded, done.failed), (0, 2));
    source.fail(false);
    source.forget_questions();
    source.hold();
    let warming = tokio::spawn({
        let cache = cache.clone();
        async move { cache.warm_up(stream::iter(keys(0..1)), 2, |_| {}).await }
    });
    source.running(1).await;
    let reader = tokio::spawn(async move { cache.get("0").await });
    tokio::task::yield_now().await;
    source.release();
    assert_eq!(reader.await.expect("no panic").expect("shared"), Some(1));
    assert_eq!(warming.await.expect("no panic").loaded, 1);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_warm_up_that_is_dropped_begins_no_more_loads() {
    let source = source(&keys(0..9));
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(10), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.hold();
    let warming = tokio::spawn({
        let cache = cache.clone();
        async move { cache.warm_up(stream::iter(keys(0..9)), 3, |_| {}).await }
    });
    source.running(3).await;
    warming.abort();
    let _ = warming.await;
    source.release();
    source.running(0).await;
    assert_eq!(source.loads(), 3);
}

#[tokio::test]
async fn a_stale_value_is_loaded_anew() {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(10).clock(clock).build().expect("valid options");
    let source = source(&keys(0..1));
    let loader = FromSource(Arc::clone(&source));
    let options = ReadOptions::ttl(MINUTE).stale_for(MINUTE);
    let cache = StaleWhileRevalidate::new(store, loader, options).expect("valid options");
    let warm = || cache.warm_up(stream::iter(keys(0..1)).boxed(), 1, |_| {});
    assert_eq!(warm().await.loaded, 1);
    hands.advance(MINUTE);
    source.put("0", 2);
    assert_eq!(warm().await.loaded, 1);
    assert_eq!(cache.get("0").await.expect("fresh"), Some(2));
}
