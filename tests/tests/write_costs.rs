//! What a write costs.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cache_core::{
    BehindOptions, Bounds, CacheStore, MemoryJournal, ReadThrough, SetOptions, WriteBehind,
};
use cache_memory::MemoryStore;
use cache_tests::{Sink, minute};

const WRITES: u64 = 1_000;

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(tokio::task::unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a store in memory never waits"),
    }
}

fn allocations(mut write: impl FnMut(&String)) -> u64 {
    let keys: Vec<String> = (0..WRITES).map(|n| format!("key-{n}")).collect();
    // The first round grows the tables.
    keys.iter().for_each(&mut write);
    allocation_counter::measure(|| keys.iter().for_each(&mut write)).count_total
}

/// One a write, which is the journal's copy of the key.
#[tokio::test]
async fn a_put_into_memory_allocates_little_more_than_a_set() {
    let store = MemoryStore::new(10_000);
    let set = allocations(|key| {
        ready(store.set(key, Some(1_u64), SetOptions::ttl(Duration::from_secs(60)))).expect("set");
    });
    let sink = Sink::default();
    let inner = ReadThrough::new(MemoryStore::new(10_000), sink.clone(), minute());
    let options = BehindOptions::default().delay(Duration::from_secs(600)).batch(100_000);
    let journal = MemoryJournal::new(Bounds::default());
    let cache = WriteBehind::new(inner.expect("valid"), sink, journal, options).expect("valid");
    let put = allocations(|key| ready(black_box(cache.put(key, 1_u64))).expect("acknowledged"));
    println!("{WRITES} writes allocate {set} times by set, {put} times by put");
    assert!(put <= set + WRITES * 11 / 10, "{set} by set, {put} by put");
}
