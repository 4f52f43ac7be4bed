//! Guards of the engine that no other test would miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::testing::{ModelStore, Operation, SlowStore};
use cache_core::{
    CacheAside, CacheStore, Claim, ClaimOptions, Clock, Entry, ErrorKind, ReadThrough, Result,
    SetOptions, Stats, WriteOptions, WriteThrough,
};
use cache_memory::MemoryStore;
use cache_tests::{
    FromSource, Kind, PlainStore, Source, SourceDown, Strategy, TestCache, cache, cache_on, minute,
    unhurried,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rstest::rstest;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

fn spawn_get(cache: &Arc<dyn TestCache>, key: &'static str) -> JoinHandle<Result<Option<u64>>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get(key).await })
}

fn keys<const N: usize>(keys: [&str; N]) -> [String; N] {
    keys.map(str::to_owned)
}

/// Lets every task run until it waits for something.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// The fence is the process's: the store has none that could do in its stead.
#[rstest]
#[tokio::test]
async fn keys_invalidated_together_are_all_fenced(
    #[values(Strategy::Aside, Strategy::Through)] strategy: Strategy,
) {
    let source = Source::with(&[("a", 1), ("b", 1)]);
    source.hold();
    let store = PlainStore::new(Clock::system());
    let all = keys(["a", "b"]);
    let (get, invalidate): (JoinHandle<_>, BoxFuture<'_, Result<()>>) = match strategy {
        Strategy::Aside => {
            let cache = CacheAside::new(store.clone(), minute()).expect("valid options");
            let (reader, source, all) = (cache.clone(), Arc::clone(&source), all.clone());
            let get = tokio::spawn(async move {
                reader.get_or_load_many(&all, |keys| source.load_many(keys)).await
            });
            let all = keys(["a", "b"]);
            let invalidate = async move { cache.invalidate_many(&all).await };
            (get, invalidate.boxed())
        }
        Strategy::Through | Strategy::Revalidate | Strategy::Writing(_) => {
            let loader = FromSource(Arc::clone(&source));
            let cache = ReadThrough::new(store.clone(), loader, minute()).expect("valid options");
            let (reader, all) = (cache.clone(), all.clone());
            let get = tokio::spawn(async move { reader.get_many(&all).await });
            let all = keys(["a", "b"]);
            let invalidate = async move { cache.invalidate_many(&all).await };
            (get, invalidate.boxed())
        }
    };
    source.running(1).await;
    invalidate.await.expect("the store works");
    source.release();
    for got in get.await.expect("no panic") {
        assert_eq!(got.expect("they asked before"), Some(1));
    }
    settle().await;
    assert_eq!((store.value_now("a"), store.value_now("b")), (None, None));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_invalidation_does_not_wait_for_a_fill_that_the_store_fences(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let fill = store.hold(Operation::Fill);
    let cache = cache(strategy, store.clone(), minute(), &source);
    let reader = spawn_get(&cache, "key");
    fill.arrived(1).await;
    let began = Instant::now();
    cache.invalidate("key").await.expect("the store works");
    assert_eq!(began.elapsed(), Duration::ZERO);
    source.put("key", 2);
    fill.open();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    settle().await;
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

#[rstest]
#[tokio::test]
async fn the_keys_of_a_list_that_it_loads_itself_are_counted_as_loaded(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let stats = Arc::new(Stats::default());
    let source = Source::with(&[("a", 1), ("b", 2), ("c", 3)]);
    source.hold();
    let options = minute().observer(Arc::clone(&stats));
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    let single = spawn_get(&cache, "c");
    source.running(1).await;
    let list = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get_many(&keys(["a", "b", "c"])).await }
    });
    source.running(2).await;
    source.release();
    single.await.expect("no panic").expect("loaded");
    list.await.expect("no panic");
    let seen = stats.snapshot();
    assert_eq!((seen.loaded, seen.coalesced, seen.loads), (3, 1, 2));
}

#[tokio::test]
async fn outside_of_a_runtime_the_misses_of_a_list_are_errors_and_its_hits_are_not() {
    let source = Source::with(&[("hit", 1), ("a", 1), ("b", 2)]);
    let cache = cache_on(Kind::Memory, Strategy::Through, minute(), &source);
    cache.get("hit").await.expect("loaded");
    let other = Arc::clone(&cache);
    let got = std::thread::spawn(move || other.get_many(&keys(["a", "hit", "b"])).now_or_never());
    let got = got.join().expect("no panic").expect("at once");
    assert!(matches!(got[1], Ok(Some(1))));
    for miss in [&got[0], &got[2]] {
        let error = miss.as_ref().expect_err("nowhere to run");
        assert_eq!(error.kind(), ErrorKind::NoRuntime);
    }
    assert_eq!(cache.loading(), 0);
}

