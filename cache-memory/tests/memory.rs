//! `MemoryStore`: what all stores of this crate promise, and what is its own.

use cache_memory::MemoryStore as Store;

mod shared;

use cache_core::ErrorKind;
use shared::{get, set};

#[test]
fn expecting_no_entries_is_refused() {
    let built = Store::<u64>::builder().capacity(10).expected_entries(0).build();
    let error = built.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("expected_entries"), "{error}");
}

#[test]
fn expecting_few_entries_makes_room_for_heavy_ones() {
    let one_shard = Store::<u64>::builder()
        .weighted(1 << 20, |_, weight| *weight.unwrap_or(&0))
        .expected_entries(2)
        .build()
        .expect("valid options");
    set(&one_shard, "half", 1 << 19);
    assert_eq!(get(&one_shard, "half"), Some(1 << 19));
}

#[test]
fn what_is_used_survives_a_scan() {
    let store = Store::new(100);
    (0..20).for_each(|i| set(&store, &format!("used:{i}"), i));
    for i in 0..10_000 {
        set(&store, &format!("scanned:{i}"), i);
        let _ = get(&store, &format!("used:{}", i % 20));
    }
    let left = (0..20).filter(|i| get(&store, &format!("used:{i}")).is_some()).count();
    assert!(left >= 18, "{left} of 20");
}
