//! Interleavings that are rare, and what must come of them.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::testing::{FailingStore, ModelStore, Operation, SlowStore};
use cache_core::{
    CacheAside, CacheStore, Claim, ClaimOptions, Clock, Entry, ErrorKind, Event, Observer,
    ReadOptions, Result, SetOptions, Stats,
};
use cache_memory::MemoryStore;
use cache_tests::{
    Kind, PlainStore, Source, SourceDown, Strategy, TestCache, cache, cache_on, minute, unhurried,
};
use futures_util::FutureExt;
use rstest::rstest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);

fn spawn_get(cache: &Arc<dyn TestCache>, key: &'static str) -> JoinHandle<Result<Option<u64>>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get(key).await })
}

fn spawn_invalidate(cache: &Arc<dyn TestCache>, key: &'static str) -> JoinHandle<Result<()>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.invalidate(key).await })
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

// ---- invalidated values that come back

/// The flight begins after the invalidation has revoked and before it has removed; it finds the entry that is about
/// to be removed; a read after the invalidation joins it.
#[rstest]
#[tokio::test]
async fn a_flight_that_found_the_entry_before_its_removal_is_not_joined_after_it(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values("key", "prefix", "clear", "put")] how: &'static str,
) {
    let source = Source::with(&[("key", 1)]);
    let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let cache = cache(strategy, store.clone(), unhurried(), &source);
    let get = store.hold_answer(Operation::Get);
    let early = spawn_get(&cache, "key");
    get.arrived(1).await; // it has missed
    cache.put("key", Some(1)).await.expect("the store works");
    source.put("key", 2);
    let operation = match how {
        "key" => Operation::Remove,
        "prefix" => Operation::RemovePrefix,
        "clear" => Operation::Clear,
        _ => Operation::Set,
    };
    let removal = store.hold(operation);
    let invalidation = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move {
            match how {
                "key" => cache.invalidate("key").await,
                "prefix" => cache.invalidate_prefix("k").await,
                "clear" => cache.clear().await,
                _ => cache.put("key", Some(2)).await,
            }
        }
    });
    removal.arrived(1).await; // it has revoked
    let claim = store.hold_answer(Operation::Claim);
    get.open();
    claim.arrived(1).await; // it has found the old entry
    removal.open();
    invalidation.await.expect("no panic").expect("the store works");

    let late = spawn_get(&cache, "key");
    settle().await;
    claim.open();
    early.await.expect("no panic").expect("it asked before");
    assert_eq!(late.await.expect("no panic").expect("loaded"), Some(2));
}

/// Another cache on the same fenced store (as another process would be) invalidates during a load of this one.
#[rstest]
#[tokio::test]
async fn a_load_that_another_cache_has_fenced_off_is_not_joined_afterwards(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let store = MemoryStore::<u64>::new(100);
    let [this, other] = [0, 1].map(|_| cache(strategy, store.clone(), minute(), &source));
    let early = spawn_get(&this, "key");
    source.running(1).await;
    source.put("key", 2);
    other.invalidate("key").await.expect("the store works");
    let late = spawn_get(&this, "key");
    settle().await;
    source.release();
    early.await.expect("no panic").expect("it asked before");
    assert_eq!(late.await.expect("no panic").expect("loaded"), Some(2));
}

