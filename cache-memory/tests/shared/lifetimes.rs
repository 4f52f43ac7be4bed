use std::time::Duration;

use cache_core::{CacheStore, CacheStoreExt, ErrorKind, SetOptions};

use super::{get, now, set, store};
use crate::Store;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_hit_tells_what_was_stored_and_what_is_left_of_it() {
    let (store, hands) = store(10);
    let options = SetOptions::ttl(SECOND * 10).stale_for(SECOND * 5);
    now(store.set("key", Some(7), options.with_load_time((SECOND / 50).into()))).unwrap();
    hands.advance(SECOND * 4);
    let entry = now(store.get("key")).unwrap().expect("usable");
    assert_eq!(entry.value(), Some(&7));
    assert_eq!(entry.fresh_for(), SECOND * 6);
    assert_eq!(entry.usable_for(), SECOND * 11);
    assert_eq!(entry.load_time(), (SECOND / 50).into());

    hands.advance(SECOND * 6);
    assert!(
        !now(store.get("key"))
            .unwrap()
            .expect("stale, but usable")
            .is_fresh()
    );
    hands.advance(SECOND * 5);
    assert!(now(store.get("key")).unwrap().is_none());
}

#[test]
fn a_negative_entry_is_told_from_no_entry() {
    let (store, _) = store(10);
    now(store.set("nobody", None, SetOptions::forever())).unwrap();
    assert!(
        now(store.get("nobody"))
            .unwrap()
            .expect("an entry")
            .is_negative()
    );
    assert!(now(store.get("unknown")).unwrap().is_none());
    set(&store, "nobody", 1);
    assert_eq!(get(&store, "nobody"), Some(1));
}

#[test]
fn overwriting_replaces_value_lifetime_and_version() {
    let (store, hands) = store(10);
    now(store.put("key", 1, SECOND)).unwrap();
    let first = now(store.get("key")).unwrap().unwrap();
    now(store.put("key", 2, SECOND * 3)).unwrap();
    let second = now(store.get("key")).unwrap().unwrap();
    assert_ne!(first.version(), second.version());
    hands.advance(SECOND * 2);
    assert_eq!(get(&store, "key"), Some(2));
    now(store.put("key", 3, SECOND / 2)).unwrap();
    hands.advance(SECOND / 2);
    assert_eq!(get(&store, "key"), None);
}

#[test]
fn a_lifetime_of_zero_is_refused_and_changes_nothing() {
    let (store, _) = store(10);
    set(&store, "key", 1);
    let refused = now(store.put("key", 2, Duration::ZERO)).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidOption);
    assert_eq!(get(&store, "key"), Some(1));
}

#[test]
fn lifetimes_hold_from_a_nanosecond_to_for_ever() {
    let (store, hands) = store(10);
    now(store.put("shortest", 1, Duration::from_nanos(1))).unwrap();
    assert_eq!(get(&store, "shortest"), Some(1));
    hands.advance(Duration::from_millis(1));
    assert_eq!(get(&store, "shortest"), None);

    for ttl in [
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        SECOND * u32::MAX,
    ] {
        now(store.set("long", Some(1), SetOptions::ttl(ttl).stale_for(ttl))).unwrap();
        assert_eq!(get(&store, "long"), Some(1), "{ttl:?}");
    }
    now(store.set("ever", Some(1), SetOptions::forever())).unwrap();
    hands.advance(SECOND * u32::MAX * 2); // 272 years
    let entry = now(store.get("ever")).unwrap().expect("for ever");
    assert_eq!(entry.usable_for(), Duration::MAX);
}

#[test]
fn a_flood_of_expired_entries_is_invisible_at_once_and_purged_on_demand() {
    let (store, hands) = store(200_000);
    let keys: Vec<String> = (0..100_000).map(|i| format!("key:{i}")).collect();
    keys.iter()
        .for_each(|key| now(store.put(key, 1, SECOND)).unwrap());
    set(&store, "lasting", 1);
    hands.advance(SECOND);
    assert!(
        keys.iter()
            .take(1_000)
            .all(|key| get(&store, key).is_none())
    );
    assert!(store.len() <= store.capacity());
    store.purge_expired();
    assert_eq!(store.len(), 1);
    assert_eq!(get(&store, "lasting"), Some(1));
}

#[test]
fn removal_is_by_prefix_to_the_letter() {
    let (store, _) = store(100);
    let keys = ["a*", "a*b", "ab", "a", "*", "A*", ""];
    keys.iter().for_each(|key| set(&store, key, 1));
    now(store.remove_prefix("a*")).unwrap();
    assert_eq!(
        keys.map(|key| get(&store, key).is_some()),
        [false, false, true, true, true, true, true]
    );
    now(store.clear()).unwrap();
    assert!(keys.iter().all(|key| get(&store, key).is_none()));
}

#[test]
fn many_keys_are_answered_in_order_with_repeats() {
    let (store, _) = store(10);
    let forever = SetOptions::forever();
    let entries = vec![
        ("a", Some(1), forever.clone()),
        ("b", None, forever.clone()),
    ];
    now(store.set_many(entries))
        .into_iter()
        .for_each(|result| result.unwrap());
    let found: Vec<_> = now(store.get_many(&["b", "x", "a", "a"]))
        .into_iter()
        .map(|result| result.unwrap().map(cache_core::Entry::into_value))
        .collect();
    assert_eq!(found, [Some(None), None, Some(Some(1)), Some(Some(1))]);
    now(store.remove_many(&["a", "b", "a"])).unwrap();
    assert_eq!(get(&store, "a"), None);
}

#[test]
fn long_and_odd_keys_are_kept_apart() {
    let (store, _) = store(100);
    let long = "k".repeat(10_000);
    let longer = "k".repeat(10_001);
    let keys = ["", "\0", "\0\0", "ключ", "k\n", &long, &longer];
    (0..).zip(keys).for_each(|(i, key)| set(&store, key, i));
    (0..)
        .zip(keys)
        .for_each(|(i, key)| assert_eq!(get(&store, key), Some(i)));
}

#[test]
fn clones_are_handles_to_the_same_entries() {
    let (store, _) = store(10);
    set(&store.clone(), "key", 1);
    assert_eq!(get(&store, "key"), Some(1));
}

#[test]
fn the_future_of_a_get_is_small() {
    let store = Store::<[u64; 100]>::new(1);
    assert!(
        size_of_val(&store.get("key")) <= 40,
        "{}",
        size_of_val(&store.get("key"))
    );
}
