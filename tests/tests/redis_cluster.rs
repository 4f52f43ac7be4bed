//! A store on a Redis Cluster.

use std::time::Duration;

use cache_core::testing::Subject;
use cache_core::{CacheStore, CacheStoreExt, store_conformance};
use cache_redis::RedisStore;
use cache_serde::Json;
use cache_tests::redis::patient_cluster;

async fn store() -> RedisStore {
    patient_cluster().await.connect().await.expect("a cluster")
}

fn waiting<S>(store: S) -> Subject<S>
where
    S: CacheStore<Value: cache_core::testing::Sample>,
{
    Subject::new(store).real_time(Duration::from_millis(100))
}

store_conformance!(bytes, waiting(store().await));
store_conformance!(namespaced, waiting(store().await.namespaced("a*b").namespaced("100%")));
store_conformance!(one_slot, waiting(store().await.namespaced("{tag}")));
store_conformance!(erased, waiting(store().await.shared()));
store_conformance!(json, waiting(store().await.encoded::<_, String>(Json::new())));
store_conformance!(one_by_one_on_two_connections_to_each, {
    let store = patient_cluster().await.connections(2).largest_batch(1).connect();
    waiting(store.await.expect("a cluster"))
});