/// The fill never ends: its flight stays, and is joined for ever.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_value_whose_fill_hangs_is_not_served_for_longer_than_its_lifetime(
    #[values("fenced", "plain")] kind: &str,
) {
    let source = Source::with(&[("key", 1)]);
    let options = || minute();
    let cache = match kind {
        "fenced" => {
            let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
            let _hangs = store.hold(Operation::Fill);
            cache(Strategy::Through, store, options(), &source)
        }
        _ => {
            let store = PlainStore::new(Clock::system());
            store.hold();
            cache(Strategy::Through, store, options(), &source)
        }
    };
    assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    source.put("key", 2);
    sleep(HOUR).await;
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

/// Unfenced. The second of two invalidations returns while the fill that the first one waits for goes on.
#[rstest]
#[tokio::test]
async fn a_second_invalidation_waits_for_the_fill_as_well(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let store = SlowStore::new(PlainStore::new(Clock::system()));
    let cache = cache(strategy, store.clone(), unhurried(), &source);
    let (before, after) = (store.hold(Operation::Fill), store.hold_answer(Operation::Fill));
    let reader = spawn_get(&cache, "key");
    before.arrived(1).await;
    source.put("key", 2);
    let first = spawn_invalidate(&cache, "key");
    settle().await;
    let second = spawn_invalidate(&cache, "key");
    settle().await;
    let returned = second.is_finished();
    before.open();
    after.arrived(1).await;
    if returned {
        let late = cache.get("key").await.expect("loaded");
        assert_eq!(late, Some(2), "an invalidation had returned");
    }
    after.open();
    for task in [first, second] {
        task.await.expect("no panic").expect("the store works");
    }
    let _ = reader.await;
}

/// Unfenced. The first invalidation is cancelled and made again; the fill takes effect, but its answer is lost.
#[rstest]
#[tokio::test]
async fn an_invalidation_made_again_outlives_a_fill_whose_answer_is_lost(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let slow = SlowStore::new(PlainStore::new(Clock::system()));
    let store = FailingStore::new(slow.clone());
    store.lose_answers(Operation::Fill);
    let cache = cache(strategy, store.clone(), unhurried(), &source);
    let fill = slow.hold(Operation::Fill);
    let reader = spawn_get(&cache, "key");
    fill.arrived(1).await;
    source.put("key", 2);
    let first = spawn_invalidate(&cache, "key");
    settle().await;
    first.abort();
    let _ = first.await;
    let second = spawn_invalidate(&cache, "key");
    settle().await;
    fill.open();
    second.await.expect("no panic").expect("the store works");
    let _ = reader.await;
    store.heal();
    settle().await;
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

/// Unfenced. As above, but it is the time for waiting that is over, and nobody cancelled anything.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_late_fill_whose_answer_is_lost_is_removed_again(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("key", 1)]);
    let slow = SlowStore::new(PlainStore::new(Clock::system()));
    let store = FailingStore::new(slow.clone());
    store.lose_answers(Operation::Fill);
    let cache = cache(strategy, store.clone(), minute(), &source);
    let fill = slow.hold(Operation::Fill);
    let reader = spawn_get(&cache, "key");
    fill.arrived(1).await;
    source.put("key", 2);
    cache.invalidate("key").await.expect("it gives up waiting");
    fill.open();
    let _ = reader.await;
    store.heal();
    settle().await;
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

// ---- leads and leases that lie idle

/// Each of two lists inherits a lead and does not use it until the other has used its own.
#[tokio::test(start_paused = true)]
async fn two_lists_that_inherit_a_lead_each_do_not_wait_for_each_other() {
    let cache = CacheAside::new(MemoryStore::<u64>::new(100), minute()).expect("valid options");
    let hangs = || pending::<Result<Option<u64>, SourceDown>>();
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, SourceDown>(keys.into_iter().map(|key| (key, 1)).collect())
    };
    let mut a = Box::pin(cache.get_or_load("a", hangs));
    let mut b = Box::pin(cache.get_or_load("b", hangs));
    assert!((&mut a).now_or_never().is_none() && (&mut b).now_or_never().is_none());
    let mut one = Box::pin(cache.get_or_load_many(&["a", "b"], load));
    let mut two = Box::pin(cache.get_or_load_many(&["a", "b"], load));
    assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
    drop(a);
    assert!((&mut one).now_or_never().is_none());
    drop(b);
    let (one, two) = futures_util::future::join(one, two).await;
    for got in one.into_iter().chain(two) {
        assert_eq!(got.expect("nobody is slow"), Some(1));
    }
}

/// A list inherits the lead of `a`, and leaves it idle until somebody else's slow load of `b` has ended.
#[tokio::test(start_paused = true)]
async fn a_list_that_inherits_a_lead_uses_it_at_once() {
    let cache = CacheAside::new(MemoryStore::<u64>::new(100), minute()).expect("valid options");
    let hangs = || pending::<Result<Option<u64>, SourceDown>>();
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, SourceDown>(keys.into_iter().map(|key| (key, 1)).collect())
    };
    let mut a = Box::pin(cache.get_or_load("a", hangs));
    let mut b = Box::pin(cache.get_or_load("b", hangs));
    assert!((&mut a).now_or_never().is_none() && (&mut b).now_or_never().is_none());
    let mut list = Box::pin(cache.get_or_load_many(&["a", "b"], load));
    assert!((&mut list).now_or_never().is_none());
    drop(a);
    assert!((&mut list).now_or_never().is_none());
    let other = cache.get_or_load("a", || async { Ok::<_, SourceDown>(Some(1)) });
    let (_, other, _) = tokio::join!(list, other, b);
    assert_eq!(other.expect("`a` is not slow"), Some(1));
}

