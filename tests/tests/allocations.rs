//! A hit allocates nothing, on whatever strategy and layers of stores it goes through.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheAside, CacheStore, CacheStoreExt, ReadOptions, ReadThrough, Stats};
use cache_memory::{MemoryStore, MokaStore};
use futures_util::FutureExt;

const KEY: &str = "user:profile:00000007";

fn allocations_of_hits<T>(mut hit: impl FnMut() -> Option<T>) -> u64 {
    // The first calls may set up what belongs to the thread.
    for _ in 0..100 {
        hit().expect("a hit");
    }
    allocation_counter::measure(|| {
        for _ in 0..1000 {
            hit().expect("a hit");
        }
    })
    .count_total
}

fn now<T>(read: impl Future<Output = cache_core::Result<Option<T>>>) -> Option<T> {
    read.now_or_never().expect("a hit does not wait").expect("memory answers")
}

fn filled<S: CacheStore<Value = Arc<str>>>(store: S) -> S {
    let put = store.put(KEY, Arc::from("Ada"), Duration::from_secs(3600));
    put.now_or_never().expect("at once").expect("stored");
    store
}

fn through<S: CacheStore<Value = Arc<str>>>(store: S) -> u64 {
    let load = |_: String| async { Ok::<_, std::io::Error>(None) };
    let options = ReadOptions::ttl(Duration::from_secs(60)).observer(Arc::new(Stats::default()));
    let cache = ReadThrough::new(filled(store), load, options).expect("valid options");
    allocations_of_hits(|| now(cache.get(KEY)))
}

#[test]
fn a_hit_of_read_through_allocates_nothing() {
    assert_eq!(through(MemoryStore::new(10)), 0);
    assert_eq!(through(MokaStore::new(10)), 0);
}

#[test]
fn a_hit_through_an_erased_or_shared_store_allocates_nothing() {
    assert_eq!(through(MemoryStore::new(10).shared()), 0);
    assert_eq!(through(Arc::new(MemoryStore::new(10))), 0);
    assert_eq!(through(MemoryStore::new(10).shared().shared()), 0);
}

#[test]
fn a_hit_in_a_namespace_allocates_nothing_however_long_its_key() {
    // With its namespace the key is longer than what is kept inline.
    assert_eq!(through(MemoryStore::new(10).namespaced("customers")), 0);
}

#[test]
fn a_hit_of_cache_aside_allocates_nothing() {
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let cache = CacheAside::new(filled(MemoryStore::new(10)), options).expect("valid options");
    let load = || async { Ok::<_, std::io::Error>(None) };
    assert_eq!(allocations_of_hits(|| now(cache.get_or_load(KEY, load))), 0);
    assert_eq!(allocations_of_hits(|| now(cache.get(KEY))), 0);
}

#[test]
fn a_key_that_spells_short_allocates_nothing() {
    let load = |id: (&'static str, u64)| async move { Ok::<_, std::io::Error>(Some(id.1)) };
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let cache = ReadThrough::new(MemoryStore::new(10), load, options).expect("valid options");
    let key = ("user", 1_234_567_890_u64);
    let put = cache.put(&key, Some(7));
    put.now_or_never().expect("at once").expect("stored");
    assert_eq!(allocations_of_hits(|| now(cache.get(&key))), 0);
}