/// Between the read and the claim, one stale entry has been replaced by another: the value that is loaded has to
/// replace that one.
#[rstest]
#[tokio::test]
async fn a_stale_entry_that_changes_before_the_claim_is_replaced_all_the_same(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (clock, hands) = Clock::manual();
    let source = Source::with(&[("key", 3)]);
    let store = SlowStore::new(ModelStore::<u64>::new(clock));
    let cache = cache(strategy, store.clone(), unhurried(), &source);
    let second = Duration::from_secs(1);
    let options = || SetOptions::ttl(second).stale_for(second * 3600);
    let write = async |value| {
        store.set("key", Some(value), options()).await.expect("the store works");
        hands.advance(second * 2);
    };
    write(1).await;
    let get = store.hold_answer(Operation::Get);
    let reader = spawn_get(&cache, "key");
    get.arrived(1).await; // it has the first
    write(2).await;
    get.open();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(3));
    settle().await;
    assert_eq!(cache.get("key").await.expect("kept"), Some(3));
    assert_eq!(source.loads(), 1, "the value was kept");
}

/// Grants nothing; panics.
struct Panics(Arc<AtomicUsize>);

impl CacheStore for Panics {
    type Value = u64;

    async fn get(&self, _: &str) -> Result<Option<Entry<u64>>> {
        Ok(None)
    }

    async fn set(&self, _: &str, _: Option<u64>, _: SetOptions) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn claim(&self, _: &str, _: ClaimOptions) -> Result<Claim<u64>> {
        tokio::task::yield_now().await;
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("the store has lost its mind")
    }
}

#[tokio::test]
async fn a_load_whose_store_panics_is_one_error_for_all_who_wait() {
    let source = Source::with(&[("key", 1)]);
    let claims = Arc::new(AtomicUsize::new(0));
    let store = Panics(Arc::clone(&claims));
    let cache = cache(Strategy::Through, store, minute(), &source);
    let readers: Vec<_> = (0..10).map(|_| spawn_get(&cache, "key")).collect();
    for reader in readers {
        let error = reader.await.expect("no panic").expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
    }
    assert_eq!(claims.load(Ordering::SeqCst), 1, "they do not try one by one");
    assert_eq!(cache.loading(), 0);
}

type Aside = CacheAside<MemoryStore<u64>>;

fn aside() -> Aside {
    CacheAside::new(MemoryStore::new(100), minute()).expect("valid options")
}