/// The age of a flight counts the loads of leaders that have gone.
#[tokio::test(start_paused = true)]
async fn a_healthy_load_of_an_inherited_lead_is_not_taken_from_it() {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let options = minute().load_timeout(Duration::from_secs(2)).wait_limit(Duration::from_secs(1));
    let cache = cache_on(Kind::Plain, Strategy::Aside, options, &source);
    let at = |millis| sleep(Duration::from_millis(millis));
    let first = spawn_get(&cache, "k");
    at(1500).await;
    let second = spawn_get(&cache, "k");
    at(400).await;
    first.abort(); // at 1.9 s; the second begins its load, which may take until 3.9 s
    at(600).await;
    let third = spawn_get(&cache, "k");
    at(1100).await; // 3.6 s
    assert!(third.await.expect("no panic").is_err(), "it waited for 1 s");
    let fourth = spawn_get(&cache, "k");
    settle().await;
    assert_eq!(source.most_running(), 1, "two loads of one key");
    source.release();
    assert_eq!(second.await.expect("no panic").expect("loaded"), Some(1));
    fourth.await.expect("no panic").expect("loaded");
}

/// The caller goes away while the fill is on its way; the lease goes with it.
#[tokio::test(start_paused = true)]
async fn a_lease_is_given_back_when_its_caller_goes_away_during_the_fill() {
    let source = Source::with(&[("k", 1)]);
    let store = SlowStore::new(MemoryStore::<u64>::new(100));
    let fill = store.hold(Operation::Fill);
    let cache = cache(Strategy::Aside, store.clone(), minute(), &source);
    let reader = spawn_get(&cache, "k");
    fill.arrived(1).await;
    reader.abort();
    let _ = reader.await;
    fill.open();
    settle().await;
    let began = Instant::now();
    assert_eq!(cache.get("k").await.expect("loaded"), Some(1));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// The leader of a revoked flight goes away; its follower loads by itself beside the new flight.
#[tokio::test]
async fn the_heir_of_a_revoked_flight_joins_the_new_one() {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let cache = cache_on(Kind::Memory, Strategy::Aside, minute(), &source);
    let leader = spawn_get(&cache, "k");
    source.running(1).await;
    let follower = spawn_get(&cache, "k");
    settle().await;
    cache.invalidate("k").await.expect("the store works");
    let newer = spawn_get(&cache, "k");
    source.running(2).await; // the old load and the new one
    leader.abort();
    let _ = leader.await;
    settle().await;
    let questions = source.loads();
    source.release();
    for reader in [follower, newer] {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
    assert_eq!(questions, 2, "nobody needs a third load");
}

// ---- time and panics

#[rstest]
#[tokio::test]
async fn no_limit_is_a_limit_that_works(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values("load_timeout", "wait_limit", "lease", "all")] limit: &str,
) {
    let source = Source::with(&[("k", 1)]);
    let options = match limit {
        "load_timeout" => minute().load_timeout(Duration::MAX),
        "wait_limit" => minute().wait_limit(Duration::MAX),
        "lease" => minute().lease(Duration::MAX),
        _ => minute().load_timeout(Duration::MAX).wait_limit(Duration::MAX).lease(Duration::MAX),
    };
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    assert_eq!(cache.get("k").await.expect("loaded"), Some(1));
}

/// Says of every key that somebody else is loading it, and for how long.
struct AlwaysHeld(Duration, Arc<AtomicUsize>);

impl CacheStore for AlwaysHeld {
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
        if self.1.fetch_add(1, Ordering::SeqCst) > 100_000 {
            return Ok(Claim::Granted(cache_core::Lease::new("k", 1)));
        }
        Ok(Claim::Held { retry_in: self.0 })
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_store_that_says_to_wait_for_ever_is_not_obeyed(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Duration::ZERO, Duration::MAX)] retry_in: Duration,
) {
    let source = Source::with(&[("k", 1)]);
    let claims = Arc::new(AtomicUsize::new(0));
    let store = AlwaysHeld(retry_in, Arc::clone(&claims));
    let cache = cache(strategy, store, minute(), &source);
    assert_eq!(cache.get("k").await.expect("loaded"), Some(1));
    assert!(claims.load(Ordering::SeqCst) < 100_000, "it was asked without a pause");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hang_a_read(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Operation::Get, Operation::Claim, Operation::Fill)] operation: Operation,
) {
    let source = Source::with(&[("k", 1)]);
    let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let _hangs = store.hold(operation);
    let cache = cache(strategy, store.clone(), minute(), &source);
    let got = timeout(HOUR, cache.get("k")).await;
    assert!(got.is_ok(), "an hour was not enough");
}

