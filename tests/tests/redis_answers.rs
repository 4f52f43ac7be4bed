//! What a server may answer while it runs, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheStore, CacheStoreExt, ErrorKind, SetOptions};
use cache_redis::{RedisBuilder, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Proxy, Server, eventually, foreign, patient_at};
use cache_tests::{Source, Strategy, cache, minute};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

fn quick(url: &str) -> RedisBuilder {
    patient_at(url, "s").reconnect_pauses(Duration::from_millis(10), Duration::from_millis(50))
}

async fn hits(store: &RedisStore) -> bool {
    store.put("hit", Bytes::from_static(b"value"), MINUTE).await.is_ok()
        && matches!(store.value("hit").await, Ok(Some(_)))
}

async fn tell<T: redis::FromRedisValue>(other: &mut MultiplexedConnection, command: &[&str]) -> T {
    let mut message = redis::cmd(command[0]);
    for argument in &command[1..] {
        message.arg(*argument);
    }
    message.query_async(other).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_a_replica_is_left_until_it_is_none() {
    let server = Server::start().await;
    let store = quick(&server.url()).connect().await.expect("a server");
    let source = Source::with(&[("key", 1)]);
    let cache = cache(Strategy::Through, store.clone().encoded(Json::new()), minute(), &source);
    assert!(hits(&store).await);
    let mut other = foreign(&server.url()).await;
    // Of a server that is not there, so that it keeps what it has.
    let _: () = tell(&mut other, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = store.put("hit", Bytes::from_static(b"new"), MINUTE).await.expect_err("a replica");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("replica"), "{error}");
    eventually("it is left", async || {
        matches!(store.get("hit").await, Err(error) if error.to_string().contains("replica"))
    })
    .await;
    for _ in 0..20 {
        assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    }
    let _: () = tell(&mut other, &["REPLICAOF", "NO", "ONE"]).await;
    store.connected().await;
    // The write that failed has been made up for.
    assert_eq!(store.value("hit").await.expect("an answer"), None);
    eventually("hits again", async || hits(&store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_loading_its_data_is_waited_for() {
    let files = TempDir::new().expect("a directory for temporary files");
    let directory = files.path().to_str().expect("a path of text");
    let first = Server::start_with(&["--dir", directory]).await;
    let mut other = foreign(&first.url()).await;
    let fill = "for i = 1, 6000 do redis.call('SET', 'other:' .. i, string.rep('x', 100)) end";
    let _: () = tell(&mut other, &["EVAL", fill, "0"]).await;
    let _: () = tell(&mut other, &["SAVE"]).await;
    // It takes its time for each key, and looks after its clients meanwhile.
    let slowly = ["--dir", directory, "--key-load-delay", "1000"];
    let slowly = [&slowly[..], &["--loading-process-events-interval-bytes", "1024"]].concat();
    let server = Server::start_with(&slowly).await;
    let store = quick(&server.url()).connect_lazily().expect("valid options");
    let mut loading = false;
    eventually("it has loaded its data", async || match store.get("key").await {
        Ok(entry) => entry.is_none(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            loading |= error.to_string().contains("loading");
            false
        }
    })
    .await;
    assert!(loading, "it has been seen loading");
    assert!(hits(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_withdrawn_is_named_and_costs_callers_no_error() {
    let server = Server::start_with(&["--user", "shop", "on", ">secret", "~*", "+@all"]).await;
    let proxy = Proxy::to(server.port()).await;
    let store = quick(&proxy.url()).user("shop").password("secret").connect();
    let store = store.await.expect("a server");
    let source = Source::with(&[("key", 1)]);
    let cache = cache(Strategy::Through, store.clone().encoded(Json::new()), minute(), &source);
    assert!(hits(&store).await);
    let mut other = foreign(&server.url()).await;
    let _: () = tell(&mut other, &["ACL", "SETUSER", "shop", "-get"]).await;
    let error = store.get("hit").await.expect_err("it may not");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(
        error.to_string().contains("permission") && error.to_string().contains("get"),
        "{error}"
    );
    for _ in 0..20 {
        assert_eq!(cache.get("key").await.expect("loaded"), Some(1));
    }
    let _: () = tell(&mut other, &["ACL", "SETUSER", "shop", "+get"]).await;
    assert!(hits(&store).await);
    assert_eq!(proxy.connections(), 1, "the connection was not to blame");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_go_by_all_connections() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").connections(3).connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries = names.iter().map(|name| {
        (name.as_str(), Some(Bytes::copy_from_slice(name.as_bytes())), SetOptions::ttl(MINUTE))
    });
    let mut last_commands = async |command: &str| {
        let clients: String = tell(&mut other, &["CLIENT", "LIST"]).await;
        clients.lines().filter(|line| line.contains(&format!("cmd={command} "))).count()
    };
    let entries: Vec<_> = entries.collect();
    // Each connection is also asked for the time now and then, which may come in between.
    eventually("they are set by all", async || {
        for set in store.set_many(entries.clone()).await {
            set.expect("set");
        }
        last_commands("evalsha").await == 3
    })
    .await;
    eventually("they are read by all", async || {
        for (key, entry) in keys.iter().zip(store.get_many(&keys).await) {
            let entry = entry.expect("an answer").expect("an entry");
            assert_eq!(entry.value().map(|value| &value[..]), Some(key.as_bytes()));
        }
        last_commands("mget").await == 3
    })
    .await;
    eventually("they are removed by all", async || {
        store.remove_many(&keys).await.expect("removed");
        last_commands("unlink").await == 3
    })
    .await;
    // One by one they go where they went together.
    assert!(store.value("7").await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_a_million_keys_comes_to_its_end_while_their_number_grows() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").connect().await.expect("a server");
    let mut other = foreign(&server.url()).await;
    let mut add = async |from: u32, to: u32| {
        let add = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'other:' .. i, 'x') end";
        for from in (from..to).step_by(20_000) {
            let to = from + 19_999;
            let _: () =
                tell(&mut other, &["EVAL", add, "0", &from.to_string(), &to.to_string()]).await;
        }
    };
    add(0, 1_000_000).await;
    let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries = keys.iter().map(|key| (*key, Some(Bytes::new()), SetOptions::ttl(MINUTE)));
    for set in store.set_many(entries.collect()).await {
        set.expect("set");
    }
    // The server's table becomes larger in the middle of the scan.
    let (removed, ()) = tokio::join!(store.remove_prefix(""), add(1_000_000, 1_200_000));
    removed.expect("removed");
    assert!(store.get_many(&keys).await.into_iter().all(|entry| matches!(entry, Ok(None))));
    let left: u32 = tell(&mut other, &["DBSIZE"]).await;
    assert_eq!(left, 1_200_000, "what is others' stays");
}
