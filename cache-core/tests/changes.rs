//! Invalidation by what happens at the source.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation, SlowStore};
use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, Change, ErrorKind, Invalidate, Marked, MemoryMarks,
    ReadOptions, ReadThrough, StaleWhileRevalidate, feed,
};
use cache_memory::MemoryStore;
use futures_util::stream;

type Store = FailingStore<MemoryStore<u64>>;

async fn cache() -> CacheAside<Store> {
    let store = FailingStore::new(MemoryStore::new(100));
    let cache = CacheAside::new(store, ReadOptions::ttl(Duration::from_secs(60)));
    let cache = cache.expect("valid options");
    for key in ["a", "b", "page:1", "page:2"] {
        cache.put(key, Some(1)).await.expect("no failure");
    }
    cache
}

async fn has(cache: &CacheAside<Store>, key: &str) -> bool {
    cache.store().value(key).await.expect("an answer").is_some()
}

#[tokio::test]
async fn a_commit_invalidates_and_a_rollback_does_not() {
    let cache = cache().await;
    drop(cache.invalidate_on_commit(Change::key("a")));
    assert!(has(&cache, "a").await, "dropped, so rolled back");

    let pending = cache.invalidate_on_commit(Change::key("a"));
    let pending = pending.also(Change::Prefix("page:".into()));
    let committed = pending.commit(async {
        assert!(has(&cache, "a").await, "not before the commit");
        Ok::<_, io::Error>("done")
    });
    let committed = committed.await.expect("it commits");
    assert!(committed.invalidated.is_ok() && committed.value == "done");
    assert!(!has(&cache, "a").await && !has(&cache, "page:1").await && has(&cache, "b").await);

    cache.invalidate_on_commit(Change::Clear).committed().await.expect("no failure");
    assert!(!has(&cache, "b").await);
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_invalidates() {
    let cache = cache().await;
    let failed = cache.invalidate_on_commit(Change::key("a"));
    let failed = failed.commit(async { Err::<(), _>(io::Error::other("the connection is gone")) });
    assert!(failed.await.is_err());
    assert!(!has(&cache, "a").await);

    let dropped = cache.invalidate_on_commit(Change::key("b"));
    let dropped = tokio::spawn(dropped.commit(std::future::pending::<io::Result<()>>()));
    tokio::task::yield_now().await;
    dropped.abort();
    assert!(dropped.await.is_err());
    while has(&cache, "b").await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_invalidation_that_fails_after_the_commit_is_not_hidden() {
    let cache = cache().await;
    cache.store().fail(Operation::RemoveMany, ErrorKind::Unavailable);
    let pending = cache.invalidate_on_commit(Change::key("a"));
    let committed = pending.commit(async { Ok::<_, io::Error>(()) }).await.expect("it commits");
    assert!(committed.invalidated.is_err());
}

#[tokio::test]
async fn a_load_during_the_transaction_does_not_bring_the_old_value_back() {
    let source = Arc::new(AtomicUsize::new(1));
    let load = {
        let source = Arc::clone(&source);
        move |_: String| {
            let source = Arc::clone(&source);
            async move { Ok::<_, io::Error>(Some(source.load(SeqCst))) }
        }
    };
    let slow = SlowStore::new(MemoryStore::new(100));
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let cache = ReadThrough::new(slow.clone(), load, options).expect("valid options");
    // It has read the old value, and is about to keep it.
    let gate = slow.hold(Operation::Fill);
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("key").await }
    });
    gate.arrived(1).await;
    let pending = cache.invalidate_on_commit(Change::key("key"));
    let commit = async {
        source.store(2, SeqCst);
        Ok::<_, io::Error>(())
    };
    let invalidated = pending.commit(commit).await.expect("it commits").invalidated;
    invalidated.expect("no failure");
    gate.open();
    assert_eq!(reader.await.expect("no panic").expect("a value"), Some(1));
    assert_eq!(cache.get("key").await.expect("a value"), Some(2));
}