#[tokio::test]
async fn outside_of_a_runtime_a_cache_aside_miss_is_an_error() {
    let source = Source::with(&[("k", 1)]);
    let cache = cache_on(Kind::Memory, Strategy::Aside, minute(), &source);
    let got = std::thread::spawn(move || cache.get("k").now_or_never()).join();
    let error = got.expect("no panic").expect("at once").expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
}

#[rstest]
#[tokio::test]
async fn an_observer_that_panics_when_asked_for_a_sample_breaks_nothing(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, _: &Event<'_>) {}
        fn samples(&self) -> bool {
            panic!("no sample")
        }
    }
    let source = Source::with(&[("key", 1)]);
    let cache = cache_on(Kind::Memory, strategy, minute().observer(Panics), &source);
    let got = tokio::spawn(async move { cache.get("key").await }).await;
    assert_eq!(got.expect("its panics are caught").expect("loaded"), Some(1));
}

// ---- figures

#[tokio::test]
async fn two_caches_that_are_used_in_turn_are_both_sampled() {
    let source = Source::with(&[("k", 1)]);
    let all: Vec<_> = (0..2)
        .map(|_| {
            let stats = Arc::new(Stats::default());
            let options = minute().observer(Arc::clone(&stats));
            (cache_on(Kind::Memory, Strategy::Aside, options, &source), stats)
        })
        .collect();
    for _ in 0..6400 {
        for (cache, _) in &all {
            cache.get("k").await.expect("loaded");
        }
    }
    let timed: Vec<_> =
        all.iter().map(|(_, stats)| stats.snapshot().request_times.count()).collect();
    assert!(timed.iter().all(|count| (90..=110).contains(count)), "{timed:?}");
}

#[tokio::test]
async fn a_plain_get_that_is_cancelled_is_a_request_too() {
    let stats = Arc::new(Stats::default());
    let store = SlowStore::new(ModelStore::<u64>::new(Clock::system()));
    let _hangs = store.hold(Operation::Get);
    let options = minute().observer(Arc::clone(&stats));
    let cache = CacheAside::new(store, options).expect("valid options");
    drop(cache.get("k").now_or_never());
    assert_eq!(stats.snapshot().requests(), 1);
}

// ---- code of users under locks

thread_local! {
    static SLOW: Cell<bool> = const { Cell::new(false) };
}

static CLONING: AtomicBool = AtomicBool::new(false);
static CLONED: AtomicBool = AtomicBool::new(false);

/// A value that takes long to clone, on one thread.
struct Big;

