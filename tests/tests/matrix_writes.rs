//! Every strategy that writes, around every one that reads, on every store: the same behaviour.

use std::sync::Arc;

use cache_core::{CacheStoreExt, ReadOptions, TaggedCodec};
use cache_redis::RedisMarks;
use cache_serde::Json;
use cache_tests::redis::eventually;
use cache_tests::{
    Kind, Source, Stack, Strategy, TestCache, Topology, Writing, cache, cache_on, unhurried,
};
use futures_util::future::join4;
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn what_is_written_is_read_and_is_in_the_source(
    #[values(
        Writing::Through,
        Writing::ThroughRevalidate,
        Writing::Behind,
        Writing::BehindRevalidate
    )]
    writing: Writing,
    #[values(
        Kind::Plain,
        Kind::Memory,
        Kind::Moka,
        Kind::NoRoom,
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
    behaves(cache_on(kind, Strategy::Writing(writing), options(), &source), &source).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_from_redis_and_is_in_the_source(
    #[values(
        Writing::Through,
        Writing::ThroughRevalidate,
        Writing::Behind,
        Writing::BehindRevalidate
    )]
    writing: Writing,
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
    let strategy = Strategy::Writing(writing);
    behaves(stack.cache_on(store.clone(), strategy, options(), &source), &source).await;
    assert_eq!(store.undecodable(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_with_tags_is_read_from_redis_and_is_in_the_source(
    #[values(
        Writing::Through,
        Writing::ThroughRevalidate,
        Writing::Behind,
        Writing::BehindRevalidate
    )]
    writing: Writing,
    #[values(Topology::Single, Topology::Cluster)] topology: Topology,
) {
    let (source, store) = (source(), topology.store().await);
    let marks = RedisMarks::new(&store);
    let tagged = store.encoded(TaggedCodec::new(Json::new()));
    let tagged = tagged.tagged(marks, |key: &str, _: Option<&u64>| [format!("tag of {key}")]);
    behaves(cache(Strategy::Writing(writing), tagged, options(), &source), &source).await;
}

fn source() -> Arc<Source> {
    Source::with(&[("user:1", 1), ("user:2", 2), ("shop:1", 3)])
}

fn options() -> ReadOptions<u64> {
    let minute = std::time::Duration::from_secs(60);
    unhurried().negative_ttl(minute).wait_limit(minute)
}

async fn behaves(cache: Arc<dyn TestCache>, source: &Source) {
    let is = async |key: &str, value: Option<u64>| {
        assert_eq!(cache.get(key).await.expect("an answer"), value, "{key}");
    };
    let is_settled = async |key: &str, value: Option<u64>| {
        is(key, value).await;
        cache.settle().await;
        assert_eq!(source.value(key), value, "{key}: in the source");
        is(key, value).await;
    };

    // What has been read before, and what has not; values, removals, and values again.
    is("user:1", Some(1)).await;
    for key in ["user:1", "user:2", "user:9"] {
        for value in [Some(10), Some(11), None, None, Some(12)] {
            cache.put(key, value).await.expect("written");
            is_settled(key, value).await;
        }
    }
    let keys = ["user:9", "user:1", "shop:1", "user:8"].map(str::to_owned);
    let many: Result<Vec<_>, _> = cache.get_many(&keys).await.into_iter().collect();
    assert_eq!(many.expect("no error"), [Some(12), Some(12), Some(3), None]);

    // An invalidation takes the entry, and not the write: neither what was before it comes back, nor what was removed.
    for round in 0_u64..8 {
        let value = (round % 3 != 2).then_some(100 + round);
        cache.put("user:1", value).await.expect("written");
        match round % 4 {
            0 => cache.invalidate("user:1").await.expect("removed"),
            1 => cache.invalidate_prefix("user:").await.expect("removed"),
            2 => cache.clear().await.expect("cleared"),
            _ => {}
        }
        match round < 4 {
            true => is_settled("user:1", value).await,
            false => is("user:1", value).await,
        }
    }
    cache.settle().await;

    // All at once: who reads afterwards gets the last write.
    for round in 1000..1020 {
        let (wrote, removed, read, other) = join4(
            cache.put("user:2", Some(round)),
            cache.invalidate("user:2"),
            cache.get("user:2"),
            cache.get("user:2"),
        )
        .await;
        wrote.and(removed).expect("no failure");
        for read in [read, other] {
            let read = read.expect("an answer").unwrap_or(0);
            assert!(read == round || read + 1 == round || round == 1000, "{read} in {round}");
        }
        is("user:2", Some(round)).await;
    }
    is_settled("user:2", Some(1019)).await;
    eventually("no load is left", async || cache.loading() == 0).await;
}
