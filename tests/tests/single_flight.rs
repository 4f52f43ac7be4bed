//! One load per key at a time, and what becomes of it when something goes wrong.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::{CacheAside, CacheStore, ErrorKind, ReadOptions, ReadThrough, Result};
use cache_tests::{Kind, Source, SourceDown, Strategy, TestCache, cache_on, minute};
use futures_util::FutureExt;
use futures_util::future::join_all;
use rstest::rstest;
use tokio::task::JoinHandle;

fn spawn_get(cache: &Arc<dyn TestCache>, key: &'static str) -> JoinHandle<Result<Option<u64>>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get(key).await })
}

/// Lets every task run until it waits for something.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[tokio::test]
async fn a_thousand_callers_of_a_cold_key_make_one_load(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let callers: Vec<_> = (0..1000).map(|_| spawn_get(&cache, "k")).collect();
    source.running(1).await;
    settle().await;
    source.release();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("loaded"), Some(1));
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn a_failing_load_is_made_once_and_all_get_its_own_error(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    source.fail(true);
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    let callers: Vec<_> = (0..100).map(|_| spawn_get(&cache, "k")).collect();
    source.running(1).await;
    settle().await;
    source.release();
    for caller in callers {
        let error = caller.await.expect("no panic").expect_err("the load failed");
        assert_eq!(error.kind(), ErrorKind::Load);
        assert_eq!(error.cause::<SourceDown>(), Some(&SourceDown(7)));
    }
    assert_eq!(source.loads(), 1);

    source.fail(false);
    assert_eq!(cache.get("k").await.expect("errors are not kept"), Some(1));
}

