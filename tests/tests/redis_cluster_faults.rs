//! A cluster whose slots move, and whose nodes die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::fresh_name;
use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions, ErrorKind, Fill, SetOptions};
use cache_redis::{RedisBuilder, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{
    Cluster, Server, answered, connected, eventually, foreign, patient_at, patient_cluster,
};
use cache_tests::{Source, Strategy, cache, minute};
use redis::Value;
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

fn ttl() -> SetOptions {
    SetOptions::ttl(MINUTE)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn patient(cluster: &Cluster) -> RedisBuilder {
    patient_at(&cluster.url(), "s")
}

/// With limits that are to be met.
fn impatient(cluster: &Cluster) -> RedisBuilder {
    RedisStore::builder("s")
        .url(&cluster.url())
        .operation_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_millis(1000))
        .reconnect_pauses(Duration::from_millis(20), Duration::from_millis(200))
}

async fn hits(store: &RedisStore, key: &str) -> bool {
    store.put(key, bytes("value"), MINUTE).await.is_ok()
        && matches!(store.value(key).await, Ok(Some(_)))
}

/// A cluster whose nodes go on when another has died and nobody has taken its place yet.
async fn independent() -> Cluster {
    Cluster::start_with(&["--cluster-require-full-coverage", "no"]).await
}

/// Names of keys of the service `s`, so many in slots of each of the primaries 0 to 2.
async fn keys_of_each(cluster: &Cluster, many: usize) -> [Vec<String>; 3] {
    let mut keys = [const { Vec::new() }; 3];
    for number in 0.. {
        let key = format!("key {number}");
        let owner = cluster.owner(0, &format!("s:{key}")).await;
        if keys[owner].len() < many {
            keys[owner].push(key);
        }
        if keys.iter().all(|keys| keys.len() == many) {
            break;
        }
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_of_all_nodes_keep_their_order_and_their_duplicates() {
    let store = patient_cluster().await.connect().await.expect("a cluster");
    let names: Vec<String> = (0..2000).map(|number| format!("{}", number % 1500)).collect();
    let entries = names.iter().map(|name| (name.as_str(), Some(bytes(name)), ttl()));
    for set in store.set_many(entries.collect()).await {
        set.expect("set");
    }
    let keys: Vec<&str> = names.iter().map(String::as_str).chain(["missing"]).collect();
    let found = store.get_many(&keys).await;
    assert_eq!(found.len(), keys.len());
    for (key, entry) in keys.iter().zip(found) {
        let value = entry.expect("an answer").and_then(|entry| entry.value().cloned());
        assert_eq!(value, (*key != "missing").then(|| bytes(key)), "{key}");
    }
    // And one by one, in great numbers.
    let mut reads = JoinSet::new();
    for name in names.clone() {
        let store = store.clone();
        reads.spawn(async move { (store.value(&name).await, name) });
    }
    for (value, name) in reads.join_all().await {
        assert_eq!(value.expect("an answer"), Some(bytes(&name)));
    }
    store.remove_many(&keys).await.expect("removed");
    for entry in store.get_many(&keys).await {
        assert!(entry.expect("an answer").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_removed_on_every_primary_and_nothing_else_is() {
    let cluster = Cluster::start().await;
    let store = patient(&cluster).connect().await.expect("a cluster");
    for number in 0..300 {
        for prefix in ["a:", "b:"] {
            store.put(&format!("{prefix}{number}"), bytes("x"), MINUTE).await.expect("set");
        }
    }
    let count = async || {
        let mut count = [0; 3];
        for (node, count) in count.iter_mut().enumerate() {
            *count = cluster.ask::<usize>(node, &["DBSIZE"]).await;
        }
        count
    };
    assert!(count().await.into_iter().all(|keys| keys > 100), "all nodes have some");
    store.remove_prefix("a:").await.expect("removed");
    assert_eq!(count().await.into_iter().sum::<usize>(), 300);
    for number in 0..300 {
        assert!(store.value(&format!("b:{number}")).await.expect("an answer").is_some());
    }
    store.clear().await.expect("cleared");
    assert_eq!(count().await, [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_while_their_slot_moves_and_after_it() {
    let cluster = Cluster::start().await;
    for bare in [false, true] {
        let service = fresh_name();
        let builder = patient_at(&cluster.url(), &service);
        let builder = if bare { builder.bare() } else { builder };
        let store = builder.connect().await.expect("a cluster");
        let full = |key: &str| format!("{service}:{key}");
        // All in one slot.
        let keys = ["{t}1", "{t}2", "{t}3", "{t}4"];
        for key in keys {
            store.put(key, bytes(key), MINUTE).await.expect("set");
        }
        let slot = cluster.slot(0, &full(keys[0])).await;
        let from = cluster.owner(0, &full(keys[0])).await;
        let to = (from + 1) % 3;
        cluster.begin_to_move(slot, from, to).await;
        // The first is there already (`ASK`), the second comes there by a write, the others are still here.
        cluster.move_key(&full(keys[0]), from, to).await;
        let all = async |expected: [Option<&str>; 4]| {
            for (key, expected) in keys.into_iter().zip(expected) {
                assert_eq!(
                    store.value(key).await.expect("an answer"),
                    expected.map(bytes),
                    "{key}"
                );
            }
            let many = store.get_many(&keys).await.into_iter();
            let many = many.map(|entry| entry.expect("an answer")?.value().cloned());
            assert_eq!(many.collect::<Vec<_>>(), expected.map(|value| value.map(bytes)));
        };
        all(keys.map(Some)).await;
        store.put(keys[0], bytes("new"), MINUTE).await.expect("set");
        store.remove(keys[1]).await.expect("removed");
        for set in store.set_many(vec![(keys[1], Some(bytes("also new")), ttl())]).await {
            set.expect("set");
        }
        all([Some("new"), Some("also new"), Some(keys[2]), Some(keys[3])]).await;
        if !bare {
            let claim = store.claim("{t}claimed", ClaimOptions::new(MINUTE)).await.expect("asked");
            let Claim::Granted(lease) = claim else { panic!("the key is free") };
            let fill = store.fill(lease, Some(bytes("filled")), ttl()).await.expect("filled");
            assert_eq!(fill, Fill::Stored);
        }
        cluster.move_key(&full(keys[2]), from, to).await;
        store.remove_many(&[keys[0], keys[3]]).await.expect("removed");
        all([None, Some("also new"), Some(keys[2]), None]).await;

        cluster.end_move(slot, to).await;
        // The old map leads to the old owner, which redirects (`MOVED`).
        all([None, Some("also new"), Some(keys[2]), None]).await;
        store.put(keys[3], bytes("last"), MINUTE).await.expect("set");
        all([None, Some("also new"), Some(keys[2]), Some("last")]).await;
        store.remove_prefix("{t}").await.expect("removed");
        all([None; 4]).await;
        // The map is learnt again: nothing is redirected any more.
        eventually("the map is right", async || {
            let before = redirections(&cluster, from).await;
            let _ = store.value(keys[0]).await;
            before == redirections(&cluster, from).await
        })
        .await;
        assert_eq!(store.pending(), 0);
    }
}

/// How often a node has said that a key is at another.
async fn redirections(cluster: &Cluster, node: usize) -> String {
    let errors: String = cluster.ask(node, &["INFO", "errorstats"]).await;
    errors.lines().find(|line| line.contains("MOVED")).expect("there were some").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_costs_callers_no_error_and_is_replaced() {
    let mut cluster = independent().await;
    let store = connected(impatient(&cluster)).await;
    let neighbour = patient(&cluster).connect().await.expect("a cluster");
    let [here, _, there] = keys_of_each(&cluster, 20).await;
    let all: Vec<(&str, u64)> = here.iter().chain(&there).map(|key| (key.as_str(), 1)).collect();
    let source = Source::with(&all);
    let values = store.clone().encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Through, values.clone(), minute(), &source);
    eventually("all are kept", async || {
        let mut kept = 0;
        for (key, _) in &all {
            assert_eq!(cache.get(key).await.expect("loaded"), Some(1));
            kept += usize::from(matches!(values.value(key).await, Ok(Some(1))));
        }
        kept == all.len()
    })
    .await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for reader in 0..8 {
        let (cache, ended) = (Arc::clone(&cache), Arc::clone(&ended));
        let keys: Vec<String> = all.iter().map(|(key, _)| (*key).to_owned()).collect();
        readers.spawn(async move {
            let mut reads = 0;
            while !ended.load(Ordering::SeqCst) {
                let key = &keys[(reads * 7 + reader) % keys.len()];
                assert_eq!(cache.get(key).await.expect("a value, from somewhere"), Some(1));
                reads += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    cluster.nodes[0].kill();
    eventually("the end is noticed", async || !store.is_connected()).await;
    // The other nodes go on, and nobody has to ask them twice.
    for key in &there {
        assert!(neighbour.value(key).await.expect("its node is there").is_some());
    }
    eventually("the replica takes over", async || hits(&store, &here[0]).await).await;
    eventually("every primary is connected", async || store.is_connected()).await;
    eventually("all hit again", async || {
        let before = source.loads();
        for (key, _) in &all {
            assert_eq!(cache.get(key).await.expect("a value"), Some(1));
        }
        source.loads() == before
    })
    .await;
    ended.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_follow_their_slot_to_its_new_owner_before_anybody_reads_there() {
    let mut cluster = independent().await;
    // What a node that lives is asked for is to be done; a dead one refuses at once.
    let store = connected(impatient(&cluster).operation_timeout(Duration::from_secs(5))).await;
    let neighbour = patient(&cluster).connect().await.expect("a cluster");
    let [here, there, _] = keys_of_each(&cluster, 3).await;
    for key in here.iter().chain(&there) {
        neighbour.put(key, bytes("old"), MINUTE).await.expect("set");
        neighbour.put(&format!("prefix {key}"), bytes("old"), MINUTE).await.expect("set");
    }
    let lease = match neighbour.claim("{x}", ClaimOptions::new(MINUTE * 10)).await.expect("asked") {
        Claim::Granted(lease) => lease,
        other => panic!("{other:?}"),
    };
    eventually("the replicas have all", async || {
        let mut in_step = true;
        for (primary, replica) in [(0, 3), (1, 4), (2, 5)] {
            let primary: usize = cluster.ask(primary, &["DBSIZE"]).await;
            in_step &= primary == cluster.ask::<usize>(replica, &["DBSIZE"]).await;
        }
        in_step
    })
    .await;
    // Nobody takes over before all has been removed.
    cluster.nodes[3].stop();
    cluster.nodes[0].kill();
    eventually("the end is noticed", async || !store.is_connected()).await;

    let removed = store.remove(&here[0]).await.expect_err("its node is dead");
    assert_eq!(removed.kind(), ErrorKind::Unavailable);
    store.remove_many(&[&here[1], &there[0]]).await.expect_err("the node of one of them is dead");
    assert_eq!(store.pending(), 2, "what could be done has been done");
    assert_eq!(answered(async || store.value(&there[0]).await).await, None);
    store.remove_prefix("prefix").await.expect_err("a node is dead");
    assert_eq!(store.pending(), 3);
    cluster.nodes[3].resume();

    // Whatever is read from now on, it is not what was removed.
    eventually("the replica has taken over", async || match store.value(&here[2]).await {
        Ok(value) => {
            assert_eq!(value, Some(bytes("old")), "it was not removed");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            for key in &here[..2] {
                assert!(!matches!(store.value(key).await, Ok(Some(_))));
            }
            false
        }
    })
    .await;
    for key in &here[..2] {
        assert_eq!(answered(async || store.value(key).await).await, None, "{key}");
    }
    for key in here.iter().chain(&there) {
        let key = format!("prefix {key}");
        assert_eq!(answered(async || store.value(&key).await).await, None, "{key}");
    }
    eventually("all has been made up for", async || store.pending() == 0).await;
    // A lease that was granted before is as good as any, if it was replicated.
    answered(async || neighbour.value("{x}").await).await;
    let fill = neighbour.fill(lease, Some(bytes("filled")), ttl()).await.expect("an answer");
    assert_eq!(fill, Fill::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_whose_lease_a_failover_has_lost_is_refused() {
    let mut cluster = Cluster::start().await;
    let store = patient(&cluster).connect().await.expect("a cluster");
    let [here, ..] = keys_of_each(&cluster, 1).await;
    // The replica does not hear of the lease.
    cluster.nodes[3].stop();
    let _: usize = cluster.ask(0, &["CLIENT", "KILL", "TYPE", "replica"]).await;
    let claim = store.claim(&here[0], ClaimOptions::new(MINUTE * 10)).await.expect("asked");
    let Claim::Granted(lease) = claim else { panic!("the key is free") };
    cluster.nodes[0].kill();
    cluster.nodes[3].resume();
    eventually("the replica has taken over", async || store.value(&here[0]).await.is_ok()).await;
    let fill = answered(async || store.fill(lease.clone(), Some(bytes("late")), ttl()).await).await;
    assert_eq!(fill, Fill::Refused);
    assert_eq!(answered(async || store.value(&here[0]).await).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_enough_to_find_the_cluster_and_a_dead_one_does_not_matter() {
    let mut cluster = Cluster::start().await;
    let mut dead = Server::start().await;
    dead.kill();
    let two = [("127.0.0.1", dead.port()), ("127.0.0.1", cluster.nodes[4].port())];
    let store = RedisStore::builder("s")
        .cluster(two)
        .operation_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
        .connect()
        .await
        .expect("a replica knows the cluster as well");
    let keys = keys_of_each(&cluster, 1).await;
    for keys in &keys {
        assert!(hits(&store, &keys[0]).await);
    }
    let lost = keys[0][0].clone();
    // Nobody is left of those who were named: the others are known by now.
    cluster.nodes[4].kill();
    cluster.nodes[0].kill();
    eventually("the replica takes over", async || hits(&store, &lost).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_down_is_an_error_and_found_again() {
    let cluster = Cluster::start().await;
    let store = connected(impatient(&cluster)).await;
    let [here, ..] = keys_of_each(&cluster, 1).await;
    eventually("hits", async || hits(&store, &here[0]).await).await;
    // A slot without an owner brings the cluster down (`CLUSTERDOWN`).
    for node in 0..3 {
        let owner = cluster.slot(node, "lost").await.to_string();
        let _: Value = cluster.ask(node, &["CLUSTER", "DELSLOTS", &owner]).await;
    }
    eventually("it is down", async || {
        matches!(store.value(&here[0]).await, Err(error) if error.kind() == ErrorKind::Unavailable)
    })
    .await;
    let slot = cluster.slot(0, "lost").await.to_string();
    for node in 0..3 {
        let mut other = cluster.foreign(node).await;
        let _: Result<(), _> =
            redis::cmd("CLUSTER").arg("DELSLOTS").arg(&slot).query_async(&mut other).await;
    }
    let mut other = cluster.foreign(0).await;
    let _: () = redis::cmd("CLUSTER")
        .arg("ADDSLOTS")
        .arg(&slot)
        .query_async(&mut other)
        .await
        .expect("it has no owner");
    eventually("hits again", async || hits(&store, &here[0]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cluster_or_not_as_a_cluster_is_refused() {
    let cluster = Cluster::start().await;
    let single = Server::start().await;
    let error = patient_at(&single.url().replace("redis:", "redis+cluster:"), "s").connect().await;
    let error = error.expect_err("it is not in a cluster");
    assert!(error.to_string().contains("single"), "{error}");
    for node in &cluster.nodes {
        let error = patient_at(&node.url(), "s").connect().await.expect_err("it is in a cluster");
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("feature `cluster`"), "{error}");
    }
    let error = patient(&cluster).database(1).connect().await.expect_err("there is only 0");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough_in_a_cluster_and_each_is_needed() {
    let cluster = Cluster::start().await;
    let permissions = "+@connection +time +get +mget +set +setrange +getrange +strlen +pttl +pexpire \
                       +unlink +scan +evalsha +eval +script|load +multi +exec +cluster|slots +asking";
    for node in 0..6 {
        let mut command = vec!["ACL", "SETUSER", "shop", "on", ">password", "~shop:*"];
        command.extend(permissions.split_whitespace());
        let _: () = cluster.ask(node, &command).await;
    }
    let store = || patient_at(&cluster.url(), "shop").user("shop").password("password").connect();
    let allowed = store().await.expect("it may do all it needs");
    assert!(hits(&allowed, "key").await);
    allowed.clear().await.expect("cleared");
    for (permission, name) in [("-cluster|slots", "cluster|slots"), ("-asking", "asking")] {
        for node in 0..6 {
            let _: () = cluster.ask(node, &["ACL", "SETUSER", "shop", permission]).await;
        }
        let error = store().await.expect_err("a permission is missing");
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(name), "{error}");
        for node in 0..6 {
            let permission = permission.replace('-', "+");
            let _: () = cluster.ask(node, &["ACL", "SETUSER", "shop", &permission]).await;
        }
    }
}

#[tokio::test]
async fn the_last_handle_takes_all_connections_and_tasks_of_a_cluster_with_it() {
    let cluster = Cluster::start().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    // Those of the clients that have made the cluster may be ending still.
    let before = metrics.num_alive_tasks();
    for _ in 0..5 {
        let store = patient(&cluster).connections(2).connect().await.expect("a cluster");
        assert!(hits(&store.clone(), "key").await);
        assert!(metrics.num_alive_tasks() > before);
    }
    eventually("the tasks have ended", async || metrics.num_alive_tasks() <= before).await;
    for node in &cluster.nodes {
        let mut other = foreign(&node.url()).await;
        eventually("the connections have ended", async || {
            let clients: String =
                redis::cmd("CLIENT").arg("LIST").query_async(&mut other).await.expect("a list");
            clients.lines().filter(|line| line.contains("flags=N")).count() == 1
        })
        .await;
    }
}
