//! What a hit allocates: nothing.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use cache_core::{CacheStore, SetOptions};
use cache_memory::{MemoryStore, MokaStore};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

fn allocations_of_hits<S: CacheStore<Value = Arc<str>>>(store: &S, hits: usize) -> u64 {
    let keys = ["short", "a key that is too long to be kept inline, like many of them"];
    for key in keys {
        now(store.set(key, Some(Arc::from("value")), SetOptions::forever())).unwrap();
    }
    let hits = || {
        for _ in 0..hits / 2 {
            for key in keys {
                assert!(now(store.get(key)).unwrap().is_some());
            }
        }
    };
    hits();
    measure(hits).count_total
}

#[test]
fn a_hit_of_a_memory_store_allocates_nothing() {
    assert_eq!(allocations_of_hits(&MemoryStore::new(100), 10_000), 0);
}

#[test]
fn a_hit_of_a_moka_store_allocates_nothing() {
    assert_eq!(allocations_of_hits(&MokaStore::new(100), 10_000), 0);
}

#[test]
fn a_write_of_a_short_key_into_a_full_store_allocates_nothing() {
    let store = MemoryStore::new(100);
    let write = |keys: &[String]| {
        for key in keys {
            now(store.set(key, Some(1_u64), SetOptions::forever())).unwrap();
        }
    };
    let keys: Vec<String> = (0..10_000).map(|i| format!("key:{i}")).collect();
    write(&keys);
    assert_eq!(measure(|| write(&keys)).count_total, 0);
}