#[rstest]
#[tokio::test]
async fn a_cancelled_leader_leaves_nobody_waiting_and_costs_one_more_load_at_most(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Kind::Plain, Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let cache = cache_on(kind, strategy, minute(), &source);
    let leader = spawn_get(&cache, "k");
    source.running(1).await;
    let followers: Vec<_> = (0..10).map(|_| spawn_get(&cache, "k")).collect();
    settle().await;
    leader.abort();
    let _ = leader.await;
    settle().await;
    source.release();
    for follower in followers {
        assert_eq!(follower.await.expect("no panic").expect("loaded"), Some(1));
    }
    let loads = if strategy == Strategy::Aside { 2 } else { 1 };
    assert_eq!(source.loads(), loads);
    assert_eq!(source.most_running(), 1);
    assert_eq!(cache.get("k").await.expect("kept"), Some(1));
    assert_eq!(source.loads(), loads, "the value was kept");
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test]
async fn leaders_that_go_one_after_the_other_leave_nobody_waiting(
    #[values(Kind::Plain, Kind::Memory)] kind: Kind,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let cache = cache_on(kind, Strategy::Aside, minute(), &source);
    let mut callers: Vec<_> = (0..10).map(|_| spawn_get(&cache, "k")).collect();
    let last = callers.pop().expect("ten");
    for caller in callers {
        source.running(1).await;
        caller.abort();
        let _ = caller.await;
        settle().await;
    }
    source.release();
    assert_eq!(last.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(source.most_running(), 1);
}

#[rstest]
#[tokio::test]
async fn a_lease_whose_last_caller_has_gone_is_given_back(
    #[values(Kind::Memory, Kind::Moka)] kind: Kind,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let cache = cache_on(kind, Strategy::Aside, minute(), &source);
    let caller = spawn_get(&cache, "k");
    source.running(1).await;
    caller.abort();
    let _ = caller.await;
    assert_eq!(cache.loading(), 0);
    source.release();
    // Waiting for the lease to end would take a minute.
    assert_eq!(cache.get("k").await.expect("loaded"), Some(1));
    assert_eq!(cache.get("k").await.expect("kept"), Some(1));
    assert_eq!(source.loads(), 2);
}

#[rstest]
#[tokio::test]
async fn a_panicking_loader_is_an_error_for_all_and_harms_nothing(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    source.panic(true);
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    let callers: Vec<_> = (0..10).map(|_| spawn_get(&cache, "k")).collect();
    source.running(1).await;
    settle().await;
    source.release();
    for caller in callers {
        let error = caller.await.expect("no panic gets through").expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
        assert!(error.to_string().contains("lost its mind"), "{error}");
    }
    source.panic(false);
    assert_eq!(cache.get("k").await.expect("loads again"), Some(1));
    assert_eq!(cache.loading(), 0);
}

#[tokio::test]
async fn a_panic_in_ttl_of_is_a_panic_of_the_loader() {
    let source = Source::with(&[("k", 1)]);
    let options = minute().ttl_of(|_| panic!("no lifetime"));
    let cache = cache_on(Kind::Memory, Strategy::Through, options, &source);
    let error = cache.get("k").await.expect_err("it panicked");
    assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
    assert_eq!(cache.loading(), 0);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_hung_load_ends_at_its_limit_and_frees_the_key(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let options = minute().load_timeout(Duration::from_secs(2));
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    let callers: Vec<_> = (0..10).map(|_| spawn_get(&cache, "k")).collect();
    for caller in callers {
        let error = caller.await.expect("no panic").expect_err("it hung");
        assert!(matches!(error.kind(), ErrorKind::LoadTimeout | ErrorKind::WaitTimeout), "{error}");
        assert!(error.is_transient());
    }
    assert_eq!(source.loads(), 1);
    source.release();
    assert_eq!(cache.get("k").await.expect("the key is free"), Some(1));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn waiting_for_somebody_elses_load_is_bounded(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let options = minute().load_timeout(Duration::from_secs(60)).wait_limit(Duration::from_secs(1));
    let cache = cache_on(Kind::Memory, strategy, options, &source);
    let leader = spawn_get(&cache, "k");
    source.running(1).await;
    let error = cache.get("k").await.expect_err("it waits no longer");
    assert_eq!(error.kind(), ErrorKind::WaitTimeout);
    source.release();
    assert_eq!(leader.await.expect("no panic").expect("the leader is not disturbed"), Some(1));
}

/// A loader that blocks its thread can't be stopped, so the key has to be taken from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_blocks_its_thread_loses_the_key_and_its_late_value_is_refused() {
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(Some(blocked));
    let returned = Arc::new(tokio::sync::Notify::new());
    let load = {
        let returned = Arc::clone(&returned);
        move |_: u64| {
            let first = blocked.lock().expect("no panic").take();
            let returned = Arc::clone(&returned);
            async move {
                let Some(blocked) = first else {
                    return Ok::<_, SourceDown>(Some("fresh"));
                };
                let _ = tokio::task::block_in_place(|| blocked.recv());
                returned.notify_one();
                Ok(Some("late"))
            }
        }
    };
    let limit = Duration::from_millis(50);
    // A flight that takes longer than all that is taken for one that hangs, also where it only had to wait for its turn.
    let options = ReadOptions::ttl(Duration::from_secs(60)).store_timeout(Duration::from_secs(2));
    let options = options.load_timeout(limit).wait_limit(limit);
    let stats = Arc::new(cache_core::Stats::default());
    let options = options.observer(Arc::clone(&stats));
    let cache = ReadThrough::new(cache_memory::MemoryStore::new(100), load, options);
    let cache = cache.expect("valid options");

    let error = cache.get(&7).await.expect_err("blocked");
    assert_eq!(error.kind(), ErrorKind::WaitTimeout);
    // The lease of the hung load is waited for, and then done without.
    assert_eq!(cache.get(&7).await.expect("the key is free"), Some("fresh"));
    drop(unblock);
    returned.notified().await;
    while stats.snapshot().loads < 2 || stats.snapshot().refused_fills == 0 {
        tokio::task::yield_now().await;
    }
    assert_ne!(
        cache.store().get("7").await.expect("memory answers").map(cache_core::Entry::into_value),
        Some(Some("late"))
    );
}

#[rstest]
#[case::itself(&["a", "a"])]
#[case::through_another(&["a", "b", "a"])]
#[case::through_many(&["a", "b", "c", "d", "b"])]
#[tokio::test]
async fn a_load_that_needs_its_own_result_is_an_error(
    #[case] path: &'static [&'static str],
    #[values(Strategy::Aside, Strategy::Through)] strategy: Strategy,
) {
    /// Loads the key at `at`, whose load needs the next one.
    fn aside(
        cache: CacheAside<cache_memory::MemoryStore<u64>>,
        path: &'static [&'static str],
        at: usize,
    ) -> futures_util::future::BoxFuture<'static, Result<Option<u64>>> {
        Box::pin(async move {
            if at == path.len() {
                return Ok(Some(1));
            }
            cache.clone().get_or_load(path[at], || aside(cache, path, at + 1)).await
        })
    }

    let store = cache_memory::MemoryStore::new(100);
    let got = match strategy {
        Strategy::Aside => {
            let cache = CacheAside::new(store, minute()).expect("valid options");
            aside(cache, path, 0).await
        }
        Strategy::Through | Strategy::Revalidate | Strategy::Writing(_) => {
            type Recursive = ReadThrough<cache_memory::MemoryStore<u64>, Next>;
            struct Next(Arc<std::sync::OnceLock<Recursive>>, &'static [&'static str]);
            impl cache_core::Loader<String> for Next {
                type Value = u64;
                type Error = cache_core::Error;

                async fn load(&self, key: String) -> Result<Option<u64>> {
                    let at = self.1.iter().position(|k| **k == key).expect("on the path");
                    let next = self.1[at + 1].to_owned();
                    let cache = self.0.get().expect("made").clone();
                    // Boxed, because the future of a load is part of the future of a read.
                    let read: futures_util::future::BoxFuture<'_, _> =
                        Box::pin(async move { cache.get(&next).await });
                    read.await
                }
            }
            let cell = Arc::new(std::sync::OnceLock::new());
            let cache = ReadThrough::new(store, Next(Arc::clone(&cell), path), minute());
            let cache = cell.get_or_init(|| cache.expect("valid options"));
            cache.get(path[0]).await
        }
    };
    assert_eq!(got.expect_err("not a deadlock").kind(), ErrorKind::RecursiveLoad);
}

