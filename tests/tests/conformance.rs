//! The conformance kit on every store of the workspace, alone and within every wrapper.

use std::sync::Arc;

use bytes::Bytes;
use cache_core::testing::{ModelStore, Sample, Subject};
use cache_core::{CacheStore, CacheStoreExt, Clock, Codec, Encoded, store_conformance};
use cache_memory::{EvictionPolicy, MemoryStore, MokaStore};
use cache_serde::{Bincode, Compressed, Json, Postcard};

fn memory<V: Sample>() -> Subject<MemoryStore<V>> {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(10_000).clock(clock).build();
    Subject::new(store.expect("valid options")).manual_clock(hands)
}

fn moka(policy: EvictionPolicy) -> Subject<MokaStore<String>> {
    let (clock, hands) = Clock::manual();
    let store = MokaStore::builder()
        .capacity(10_000)
        .clock(clock)
        .policy(policy)
        .build();
    Subject::new(store.expect("valid options")).manual_clock(hands)
}

/// The store in a wrapper, with the same clock.
fn wrapped<W>(wrap: impl FnOnce(MemoryStore<String>) -> W) -> Subject<W>
where
    W: CacheStore<Value = String>,
{
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(10_000).clock(clock).build();
    Subject::new(wrap(store.expect("valid options"))).manual_clock(hands)
}

fn encoded<C: Codec<String>>(codec: C) -> Subject<Encoded<MemoryStore<Bytes>, C, String>> {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(10_000).clock(clock).build();
    Subject::new(store.expect("valid options").encoded(codec)).manual_clock(hands)
}

store_conformance!(memory_of_strings, memory::<String>());
store_conformance!(memory_of_numbers, memory::<u64>());
store_conformance!(memory_of_arcs, memory::<Arc<String>>());
store_conformance!(memory_of_bytes, memory::<Bytes>());
store_conformance!(moka_tiny_lfu, moka(EvictionPolicy::TinyLfu));
store_conformance!(moka_lru, moka(EvictionPolicy::Lru));
store_conformance!(
    memory_on_the_system_clock,
    Subject::new(MemoryStore::<String>::new(10_000))
);

store_conformance!(
    namespaced,
    wrapped(|store| store.namespaced("shop:eu").namespaced("100%"))
);
store_conformance!(erased, wrapped(CacheStoreExt::shared));
store_conformance!(in_an_arc, wrapped(Arc::new));
store_conformance!(
    erased_in_a_namespace,
    wrapped(|store| store.shared().namespaced("shop"))
);

store_conformance!(json, encoded(Json::new()));
store_conformance!(bare_json, encoded(Json::bare()));
store_conformance!(postcard, encoded(Postcard::new()));
store_conformance!(bincode, encoded(Bincode::new()));
store_conformance!(
    compressed_json,
    encoded(Compressed::new(Json::new()).threshold(0))
);
store_conformance!(
    compressed_postcard,
    encoded(Compressed::new(Postcard::new()))
);
store_conformance!(encoded_erased_namespaced, {
    let (clock, hands) = Clock::manual();
    let store = ModelStore::<Bytes>::new(clock).shared().namespaced("bytes");
    Subject::new(store.encoded::<_, String>(Json::new()).shared()).manual_clock(hands)
});
