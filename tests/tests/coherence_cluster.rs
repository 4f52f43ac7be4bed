//! Memory in front of a Redis cluster, in two caches: changes on any node are heard, also while a node dies.

use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Encoded, Marked, Namespaced, NearMarks, Resync,
    SetOptions, TagStore, Tagged, TaggedCodec, Tiered,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisBuilder, RedisBus, RedisMarks, RedisStore, Tracking};
use cache_serde::Json;
use cache_tests::redis::{Cluster, eventually};

type Far<V, C> = Encoded<Namespaced<RedisStore>, C, V>;
type Tiers = Tiered<MemoryStore<u64>, Far<u64, Json>>;
type Marking = Tiered<MemoryStore<Marked<Value>>, Far<Marked<Value>, TaggedCodec<Json>>>;
type WithTags = Tagged<Marking, NearMarks<RedisMarks>, Value>;

/// Values are a tag and a number.
type Value = (String, u64);

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Bus,
    Tracking,
    TrackingByKey,
}

/// With limits that a dead node is to meet, and a busy machine is not.
fn connecting(cluster: &Cluster, service: &str) -> RedisBuilder {
    RedisStore::builder(service)
        .url(&cluster.url())
        .operation_timeout(5 * SECOND)
        .connect_timeout(5 * SECOND)
        .reconnect_pauses(SECOND / 50, SECOND / 5)
}

async fn connect(cluster: &Cluster, service: &str) -> RedisStore {
    connecting(cluster, service).connect().await.expect("a cluster")
}

/// As in a process of its own: with own connections.
async fn process(cluster: &Cluster, service: &str, by: By) -> Tiers {
    let builder = connecting(cluster, service);
    let builder = if by == By::TrackingByKey { builder.tracked() } else { builder };
    let store = builder.connect().await.expect("a cluster");
    let far = store.clone().namespaced("n").encoded(Json::new());
    let tracking = || Tracking::of(&store).namespace("n");
    let builder = Tiered::builder(MemoryStore::new(10_000), far).near_ttl(HOUR);
    let builder = match by {
        By::Bus => builder.coherent_by(Broadcast::over(RedisBus::new(&store, "n"))),
        By::Tracking => builder.coherent_by(tracking()),
        By::TrackingByKey => builder.coherent_by(tracking().by_key()),
    };
    let tiers = builder.build().expect("valid options");
    tiers.trusted().await;
    tiers
}

fn keys() -> Vec<String> {
    (0..300).map(|number| format!("key {number}")).collect()
}

/// Has all keys near.
async fn warm(tiers: &Tiers, keys: &[String]) {
    eventually("all keys are near", async || {
        tiers.trusted().await;
        for key in keys {
            tiers.value(key).await.expect("an answer");
        }
        keys.iter().all(|key| tiers.near().get_now(key).map(|entry| entry.is_some()).is_ready())
    })
    .await;
}

async fn wrong(tiers: &Tiers, keys: &[String], right: Option<u64>) -> usize {
    let mut wrong = 0;
    for key in keys {
        eventually("its node is there", async || tiers.value(key).await.is_ok()).await;
        wrong += usize::from(tiers.value(key).await.expect("an answer") != right);
    }
    wrong
}

/// How many keys have another value than this one. A key may have none: a write that failed is made up for by a
/// removal, which may take what was written right after it as well.
async fn old(tiers: &Tiers, keys: &[String], new: u64) -> usize {
    let mut old = 0;
    for key in keys {
        eventually("its node is there", async || tiers.value(key).await.is_ok()).await;
        let value = tiers.value(key).await.expect("an answer");
        old += usize::from(value.is_some_and(|value| value != new));
    }
    old
}

async fn replicated(cluster: &Cluster) {
    eventually("the replicas have all", async || {
        let mut in_step = true;
        for (primary, replica) in [(0, 3), (1, 4), (2, 5)] {
            let primary: usize = cluster.ask(primary, &["DBSIZE"]).await;
            in_step &= primary == cluster.ask::<usize>(replica, &["DBSIZE"]).await;
        }
        in_step
    })
    .await;
}

