use std::time::Duration;

use cache_core::{CacheStore, Claim, ClaimOptions, ErrorKind, Fill, Lease, SetOptions};

use super::{get, now, set, store};
use crate::Store;

const SECOND: Duration = Duration::from_secs(1);

fn claim(store: &Store<u64>, key: &str) -> Claim<u64> {
    now(store.claim(key, ClaimOptions::new(SECOND))).unwrap()
}

#[track_caller]
fn granted(claim: Claim<u64>) -> Lease {
    match claim {
        Claim::Granted(lease) => lease,
        other => panic!("not granted: {other:?}"),
    }
}

fn fill(store: &Store<u64>, lease: Lease, value: u64) -> Fill {
    now(store.fill(lease, Some(value), SetOptions::forever())).unwrap()
}

#[test]
fn of_two_claimers_one_is_granted_and_one_waits() {
    let (store, _) = store(10);
    let lease = granted(claim(&store, "key"));
    let Claim::Held { retry_in } = claim(&store, "key") else { panic!("held") };
    assert!(!retry_in.is_zero() && retry_in <= SECOND);
    assert_eq!(fill(&store, lease, 1), Fill::Stored);
    let Claim::Found(entry) = claim(&store, "key") else { panic!("found") };
    assert_eq!(entry.into_value(), Some(1));
}

#[test]
fn a_key_that_changed_while_it_was_claimed_is_not_filled() {
    let change: [fn(&Store<u64>); 7] = [
        |store| now(store.remove("key")).unwrap(),
        |store| now(store.remove_many(&["other", "key"])).unwrap(),
        |store| now(store.remove_prefix("ke")).unwrap(),
        |store| now(store.clear()).unwrap(),
        |store| set(store, "key", 2),
        |store| now(store.set("key", None, SetOptions::forever())).unwrap(),
        |store| {
            set(store, "key", 2);
            now(store.remove("key")).unwrap();
        },
    ];
    for (i, change) in change.into_iter().enumerate() {
        let (store, _) = store(10);
        let cold = granted(claim(&store, "key"));
        change(&store);
        let after = get(&store, "key");
        assert_eq!(fill(&store, cold, 1), Fill::Refused, "cold, {i}");
        assert_eq!(get(&store, "key"), after, "cold, {i}");

        set(&store, "key", 1);
        let seen = now(store.get("key")).unwrap().unwrap().version();
        let refresh = ClaimOptions::new(SECOND).refreshing(seen);
        let refresh = granted(now(store.claim("key", refresh)).unwrap());
        change(&store);
        let after = get(&store, "key");
        assert_eq!(fill(&store, refresh, 1), Fill::Refused, "refresh, {i}");
        assert_eq!(get(&store, "key"), after, "refresh, {i}");
    }
}

#[test]
fn a_change_of_another_key_leaves_the_lease_alone() {
    let (store, _) = store(10_000);
    let lease = granted(claim(&store, "key"));
    // Enough of them to share every stripe.
    for i in 0..1_000 {
        let key = format!("other:{i}");
        set(&store, &key, 1);
        now(store.remove(&key)).unwrap();
    }
    now(store.remove_prefix("keys")).unwrap();
    assert_eq!(fill(&store, lease, 1), Fill::Stored);
}

#[test]
fn a_lease_that_ends_frees_the_key_and_refuses_the_late_fill() {
    let (store, hands) = store(10);
    let late = granted(claim(&store, "key"));
    hands.advance(SECOND);
    assert_eq!(fill(&store, late.clone(), 1), Fill::Refused);
    let next = granted(claim(&store, "key"));
    assert_eq!(fill(&store, late, 1), Fill::Refused);
    assert_eq!(fill(&store, next, 2), Fill::Stored);
    assert_eq!(get(&store, "key"), Some(2));
}