/// Reads a key that is being loaded by somebody else.
fn wait_for(cache: &Aside, key: &'static str) -> BoxFuture<'static, Result<Option<u64>>> {
    let cache = cache.clone();
    async move {
        let load = || async { Ok::<_, SourceDown>(Some(0)) };
        cache.get_or_load(key, load).await
    }
    .boxed()
}

/// `outer` waits for a list, and the load of the list for `outer`.
#[tokio::test(start_paused = true)]
async fn a_list_whose_load_needs_the_load_that_needs_the_list_is_an_error() {
    let cache = aside();
    let inner = cache.clone();
    let got = cache
        .get_or_load("outer", || async move {
            let list = inner
                .get_or_load_many(&["a", "b"], |keys| {
                    let outer = wait_for(&inner, "outer");
                    async move {
                        let value = outer.await?.unwrap_or_default();
                        Ok::<_, cache_core::Error>(keys.into_iter().map(|k| (k, value)).collect())
                    }
                })
                .await;
            list.into_iter().next().unwrap_or(Ok(None))
        })
        .await;
    assert_eq!(got.expect_err("a circle").kind(), ErrorKind::RecursiveLoad);
}

/// `a` waits twice for `b`, and gives one of the waits up: it still waits for `b`.
#[tokio::test(start_paused = true)]
async fn of_two_waits_for_one_key_the_other_stays_known_when_one_ends() {
    let cache = aside();
    let (waits, one_is_left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let b = tokio::spawn({
        let (cache, one_is_left) = (cache.clone(), Arc::clone(&one_is_left));
        async move {
            let inner = cache.clone();
            let load = || async move {
                one_is_left.notified().await;
                wait_for(&inner, "a").await
            };
            cache.get_or_load("b", load).await
        }
    });
    settle().await;
    let a = tokio::spawn({
        let (cache, waits) = (cache.clone(), Arc::clone(&waits));
        async move {
            let inner = cache.clone();
            let load = || async move {
                let (mut one, mut other) = (wait_for(&inner, "b"), wait_for(&inner, "b"));
                assert!((&mut one).now_or_never().is_none());
                assert!((&mut other).now_or_never().is_none());
                drop(one);
                waits.notify_one();
                other.await
            };
            cache.get_or_load("a", load).await
        }
    });
    waits.notified().await;
    one_is_left.notify_one();
    let error = b.await.expect("no panic").expect_err("a circle");
    assert_eq!(error.kind(), ErrorKind::RecursiveLoad);
    a.await.expect("no panic").expect_err("it waited for `b`");
}

/// The one question for `a` and `b` needs `a` itself.
#[rstest]
#[case::a_key_of_its_own("a")]
#[case::another_key_of_its_own("b")]
#[tokio::test(start_paused = true)]
async fn a_list_whose_load_needs_one_of_its_own_keys_is_an_error(#[case] needs: &'static str) {
    let cache = aside();
    let list = cache
        .get_or_load_many(&["a", "b"], |keys| {
            let needed = wait_for(&cache, needs);
            async move {
                let value = needed.await?.unwrap_or_default();
                Ok::<_, cache_core::Error>(keys.into_iter().map(|key| (key, value)).collect())
            }
        })
        .await;
    for got in list {
        assert_eq!(got.expect_err("a circle").kind(), ErrorKind::RecursiveLoad);
    }
}

/// A flight that has been revoked ends beside the new one, and leaves it alone.
#[rstest]
#[tokio::test]
async fn a_revoked_load_that_ends_does_not_end_the_one_that_took_its_place(
    #[values(Kind::Plain, Kind::Memory)] kind: Kind,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(kind, Strategy::Aside, minute(), &source);
    let old = spawn_get(&cache, "key");
    source.running(1).await;
    cache.invalidate("key").await.expect("the store works");
    let new = spawn_get(&cache, "key");
    source.running(2).await;
    old.abort();
    let _ = old.await;
    let late = spawn_get(&cache, "key");
    settle().await;
    assert_eq!(source.loads(), 2, "it shares the new load");
    source.release();
    for reader in [new, late] {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
}

fn impatient() -> cache_core::ReadOptions<u64> {
    let second = Duration::from_secs(1);
    minute().load_timeout(second).store_timeout(Duration::from_millis(100)).wait_limit(second)
}

/// The caller who leads does not poll, so nothing ends its load; who waits gives the flight up after two seconds.
#[tokio::test(start_paused = true)]
async fn a_load_that_was_given_up_is_not_kept_when_it_ends_after_all() {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(Kind::Plain, Strategy::Aside, impatient(), &source);
    let mut leader = cache.get("key");
    assert!((&mut leader).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let error = cache.get("key").await.expect_err("nobody polls the leader");
    assert_eq!(error.kind(), ErrorKind::WaitTimeout);
    assert_eq!(cache.loading(), 0, "given up");

    source.put("key", 2);
    cache.invalidate("key").await.expect("the store works");
    source.release();
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
    assert_eq!(leader.await.expect("it did load"), Some(1));
    assert_eq!(cache.get("key").await.expect("kept"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_a_revoked_load_leaves_the_one_that_took_its_place_alone() {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let cache = cache_on(Kind::Plain, Strategy::Aside, impatient(), &source);
    let mut leader = cache.get("key");
    assert!((&mut leader).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let waiting = spawn_get(&cache, "key");
    settle().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cache.invalidate("key").await.expect("the store works");
    let new = spawn_get(&cache, "key");
    source.running(2).await;
    waiting.await.expect("no panic").expect_err("nobody polls the leader");
    let late = spawn_get(&cache, "key");
    settle().await;
    assert_eq!(source.loads(), 2, "it shares the new load");
    source.release();
    for reader in [new, late] {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_load_of_another_cache_shares_it(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let store = MemoryStore::<u64>::new(100);
    let stats = Arc::new(Stats::default());
    let one = cache(strategy, store.clone(), minute(), &source);
    let options = minute().observer(Arc::clone(&stats));
    let other = cache(strategy, store, options, &source);
    let first = spawn_get(&one, "key");
    source.running(1).await;
    let second = spawn_get(&other, "key");
    tokio::time::sleep(Duration::from_secs(1)).await;
    source.release();
    for reader in [first, second] {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
    let seen = stats.snapshot();
    assert_eq!((seen.coalesced, seen.hits, seen.loads), (1, 0, 0));
}

/// `wait_limit` is for the loads of others.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_list_waits_for_its_own_load_as_long_as_a_load_may_take(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("a", 1)]);
    source.hold();
    let options = minute().load_timeout(Duration::from_secs(60));
    let options = options.wait_limit(Duration::from_secs(1));
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    let list = tokio::spawn(async move { cache.get_many(&keys(["a"])).await });
    tokio::time::sleep(Duration::from_secs(30)).await;
    source.release();
    let got = list.await.expect("no panic").remove(0);
    assert_eq!(got.expect("loaded"), Some(1));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn who_waits_no_longer_does_not_take_the_key_from_a_load_within_its_limit(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let options = minute().load_timeout(Duration::from_secs(60));
    let options = options.wait_limit(Duration::from_secs(1));
    let cache = cache_on(Kind::Plain, strategy, options, &source);
    let leader = spawn_get(&cache, "key");
    source.running(1).await;
    cache.get("key").await.expect_err("it waits no longer");
    let late = spawn_get(&cache, "key");
    settle().await;
    assert_eq!(source.loads(), 1, "it shares the load");
    source.release();
    for reader in [leader, late] {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
}

#[tokio::test]
async fn a_list_whose_store_panics_is_an_error_of_its_keys() {
    let source = Source::with(&[("a", 1)]);
    let store = Panics(Arc::default());
    let cache = cache(Strategy::Through, store, minute(), &source);
    for got in cache.get_many(&keys(["a", "b"])).await {
        let error = got.expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
    }
    assert_eq!(cache.loading(), 0);
}

/// The store has put the two in order already.
#[rstest]
#[tokio::test]
async fn what_was_put_after_a_fenced_fill_stays(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let filled = store.hold_answer(Operation::Fill);
    let cache = cache(strategy, store.clone(), minute(), &source);
    let reader = spawn_get(&cache, "key");
    filled.arrived(1).await;
    cache.put("key", Some(2)).await.expect("the store works");
    filled.open();
    reader.await.expect("no panic").expect("loaded");
    settle().await;
    assert_eq!(cache.get("key").await.expect("kept"), Some(2));
    assert_eq!(source.loads(), 1);
}

/// A store of which some keys can't be removed: they are on a node that is dead. While it is down, none can.
#[derive(Clone)]
struct DeadNode {
    entries: PlainStore,
    down: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

impl CacheStore for DeadNode {
    type Value = u64;

    async fn get(&self, key: &str) -> Result<Option<Entry<u64>>> {
        self.entries.get(key).await
    }

    async fn set(&self, key: &str, value: Option<u64>, options: SetOptions) -> Result<()> {
        self.entries.set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        if key.starts_with("dead") {
            self.tries.fetch_add(1, Ordering::Relaxed);
        } else if !self.down.load(Ordering::Relaxed) {
            return self.entries.remove(key).await;
        }
        Err(cache_core::Error::new(ErrorKind::Unavailable))
    }
}

/// `dead` and 50 other keys that were written while nothing could be removed.
async fn doubts(
    dead: usize,
) -> (DeadNode, WriteThrough<ReadThrough<DeadNode, FromSource>, FromSource>) {
    let store = DeadNode {
        entries: PlainStore::new(Clock::system()),
        down: Arc::new(AtomicBool::new(true)),
        tries: Arc::default(),
    };
    let source = FromSource(Source::with(&[]));
    let reads = ReadThrough::new(store.clone(), source.clone(), minute()).expect("valid options");
    let cache = WriteThrough::new(reads, source, WriteOptions::default()).expect("valid options");
    let dead = (0..dead).map(|n| format!("dead{n}"));
    for key in dead.chain((0..50).map(|n| format!("good{n}"))) {
        cache.put(&key, 1).await.expect("in the source");
    }
    store.down.store(false, Ordering::Relaxed);
    (store, cache)
}

#[rstest]
#[case::one(1)]
#[case::more_than_are_tried_together(40)]
#[case::many(400)]
#[tokio::test(start_paused = true)]
async fn a_doubt_that_can_t_be_ended_holds_up_no_other(#[case] dead: usize) {
    let (_store, cache) = doubts(dead).await;
    assert_eq!(cache.doubted(), dead + 50);
    let began = Instant::now();
    while cache.doubted() > dead {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(began.elapsed() < Duration::from_secs(300), "{} are left", cache.doubted() - dead);
    }
    assert_eq!(cache.get("good7").await.expect("loaded"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn doubts_that_can_t_be_ended_cost_so_many_removals_and_no_more() {
    let (store, cache) = doubts(2_000).await;
    let began = Instant::now();
    while cache.doubted() > 2_000 {
        assert!(began.elapsed() < Duration::from_secs(3_600), "others are held up");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let before = store.tries.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = store.tries.load(Ordering::Relaxed) - before;
    // After each, any time up to five seconds.
    assert!((1..2_000).contains(&tries), "{tries}");
}

/// What is doubted while others can't be repaired does not wait behind them.
#[tokio::test(start_paused = true)]
async fn a_new_doubt_is_looked_at_before_those_that_have_failed() {
    let (store, cache) = doubts(2_000).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(cache.doubted(), 2_000);
    store.down.store(true, Ordering::Relaxed);
    cache.put("new", 1).await.expect("in the source");
    store.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(cache.doubted(), 2_000);
}
