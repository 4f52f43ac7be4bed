//! Loading ahead of the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::{
    BehindOptions, Bounds, CacheAside, CacheStore, Clock, MemoryJournal, ReadOptions, ReadThrough,
    StaleWhileRevalidate, Stats, WriteBehind,
};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, Sink, Source};
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

#[tokio::test]
async fn a_warm_up_by_questions_asks_once_for_so_many_keys_and_only_for_those_that_are_not_fresh() {
    let all = keys(0..10);
    let source = source(&all[..9]);
    let stats = Arc::new(Stats::default());
    let options = ReadOptions::ttl(MINUTE).negative_ttl(MINUTE).observer(Arc::clone(&stats));
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(1_000), loader, options).expect("valid options");
    cache.get(&all[1]).await.expect("loaded");
    source.forget_questions();
    let (requests, mut told) = (stats.snapshot().requests(), Vec::new());
    let stream = stream::iter([&all[..3], &all[2..]].concat());
    let done = cache.warm_up_many(stream, 4, |so_far| told.push(so_far.keys())).await;
    // The one that was fresh, and the one that came twice, in one question.
    assert_eq!((done.loaded, done.skipped, done.failed), (9, 2, 0));
    assert_eq!(told, [4, 8, 11]);
    let asked = source.questions().into_iter().map(|mut keys| {
        keys.sort();
        keys
    });
    assert_eq!(
        asked.collect::<Vec<_>>(),
        [&all[..1], &all[3..7], &all[7..]].map(|part| {
            let twice = if part.len() == 1 { &all[2..3] } else { &[] };
            [part, twice].concat()
        })
    );
    assert_eq!(stats.snapshot().requests(), requests, "nobody has asked");
    cache.get_many(&all).await;
    assert_eq!(source.loads(), 3);
}

