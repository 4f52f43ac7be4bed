//! A bus on a server whose user may not use it.

use std::time::Duration;

use cache_core::{Broadcast, CacheStoreExt, Tiered};
use cache_memory::MemoryStore;
use cache_redis::RedisBus;
use cache_serde::Json;
use cache_tests::redis::{Server, eventually, foreign, patient_at};

const HOUR: Duration = Duration::from_secs(3600);

/// What the docs of `cache-redis` say that a store needs, and a bus.
const STORE: &str = "on >password ~shop:* +@connection +time +get +mget +set +setrange +getrange +strlen +pttl +pexpire +unlink \
    +scan +evalsha +eval +script|load +multi +exec";
const BUS: &str = "+publish +subscribe &shop:bus:*";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_of_a_bus_is_told_and_the_documented_permissions_are_enough() {
    let server = Server::start().await;
    let mut admin = foreign(&server.url()).await;
    let mut permit = async |rules: &str| {
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg("shop").arg(rules.split_whitespace().collect::<Vec<_>>());
        user.exec_async(&mut admin).await.expect("no failure");
    };
    permit("reset resetchannels").await;
    permit(STORE).await;
    let process = async || {
        let store = patient_at(&server.url(), "shop").user("shop").password("password");
        let store = store.connect().await.expect("a server");
        let far = store.clone().namespaced("n").encoded::<_, u64>(Json::new());
        let broadcast = Broadcast::over(RedisBus::new(&store, "n"));
        let tiers = Tiered::builder(MemoryStore::new(100), far).coherent_by(broadcast);
        tiers.build().expect("valid options")
    };
    let (here, there) = (process().await, process().await);
    eventually("it is told", async || {
        here.snapshot().kept_by.contains("lacks a permission on the server")
    })
    .await;
    assert!(!here.is_trusted());
    here.put("key", 1, HOUR).await.expect("the store works");
    assert!(here.flush(Duration::from_millis(100)).await > 0);

    permit(BUS).await;
    eventually("it works", async || here.is_trusted() && there.is_trusted()).await;
    eventually("it is told", async || here.snapshot().kept_by == "a bus").await;
    assert_eq!(here.flush(HOUR).await, 0);
    assert_eq!(there.value("key").await.expect("an answer"), Some(1));
    here.put("key", 2, HOUR).await.expect("no failure");
    eventually("others hear of it", async || {
        there.value("key").await.expect("an answer") == Some(2)
    })
    .await;
}
