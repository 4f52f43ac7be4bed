//! The conformance kit on tiers.

use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{ModelStore, Sample, Subject};
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Clock, LocalBus, Tiered, store_conformance,
};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::{Json, Postcard};
use cache_tests::PlainStore;
use cache_tests::redis::patient;

fn memory<V: Sample>(clock: &Clock) -> MemoryStore<V> {
    let store = MemoryStore::builder().capacity(10_000).clock(clock.clone()).build();
    store.expect("valid options")
}

/// Tiers whose near copies live as long as what they are copies of.
fn tiered<N, F>(near: N, far: F, clock: &Clock) -> Tiered<N, F>
where
    N: CacheStore,
    F: CacheStore<Value = N::Value>,
{
    let tiers = Tiered::builder(near, far).clock(clock.clone()).near_ttl(Duration::MAX);
    tiers.build().expect("valid options")
}

fn manual<S>(make: impl FnOnce(&Clock) -> S) -> Subject<S>
where
    S: CacheStore<Value: Sample>,
{
    let (clock, hands) = Clock::manual();
    Subject::new(make(&clock)).manual_clock(hands)
}

store_conformance!(memory_over_memory, {
    manual(|clock| tiered(memory::<String>(clock), memory(clock), clock))
});
store_conformance!(moka_over_memory, {
    manual(|clock| {
        let moka = MokaStore::builder().capacity(10_000).clock(clock.clone()).build();
        tiered(moka.expect("valid options"), memory::<u64>(clock), clock)
    })
});
store_conformance!(three_levels, {
    manual(|clock| {
        let below = tiered(memory::<String>(clock), ModelStore::new(clock.clone()), clock);
        tiered(memory(clock), below, clock)
    })
});
store_conformance!(over_namespaces_and_in_one, {
    manual(|clock| {
        let far = memory::<Bytes>(clock).namespaced("far").encoded::<_, String>(Json::new());
        tiered(memory(clock).namespaced("near").shared(), far.namespaced("a:b"), clock)
            .shared()
            .namespaced("shop")
    })
});
store_conformance!(over_a_store_that_fences_nothing, {
    manual(|clock| tiered(memory::<u64>(clock), PlainStore::new(clock.clone()), clock))
});
store_conformance!(with_a_near_store_that_fences_nothing, {
    manual(|clock| tiered(PlainStore::new(clock.clone()), memory::<u64>(clock), clock))
});
store_conformance!(with_no_room_near, {
    manual(|clock| tiered(MemoryStore::new(0), memory::<u64>(clock), clock))
});
store_conformance!(on_a_bus, {
    let tiers = Tiered::builder(MemoryStore::<String>::new(10_000), MemoryStore::new(10_000))
        .near_ttl(Duration::MAX)
        .coherent_by(Broadcast::over(LocalBus::new(1024)).heartbeat(Duration::from_millis(5)));
    let tiers = tiers.build().expect("valid options");
    tiers.trusted().await;
    Subject::new(tiers).real_time(Duration::from_millis(100))
});

store_conformance!(memory_over_redis, {
    let far = patient().await.connect().await.expect("a server");
    let far = far.encoded::<_, String>(Json::new());
    let store = tiered(MemoryStore::new(10_000), far, &Clock::system());
    Subject::new(store).real_time(Duration::from_millis(100))
});
store_conformance!(memory_over_bytes_in_memory_over_redis, {
    let far = patient().await.connect().await.expect("a server");
    let clock = Clock::system();
    let bytes = tiered(MemoryStore::<Bytes>::new(10_000), far, &clock);
    let values = bytes.namespaced("shop").encoded::<_, u64>(Postcard::new());
    let store = tiered(MemoryStore::new(10_000), values, &clock);
    Subject::new(store).real_time(Duration::from_millis(100))
});
