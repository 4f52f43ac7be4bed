//! The conformance kit on a Redis server, alone and within every wrapper.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::Subject;
use cache_core::{CacheStore, CacheStoreExt, store_conformance};
use cache_redis::RedisStore;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use cache_tests::redis::patient;

async fn store() -> RedisStore {
    patient().await.connect().await.expect("a server")
}

fn waiting<S>(store: S) -> Subject<S>
where
    S: CacheStore<Value: cache_core::testing::Sample>,
{
    Subject::new(store).real_time(Duration::from_millis(100))
}

store_conformance!(bytes, waiting(store().await));
store_conformance!(namespaced, waiting(store().await.namespaced("a*b").namespaced("100%")));
store_conformance!(erased, waiting(store().await.shared()));
store_conformance!(in_an_arc, waiting(Arc::new(store().await)));
store_conformance!(json, waiting(store().await.encoded::<_, String>(Json::new())));
store_conformance!(json_without_frame, waiting(store().await.encoded::<_, String>(Json::bare())));
store_conformance!(postcard, waiting(store().await.encoded::<_, String>(Postcard::new())));
store_conformance!(bincode, waiting(store().await.encoded::<_, u64>(Bincode::new())));
store_conformance!(
    compressed_json_erased_and_namespaced,
    waiting(
        store()
            .await
            .shared()
            .namespaced("shop")
            .encoded::<_, String>(Compressed::new(Json::new()).threshold(0))
            .shared()
    )
);
store_conformance!(one_by_one_on_four_connections, {
    let store = patient().await.connections(4).largest_batch(1).connect();
    waiting(store.await.expect("a server"))
});
