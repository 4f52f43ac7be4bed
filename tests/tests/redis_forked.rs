//! Processes that are copies of each other, as after a fork: the generator of random numbers goes on alike in all of them.

use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions};
use cache_tests::redis::{patient_at, redis_url};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn leases_and_versions_of_copies_of_a_process_are_different() {
    let (url, service) = (redis_url().await, fresh_name());
    let store = patient_at(&url, &service).connect().await.expect("a server");
    let claim = async |key: &str| {
        fastrand::seed(7);
        match store.claim(key, ClaimOptions::new(MINUTE)).await.expect("an answer") {
            Claim::Granted(lease) => lease.token(),
            claim => panic!("{claim:?}"),
        }
    };
    assert_ne!(claim("one").await, claim("other").await);

    // The time in it is exact to a second, and the rest is random.
    let random = async |key: &str| {
        fastrand::seed(7);
        store.put(key, "value".into(), MINUTE).await.expect("no failure");
        let entry = store.get(key).await.expect("an answer").expect("an entry");
        entry.version().get() & u64::from(u32::MAX)
    };
    assert_ne!(random("one").await, random("other").await);
}
