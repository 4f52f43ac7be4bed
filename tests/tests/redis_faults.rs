//! Servers that hang, die and come back, and networks that lose things.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::fresh_name;
use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions, ErrorKind, SetOptions, Stats};
use cache_redis::{RedisBuilder, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{
    Fault, Proxy, Server, answered, connected, eventually, foreign, patient_at,
};
use cache_tests::{Source, Strategy, cache, minute, unhurried};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

/// With limits that are to be met.
fn impatient(url: &str) -> RedisBuilder {
    RedisStore::builder("s")
        .url(url)
        .operation_timeout(Duration::from_millis(250))
        .connect_timeout(Duration::from_millis(500))
        .reconnect_pauses(Duration::from_millis(20), Duration::from_millis(200))
}

async fn hits(store: &RedisStore) -> bool {
    store.put("hit", Bytes::from_static(b"value"), MINUTE).await.is_ok()
        && matches!(store.value("hit").await, Ok(Some(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_callers_no_error_and_little_time() {
    let server = Server::start().await;
    let store = connected(impatient(&server.url())).await;
    let source = Source::with(&[("key", 1)]);
    let stats = Arc::new(Stats::default());
    let options = minute().observer(Arc::clone(&stats));
    let values = store.clone().encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Through, values, options, &source);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(1));

    server.stop();
    let mut readers = JoinSet::new();
    for _ in 0..50 {
        let cache = Arc::clone(&cache);
        readers.spawn(async move { cache.get("key").await });
    }
    for read in readers.join_all().await {
        assert_eq!(read.expect("loaded"), Some(1));
    }
    eventually("the store gives the connection up", async || !store.is_connected()).await;

    for _ in 0..100 {
        let error = store.get("key").now_or_never().expect("an answer at once");
        assert_eq!(error.expect_err("the server hangs").kind(), ErrorKind::Unavailable);
        assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    }

    server.resume();
    store.connected().await;
    eventually("hits again", async || hits(&store).await).await;
    eventually("no load is left", async || cache.loading() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_restarted_is_found_again() {
    let mut server = Server::start().await;
    let store = connected(impatient(&server.url())).await;
    let source = Source::with(&[("key", 1)]);
    let values = store.clone().encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Aside, values, minute(), &source);
    for _ in 0..5 {
        eventually("hits", async || hits(&store).await).await;
        server.kill();
        eventually("the end is noticed", async || !store.is_connected()).await;
        for _ in 0..20 {
            assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
            let error = store.get("key").await.expect_err("there is no server");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        server.restart().await;
        store.connected().await;
    }
    eventually("hits again", async || hits(&store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_can_be_made_before_its_server() {
    let mut server = Server::start().await;
    server.kill();
    let store = impatient(&server.url()).connect_lazily().expect("valid options");
    let error = store.get("key").await.expect_err("there is no server");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    server.restart().await;
    store.connected().await;
    eventually("hits", async || hits(&store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_that_could_not_be_sent_are_made_up_for_before_anybody_reads() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = connected(impatient(&proxy.url())).await;
    let value = || Bytes::from_static(b"old");
    let neighbour = patient_at(&server.url(), "s").connect().await.expect("a server");
    for key in ["removed", "a:1", "a:2", "kept", "set"] {
        neighbour.put(key, value(), MINUTE).await.expect("set");
    }
    proxy.fault(Fault::Refuse);
    proxy.reset();
    eventually("the end is noticed", async || !store.is_connected()).await;

    for _ in 0..3 {
        store.remove("removed").await.expect_err("there is no server");
    }
    store.remove_prefix("a:").await.expect_err("there is no server");
    store.put("set", Bytes::from_static(b"new"), MINUTE).await.expect_err("there is no server");
    assert_eq!(store.pending(), 3, "of each key the newest");

    proxy.fault(Fault::None);
    store.connected().await;
    for key in ["removed", "a:1", "a:2", "set"] {
        assert_eq!(answered(async || store.value(key).await).await, None, "{key}");
    }
    assert_eq!(answered(async || store.value("kept").await).await, Some(value()));
    assert_eq!(store.pending(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_invalidations_become_one_of_everything() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = connected(impatient(&proxy.url()).max_pending(10)).await;
    let neighbour = patient_at(&server.url(), "s").connect().await.expect("a server");
    let keys: Vec<String> = (0..20).map(|number| format!("key {number}")).collect();
    for key in &keys {
        neighbour.put(key, Bytes::from_static(b"old"), MINUTE).await.expect("set");
    }
    let mut other = foreign(&server.url()).await;
    let _: () =
        redis::cmd("SET").arg("another:key").arg(1).query_async(&mut other).await.expect("set");
    proxy.fault(Fault::Refuse);
    proxy.reset();
    eventually("the end is noticed", async || !store.is_connected()).await;
    let removed: Vec<&str> = keys[..11].iter().map(String::as_str).collect();
    store.remove_many(&removed).await.expect_err("there is no server");
    assert_eq!(store.pending(), 1);

    proxy.fault(Fault::None);
    store.connected().await;
    for key in &keys {
        assert_eq!(answered(async || store.value(key).await).await, None);
    }
    let exists: bool =
        redis::cmd("EXISTS").arg("another:key").query_async(&mut other).await.expect("an answer");
    assert!(exists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_does_not_keep_the_key() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    // Time enough for the claim to get there, and to be seen before it is made up for.
    let store = patient_at(&proxy.url(), "s").operation_timeout(Duration::from_secs(3));
    let store = store.connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    proxy.fault(Fault::DropAnswers);
    let claim = ClaimOptions::new(MINUTE * 60);
    let granted = eventually("the server has granted it", async || {
        redis::cmd("EXISTS").arg("s:key").query_async(&mut other).await.expect("an answer")
    });
    let (answer, ()) = tokio::join!(store.claim("key", claim), granted);
    let error = answer.expect_err("the answer is lost");
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    proxy.fault(Fault::None);
    proxy.reset();
    eventually("the lease is given back", async || {
        matches!(store.claim("key", claim).await, Ok(Claim::Granted(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_is_not_done_later() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").operation_timeout(Duration::from_secs(2));
    let store = store.connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    forget_calls(&mut other).await;

    server.stop();
    let error = store.put("key", Bytes::from_static(b"late"), MINUTE).await;
    assert_eq!(error.expect_err("the server hangs").kind(), ErrorKind::Unavailable);
    // So that nothing makes up for it, and the server finds the write itself.
    drop(store);
    server.resume();
    eventually("the write arrives", async || calls(&mut other, ["evalsha"]).await == [1]).await;
    let there: bool =
        redis::cmd("EXISTS").arg("s:key").query_async(&mut other).await.expect("an answer");
    assert!(!there);
}

/// How often these commands have been called since the calls were forgotten.
async fn calls<const N: usize>(
    other: &mut redis::aio::MultiplexedConnection,
    names: [&str; N],
) -> [u64; N] {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query_async(other).await.expect("statistics");
    names.map(|name| {
        let line = format!("cmdstat_{name}:calls=");
        let calls = stats.lines().find_map(|stat| stat.strip_prefix(&line));
        let calls = calls.and_then(|calls| calls.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    })
}

async fn forget_calls(other: &mut redis::aio::MultiplexedConnection) {
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(other).await.expect("reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_is_one_command_and_a_cold_load_is_three() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    let source = Source::with(&[("key", 1)]);
    let values = store.encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Through, values, unhurried(), &source);
    let sent = ["get", "mget", "evalsha", "eval"];
    forget_calls(&mut other).await;
    cache.get("key").await.expect("loaded");
    eventually("the fill lands", async || cache.loading() == 0).await;
    assert_eq!(calls(&mut other, sent).await, [1, 0, 2, 0]);
    forget_calls(&mut other).await;
    for _ in 0..10 {
        cache.get("key").await.expect("kept");
    }
    assert_eq!(calls(&mut other, sent).await, [10, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_together_when_many_are_in_flight_and_one_by_one_when_few_are() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let mut other = foreign(&server.url()).await;
    for (largest_batch, together) in [(128, true), (1, false)] {
        let store = patient_at(&proxy.url(), "s").largest_batch(largest_batch);
        let store = store.connect().await.expect("a server");
        for number in 0..100 {
            let key = format!("{number}");
            store.put(&key, key.clone().into(), MINUTE).await.expect("set");
        }
        let _: () =
            redis::cmd("SET").arg("s:70").arg("x").query_async(&mut other).await.expect("set");
        forget_calls(&mut other).await;

        // None of them is answered before all have been asked.
        proxy.fault(Fault::Hang);
        let mut reads: Vec<_> = (0..100)
            .map(|number| {
                let store = store.clone();
                Box::pin(async move { store.value(&number.to_string()).await })
            })
            .collect();
        for read in &mut reads {
            assert!(read.now_or_never().is_none());
        }
        proxy.fault(Fault::None);
        for (number, value) in join_all(reads).await.into_iter().enumerate() {
            let expected = (number != 70).then(|| number.to_string().into());
            assert_eq!(value.expect("an answer"), expected);
        }
        let [one_by_one, batches] = calls(&mut other, ["get", "mget"]).await;
        if together {
            assert_eq!(one_by_one, 16);
            assert!((1..=2).contains(&batches), "{batches} batches");
        } else {
            assert_eq!((one_by_one, batches), (100, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_network_does_the_store_recovers_and_never_lies() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = connected(impatient(&proxy.url())).await;
    let faults = [
        Fault::Refuse,
        Fault::Hang,
        Fault::Delay(Duration::from_secs(1)),
        Fault::DropAnswers,
        Fault::Corrupt,
        Fault::CutAfter(0),
        Fault::CutAfter(1),
        Fault::CutAfter(500),
    ];
    let large = Bytes::from(vec![7; 4000]);
    for fault in faults {
        eventually("hits", async || {
            store.put("key", large.clone(), MINUTE).await.is_ok() && store.pending() == 0
        })
        .await;
        proxy.fault(fault);
        if fault == Fault::Refuse {
            proxy.reset();
        }
        let mut readers = JoinSet::new();
        for _ in 0..40 {
            let (store, large) = (store.clone(), large.clone());
            readers.spawn(async move {
                match store.value("key").await {
                    Ok(value) => assert_eq!(value, Some(large), "a value, but another one"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            });
        }
        readers.join_all().await;
        proxy.fault(Fault::None);
    }
    eventually("hits again", async || hits(&store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_operations_than_fit_are_refused_at_once() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = patient_at(&proxy.url(), "s").max_in_flight(10).connect().await.expect("a server");
    proxy.fault(Fault::Hang);
    let mut sets = JoinSet::new();
    for number in 0..30 {
        let store = store.clone();
        sets.spawn(async move {
            let key = number.to_string();
            store.set(&key, None, SetOptions::ttl(MINUTE)).await
        });
    }
    for _ in 0..20 {
        let set = sets.join_next().await.expect("a task").expect("no panic");
        let error = set.expect_err("there is no room, and nothing else ends");
        assert!(error.to_string().contains("too many"), "{error}");
    }
    proxy.fault(Fault::None);
    while let Some(set) = sets.join_next().await {
        set.expect("no panic").expect("it was in flight");
    }
    store.set("fits", None, SetOptions::ttl(MINUTE)).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_slots_do_not_bring_the_connection_down() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = patient_at(&proxy.url(), "s").connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    let _: () =
        redis::cmd("SET").arg("s:bytes").arg("x").query_async(&mut other).await.expect("set");
    let _: () =
        redis::cmd("LPUSH").arg("s:list").arg("x").query_async(&mut other).await.expect("pushed");
    for _ in 0..100 {
        for key in ["bytes", "list"] {
            assert_eq!(store.value(key).await.expect("a miss"), None);
        }
    }
    assert_eq!(store.undecodable(), 200);
    assert!(store.is_connected());
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn the_last_handle_takes_the_connection_and_the_tasks_with_it() {
    let server = Server::start().await;
    let mut other = foreign(&server.url()).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    for _ in 0..20 {
        let store = patient_at(&server.url(), &fresh_name()).connections(3).connect();
        let store = store.await.expect("a server");
        assert!(hits(&store.clone()).await);
        assert!(metrics.num_alive_tasks() > before);
    }
    eventually("the tasks have ended", async || metrics.num_alive_tasks() == before).await;
    eventually("the connections have ended", async || {
        let clients: String =
            redis::cmd("CLIENT").arg("LIST").query_async(&mut other).await.expect("a list");
        clients.lines().count() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_and_a_user_are_the_same_after_a_reconnect() {
    let mut server = Server::start_with(&["--user", "app", "on", ">secret", "~s:*", "+@all"]).await;
    let store = RedisStore::builder("s")
        .url(&server.url().replace("127", "app:secret@127").replace("/0", "/"))
        .database(5)
        .connect_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(20))
        .connect()
        .await
        .expect("a server");
    for _ in 0..2 {
        assert!(hits(&store).await);
        let mut other = foreign(&server.url()).await;
        let _: () = redis::cmd("SELECT").arg(5).query_async(&mut other).await.expect("selected");
        let there: bool =
            redis::cmd("EXISTS").arg("s:hit").query_async(&mut other).await.expect("an answer");
        assert!(there, "the key is in database 5");
        server.restart().await;
        eventually("hits again", async || hits(&store).await).await;
    }
}
