use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cache_core::{CacheStore, Clock, ErrorKind, SetOptions};
use cache_memory::EvictionCause;

use super::{get, now, set};
use crate::Store;

type Told = Arc<Mutex<Vec<(String, Option<u64>, EvictionCause)>>>;

fn listening() -> (Told, impl Fn(&str, Option<&u64>, EvictionCause) + Send + Sync + 'static) {
    let told = Told::default();
    let telling = Arc::clone(&told);
    (told, move |key: &str, value: Option<&u64>, cause| {
        telling.lock().unwrap().push((key.to_owned(), value.copied(), cause));
    })
}

#[test]
fn a_full_store_makes_room_and_tells_what_it_dropped() {
    let (told, telling) = listening();
    let store = Store::builder().capacity(100).on_evict(telling).build().unwrap();
    (0..1_000).for_each(|i| set(&store, &format!("key:{i}"), i));
    store.purge_expired();
    assert!(store.len() <= 110, "{}", store.len());
    let told = told.lock().unwrap();
    assert_eq!(told.len() as u64 + store.len(), 1_000, "each is kept or told, and told once");
    assert!(told.iter().all(|(key, value, cause)| {
        *cause == EvictionCause::Capacity
            && *key == format!("key:{}", value.unwrap())
            && get(&store, key).is_none()
    }));
}

#[test]
fn removals_and_replacements_are_not_evictions() {
    let (told, telling) = listening();
    let store = Store::builder().capacity(100).on_evict(telling).build().unwrap();
    for _ in 0..10 {
        ["a", "b", "c"].iter().for_each(|key| set(&store, key, 1));
        set(&store, "a", 2);
        now(store.remove("a")).unwrap();
        now(store.remove_prefix("b")).unwrap();
        now(store.clear()).unwrap();
    }
    store.purge_expired();
    assert!(told.lock().unwrap().is_empty(), "{told:?}");
}

#[test]
fn expired_entries_are_told_when_they_are_met() {
    let (clock, hands) = Clock::manual();
    let (told, telling) = listening();
    let store = Store::builder().capacity(100).clock(clock).on_evict(telling).build().unwrap();
    let second = Duration::from_secs(1);
    now(store.set("read", Some(1), SetOptions::ttl(second))).unwrap();
    now(store.set("purged", None, SetOptions::ttl(second))).unwrap();
    hands.advance(second);
    assert_eq!(get(&store, "read"), None);
    let expired = EvictionCause::Expired;
    assert_eq!(*told.lock().unwrap(), [("read".to_owned(), Some(1), expired)]);
    store.purge_expired();
    assert_eq!(told.lock().unwrap().last(), Some(&("purged".to_owned(), None, expired)));
}

#[test]
fn a_callback_that_panics_breaks_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let store = Store::builder()
        .capacity(0)
        .on_evict(move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("a panic that the test wants");
        })
        .build()
        .unwrap();
    (0..3).for_each(|i| set(&store, "key", i));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(get(&store, "key"), None);
}

#[test]
fn a_callback_may_use_the_store() {
    static STORE: OnceLock<Store<u64>> = OnceLock::new();
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let store = STORE.get_or_init(|| {
        let builder = Store::builder().capacity(10).on_evict(|key, _, _| {
            CALLS.fetch_add(1, Ordering::Relaxed);
            let store = STORE.get().expect("set before the first eviction");
            assert_eq!(get(store, key), None);
            set(store, &format!("again:{key}"), 1);
            now(store.remove(key)).unwrap();
            now(store.remove_prefix("again:again:")).unwrap();
            store.purge_expired();
        });
        builder.build().unwrap()
    });
    (0..200).for_each(|i| set(store, &format!("key:{i}"), i));
    store.purge_expired();
    assert!(CALLS.load(Ordering::Relaxed) >= 180);
}

#[test]
fn the_callback_of_one_store_may_fill_another() {
    let (told, telling) = listening();
    let second = Store::builder().capacity(0).on_evict(telling).build().unwrap();
    let first = Store::builder()
        .capacity(0)
        .on_evict(move |key, value, _| set(&second, key, *value.unwrap()))
        .build()
        .unwrap();
    set(&first, "key", 7);
    assert_eq!(*told.lock().unwrap(), [("key".to_owned(), Some(7), EvictionCause::Capacity)]);
}

#[test]
fn an_entry_that_is_too_heavy_is_not_kept_and_neither_is_the_old_one() {
    let (told, telling) = listening();
    let store = Store::<u64>::builder()
        .weighted(100, |_, value| *value.unwrap_or(&1))
        .on_evict(telling)
        .build()
        .unwrap();
    set(&store, "key", 50);
    assert_eq!(get(&store, "key"), Some(50));
    set(&store, "key", 101);
    assert_eq!(get(&store, "key"), None);
    store.purge_expired();
    assert_eq!((store.len(), store.weight()), (0, 0));
    let capacity = EvictionCause::Capacity;
    assert_eq!(*told.lock().unwrap(), [("key".to_owned(), Some(101), capacity)]);
}

#[test]
fn the_weight_of_all_entries_stays_within_the_capacity() {
    let store = Store::builder().weighted(1_000, |_, value| *value.unwrap_or(&1)).build().unwrap();
    for i in 0..1_000 {
        set(&store, &format!("key:{i}"), 1 + i % 50);
    }
    store.purge_expired();
    assert!(store.weight() <= store.capacity(), "{} of {}", store.weight(), store.capacity());
    assert!(store.weight() > 800, "{}", store.weight());
}

#[test]
fn weights_are_kept_between_one_and_the_largest() {
    let weigh = |key: &str, _: Option<&u64>| if key == "nothing" { 0 } else { u64::MAX };
    let store = Store::builder().weighted(u64::MAX, weigh).build().unwrap();
    ["nothing", "a", "b"].iter().for_each(|key| set(&store, key, 1));
    store.purge_expired();
    assert_eq!(store.weight(), 1 + 2 * u64::from(u32::MAX));

    let store = Store::builder().weighted(10, |_, _| 0).build().unwrap();
    (0..1_000).for_each(|i| set(&store, &i.to_string(), 1));
    store.purge_expired();
    assert!(store.len() <= 10, "{}", store.len());
}

#[test]
fn a_weigher_that_panics_changes_nothing() {
    let weigh = |_: &str, value: Option<&u64>| value.map_or(1, |v| v.checked_sub(1).unwrap());
    let store = Store::builder().weighted(100, weigh).build().unwrap();
    set(&store, "key", 2);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set(&store, "key", 0)));
    assert!(panicked.is_err());
    assert_eq!(get(&store, "key"), Some(2));
    set(&store, "key", 3);
    assert_eq!(get(&store, "key"), Some(3));
}

#[test]
fn a_store_without_a_bound_is_refused() {
    let error = Store::<u64>::builder().build().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("capacity"), "{error}");
}

#[test]
fn the_largest_capacity_takes_no_room_in_advance() {
    let store = Store::new(usize::MAX);
    set(&store, "key", 1);
    assert_eq!(get(&store, "key"), Some(1));
    assert_eq!(store.capacity(), usize::MAX as u64);
}
