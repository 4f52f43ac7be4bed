//! What stands under a key: damaged, foreign, of the wrong type, and for how long.

use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::fresh_name;
use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions, ErrorKind, Fill, SetOptions};
use cache_redis::RedisStore;
use cache_serde::Json;
use cache_tests::redis::{Server, eventually, foreign, patient_at, redis_url};
use cache_tests::{Source, Strategy, cache, minute, unhurried};
use redis::aio::MultiplexedConnection;

const MINUTE: Duration = Duration::from_secs(60);

async fn setup() -> (RedisStore, MultiplexedConnection, String) {
    let (url, service) = (redis_url().await, fresh_name());
    let store = patient_at(&url, &service).connect().await.expect("a server");
    (store, foreign(&url).await, service)
}

async fn raw<T: redis::FromRedisValue>(other: &mut MultiplexedConnection, command: &[&[u8]]) -> T {
    let mut cmd = redis::Cmd::new();
    for part in command {
        cmd.arg(*part);
    }
    cmd.query_async(other).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_stored_value_it_is_a_miss_and_repaired() {
    let (store, mut other, service) = setup().await;
    let key = format!("{service}:key");
    let source = Source::with(&[("key", 123_456)]);
    let values = store.clone().encoded::<_, u64>(Json::new());
    let cache = cache(Strategy::Through, values.clone(), unhurried(), &source);
    values.put("key", 123_456, MINUTE).await.expect("set");
    let good: Vec<u8> = raw(&mut other, &[b"GET", key.as_bytes()]).await;

    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            damaged.push(bytes);
        }
    }
    damaged.push([&good[..], b"x"].concat());
    damaged.push(b"{\"name\":\"foreign\"}".to_vec());
    damaged.push(vec![0; 200]);
    damaged.push(vec![0xff; 200]);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..500 {
        // Half of them begin as a slot does, up to where they no longer do.
        let same = if round % 2 == 0 { random.usize(..good.len()) } else { 0 };
        let length = same.max(random.usize(1..200));
        let mut bytes = good[..same].to_vec();
        bytes.extend((same..length).map(|_| random.u8(..)));
        if bytes != good {
            damaged.push(bytes);
        }
    }

    for (round, bytes) in damaged.iter().enumerate() {
        let _: () = raw(&mut other, &[b"SET", key.as_bytes(), bytes]).await;
        let found = values.value("key").await.expect("an answer");
        assert_eq!(found, None, "{bytes:x?} of {good:x?}, seed {seed}");
        let many = values.get_many(&["key"]).await.remove(0).expect("an answer");
        assert!(many.is_none(), "{bytes:x?} of {good:x?}");

        source.forget_questions();
        assert_eq!(cache.get("key").await.expect("loaded"), Some(123_456));
        assert_eq!(source.loads(), 1, "round {round}");
        eventually("the fill lands", async || cache.loading() == 0).await;
        assert_eq!(values.value("key").await.expect("an answer"), Some(123_456));
    }
    // The empty string is what an absent key is to a script, so it is not counted by each.
    assert!(store.undecodable() + values.undecodable() >= 2 * damaged.len() as u64 - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_a_miss_and_replaced() {
    let (store, mut other, service) = setup().await;
    let key = format!("{service}:key");
    let types: [&[&[u8]]; 5] = [
        &[b"ZADD", key.as_bytes(), b"1", b"member"],
        &[b"LPUSH", key.as_bytes(), b"1"],
        &[b"HSET", key.as_bytes(), b"field", b"1"],
        &[b"SADD", key.as_bytes(), b"1"],
        &[b"XADD", key.as_bytes(), b"*", b"field", b"1"],
    ];
    for command in types {
        let _: () = raw(&mut other, &[b"DEL", key.as_bytes()]).await;
        let _: redis::Value = raw(&mut other, command).await;
        assert_eq!(store.get("key").await.expect("a miss"), None);
        let many = store.get_many(&["key", "another"]).await;
        assert!(many.into_iter().all(|entry| entry.expect("a miss").is_none()));
        let claim = store.claim("key", ClaimOptions::new(MINUTE)).await.expect("an answer");
        let Claim::Granted(lease) = claim else { panic!("{claim:?}") };
        let value = Some(Bytes::from_static(b"value"));
        let filled = store.fill(lease, value.clone(), SetOptions::ttl(MINUTE)).await;
        assert_eq!(filled.expect("an answer"), Fill::Stored);
        assert_eq!(store.value("key").await.expect("an answer"), value);
    }
    assert_eq!(store.undecodable(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_sets_the_expiry_anew() {
    let (store, mut other, service) = setup().await;
    let key = format!("{service}:key");
    let value = || Some(Bytes::from_static(b"value"));
    let hour = SetOptions::ttl(MINUTE * 60);
    let minute = SetOptions::ttl(MINUTE);
    let mut expires = async || -> i64 { raw(&mut other, &[b"PTTL", key.as_bytes()]).await };
    let minutes = |minutes: i64| (minutes * 60_000 - 50_000)..=(minutes * 60_000);

    store.set("key", value(), hour.clone()).await.expect("set");
    assert!(minutes(60).contains(&expires().await));
    store.set("key", value(), minute.clone()).await.expect("set");
    assert!(minutes(1).contains(&expires().await));
    store.set("key", value(), SetOptions::forever()).await.expect("set");
    assert_eq!(expires().await, -1);
    let both = minute.clone().stale_for(MINUTE);
    let many = vec![("key", value(), both)];
    store.set_many(many).await.remove(0).expect("set");
    assert!(minutes(2).contains(&expires().await));
    for lifetime in [Duration::from_secs(u64::MAX), Duration::MAX - Duration::from_nanos(1)] {
        store.set("key", value(), SetOptions::ttl(lifetime)).await.expect("set");
        assert!(expires().await > 3_000_000_000_000, "a hundred years, and not at once");
    }

    // A lease always ends, and leaves the expiry of the entry as it was.
    store.set("key", value(), minute.clone()).await.expect("set");
    let version = store.get("key").await.expect("an answer").expect("an entry").version();
    let options = ClaimOptions::new(MINUTE * 60).refreshing(version);
    let claim = store.claim("key", options).await.expect("an answer");
    let Claim::Granted(lease) = claim else { panic!("{claim:?}") };
    assert!(minutes(60).contains(&expires().await));
    store.release(lease).await.expect("released");
    assert!(minutes(1).contains(&expires().await));
    store.remove("key").await.expect("removed");
    let claim = store.claim("key", ClaimOptions::new(Duration::MAX)).await.expect("an answer");
    assert!(matches!(claim, Claim::Granted(_)));
    assert!(expires().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_by_prefix_keeps_to_the_service() {
    let (store, mut other, service) = setup().await;
    let outside = format!("{service}x:key");
    let _: () = raw(&mut other, &[b"SET", outside.as_bytes(), b"1"]).await;
    let names: Vec<String> = (0..3000).map(|number| format!("rare*{number}")).collect();
    let value = || Some(Bytes::from_static(b"value"));
    let entries = |prefix: &str| -> Vec<String> {
        names.iter().map(|name| format!("{prefix}{name}")).collect()
    };
    let (inside, beside) = (entries("a*"), entries("ab"));
    for keys in [&inside, &beside] {
        let many = keys.iter().map(|key| (key.as_str(), value(), SetOptions::ttl(MINUTE)));
        for result in store.set_many(many.collect()).await {
            result.expect("set");
        }
    }
    store.remove_prefix("a*").await.expect("removed");
    let keys: Vec<&str> = inside.iter().map(String::as_str).collect();
    assert!(
        store.get_many(&keys).await.into_iter().all(|entry| entry.expect("an answer").is_none())
    );
    let keys: Vec<&str> = beside.iter().map(String::as_str).collect();
    assert!(
        store.get_many(&keys).await.into_iter().all(|entry| entry.expect("an answer").is_some())
    );

    store.clear().await.expect("cleared");
    assert!(
        store.get_many(&keys).await.into_iter().all(|entry| entry.expect("an answer").is_none())
    );
    let kept: String = raw(&mut other, &[b"GET", outside.as_bytes()]).await;
    assert_eq!(kept, "1");
    let _: () = raw(&mut other, &[b"DEL", outside.as_bytes()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_whose_names_look_alike_do_not_meet() {
    let (url, name) = (redis_url().await, fresh_name());
    let one = patient_at(&url, &name).connect().await.expect("a server");
    let other = patient_at(&url, &format!("{name}:a")).connect().await.expect("a server");
    one.put("a:b", Bytes::from_static(b"1"), MINUTE).await.expect("set");
    assert_eq!(other.value("b").await.expect("an answer"), None);
    other.clear().await.expect("cleared");
    assert!(one.value("a:b").await.expect("an answer").is_some());
    one.clear().await.expect("cleared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_the_limit_is_refused_and_nothing_is_lost() {
    let (url, service) = (redis_url().await, fresh_name());
    let store = patient_at(&url, &service).max_value_bytes(1000).connect();
    let store = store.await.expect("a server");
    let (fits, large) = (Bytes::from(vec![1; 1000]), Bytes::from(vec![1; 1001]));
    store.put("key", fits.clone(), MINUTE).await.expect("set");
    let refused = store.put("key", large.clone(), MINUTE).await.expect_err("too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(store.value("key").await.expect("an answer"), Some(fits.clone()));

    let claim = store.claim("cold", ClaimOptions::new(MINUTE)).await.expect("an answer");
    let Claim::Granted(lease) = claim else { panic!("{claim:?}") };
    let refused = store.fill(lease, Some(large.clone()), SetOptions::ttl(MINUTE)).await;
    assert_eq!(refused.expect_err("too large").kind(), ErrorKind::TooLarge);
    let claim = store.claim("cold", ClaimOptions::new(MINUTE)).await.expect("an answer");
    assert!(matches!(claim, Claim::Granted(_)), "{claim:?}");

    let ttl = SetOptions::ttl(MINUTE);
    let many = vec![("a", Some(fits), ttl.clone()), ("b", Some(large), ttl)];
    let kinds = store.set_many(many).await.into_iter().map(|result| result.err().map(|e| e.kind()));
    assert_eq!(kinds.collect::<Vec<_>>(), [None, Some(ErrorKind::TooLarge)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_comes_back_whole() {
    let (store, _, _) = setup().await;
    let large = Bytes::from((0..16 << 20).map(|i: u32| i as u8).collect::<Vec<_>>());
    store.put("key", large.clone(), MINUTE).await.expect("set");
    assert!(store.value("key").await.expect("an answer") == Some(large));
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_slots_are_read_and_written_by_others() {
    let (url, service) = (redis_url().await, fresh_name());
    let store = patient_at(&url, &service).bare().connect().await.expect("a server");
    let mut other = foreign(&url).await;
    let (key, another) = (format!("{service}:key"), format!("{service}:another"));
    let users = store.clone().encoded::<_, u64>(Json::bare());

    users.put("key", 42, MINUTE).await.expect("set");
    let written: String = raw(&mut other, &[b"GET", key.as_bytes()]).await;
    assert_eq!(written, "42");
    let left: i64 = raw(&mut other, &[b"PTTL", key.as_bytes()]).await;
    assert!((1..=60_000).contains(&left));
    let _: () = raw(&mut other, &[b"SET", another.as_bytes(), b"43", b"PX", b"60000"]).await;
    let entry = users.get("another").await.expect("an answer").expect("an entry");
    assert_eq!(entry.value(), Some(&43));
    assert!(entry.is_fresh() && entry.usable_for() <= MINUTE);
    let _: () = raw(&mut other, &[b"SET", another.as_bytes(), b"44"]).await;
    let entry = users.get("another").await.expect("an answer").expect("an entry");
    assert_eq!(entry.usable_for(), Duration::MAX);
    let many = users.get_many(&["key", "missing", "another", "key"]).await;
    let many: Vec<_> = many
        .into_iter()
        .map(|entry| entry.expect("an answer").and_then(cache_core::Entry::into_value))
        .collect();
    assert_eq!(many, [Some(42), None, Some(44), Some(42)]);

    let capabilities = store.capabilities();
    assert!(!capabilities.fenced && !capabilities.versioned && capabilities.prefix);
    users.set("key", None, SetOptions::ttl(MINUTE)).await.expect("removed");
    assert!(users.get("key").await.expect("an answer").is_none(), "there are no negative entries");
    let source = Source::with(&[("key", 7)]);
    let cache = cache(Strategy::Aside, users.clone(), minute(), &source);
    assert_eq!(cache.get("key").await.expect("loaded"), Some(7));
    eventually("the fill lands", async || cache.loading() == 0).await;
    assert_eq!(users.value("key").await.expect("an answer"), Some(7));
    store.clear().await.expect("cleared");
    assert_eq!(users.value("another").await.expect("an answer"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_said_when_connecting() {
    let mut server =
        Server::start_with(&["--user", "limited", "on", ">secret", "~*", "+@all", "-unlink"]).await;
    let login = |user: &str, password: &str| {
        patient_at(&server.url(), "s").user(user).password(password).connect()
    };
    let error = login("limited", "wrong").await.expect_err("the password is wrong");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("user or the password"), "{error}");
    let error = login("limited", "secret").await.expect_err("a permission is missing");
    assert!(error.to_string().contains("unlink"), "{error}");
    server.kill();

    let error = patient_at(&server.url(), "s").connect().await.expect_err("no server");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for (builder, option) in [
        (RedisStore::builder("").url("redis://localhost"), "service"),
        (RedisStore::builder("s").url("redis://user:hunter2@:x"), "url"),
        (RedisStore::builder("s").url("rediss://localhost/#insecure"), "url"),
        (RedisStore::builder("s").connections(0), "connections"),
    ] {
        let error = builder.connect().await.expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains(option), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough() {
    let permissions = "+@connection +time +get +mget +set +setrange +getrange +strlen +pttl +pexpire \
                       +unlink +scan +evalsha +eval +script|load +multi +exec";
    let mut arguments = vec!["--user", "shop", "on", ">password", "~shop:*"];
    arguments.extend(permissions.split_whitespace());
    let server = Server::start_with(&arguments).await;
    for bare in [false, true] {
        let builder = patient_at(&server.url(), "shop").user("shop").password("password");
        let builder = if bare { builder.bare() } else { builder };
        let store = builder.connect().await.expect("it may do all it needs");
        let value = Some(Bytes::from_static(b"value"));
        let minute = SetOptions::ttl(MINUTE);
        store.set("key", value.clone(), minute.clone()).await.expect("set");
        let entry = store.get("key").await.expect("an answer").expect("an entry");
        for options in
            [ClaimOptions::new(MINUTE * 2).refreshing(entry.version()), ClaimOptions::new(MINUTE)]
        {
            if let Claim::Granted(lease) = store.claim("key", options).await.expect("an answer") {
                store.release(lease).await.expect("released");
            }
        }
        let claim = store.claim("cold", ClaimOptions::new(MINUTE)).await.expect("an answer");
        let Claim::Granted(lease) = claim else { panic!("{claim:?}") };
        let filled = store.fill(lease, value.clone(), minute.clone()).await;
        assert_eq!(filled.expect("an answer"), Fill::Stored);
        for result in store.set_many(vec![("a", value, minute)]).await {
            result.expect("set");
        }
        for entry in store.get_many(&["a", "key"]).await {
            assert!(entry.expect("an answer").is_some());
        }
        store.remove_many(&["a", "key"]).await.expect("removed");
        store.clear().await.expect("cleared");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_too_wide_are_as_good_as_none() {
    let store = patient_at(&redis_url().await, &fresh_name())
        .operation_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .reconnect_pauses(Duration::MAX, Duration::MAX)
        .max_in_flight(usize::MAX)
        .max_pending(usize::MAX)
        .largest_batch(usize::MAX)
        .connect()
        .await
        .expect("a server");
    store.put("key", Bytes::from_static(b"value"), MINUTE).await.expect("set");
    assert!(store.value("key").await.expect("an answer").is_some());
    store.remove("key").await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_refuses_writes_and_serves_reads() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").connect().await.expect("a server");
    let value = Bytes::from(vec![1; 1000]);
    store.put("key", value.clone(), MINUTE).await.expect("set");
    let mut other = foreign(&server.url()).await;
    let _: () = raw(&mut other, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;

    let error = store.put("another", value.clone(), MINUTE).await.expect_err("no memory");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert_eq!(store.value("key").await.expect("an answer"), Some(value));
    assert!(store.is_connected());
    let again = patient_at(&server.url(), "s").connect().await;
    again.expect("reads work, so it connects");
    store.remove("key").await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_a_node_of_a_cluster_are_refused() {
    let server =
        Server::start_with(&["--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes"])
            .await;
    let error = patient_at(&server.url(), "s").connect().await.expect_err("a replica");
    assert!(error.to_string().contains("replica"), "{error}");

    let server = Server::start_with(&["--cluster-enabled", "yes"]).await;
    let error = patient_at(&server.url(), "s").connect().await.expect_err("a node");
    assert!(error.to_string().to_lowercase().contains("cluster"), "{error}");
}