/// `a` needs `b` while `b` needs `a`, in two tasks: neither sees the other in its own stack.
#[tokio::test]
async fn loads_of_two_tasks_that_need_each_other_are_an_error() {
    let cache =
        CacheAside::new(cache_memory::MemoryStore::<u64>::new(100), minute()).expect("valid");
    let both_load = Arc::new(tokio::sync::Barrier::new(2));
    let load = |key: &'static str, needs: &'static str| {
        let (cache, both_load) = (cache.clone(), Arc::clone(&both_load));
        tokio::spawn(async move {
            let inner = cache.clone();
            let load = || async move {
                both_load.wait().await;
                inner.get_or_load(needs, || async { Ok::<_, SourceDown>(Some(1)) }).await
            };
            cache.get_or_load(key, load).await
        })
    };
    let (one, other) = (load("a", "b"), load("b", "a"));
    let results = [one.await.expect("no panic"), other.await.expect("no panic")];
    assert!(results.iter().any(|result| {
        result.as_ref().is_err_and(|error| error.kind() == ErrorKind::RecursiveLoad)
    }));
}

#[tokio::test]
async fn nested_loads_of_different_keys_do_not_disturb_each_other() {
    let cache =
        CacheAside::new(cache_memory::MemoryStore::<u64>::new(1000), minute()).expect("valid");
    // More keys than any sharding of the map of flights, so some share a shard with what they need.
    let loads = (0..200_u64).map(|n| {
        let cache = cache.clone();
        async move {
            let inner = cache.clone();
            let load = || async move {
                inner.get_or_load(&(n + 1000), || async { Ok::<_, SourceDown>(Some(n)) }).await
            };
            cache.get_or_load(&n, load).await
        }
    });
    for (n, got) in join_all(loads).await.into_iter().enumerate() {
        assert_eq!(got.expect("loaded"), Some(n as u64));
    }
}