/// On which of the primaries somebody listens.
async fn listened_to(cluster: &Cluster, by: By) -> usize {
    let listens = |line: &str| match by {
        By::Bus => line.contains(" sub=1 "),
        By::Tracking | By::TrackingByKey => line.contains(" flags=t"),
    };
    let mut found = None;
    eventually("somebody listens", async || {
        for node in 0..3 {
            let clients: String = cluster.ask(node, &["CLIENT", "LIST"]).await;
            if clients.lines().any(listens) {
                found = Some(node);
                break;
            }
        }
        found.is_some()
    })
    .await;
    found.expect("somebody listens")
}

async fn changes_are_heard(cluster: &Cluster, by: By) {
    let service = fresh_name();
    let writer = process(cluster, &service, by).await;
    let reader = process(cluster, &service, by).await;
    let keys = keys();
    let all = async |right| wrong(&reader, &keys, right).await == 0;
    for value in 1..=5 {
        for key in &keys {
            writer.put(key, value, HOUR).await.expect("no failure");
        }
        eventually("the new values are read", async || all(Some(value)).await).await;
        warm(&reader, &keys).await;
    }
    writer.remove_prefix("key 1").await.expect("no failure");
    let (gone, left): (Vec<_>, Vec<_>) =
        keys.iter().cloned().partition(|key| key.starts_with("key 1"));
    eventually("the prefix is gone", async || wrong(&reader, &gone, None).await == 0).await;
    assert_eq!(wrong(&reader, &left, Some(5)).await, 0);
    warm(&reader, &left).await;
    writer.clear().await.expect("no failure");
    eventually("all are gone", async || all(None).await).await;
}

