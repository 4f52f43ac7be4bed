//! Many keys in one call.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::{FailingStore, ModelStore, Operation, RecordingStore};
use cache_core::{CacheStore, Clock, ErrorKind, Stats};
use cache_tests::{Kind, Source, SourceDown, Strategy, cache, cache_on, minute};
use rstest::rstest;

fn keys<const N: usize>(keys: [&str; N]) -> [String; N] {
    keys.map(str::to_owned)
}

fn values(results: Vec<cache_core::Result<Option<u64>>>) -> Vec<Option<u64>> {
    results.into_iter().map(|value| value.expect("no error")).collect()
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[tokio::test]
async fn the_loader_is_asked_once_for_only_the_misses(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("a", 1), ("b", 2), ("c", 3)]);
    let cache = cache_on(kind, strategy, minute(), &source);
    cache.get("b").await.expect("loaded");
    source.forget_questions();

    let got = cache.get_many(&keys(["c", "a", "b", "missing", "a"])).await;
    assert_eq!(values(got), [Some(3), Some(1), Some(2), None, Some(1)]);
    assert_eq!(source.questions(), [keys(["c", "a", "missing"])]);

    let got = cache.get_many(&keys(["a", "b", "c"])).await;
    assert_eq!(values(got), [Some(1), Some(2), Some(3)]);
    assert_eq!(source.loads(), 1, "all were kept");
    assert!(cache.get_many(&[]).await.is_empty());
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn lists_that_overlap_load_what_they_share_once(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("1", 1), ("2", 2), ("3", 3)]);
    source.hold();
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    let read = |list: &'static [&'static str]| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let list: Vec<_> = list.iter().copied().map(str::to_owned).collect();
            cache.get_many(&list).await
        })
    };
    let first = read(&["1", "2"]);
    source.running(1).await;
    let second = read(&["2", "3"]);
    source.running(2).await;
    let single = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("3").await }
    });
    settle().await;
    source.release();
    assert_eq!(values(first.await.expect("no panic")), [Some(1), Some(2)]);
    assert_eq!(values(second.await.expect("no panic")), [Some(2), Some(3)]);
    assert_eq!(single.await.expect("no panic").expect("shared"), Some(3));
    assert_eq!(source.questions(), [vec!["1".to_owned(), "2".to_owned()], vec!["3".to_owned()]]);
}

#[rstest]
#[tokio::test]
async fn a_list_shares_the_load_of_a_single_key(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("1", 1), ("2", 2)]);
    source.hold();
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    let single = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get("2").await }
    });
    source.running(1).await;
    let list = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&keys(["1", "2"])).await }
    });
    source.running(2).await;
    source.release();
    assert_eq!(single.await.expect("no panic").expect("loaded"), Some(2));
    assert_eq!(values(list.await.expect("no panic")), [Some(1), Some(2)]);
    assert_eq!(source.questions(), [vec!["2".to_owned()], vec!["1".to_owned()]]);
}

#[rstest]
#[tokio::test]
async fn a_cancelled_list_hands_its_keys_over_one_by_one(
    #[values(Kind::Plain, Kind::Memory)] kind: Kind,
) {
    let source = Source::with(&[("1", 1), ("2", 2)]);
    source.hold();
    let cache = cache_on(kind, Strategy::Aside, minute(), &source);
    let list = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&keys(["1", "2"])).await }
    });
    source.running(1).await;
    let waiting = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&keys(["2", "1"])).await }
    });
    settle().await;
    list.abort();
    let _ = list.await;
    source.running(2).await;
    source.release();
    assert_eq!(values(waiting.await.expect("no panic")), [Some(2), Some(1)]);
    assert_eq!(source.loads(), 3);
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_failing_question_fails_its_own_keys_and_no_hits(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("a", 1), ("b", 2)]);
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    cache.get("a").await.expect("loaded");
    source.fail(true);
    let got = cache.get_many(&keys(["a", "b"])).await;
    assert!(matches!(got[0], Ok(Some(1))));
    let error = got[1].as_ref().expect_err("the source is down");
    assert_eq!(error.cause::<SourceDown>(), Some(&SourceDown(7)));
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_panicking_question_is_an_error_of_each_of_its_keys(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("a", 1), ("b", 2)]);
    source.panic(true);
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    for got in cache.get_many(&keys(["a", "b"])).await {
        assert_eq!(got.expect_err("it panicked").kind(), ErrorKind::LoaderPanicked);
    }
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_key_that_another_cache_is_loading_does_not_delay_the_question_for_the_others(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("held", 1), ("free", 2)]);
    let store = cache_memory::MemoryStore::<u64>::new(100);
    let lease =
        match store.claim("held", cache_core::ClaimOptions::new(Duration::from_secs(60))).await {
            Ok(cache_core::Claim::Granted(lease)) => lease,
            other => panic!("{other:?}"),
        };
    let cache = cache(strategy, store.clone(), minute(), &source);
    let list = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&keys(["held", "free"])).await }
    });
    while store.get("free").await.expect("memory answers").is_none() {
        tokio::task::yield_now().await;
    }
    let options = cache_core::SetOptions::ttl(Duration::from_secs(60));
    let fill = store.fill(lease, Some(9), options).await.expect("memory answers");
    assert_eq!(fill, cache_core::Fill::Stored);
    assert_eq!(values(list.await.expect("no panic")), [Some(9), Some(2)]);
    assert_eq!(source.questions(), [keys(["free"])]);
}

#[tokio::test]
async fn many_keys_are_one_call_to_the_store() {
    let source = Source::with(&[("a", 1), ("b", 2)]);
    let store = RecordingStore::new(ModelStore::<u64>::new(Clock::system()));
    let cache = cache(Strategy::Through, store.clone(), minute(), &source);
    cache.get_many(&keys(["a", "b", "a"])).await;
    let _ = store.take();
    cache.get_many(&keys(["a", "b", "a"])).await;
    let calls = store.take();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].operation(), Operation::GetMany);
    assert_eq!(calls[0].keys(), ["a", "b"], "a key that occurs twice is asked for once");
}

#[rstest]
#[tokio::test]
async fn a_store_that_fails_costs_a_question_and_no_error(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("a", 1), ("b", 2)]);
    let stats = Arc::new(Stats::default());
    let store = FailingStore::new(ModelStore::<u64>::new(Clock::system()));
    store.fail_all(ErrorKind::Unavailable);
    let options = minute().observer(Arc::clone(&stats));
    let cache = cache(strategy, store.clone(), options, &source);
    let got = cache.get_many(&keys(["a", "b"])).await;
    assert_eq!(values(got), [Some(1), Some(2)]);
    assert_eq!(source.loads(), 1);
    assert_eq!(stats.snapshot().store_errors, 2);
}

#[tokio::test]
async fn a_bare_closure_over_many_keys_is_a_loader() {
    let load = cache_core::Batch(|ids: Vec<u32>| async move {
        Ok::<_, SourceDown>(ids.into_iter().filter(|id| *id < 3).map(|id| (id, id * 10)).collect())
    });
    let store = cache_memory::MemoryStore::<u32>::new(100);
    let options = cache_core::ReadOptions::ttl(Duration::from_secs(60));
    let cache = cache_core::ReadThrough::new(store, load, options).expect("valid options");
    assert_eq!(cache.get(&1).await.expect("loaded"), Some(10));
    let got: Vec<_> = cache.get_many(&[2, 3, 1]).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(got, [Some(20), None, Some(10)]);
}
