//! `MokaStore`: what all stores of this crate promise, and what is its own.

use cache_memory::MokaStore as Store;

mod shared;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::ErrorKind;
use cache_memory::{EvictionCause, EvictionPolicy};
use shared::{get, set};

#[test]
fn lru_drops_what_was_used_least_recently() {
    let store =
        Store::builder().capacity(3).policy(EvictionPolicy::Lru).build().expect("valid options");
    ["a", "b", "c"].iter().for_each(|key| set(&store, key, 1));
    store.purge_expired();
    assert_eq!(get(&store, "a"), Some(1));
    store.purge_expired();
    set(&store, "d", 1);
    store.purge_expired();
    assert_eq!(
        ["a", "b", "c", "d"].map(|key| get(&store, key).is_some()),
        [true, false, true, true]
    );
}

#[test]
fn tiny_lfu_keeps_what_is_used_often_through_a_scan() {
    let store = Store::builder()
        .capacity(100)
        .policy(EvictionPolicy::TinyLfu)
        .build()
        .expect("valid options");
    (0..20).for_each(|i| set(&store, &format!("used:{i}"), i));
    for i in 0..10_000 {
        let _ = get(&store, &format!("used:{}", i % 20));
        set(&store, &format!("scanned:{i}"), i);
    }
    let left = (0..20).filter(|i| get(&store, &format!("used:{i}")).is_some()).count();
    assert!(left >= 18, "{left} of 20");
}

#[test]
fn what_is_not_used_goes_and_is_reported_as_idle() {
    let causes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&causes);
    let store = Store::<u64>::builder()
        .capacity(10)
        .idle(Duration::from_millis(1))
        .on_evict(move |_, _, cause| seen.lock().unwrap().push(cause))
        .build()
        .expect("valid options");
    set(&store, "key", 1);
    // The engine's own clock: wait for what must come, however long it takes.
    store.purge_expired();
    while !store.is_empty() {
        std::thread::yield_now();
        store.purge_expired();
    }
    assert_eq!(*causes.lock().unwrap(), [EvictionCause::Idle]);
}

#[test]
fn an_idle_time_of_zero_is_refused() {
    let error = Store::<u64>::builder().capacity(1).idle(Duration::ZERO).build();
    let error = error.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("idle"), "{error}");
}

#[test]
fn an_idle_time_beyond_the_engine_is_never() {
    for idle in [Duration::from_secs(1_000 * 365 * 24 * 3_600), Duration::MAX] {
        let store = Store::builder().capacity(1).idle(idle).build().expect("valid options");
        set(&store, "key", 1);
        assert_eq!(get(&store, "key"), Some(1));
    }
}