async fn a_primary_dies(cluster: &mut Cluster, by: By) {
    let service = fresh_name();
    let reader = process(cluster, &service, by).await;
    let writer = process(cluster, &service, by).await;
    let keys = keys();
    for key in &keys {
        writer.put(key, 1, HOUR).await.expect("no failure");
    }
    warm(&reader, &keys).await;
    replicated(cluster).await;
    let connected = reader.snapshot().resyncs(Resync::Connected);
    let dead = listened_to(cluster, by).await;
    cluster.nodes[dead].kill();
    for key in &keys {
        eventually("it is written", async || writer.put(key, 2, HOUR).await.is_ok()).await;
    }
    eventually("it is connected again", async || {
        reader.snapshot().resyncs(Resync::Connected) > connected && reader.is_trusted()
    })
    .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(old(&reader, &keys, 2).await, 0, "{by:?}: {:?}", reader.snapshot());
    // And all goes on as before.
    for key in &keys {
        writer.put(key, 3, HOUR).await.expect("no failure");
    }
    eventually("it is told", async || wrong(&reader, &keys, Some(3)).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_bus_tells_of_changes_on_every_node_and_a_dead_primary_hides_none() {
    let mut cluster = Cluster::start().await;
    changes_are_heard(&cluster, By::Bus).await;
    a_primary_dies(&mut cluster, By::Bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_tracking_hears_of_changes_on_every_node_and_a_dead_primary_hides_none() {
    let mut cluster = Cluster::start().await;
    changes_are_heard(&cluster, By::Tracking).await;
    a_primary_dies(&mut cluster, By::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_tracking_of_each_key_hears_on_every_node_and_a_dead_primary_hides_nothing() {
    let mut cluster = Cluster::start().await;
    changes_are_heard(&cluster, By::TrackingByKey).await;
    a_primary_dies(&mut cluster, By::TrackingByKey).await;
}

/// How often the primaries have been asked for this by clients.
async fn asked(cluster: &Cluster, command: &str) -> Vec<u64> {
    let mut calls = Vec::new();
    for node in 0..3 {
        let info: String = cluster.ask(node, &["INFO", "commandstats"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
        let count = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
        calls.push(count.map_or(0, |count| count.parse().expect("a number")));
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_messages_of_a_bus_stay_in_their_shard_and_move_with_their_slot() {
    let cluster = Cluster::start().await;
    let service = fresh_name();
    let channel = format!("{service}:bus:n");
    let reader = process(&cluster, &service, By::Bus).await;
    let writer = process(&cluster, &service, By::Bus).await;
    assert_eq!(reader.snapshot().kept_by, "a bus on a shard of the cluster");
    let keys = keys();
    for key in &keys {
        writer.put(key, 1, HOUR).await.expect("no failure");
    }
    eventually("all are read", async || wrong(&reader, &keys, Some(1)).await == 0).await;
    warm(&reader, &keys).await;
    let from = cluster.owner(0, &channel).await;
    let sharded = asked(&cluster, "spublish").await;
    assert!(sharded[from] > 0, "{sharded:?}");
    assert_eq!(sharded.iter().sum::<u64>(), sharded[from], "{sharded:?}");
    assert_eq!(asked(&cluster, "publish").await, [0; 3]);

    // The slot of the channel moves while changes are announced.
    let to = (from + 1) % 3;
    let connected = reader.snapshot().resyncs(Resync::Connected);
    let slot = cluster.slot(0, &channel).await;
    let (first, rest) = keys.split_at(100);
    let (second, third) = rest.split_at(100);
    for key in first {
        writer.put(key, 2, HOUR).await.expect("no failure");
    }
    cluster.begin_to_move(slot, from, to).await;
    for key in second {
        writer.put(key, 2, HOUR).await.expect("no failure");
    }
    let in_slot: Vec<String> =
        cluster.ask(from, &["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"]).await;
    for key in in_slot {
        cluster.move_key(&key, from, to).await;
    }
    cluster.end_move(slot, to).await;
    for key in third {
        eventually("it is written", async || writer.put(key, 2, HOUR).await.is_ok()).await;
    }
    eventually("it listens to the other node", async || {
        reader.snapshot().resyncs(Resync::Connected) > connected && reader.is_trusted()
    })
    .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(old(&reader, &keys, 2).await, 0, "{:?}", reader.snapshot());
    warm(&reader, &keys).await;
    let before = asked(&cluster, "spublish").await;
    for key in &keys {
        writer.put(key, 3, HOUR).await.expect("no failure");
    }
    eventually("it is told", async || wrong(&reader, &keys, Some(3)).await == 0).await;
    assert!(asked(&cluster, "spublish").await[to] > before[to]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_cluster_refuses_a_shard_every_node_hands_the_messages_on_and_it_is_told() {
    let cluster = Cluster::start().await;
    for node in 0..6 {
        let user = ["ACL", "SETUSER", "default", "-ssubscribe"];
        let _: () = cluster.ask(node, &user).await;
    }
    let service = fresh_name();
    let reader = process(&cluster, &service, By::Bus).await;
    let writer = process(&cluster, &service, By::Bus).await;
    let kept_by = reader.snapshot().kept_by;
    assert!(kept_by.contains("a shard was refused") && kept_by.contains("ssubscribe"), "{kept_by}");
    let keys = keys();
    for value in 1..=2 {
        for key in &keys {
            writer.put(key, value, HOUR).await.expect("no failure");
        }
        eventually("it is told", async || wrong(&reader, &keys, Some(value)).await == 0).await;
        warm(&reader, &keys).await;
    }
    assert!(reader.snapshot().dropped_by_others > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_a_flush_of_any_node_is_noticed_over_the_bus() {
    let cluster = Cluster::start().await;
    let service = fresh_name();
    let reader = process(&cluster, &service, By::Bus).await;
    let keys = keys();
    for node in 0..3 {
        for key in &keys {
            reader.put(key, 1, HOUR).await.expect("no failure");
        }
        warm(&reader, &keys).await;
        let before = reader.snapshot().resyncs(Resync::Flushed);
        let _: () = cluster.ask(node, &["FLUSHALL"]).await;
        tokio::time::sleep(SECOND).await;
        let is_noticed = async || reader.snapshot().resyncs(Resync::Flushed) > before;
        eventually("it is noticed", is_noticed).await;
        let mut old = 0;
        for key in &keys {
            let flushed = cluster.owner(0, &format!("{service}:n:{key}")).await == node;
            let value = reader.value(key).await.expect("an answer");
            old += usize::from(flushed && value.is_some());
        }
        assert_eq!(old, 0, "{:?}", reader.snapshot());
    }
}

/// Entries and marks, both near, and told of by buses of the cluster.
async fn with_tags(cluster: &Cluster, service: &str) -> WithTags {
    let store = connect(cluster, service).await;
    let far = store.clone().namespaced("n").encoded(TaggedCodec::new(Json::new()));
    let tiers = Tiered::builder(MemoryStore::new(10_000), far).near_ttl(HOUR);
    let tiers = tiers.coherent_by(Broadcast::over(RedisBus::new(&store, "n"))).build();
    let bus = Broadcast::over(RedisBus::new(&store, "tags"));
    let marks = NearMarks::new(RedisMarks::new(&store), bus).expect("valid options");
    let store = tiers.expect("valid options").tagged(marks, |_: &str, value: Option<&Value>| {
        value.map(|(tag, _)| vec![tag.clone()]).unwrap_or_default()
    });
    store.inner().trusted().await;
    store.marks().trusted().await;
    store
}

async fn put_tagged(store: &WithTags, keys: &[String], value: u64) {
    for (number, key) in keys.iter().enumerate() {
        let tagged = || Some((format!("t{}", number % 3), value));
        eventually("it is written", async || {
            store.set(key, tagged(), SetOptions::ttl(HOUR)).await.is_ok()
        })
        .await;
    }
}

/// How many are found of those with this tag, and of the others.
async fn found(store: &WithTags, keys: &[String], tag: usize) -> (usize, usize) {
    let mut found = (0, 0);
    for (number, key) in keys.iter().enumerate() {
        eventually("its node is there", async || store.value(key).await.is_ok()).await;
        let there = usize::from(store.value(key).await.expect("an answer").is_some());
        if number % 3 == tag { found.0 += there } else { found.1 += there }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_near_copies_go_with_their_tags_also_when_the_primary_of_the_marks_dies() {
    let mut cluster = Cluster::start().await;
    let service = fresh_name();
    let here = with_tags(&cluster, &service).await;
    let there = with_tags(&cluster, &service).await;
    let keys = keys();
    put_tagged(&there, &keys, 1).await;
    eventually("all are seen", async || found(&here, &keys, 0).await == (100, 200)).await;
    there.invalidate_tags(&["t0"]).await.expect("no failure");
    assert_eq!(found(&there, &keys, 0).await, (0, 200));
    eventually("it is heard", async || found(&here, &keys, 0).await.0 == 0).await;
    assert_eq!(found(&here, &keys, 0).await, (0, 200));

    put_tagged(&there, &keys, 2).await;
    eventually("all are seen", async || found(&here, &keys, 1).await == (100, 200)).await;
    replicated(&cluster).await;
    let dead = cluster.owner(0, &format!("{{t:{service}:}}")).await;
    cluster.nodes[dead].kill();
    eventually("it is invalidated", async || there.invalidate_tags(&["t1"]).await.is_ok()).await;
    assert_eq!(found(&there, &keys, 1).await.0, 0, "who has invalidated it");
    eventually("it is heard", async || found(&here, &keys, 1).await.0 == 0).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(found(&here, &keys, 1).await.0, 0);
    // And all goes on as before.
    put_tagged(&there, &keys, 3).await;
    eventually("all are seen", async || found(&here, &keys, 2).await == (100, 200)).await;
    there.invalidate_tags(&["t2"]).await.expect("no failure");
    eventually("it is heard", async || found(&here, &keys, 2).await.0 == 0).await;
}
