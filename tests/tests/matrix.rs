//! Every strategy on every store, with every codec: the same behaviour.

use std::sync::Arc;
use std::time::Duration;

use cache_core::ReadOptions;
use cache_tests::redis::eventually;
use cache_tests::{Kind, Source, Stack, Strategy, TestCache, Topology, cache_on, unhurried};
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn a_cache_is_a_cache(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(
        Kind::Plain,
        Kind::Memory,
        Kind::Moka,
        Kind::Erased,
        Kind::InAnArc,
        Kind::Namespaced,
        Kind::Json,
        Kind::BareJson,
        Kind::Postcard,
        Kind::Bincode,
        Kind::Deep,
        Kind::Tiered,
        Kind::Tagged
    )]
    kind: Kind,
) {
    let source = source();
    behaves(cache_on(kind, strategy, options(), &source), &source).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_redis_is_a_cache(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values(Topology::Single, Topology::Cluster)] topology: Topology,
    #[values(
        Stack::Json,
        Stack::BareJson,
        Stack::Postcard,
        Stack::Bincode,
        Stack::Compressed,
        Stack::Erased,
        Stack::InAnArc,
        Stack::Namespaced,
        Stack::Tiered,
        Stack::Deep
    )]
    stack: Stack,
) {
    let (source, store) = (source(), topology.store().await);
    behaves(stack.cache_on(store.clone(), strategy, options(), &source), &source).await;
    assert_eq!(store.undecodable(), 0);
}

fn source() -> Arc<Source> {
    Source::with(&[("user:1", 1), ("user:2", 2), ("shop:1", 3)])
}

fn options() -> ReadOptions<u64> {
    let minute = Duration::from_secs(60);
    unhurried().jitter(0.1).negative_ttl(minute).wait_limit(minute)
}

async fn behaves(cache: Arc<dyn TestCache>, source: &Source) {
    let asked = |questions: usize| assert_eq!(source.loads(), questions);

    // Loaded once, then hit; what is missing as well.
    for _ in 0..3 {
        assert_eq!(cache.get("user:1").await.expect("a value"), Some(1));
        assert_eq!(cache.get("user:9").await.expect("known to be absent"), None);
    }
    asked(2);

    // Many: one question for the misses.
    let keys = ["user:2", "user:1", "user:9", "shop:1"].map(str::to_owned);
    for _ in 0..2 {
        let many: Result<Vec<_>, _> = cache.get_many(&keys).await.into_iter().collect();
        assert_eq!(many.expect("no error"), [Some(2), Some(1), None, Some(3)]);
    }
    asked(3);

    // Changed and invalidated, by key, by prefix, altogether.
    source.put("user:1", 10);
    cache.invalidate("user:1").await.expect("removed");
    assert_eq!(cache.get("user:1").await.expect("a value"), Some(10));
    asked(4);
    source.put("user:2", 20);
    source.put("shop:1", 30);
    cache.invalidate_prefix("user:").await.expect("removed");
    assert_eq!(cache.get("user:2").await.expect("a value"), Some(20));
    assert_eq!(cache.get("shop:1").await.expect("a value"), Some(3));
    asked(5);
    cache.clear().await.expect("cleared");
    assert_eq!(cache.get("shop:1").await.expect("a value"), Some(30));
    asked(6);

    // Put, a value and that there is none.
    cache.put("user:9", Some(90)).await.expect("stored");
    assert_eq!(cache.get("user:9").await.expect("a value"), Some(90));
    cache.put("user:9", None).await.expect("stored");
    assert_eq!(cache.get("user:9").await.expect("known to be absent"), None);
    asked(6);
    eventually("no load is left", async || cache.loading() == 0).await;
}
