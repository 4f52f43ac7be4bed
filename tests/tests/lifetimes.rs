//! What is kept, for how long, and what is not kept.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheStore, Clock, ManualClock, ReadOptions};
use cache_memory::MemoryStore;
use cache_tests::{Source, Strategy, TestCache, cache, minute};
use rstest::rstest;

const MINUTE: Duration = Duration::from_secs(60);

fn store() -> (MemoryStore<u64>, ManualClock) {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(100).clock(clock).build();
    (store.expect("valid options"), hands)
}

fn setup(
    strategy: Strategy,
    options: ReadOptions<u64>,
) -> (Arc<dyn TestCache>, Arc<Source>, MemoryStore<u64>, ManualClock) {
    let (store, hands) = store();
    let source = Source::with(&[("key", 1)]);
    let cache = cache(strategy, store.clone(), options, &source);
    (cache, source, store, hands)
}

#[rstest]
#[tokio::test]
async fn a_value_is_served_for_its_lifetime_and_then_loaded_again(
    #[values(Strategy::Aside, Strategy::Through)] strategy: Strategy,
) {
    let (cache, source, _, hands) = setup(strategy, minute());
    assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    source.put("key", 2);
    hands.advance(MINUTE - Duration::from_nanos(1));
    assert_eq!(cache.get("key").await.expect("cached"), Some(1));
    hands.advance(Duration::from_nanos(1));
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
    assert_eq!(source.loads(), 2);
}

#[rstest]
#[tokio::test]
async fn jitter_is_drawn_when_a_value_is_written_and_not_when_it_is_read(
    #[values(Strategy::Aside, Strategy::Through)] strategy: Strategy,
) {
    let draws = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let options = minute().jitter(0.5).random({
        let draws = Arc::clone(&draws);
        move || {
            draws.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            0.5
        }
    });
    let (cache, source, store, hands) = setup(strategy, options);
    cache.get("key").await.expect("loaded");
    let entry = store.get("key").await.expect("memory answers").expect("kept");
    assert_eq!(entry.fresh_for(), MINUTE.mul_f64(0.75));
    for _ in 0..100 {
        cache.get("key").await.expect("cached");
    }
    assert_eq!(draws.load(std::sync::atomic::Ordering::SeqCst), 1);
    hands.advance(MINUTE.mul_f64(0.75));
    cache.get("key").await.expect("loaded");
    assert_eq!(source.loads(), 2);
}

#[rstest]
#[tokio::test]
async fn not_found_is_kept_for_its_own_lifetime_and_does_not_hide_what_is_made_then(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (cache, source, _, hands) = setup(strategy, minute().negative_ttl(Duration::from_secs(5)));
    assert_eq!(cache.get("new").await.expect("asked"), None);
    assert_eq!(cache.get("new").await.expect("known"), None);
    assert_eq!(source.loads(), 1);

    source.put("new", 7);
    cache.invalidate("new").await.expect("memory answers");
    assert_eq!(cache.get("new").await.expect("loaded"), Some(7), "made, and invalidated");

    assert_eq!(cache.get("newer").await.expect("asked"), None);
    source.put("newer", 8);
    hands.advance(Duration::from_secs(5));
    assert_eq!(cache.get("newer").await.expect("loaded"), Some(8), "made, and waited for");
}

#[rstest]
#[tokio::test]
async fn not_found_is_not_kept_unless_asked_for(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (cache, source, store, _) = setup(strategy, minute());
    assert_eq!(cache.get("new").await.expect("asked"), None);
    assert!(store.get("new").await.expect("memory answers").is_none());
    source.put("new", 7);
    assert_eq!(cache.get("new").await.expect("loaded"), Some(7));
}

#[rstest]
#[tokio::test]
async fn the_value_can_tell_its_lifetime(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let options = minute().ttl_of(|value| match value {
        1 => Some(Duration::from_secs(1)),
        2 => Some(Duration::ZERO),
        _ => None,
    });
    let (cache, source, store, _) = setup(strategy, options);
    for (key, value, lifetime) in
        [("key", 1, Some(1)), ("not kept", 2, None), ("other", 3, Some(60))]
    {
        source.put(key, value);
        assert_eq!(cache.get(key).await.expect("loaded"), Some(value));
        let entry = store.get(key).await.expect("memory answers");
        assert_eq!(entry.map(|entry| entry.fresh_for().as_secs()), lifetime, "{key}");
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn the_time_of_the_load_is_kept_with_the_value(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (cache, source, store, _) = setup(strategy, minute());
    source.hold();
    let reader = tokio::spawn(async move { cache.get("key").await });
    source.running(1).await;
    tokio::time::advance(Duration::from_millis(250)).await;
    source.release();
    reader.await.expect("no panic").expect("loaded");
    let entry = store.get("key").await.expect("memory answers").expect("kept");
    let load_time = entry.load_time().duration().expect("measured");
    assert!(
        load_time >= Duration::from_millis(250) && load_time < Duration::from_millis(260),
        "{load_time:?}"
    );
}

#[rstest]
#[tokio::test]
async fn what_is_put_is_kept_like_what_is_loaded(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (cache, source, store, _) = setup(strategy, minute().negative_ttl(Duration::from_secs(5)));
    cache.put("key", Some(9)).await.expect("memory answers");
    assert_eq!(cache.get("key").await.expect("cached"), Some(9));
    cache.put("key", None).await.expect("memory answers");
    assert_eq!(cache.get("key").await.expect("known to be absent"), None);
    assert_eq!(source.loads(), 0);
    let entry = store.get("key").await.expect("memory answers").expect("a negative entry");
    assert_eq!(entry.fresh_for(), Duration::from_secs(5));
}

#[rstest]
#[tokio::test]
async fn putting_what_is_not_to_be_kept_removes_what_was_there(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let (cache, source, _, _) = setup(strategy, minute());
    cache.get("key").await.expect("loaded");
    source.put("key", 2);
    cache.put("key", None).await.expect("memory answers");
    assert_eq!(cache.get("key").await.expect("loaded"), Some(2));
}

#[test]
fn an_invalid_option_is_refused_when_the_cache_is_made() {
    let (store, _) = store();
    let load = |_: u64| async { Ok::<_, std::io::Error>(Some(1_u64)) };
    let invalid = || ReadOptions::ttl(MINUTE).jitter(2.0);
    let aside = cache_core::CacheAside::new(store.clone(), invalid()).expect_err("jitter 2");
    let through = cache_core::ReadThrough::new(store, load, invalid()).expect_err("jitter 2");
    for error in [aside, through] {
        assert_eq!(error.kind(), cache_core::ErrorKind::InvalidOption);
        assert!(error.to_string().contains("jitter"), "{error}");
    }
}