#[tokio::test]
async fn a_warm_up_by_questions_has_one_of_them_under_way_and_takes_no_more_of_the_stream() {
    let all = keys(0..9);
    let source = source(&all);
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(1_000), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    let (taken, takes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stream = stream::iter(all).inspect({
        let taken = Arc::clone(&taken);
        move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    });
    source.hold();
    let warming = tokio::spawn({
        let (cache, takes) = (cache.clone(), Arc::clone(&takes));
        async move {
            let told = |_| {
                takes.fetch_add(1, Ordering::Relaxed);
            };
            cache.warm_up_many(stream, 3, told).await
        }
    });
    source.running(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!((source.loads(), cache.loading(), taken.load(Ordering::Relaxed)), (1, 3, 3));
    assert_eq!(takes.load(Ordering::Relaxed), 0);
    source.release();
    assert_eq!(warming.await.expect("no panic").loaded, 9);
    assert_eq!((source.loads(), source.most_running()), (3, 1));
}

#[tokio::test]
async fn what_is_invalidated_during_a_warm_up_by_questions_is_not_kept_and_the_rest_is() {
    let all = keys(0..3);
    let source = source(&all);
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(10), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.hold();
    let warming = tokio::spawn({
        let (cache, all) = (cache.clone(), all.clone());
        async move { cache.warm_up_many(stream::iter(all), 3, |_| {}).await }
    });
    source.running(1).await;
    source.put("1", 2);
    cache.invalidate("1").await.expect("memory answers");
    source.release();
    warming.await.expect("no panic");
    let values: Vec<_> = cache.get_many(&all).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [Some(1), Some(2), Some(1)]);
    assert_eq!(source.questions()[1..], [["1"]]);
}

#[tokio::test]
async fn a_question_of_a_warm_up_that_fails_is_counted_by_its_keys_and_the_next_one_is_asked() {
    let all = keys(0..4);
    let source = source(&all);
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(10), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.fail(true);
    let done = cache.warm_up_many(stream::iter(all), 2, |_| source.fail(false)).await;
    assert_eq!((done.loaded, done.skipped, done.failed), (2, 0, 2));
}

#[tokio::test]
async fn a_warm_up_of_cache_aside_takes_a_load_that_borrows() {
    let all = keys(0..6);
    let source = source(&all);
    let stats = Arc::new(Stats::default());
    let options = ReadOptions::ttl(MINUTE).observer(Arc::clone(&stats));
    let cache = CacheAside::new(MemoryStore::new(100), options).expect("valid options");
    let borrowed = &source;
    let load = |key: String| async move { borrowed.load(&key).await };
    cache.get_or_load(&all[0], || load(all[0].clone())).await.expect("loaded");
    let requests = stats.snapshot().requests();
    let done = cache.warm_up(stream::iter(all[..4].to_vec()), 2, load, |_| {}).await;
    assert_eq!((done.loaded, done.skipped, done.failed), (3, 1, 0));
    let load = |keys: Vec<String>| async move { borrowed.load_many(keys).await };
    source.forget_questions();
    let done = cache.warm_up_many(stream::iter(all.clone()), 10, load, |_| {}).await;
    assert_eq!((done.loaded, done.skipped, done.failed), (2, 4, 0));
    assert_eq!(source.questions(), [["4", "5"]]);
    assert_eq!(stats.snapshot().requests(), requests, "nobody has asked");
    for key in &all {
        assert_eq!(cache.get(key).await.expect("memory answers"), Some(1));
    }
}

#[tokio::test]
async fn what_is_invalidated_during_a_warm_up_of_cache_aside_is_not_kept() {
    for one_question in [false, true] {
        let source = source(&keys(0..1));
        let cache = CacheAside::new(MemoryStore::new(10), ReadOptions::ttl(MINUTE));
        let cache = cache.expect("valid options");
        source.hold();
        let warming = tokio::spawn({
            let (cache, source) = (cache.clone(), Arc::clone(&source));
            async move {
                let (key, source) = (stream::iter(keys(0..1)), &source);
                if one_question {
                    let load = |keys| async move { source.load_many(keys).await };
                    cache.warm_up_many(key, 1, load, |_| {}).await
                } else {
                    let load = |key: String| async move { source.load(&key).await };
                    cache.warm_up(key, 1, load, |_| {}).await
                }
            }
        });
        source.running(1).await;
        source.put("0", 2);
        cache.invalidate("0").await.expect("memory answers");
        source.release();
        assert_eq!(warming.await.expect("no panic").loaded, 1);
        assert_eq!(cache.get("0").await.expect("memory answers"), None);
    }
}

#[tokio::test]
async fn who_waits_for_a_warm_up_of_cache_aside_that_is_dropped_loads_by_himself() {
    let source = source(&keys(0..1));
    let cache = CacheAside::new(MemoryStore::new(10), ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    source.hold();
    let warming = tokio::spawn({
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        async move {
            let load = |key: String| {
                let source = Arc::clone(&source);
                async move { source.load(&key).await }
            };
            cache.warm_up(stream::iter(keys(0..1)), 1, load, |_| {}).await
        }
    });
    source.running(1).await;
    let reader = tokio::spawn({
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        async move { cache.get_or_load("0", || source.load("0")).await }
    });
    tokio::task::yield_now().await;
    warming.abort();
    let _ = warming.await;
    source.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_warm_up_sees_the_writes_that_are_not_in_the_source_yet() {
    let sink = Sink::with(&[("0", 1), ("1", 1)]);
    sink.hold();
    let reads = ReadThrough::new(MemoryStore::new(10), sink.clone(), ReadOptions::ttl(MINUTE));
    let journal = MemoryJournal::new(Bounds::default());
    let cache = WriteBehind::new(
        reads.expect("valid options"),
        sink.clone(),
        journal,
        BehindOptions::default(),
    );
    let cache = cache.expect("valid options");
    cache.put("0", 2).await.expect("acknowledged");
    for one_question in [false, true] {
        cache.clear().await.expect("memory answers");
        let done = match one_question {
            false => cache.warm_up(stream::iter(keys(0..2)), 2, |_| {}).await,
            true => cache.warm_up_many(stream::iter(keys(0..2)), 2, |_| {}).await,
        };
        assert_eq!(done.loaded, 2);
        let in_store = cache.store().get("0").await.expect("memory answers");
        assert_eq!(in_store.and_then(cache_core::Entry::into_value), Some(2));
    }
    sink.release();
}

#[tokio::test]
async fn a_warm_up_of_all_keys_together_takes_no_memory_for_keys_that_do_not_come() {
    let all = keys(0..10);
    for at_a_time in [1 << 40, usize::MAX] {
        let source = source(&all);
        let loader = FromSource(Arc::clone(&source));
        let cache = ReadThrough::new(MemoryStore::new(100), loader, ReadOptions::ttl(MINUTE));
        let cache = cache.expect("valid options");
        let (several, one_question) = all.split_at(5);
        let done = cache.warm_up(stream::iter(several.to_vec()), at_a_time, |_| {}).await;
        assert_eq!(done.loaded, 5);
        source.forget_questions();
        let done = cache.warm_up_many(stream::iter(one_question.to_vec()), at_a_time, |_| {}).await;
        assert_eq!((done.loaded, source.loads()), (5, 1));

        let aside = CacheAside::new(MemoryStore::new(100), ReadOptions::ttl(MINUTE));
        let aside = aside.expect("valid options");
        let load = |key: String| async move { Ok::<_, std::io::Error>(key.parse::<u64>().ok()) };
        let done = aside.warm_up(stream::iter(several.to_vec()), at_a_time, load, |_| {}).await;
        assert_eq!(done.loaded, 5);
        let load = |keys: Vec<String>| async move {
            Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 1)).collect())
        };
        let rest = stream::iter(one_question.to_vec());
        let done = aside.warm_up_many(rest, at_a_time, load, |_| {}).await;
        assert_eq!(done.loaded, 5);
    }
}

/// A stream may have more after it has said that it has ended; it is not asked.
#[tokio::test]
async fn a_warm_up_does_not_ask_a_stream_that_has_ended() {
    let all = keys(0..4);
    let source = source(&all);
    let loader = FromSource(Arc::clone(&source));
    let cache = ReadThrough::new(MemoryStore::new(100), loader, ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    let mut keys = all.into_iter();
    let mut ended = false;
    let stream = stream::poll_fn(move |_| {
        assert!(!ended, "it has ended");
        let key = keys.next();
        ended = key.is_none();
        std::task::Poll::Ready(key)
    });
    assert_eq!(cache.warm_up_many(stream, 3, |_| {}).await.loaded, 4);
}