#[rstest]
#[tokio::test]
async fn all_who_wait_are_served_from_the_load_even_if_nothing_can_be_kept(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values("capacity 0", "lifetime 0")] nothing_kept: &str,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let (kind, options) = match nothing_kept {
        "capacity 0" => (Kind::NoRoom, minute()),
        _ => (Kind::Memory, minute().ttl_of(|_| Some(Duration::ZERO))),
    };
    let cache = cache_on(kind, strategy, options, &source);
    let callers: Vec<_> = (0..100).map(|_| spawn_get(&cache, "k")).collect();
    source.running(1).await;
    settle().await;
    source.release();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("served"), Some(1));
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.get("k").await.expect("served"), Some(1));
    assert_eq!(source.loads(), 2, "nothing was kept");
}

#[tokio::test]
async fn the_same_key_of_two_caches_is_two_loads() {
    let names =
        CacheAside::new(cache_memory::MemoryStore::new(10), ReadOptions::ttl(Duration::MAX));
    let ages = CacheAside::new(cache_memory::MemoryStore::new(10), ReadOptions::ttl(Duration::MAX));
    let (names, ages) = (names.expect("valid"), ages.expect("valid"));
    let name = names.get_or_load("42", || async { Ok::<_, SourceDown>(Some("Ada".to_owned())) });
    let age = ages.get_or_load("42", || async { Ok::<_, SourceDown>(Some(36_u8)) });
    let (name, age) = tokio::join!(name, age);
    assert_eq!((name.expect("loaded").as_deref(), age.expect("loaded")), (Some("Ada"), Some(36)));
}

/// Two caches on one store are two processes on one server: the store's lease makes them one.
#[rstest]
#[tokio::test(start_paused = true)]
async fn two_caches_on_one_store_make_one_load(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let source = Source::with(&[("k", 1)]);
    source.hold();
    let store = cache_memory::MemoryStore::<u64>::new(100);
    let caches = [0, 1].map(|_| cache_tests::cache(strategy, store.clone(), minute(), &source));
    let callers: Vec<_> = caches.iter().map(|cache| spawn_get(cache, "k")).collect();
    source.running(1).await;
    settle().await;
    source.release();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("loaded"), Some(1));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_for_too_long_is_not_waited_for_and_the_value_not_kept() {
    let source = Source::with(&[("k", 1)]);
    let store = cache_memory::MemoryStore::<u64>::new(100);
    let claim = store.claim("k", cache_core::ClaimOptions::new(Duration::from_secs(3600))).await;
    assert!(matches!(claim.expect("memory answers"), cache_core::Claim::Granted(_)));
    let options = minute().wait_limit(Duration::from_secs(2));
    let cache = cache_tests::cache(Strategy::Through, store.clone(), options, &source);
    assert_eq!(cache.get("k").await.expect("loaded for itself"), Some(1));
    assert!(store.get("k").await.expect("memory answers").is_none());
}

#[rstest]
#[tokio::test]
async fn after_a_million_one_shot_keys_no_flight_is_left(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    // A tenth of them per strategy goes through errors and cancellations.
    let source = Source::with(&[]);
    let cache = cache_on(Kind::Memory, strategy, minute(), &source);
    for n in 0..500_000_u64 {
        let key = n.to_string();
        match n % 10 {
            0 => {
                source.fail(true);
                assert!(cache.get(&key).await.is_err());
                source.fail(false);
            }
            1 => drop(cache.get(&key).now_or_never()),
            _ => assert_eq!(cache.get(&key).await.expect("nothing"), None),
        }
        if n % 1000 == 0 {
            source.forget_questions();
        }
    }
    settle().await;
    assert_eq!(cache.loading(), 0);
}

/// The load runs in a task of the runtime that its first caller happened to be on.
#[tokio::test]
async fn a_runtime_that_shuts_down_leaves_nobody_waiting() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let load = move |_: u64| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                return pending().await;
            }
            Ok::<_, SourceDown>(Some(1))
        }
    };
    let store = cache_memory::MemoryStore::<u64>::new(10);
    let cache = ReadThrough::new(store, load, minute()).expect("valid options");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let other = cache.clone();
    runtime.spawn(async move { other.get(&1).await });
    // The first load has begun, and whoever makes another gets a value.
    while loads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&1).await }
    });
    settle().await;
    runtime.shutdown_background();
    assert_eq!(follower.await.expect("no panic").expect("loaded"), Some(1));
    assert_eq!(cache.loading(), 0);
}