#[test]
fn a_lease_is_good_for_one_fill() {
    let (store, _) = store(10);
    let lease = granted(claim(&store, "key"));
    assert_eq!(fill(&store, lease.clone(), 1), Fill::Stored);
    assert_eq!(fill(&store, lease, 2), Fill::Refused);
    assert_eq!(get(&store, "key"), Some(1));
}

#[test]
fn a_refresh_is_granted_for_the_version_that_is_there_only() {
    let (store, _) = store(10);
    set(&store, "key", 1);
    let first = now(store.get("key")).unwrap().unwrap().version();
    set(&store, "key", 2);
    let refresh = ClaimOptions::new(SECOND).refreshing(first);
    let Claim::Found(entry) = now(store.claim("key", refresh)).unwrap() else { panic!("found") };
    assert_eq!(entry.value(), Some(&2));

    let refresh = ClaimOptions::new(SECOND).refreshing(entry.version());
    let lease = granted(now(store.claim("key", refresh)).unwrap());
    assert!(matches!(now(store.claim("key", refresh)).unwrap(), Claim::Held { .. }));
    assert_eq!(get(&store, "key"), Some(2));
    assert_eq!(fill(&store, lease, 3), Fill::Stored);
    assert_eq!(get(&store, "key"), Some(3));
}

#[test]
fn a_refresh_that_outlives_its_entry_is_kept() {
    let (store, hands) = store(10);
    now(store.set("key", Some(1), SetOptions::ttl(SECOND / 2))).unwrap();
    let seen = now(store.get("key")).unwrap().unwrap().version();
    let lease =
        granted(now(store.claim("key", ClaimOptions::new(SECOND).refreshing(seen))).unwrap());
    hands.advance(SECOND / 2);
    assert_eq!(get(&store, "key"), None);
    store.purge_expired();
    assert_eq!(fill(&store, lease, 2), Fill::Stored);
}

#[test]
fn a_released_key_is_free_at_once_and_only_its_owner_releases_it() {
    let (store, _) = store(10);
    let first = granted(claim(&store, "key"));
    now(store.release(first.clone())).unwrap();
    let second = granted(claim(&store, "key"));
    now(store.release(first)).unwrap();
    assert!(matches!(claim(&store, "key"), Claim::Held { .. }));
    assert_eq!(fill(&store, second, 1), Fill::Stored);
}

#[test]
fn the_lease_of_another_store_fills_nothing() {
    let ((here, _), (there, _)) = (store(10), store(10));
    let lease = granted(claim(&here, "key"));
    let _own = granted(claim(&there, "key"));
    assert_eq!(fill(&there, lease, 1), Fill::Refused);
    assert_eq!(get(&there, "key"), None);
}

#[test]
fn a_fill_with_an_invalid_lifetime_ends_the_lease() {
    let (store, _) = store(10);
    let lease = granted(claim(&store, "key"));
    let refused = now(store.fill(lease, Some(1), SetOptions::ttl(Duration::ZERO)));
    assert_eq!(refused.expect_err("refused").kind(), ErrorKind::InvalidOption);
    let _free = granted(claim(&store, "key"));
}

#[test]
fn an_expired_entry_can_be_claimed() {
    let (store, hands) = store(10);
    now(store.set("key", Some(1), SetOptions::ttl(SECOND))).unwrap();
    hands.advance(SECOND);
    let lease = granted(claim(&store, "key"));
    // Meeting the expired entry here must not cost the lease.
    assert_eq!(get(&store, "key"), None);
    assert_eq!(fill(&store, lease, 2), Fill::Stored);
}

#[test]
fn a_store_without_room_grants_leases_and_fills_into_nothing() {
    let (store, _) = store(0);
    set(&store, "key", 1);
    assert_eq!(get(&store, "key"), None);
    let lease = granted(claim(&store, "key"));
    assert!(matches!(claim(&store, "key"), Claim::Held { .. }));
    assert_eq!(fill(&store, lease, 1), Fill::Stored);
    now(store.remove("key")).unwrap();
    now(store.clear()).unwrap();
    store.purge_expired();
    assert!(store.is_empty());
}