impl Clone for Big {
    fn clone(&self) -> Self {
        if SLOW.get() {
            CLONING.store(true, Ordering::SeqCst);
            while !CLONED.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        Self
    }
}

/// A follower clones the value inside the lock of the flight; whoever leaves the flight meanwhile holds the lock of
/// its shard, and so all keys of the shard wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_value_that_is_slow_to_clone_does_not_hold_other_keys_up() {
    let store = ModelStore::<Big>::new(Clock::system());
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let cache = CacheAside::new(store, options).expect("valid options");
    let go = Arc::new(tokio::sync::Notify::new());
    let leader = tokio::spawn({
        let (cache, go) = (cache.clone(), Arc::clone(&go));
        async move {
            let load = || async move {
                go.notified().await;
                Ok::<_, SourceDown>(Some(Big))
            };
            cache.get_or_load("k", load).await
        }
    });
    while cache.loading() == 0 {
        tokio::task::yield_now().await;
    }
    let (joined, has_joined) = tokio::sync::oneshot::channel();
    let follower = std::thread::spawn({
        let cache = cache.clone();
        move || {
            SLOW.set(true);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let load = || async { Ok::<_, SourceDown>(Some(Big)) };
                let mut read = std::pin::pin!(cache.get_or_load("k", load));
                // As far as it comes without waiting, which is to where it follows.
                assert!((&mut read).now_or_never().is_none());
                joined.send(()).expect("the test waits");
                read.await
            })
        }
    });
    has_joined.await.expect("it follows");
    let load = || async { Ok::<_, SourceDown>(Some(Big)) };
    let mut second = Box::pin({
        let cache = cache.clone();
        async move { cache.get_or_load("k", load).await }
    });
    assert!((&mut second).now_or_never().is_none(), "it follows");
    go.notify_one();
    while !CLONING.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let leaves = tokio::task::spawn_blocking(move || drop(second));
    let began = std::time::Instant::now();
    while !leaves.is_finished() && began.elapsed() < Duration::from_secs(10) {
        tokio::task::yield_now().await;
    }
    let left = leaves.is_finished();
    CLONED.store(true, Ordering::SeqCst);
    leader.await.expect("no panic").expect("loaded");
    follower.join().expect("no panic").expect("loaded");
    assert!(left, "who left the flight waited for another's clone");
}

// ---- keys

#[test]
fn no_part_and_an_empty_part_are_different_keys() {
    use cache_core::Key;
    assert_ne!(Key::join(&[]), Key::join(&[&""]));
}

// ---- loads that began while the store failed

fn spawn_read(
    cache: &Arc<dyn TestCache>,
    key: &'static str,
    as_list: bool,
) -> JoinHandle<Result<Option<u64>>> {
    if !as_list {
        return spawn_get(cache, key);
    }
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get_many(&[key.to_owned()]).await.remove(0) })
}

/// The load has no lease, so nothing tells it of what another process removes meanwhile.
#[rstest]
#[tokio::test]
async fn a_load_from_while_the_store_failed_is_not_for_those_who_find_it_back(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(false, true)] early_as_list: bool,
    #[values(false, true)] late_as_list: bool,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let store = FailingStore::new(ModelStore::<u64>::new(Clock::system()));
    let one = cache(strategy, store.clone(), minute(), &source);
    let other = cache(strategy, store.clone(), minute(), &source);
    let look = if early_as_list { Operation::GetMany } else { Operation::Get };
    store.fail_times(look, ErrorKind::Unavailable, 1);
    let early = spawn_read(&one, "key", early_as_list);
    source.running(1).await;

    source.put("key", 2);
    other.invalidate("key").await.expect("the store is back");
    let late: Vec<_> = (0..20).map(|_| spawn_read(&one, "key", late_as_list)).collect();
    settle().await;
    assert_eq!(source.loads(), 1, "one at a time");
    source.release();
    assert_eq!(early.await.expect("no panic").expect("loaded"), Some(1));
    for late in late {
        assert_eq!(late.await.expect("no panic").expect("loaded"), Some(2));
    }
    assert_eq!(one.get("key").await.expect("kept"), Some(2));
    assert_eq!(source.loads(), 2, "they share the next one");
}

#[rstest]
#[tokio::test]
async fn while_the_store_fails_all_readers_of_a_key_share_one_load(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(false, true)] leads_as_list: bool,
) {
    let source = Source::with(&[("key", 1)]);
    source.hold();
    let store = FailingStore::new(ModelStore::<u64>::new(Clock::system()));
    store.fail_all(ErrorKind::Unavailable);
    let cache = cache(strategy, store, minute(), &source);
    let first = spawn_read(&cache, "key", leads_as_list);
    source.running(1).await;
    let others: Vec<_> = (0..20).map(|n| spawn_read(&cache, "key", n % 2 == 0)).collect();
    settle().await;
    source.release();
    for reader in others.into_iter().chain([first]) {
        assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1));
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.loading(), 0);
}