#[tokio::test]
async fn changes_from_elsewhere_are_applied_and_their_results_told_in_order() {
    let cache = cache().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let changes = (0..100).map(|number| {
        taken.fetch_add(1, SeqCst);
        let change = match number {
            7 => Change::keys(["a", "page:1"]),
            50 => Change::Clear,
            _ => Change::Keys(vec!["b".into()]),
        };
        (number, change)
    });
    let mut told = Vec::new();
    let fed = feed(&cache, stream::iter(changes), 8, |token, result| {
        assert!(taken.load(SeqCst) <= told.len() + 9, "no more are taken than are applied");
        told.push((token, result.is_ok()));
    });
    assert_eq!(fed.await.applied, 100);
    assert_eq!(told, (0..100).map(|number| (number, true)).collect::<Vec<_>>());
    assert!(!has(&cache, "page:2").await);

    cache.store().fail(Operation::RemoveMany, ErrorKind::Unavailable);
    let mut failed = Vec::new();
    let changes = stream::iter([(1, Change::key("a")), (2, Change::Clear)]);
    let fed = feed(&cache, changes, 1, |token, result| failed.push((token, result.is_err())));
    assert_eq!((fed.await.failed, failed), (1, vec![(1, true), (2, false)]));
}

/// Entries whose tag is the first letter of their key.
fn tagged() -> impl CacheStore<Value = u64> + Clone {
    MemoryStore::<Marked<u64>>::new(100)
        .tagged(MemoryMarks::new(), |key: &str, _: Option<&u64>| [key[..1].to_owned()])
}

async fn a_commit_of_tags(cache: impl Invalidate, store: impl CacheStore<Value = u64>) {
    for key in ["a1", "a2", "b1", "c1"] {
        store.put(key, 1, Duration::from_secs(60)).await.expect("no failure");
    }
    drop(cache.invalidate_on_commit(Change::tag("a")));
    assert_eq!(store.value("a1").await.expect("an answer"), Some(1), "rolled back");
    let pending = cache.invalidate_on_commit(Change::tag("a")).also(Change::key("b1"));
    let committed = pending.commit(async { Ok::<_, io::Error>(()) }).await.expect("it commits");
    committed.invalidated.expect("no failure");
    for (key, there) in [("a1", None), ("a2", None), ("b1", None), ("c1", Some(1))] {
        assert_eq!(store.value(key).await.expect("an answer"), there, "{key}");
    }
}

#[tokio::test]
async fn a_commit_invalidates_by_tag_whatever_the_strategy_and_however_the_store_is_wrapped() {
    let options = || ReadOptions::ttl(Duration::from_secs(60));
    let load = |_: String| async { Ok::<Option<u64>, io::Error>(None) };
    let store = tagged();
    let cache = CacheAside::new(store.clone(), options()).expect("valid options");
    a_commit_of_tags(cache, store).await;
    let store = tagged();
    let cache = ReadThrough::new(store.clone(), load, options()).expect("valid options");
    a_commit_of_tags(cache, store).await;
    let store = Arc::new(tagged());
    let options = options().stale_for(Duration::from_secs(60));
    let cache = StaleWhileRevalidate::new(Arc::clone(&store), load, options.clone());
    a_commit_of_tags(cache.expect("valid options"), store).await;
    let store = tagged().shared();
    assert!(store.capabilities().tags);
    let cache = CacheAside::new(store.clone(), options).expect("valid options");
    a_commit_of_tags(cache, store).await;
}

#[tokio::test]
async fn a_store_without_tags_says_so() {
    let cache = cache().await;
    assert!(!cache.store().capabilities().tags);
    let error = cache.apply(&Change::tag("a")).await.expect_err("no tags");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let mut told = Vec::new();
    let changes = stream::iter([(1, Change::tag("a")), (2, Change::key("a"))]);
    let fed = feed(&cache, changes, 1, |token, result| told.push((token, result.is_ok())));
    assert_eq!((fed.await.failed, told), (1, vec![(1, false), (2, true)]));
    assert!(!has(&cache, "a").await && has(&cache, "b").await);
}
