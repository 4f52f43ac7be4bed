//! What the server is asked to remember, by prefix and by key, what it tells, and what it does not.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use cache_core::testing::{Operation, SlowStore, Subject, fresh_name};
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Claim, ClaimOptions, Encoded, ErrorKind, Fill, Marked,
    Namespaced, NearMarks, Resync, SetOptions, TagStore, Tagged, TaggedCodec, Tiered,
    store_conformance,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisBus, RedisMarks, RedisStore, Tracking};
use cache_serde::Json;
use cache_tests::redis::{Fault, Proxy, Server, eventually, foreign, patient_at, redis_url};
use tokio::time::timeout;

type Far = Encoded<Namespaced<RedisStore>, Json, u64>;
type Tiers<N = MemoryStore<u64>> = Tiered<N, Far>;

const HOUR: Duration = Duration::from_secs(3600);
const LONG_TRUST: Duration = Duration::from_secs(60);
const TRUST: Duration = Duration::from_secs(1);
/// What the thread may take that ends the trust, on a busy machine.
const TICKS: Duration = Duration::from_millis(500);

async fn store(url: &str, service: &str, tracked: bool) -> RedisStore {
    let store = patient_at(url, service).connections(2);
    let store = if tracked { store.tracked() } else { store };
    store.connect().await.expect("a server")
}

fn far(store: &RedisStore) -> Far {
    store.clone().namespaced("n").encoded(Json::new())
}

fn tracking(store: &RedisStore, by_key: bool) -> Tracking {
    let tracking = Tracking::of(store).namespace("n");
    if by_key { tracking.by_key() } else { tracking }
}

/// As in a process of its own: with own connections. It goes on however long the machine is busy with something else.
async fn process(url: &str, service: &str, by_key: bool) -> Tiers {
    let store = store(url, service, by_key).await;
    let tiers = Tiered::builder(MemoryStore::new(10_000), far(&store)).near_ttl(HOUR);
    let tiers = tiers.coherent_by(tracking(&store, by_key).trust(LONG_TRUST));
    let tiers = tiers.build().expect("valid options");
    tiers.trusted().await;
    tiers
}

/// Whose own news may come at any time, and close nothing.
async fn subject(by_key: bool) -> Subject<Tiers> {
    let store = store(&redis_url().await, &fresh_name(), by_key).await;
    let tiers = Tiered::builder(MemoryStore::new(10_000), far(&store)).near_ttl(Duration::MAX);
    let tiers = tiers.coherent_by(tracking(&store, by_key).trust(LONG_TRUST));
    let tiers = tiers.build().expect("valid options");
    tiers.trusted().await;
    Subject::new(tiers).real_time(Duration::from_millis(100))
}

store_conformance!(by_prefix, subject(false).await);
store_conformance!(by_key, subject(true).await);

#[tokio::test(flavor = "multi_thread")]
async fn by_key_nobody_is_told_of_what_he_has_not_read() {
    let (url, service) = (redis_url().await, fresh_name());
    let by_prefix = process(&url, &service, false).await;
    let by_key = process(&url, &service, true).await;
    let writer = far(&store(&url, &service, false).await);
    writer.put("read", 0, HOUR).await.expect("no failure");
    for tiers in [&by_prefix, &by_key] {
        eventually("it is near", async || {
            tiers.get("read").await.expect("an answer");
            tiers.get_now("read").is_ready()
        })
        .await;
    }
    let before = [&by_prefix, &by_key].map(|tiers| tiers.snapshot().dropped_by_others);
    for key in 0..1000 {
        writer.put(&key.to_string(), 1, HOUR).await.expect("no failure");
    }
    writer.put("read", 1, HOUR).await.expect("no failure");
    let told = |tiers: &Tiers, before| tiers.snapshot().dropped_by_others - before;
    eventually("all are told", async || told(&by_prefix, before[0]) >= 1001).await;
    eventually("one is told", async || told(&by_key, before[1]) == 1).await;
    assert_eq!(by_key.value("read").await.expect("an answer"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_what_is_written_is_copied_only_once_it_has_been_read() {
    let (url, service) = (redis_url().await, fresh_name());
    let tiers = process(&url, &service, true).await;
    let writer = far(&store(&url, &service, false).await);
    for round in 1..=200 {
        match round % 3 {
            0 => tiers.put("key", round, HOUR).await.expect("no failure"),
            1 => {
                let options = SetOptions::ttl(HOUR);
                let put = tiers.set_many(vec![("key", Some(round), options)]).await;
                put.into_iter().for_each(|result| result.expect("no failure"));
            }
            _ => {
                tiers.remove("key").await.expect("no failure");
                let claim = tiers.claim("key", ClaimOptions::new(HOUR)).await.expect("an answer");
                let Claim::Granted(lease) = claim else { panic!("{claim:?}") };
                let options = SetOptions::ttl(HOUR);
                let fill = tiers.fill(lease, Some(round), options).await.expect("no failure");
                assert_eq!(fill, Fill::Stored);
            }
        }
        // The server tells nobody of what he has written and not read, so a copy of it would stay.
        assert!(tiers.get_now("key").is_pending(), "round {round}");
        writer.put("key", round + 1000, HOUR).await.expect("no failure");
        assert_eq!(tiers.value("key").await.expect("an answer"), Some(round + 1000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_a_far_store_that_is_not_tracked_is_found_out() {
    let (url, service) = (redis_url().await, fresh_name());
    let plain = store(&url, &service, false).await;
    let tiers = Tiered::builder(MemoryStore::new(100), far(&plain));
    let refused = tiers.coherent_by(tracking(&plain, true)).build().expect_err("not tracked");
    assert_eq!(refused.kind(), ErrorKind::InvalidOption);
    assert!(refused.to_string().contains("`tracked`"), "{refused}");

    // It is another store that is tracked.
    let other = store(&url, &service, true).await;
    let tiers = Tiered::builder(MemoryStore::new(100), far(&plain));
    let tiers = tiers.coherent_by(tracking(&other, true)).build().expect("valid options");
    eventually("it is told", async || tiers.snapshot().kept_by.contains("does not read by")).await;
    assert!(!tiers.is_trusted());
    tiers.put("key", 1, HOUR).await.expect("no failure");
    assert_eq!(tiers.value("key").await.expect("an answer"), Some(1), "from the far store");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_a_server_that_refuses_is_read_all_the_same_and_the_bus_takes_over() {
    let server = Server::start().await;
    let mut admin = foreign(&server.url()).await;
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("shop").arg("on").arg(">password").arg("~*").arg("&*").arg("+@all");
    user.arg("-client|tracking").exec_async(&mut admin).await.expect("no failure");
    let process = async || {
        let store = patient_at(&server.url(), "s").user("shop").password("password").tracked();
        let store = store.connect().await.expect("a server");
        let tracking = tracking(&store, true).or_else(Broadcast::over(RedisBus::new(&store, "n")));
        let tiers = Tiered::builder(MemoryStore::new(100), far(&store)).coherent_by(tracking);
        let tiers = tiers.build().expect("valid options");
        tiers.trusted().await;
        tiers
    };
    let (here, there) = (process().await, process().await);
    // A bus that is slow for a moment says so, and its near tier is closed meanwhile.
    eventually("it is told what took over, and why", async || {
        let kept_by = here.snapshot().kept_by;
        kept_by.starts_with("a bus, since tracking was refused: ")
            && kept_by.contains("client|tracking")
    })
    .await;
    eventually("the bus tells of what is written, too", async || {
        there.put("key", 1, HOUR).await.expect("no failure");
        there.get_now("key").is_ready()
    })
    .await;
    assert_eq!(here.value("key").await.expect("an answer"), Some(1));
    there.put("key", 2, HOUR).await.expect("no failure");
    eventually("it is told", async || here.value("key").await.expect("an answer") == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_news_overruns_knows_it_and_keeps_no_old_value() {
    for by_key in [false, true] {
        let (url, service) = (redis_url().await, fresh_name());
        let store = store(&url, &service, by_key).await;
        let near = SlowStore::new(MemoryStore::<u64>::new(10_000));
        let tiers = Tiered::builder(near.clone(), far(&store)).near_ttl(HOUR);
        let tracking = tracking(&store, by_key).trust(LONG_TRUST);
        let tiers = tiers.coherent_by(tracking).build().expect("valid options");
        tiers.trusted().await;
        let keys: Vec<String> = (0..1300).map(|key| key.to_string()).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let writer = far(&self::store(&url, &service, false).await);
        for key in &names {
            writer.put(key, 1, HOUR).await.expect("no failure");
        }
        let within = Duration::from_secs(5);
        // Whoever listens is busy with the first piece of news for as long as the others come. If they take too long, he gives up
        // and begins anew.
        eventually("it knows", async || {
            eventually("all are near", async || {
                tiers.get_many(&names).await;
                near.inner().len() as usize >= names.len()
            })
            .await;
            let busy = near.hold(Operation::RemoveMany);
            writer.put(names[0], 2, HOUR).await.expect("no failure");
            let arrived = timeout(within, busy.arrived(1)).await.is_ok();
            for key in &names[1..] {
                writer.put(key, 2, HOUR).await.expect("no failure");
            }
            busy.open();
            let knows = async || tiers.snapshot().resyncs(Resync::Lag) > 0;
            arrived && timeout(within, eventually("it knows", knows)).await.is_ok()
        })
        .await;
        for key in &names {
            eventually("it is new", async || tiers.value(key).await.expect("an answer") == Some(2))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_a_replica_closes_the_near_tier() {
    for by_key in [false, true] {
        let (server, primary) = (Server::start().await, Server::start().await);
        let tiers = process(&server.url(), "s", by_key).await;
        let mut admin = foreign(&server.url()).await;
        let mut demote = redis::cmd("REPLICAOF");
        demote
            .arg("127.0.0.1")
            .arg(primary.port())
            .exec_async(&mut admin)
            .await
            .expect("no failure");
        eventually("it is closed", async || !tiers.is_trusted()).await;
        eventually("it is told why", async || tiers.snapshot().kept_by.contains("replica")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_store_is_tracked_too() {
    for by_key in [false, true] {
        let (url, service) = (redis_url().await, fresh_name());
        let store = patient_at(&url, &service).operation_timeout(TRUST).bare();
        let store = if by_key { store.tracked() } else { store };
        let store = store.connect().await.expect("a server");
        let far = store.clone().namespaced("n").encoded::<_, u64>(Json::bare());
        let tracked = |namespace, trust| {
            let tracking = Tracking::of(&store).namespace(namespace).trust(trust);
            let tracking = if by_key { tracking.by_key() } else { tracking };
            let tiers = Tiered::builder(MemoryStore::new(100), far.clone()).near_ttl(HOUR);
            tiers.coherent_by(tracking).build().expect("valid options")
        };
        let tiers = tracked("n", LONG_TRUST);
        eventually("it is recognised", async || tiers.is_trusted()).await;
        let (mut other, key) = (foreign(&url).await, format!("{service}:n:key"));
        for round in 1..=20 {
            redis::cmd("SET").arg(&key).arg(round).exec_async(&mut other).await.expect("stored");
            eventually("it is told", async || {
                tiers.value("key").await.expect("an answer") == Some(round)
                    && tiers.get_now("key").is_ready()
            })
            .await;
        }
        redis::cmd("DEL").arg(&key).exec_async(&mut other).await.expect("removed");
        eventually("it is told", async || tiers.value("key").await.expect("an answer").is_none())
            .await;

        let elsewhere = tracked("m", TRUST);
        eventually("it is found out", async || elsewhere.snapshot().kept_by.contains("namespace"))
            .await;
        assert!(!elsewhere.is_trusted());
        let mut left = redis::cmd("KEYS");
        left.arg(format!("{service}:*probe*"));
        eventually("between two attempts nothing is left", async || {
            let left: Vec<String> = left.query_async(&mut other).await.expect("an answer");
            left.is_empty()
        })
        .await;
    }
}

/// Ends the connections to this server by which stores read and write, and none on which news of a prefix comes.
async fn kill_readers(server: &Server) {
    let mut admin = foreign(&server.url()).await;
    let list: String =
        redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.expect("a list");
    for line in list.lines() {
        let field = |name: &str| {
            line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default()
        };
        if !field("flags=").contains('B') {
            let mut kill = redis::cmd("CLIENT");
            // Not this one, which skips itself.
            kill.arg("KILL").arg("ID").arg(field("id=")).arg("SKIPME").arg("yes");
            kill.exec_async(&mut admin).await.expect("an answer");
        }
    }
}

/// Tiers that reach the server by the proxy, with a near copy of what is 1.
async fn near_behind(proxy: &Proxy, server: &Server) -> Tiers {
    let store = patient_at(&proxy.url(), "s").connect().await.expect("a server");
    let tiers = Tiered::builder(MemoryStore::new(100), far(&store)).near_ttl(HOUR);
    let tiers = tiers.coherent_by(tracking(&store, false).trust(TRUST));
    let tiers = tiers.build().expect("valid options");
    let writer = far(&self::store(&server.url(), "s", false).await);
    writer.put("key", 1, HOUR).await.expect("no failure");
    eventually("it is near", async || {
        tiers.value("key").await.expect("an answer") == Some(1) && tiers.get_now("key").is_ready()
    })
    .await;
    tiers
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_store_reads_from_another_server_nothing_of_the_one_before_stays_near() {
    let (before, after) = (Server::start().await, Server::start().await);
    let proxy = Proxy::to(before.port()).await;
    let tiers = near_behind(&proxy, &before).await;
    let writer = far(&store(&after.url(), "s", false).await);
    writer.put("key", 2, HOUR).await.expect("no failure");
    // Whoever listens stays where he is, and hears nothing of the other server.
    proxy.lead_to(after.port());
    kill_readers(&before).await;
    eventually("it reads from there", async || {
        matches!(tiers.far().value("key").await, Ok(Some(2)))
    })
    .await;
    tokio::time::sleep(TRUST + TICKS).await;
    assert_eq!(tiers.value("key").await.expect("an answer"), Some(2));
    for round in 3..6 {
        eventually("it is near", async || {
            tiers.value("key").await.expect("an answer");
            tiers.get_now("key").is_ready()
        })
        .await;
        writer.put("key", round, HOUR).await.expect("no failure");
        eventually("it is told", async || {
            tiers.value("key").await.expect("an answer") == Some(round)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_reads_from_nowhere_the_near_tier_answers_for_no_longer_than_trust() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let tiers = near_behind(&proxy, &server).await;
    // Where it will read from when it is connected again, nobody knows.
    proxy.fault(Fault::Refuse);
    kill_readers(&server).await;
    eventually("it reads from nowhere", async || tiers.far().value("key").await.is_err()).await;
    tokio::time::sleep(TRUST + TICKS).await;
    assert!(!tiers.is_trusted());
    eventually("it is told why", async || tiers.snapshot().kept_by.contains("is down")).await;
    proxy.fault(Fault::None);
    tiers.trusted().await;
    eventually("it is told", async || tiers.snapshot().kept_by == "tracking").await;
}

type Tags = Tagged<Tiered<MemoryStore<Marked<u64>>, TaggedFar>, NearMarks<RedisMarks>, u64>;
type TaggedFar = Encoded<Namespaced<RedisStore>, TaggedCodec<Json>, Marked<u64>>;

/// A process whose near entries and near marks are both kept by tracking, and nobody publishes anything.
async fn tagged(url: &str, service: &str, by_key: bool) -> Tags {
    let store = store(url, service, by_key).await;
    let far = store.clone().namespaced("n").encoded(TaggedCodec::new(Json::new()));
    let tiers = Tiered::builder(MemoryStore::new(10_000), far).near_ttl(HOUR);
    let tiers = tiers.coherent_by(tracking(&store, by_key).trust(LONG_TRUST));
    let tiers = tiers.build().expect("valid options");
    let marks = RedisMarks::new(&store);
    let of_marks = Tracking::of_marks(&marks).trust(LONG_TRUST);
    let of_marks = if by_key { of_marks.by_key() } else { of_marks };
    let marks = NearMarks::new(marks, of_marks).expect("valid options");
    tiers.trusted().await;
    marks.trusted().await;
    tiers.tagged(marks, |key: &str, _: Option<&u64>| [format!("t{}", key.len())])
}

#[tokio::test(flavor = "multi_thread")]
async fn near_marks_hear_by_tracking_of_tags_that_others_invalidate() {
    for by_key in [false, true] {
        let (url, service) = (redis_url().await, fresh_name());
        let (here, there) =
            (tagged(&url, &service, by_key).await, tagged(&url, &service, by_key).await);
        for round in 1..=100 {
            for key in ["a", "b", "cc"] {
                there.put(key, round, HOUR).await.expect("stored");
            }
            eventually("all are near, as are their marks", async || {
                let mut near = true;
                for key in ["a", "b", "cc"] {
                    near &= here.value(key).await.expect("an answer") == Some(round);
                    near &= here.get_now(key).is_ready();
                }
                near
            })
            .await;
            there.invalidate_tags(&["t1"]).await.expect("invalidated");
            assert_eq!(there.value("a").await.expect("an answer"), None, "its own is seen at once");
            eventually("it is heard of", async || {
                here.value("a").await.expect("an answer").is_none()
                    && here.value("b").await.expect("an answer").is_none()
            })
            .await;
            assert_eq!(here.value("cc").await.expect("an answer"), Some(round), "another tag");
        }
        // Whoever deletes the marks has invalidated what they stood for.
        let mut admin = foreign(&url).await;
        let mark = format!("{service}:%{{t:{service}:}}tag:t2");
        let deleted: u64 =
            redis::cmd("DEL").arg(mark).query_async(&mut admin).await.expect("an answer");
        assert_eq!(deleted, 1);
        eventually("it is heard of", async || here.value("cc").await.expect("an answer").is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_below_the_tiers_are_refused_unless_somebody_tells_of_them() {
    for by_key in [false, true] {
        let (url, service) = (redis_url().await, fresh_name());
        let store = store(&url, &service, by_key).await;
        let marks = RedisMarks::new(&store);
        let tags = |_: &str, _: Option<&u64>| ["t"];
        let far = store.clone().namespaced("n").encoded(TaggedCodec::new(Json::new()));
        let (alone, near) = (far.clone().tagged(marks.clone(), tags), MemoryStore::new(100));
        let tracking = || tracking(&store, by_key).trust(LONG_TRUST);

        let refused = Tiered::builder(near.clone(), alone.clone()).coherent_by(tracking()).build();
        let refused = refused.expect_err("nobody tells of the tag");
        assert_eq!(refused.kind(), ErrorKind::InvalidOption);
        assert!(refused.to_string().contains("`NearMarks`"), "{refused}");
        let between = Tiered::new(near.clone(), alone.clone()).shared();
        let refused = Tiered::builder(near.clone(), between).coherent_by(tracking()).build();
        assert!(refused.is_err(), "nobody tells the tiers in between either");
        let bus = || Broadcast::over(RedisBus::new(&store, "n"));
        let between = Tiered::builder(MemoryStore::new(100), far.clone()).coherent_by(bus());
        let between = between.build().expect("valid options").tagged(marks.clone(), tags);
        let refused = Tiered::builder(near.clone(), between).coherent_by(tracking()).build();
        assert!(refused.is_err(), "the tags are above those who hear of a bus");

        let between = Tiered::builder(MemoryStore::new(100), alone.clone()).coherent_by(bus());
        let between = between.build().expect("a bus tells of tags");
        let tiers = Tiered::builder(near.clone(), between).coherent_by(tracking()).build();
        assert!(tiers.is_ok(), "{tiers:?}");

        let of_marks = Tracking::of_marks(&marks).trust(LONG_TRUST);
        let of_marks = if by_key { of_marks.by_key() } else { of_marks };
        let copied = NearMarks::new(marks, of_marks).expect("valid options");
        let tiers = Tiered::builder(near, far.tagged(copied, tags)).coherent_by(tracking());
        let tiers = tiers.build().expect("copies of marks tell of tags");
        alone.put("key", 1, HOUR).await.expect("stored");
        eventually("it is near", async || {
            tiers.value("key").await.expect("an answer") == Some(1)
                && tiers.get_now("key").is_ready()
        })
        .await;
        alone.invalidate_tags(&["t"]).await.expect("invalidated");
        eventually("it is told", async || tiers.value("key").await.expect("an answer").is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_near_hit_asks_nobody_by_tracking_alone() {
    for by_key in [false, true] {
        let server = Server::start().await;
        let here = tagged(&server.url(), "s", by_key).await;
        let there = tagged(&server.url(), "s", by_key).await;
        there.put("a", 1, HOUR).await.expect("stored");
        let mut admin = foreign(&server.url()).await;
        // Its own news may come late, and take what is near by then.
        eventually("a hit asks nobody", async || {
            for store in [&here, &there] {
                assert_eq!(store.value("a").await.expect("an answer"), Some(1));
            }
            redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut admin).await.expect("an answer");
            for store in [&here, &there] {
                for _ in 0..100 {
                    if store.get_now("a").is_pending() {
                        return false;
                    }
                    assert_eq!(store.value("a").await.expect("an answer"), Some(1));
                }
            }
            let mut info = redis::cmd("INFO");
            let info: String =
                info.arg("commandstats").query_async(&mut admin).await.expect("an answer");
            let asked = ["cmdstat_get:", "cmdstat_mget:", "cmdstat_evalsha:"];
            !asked.iter().any(|command| info.contains(command))
        })
        .await;
    }
}

/// How many keys the server tells four clients of for each write, if each has read so many keys since the one before.
async fn told_of_each_write(by_prefix: bool, reads: usize) -> f64 {
    const WRITES: usize = 200;
    const KEYS: usize = 20;
    let (url, service) = (redis_url().await, fresh_name());
    let told: Arc<std::sync::atomic::AtomicUsize> = Arc::default();
    let client = redis::Client::open(url.as_str()).expect("a URL");
    let mut readers = Vec::new();
    for _ in 0..4 {
        let told = Arc::clone(&told);
        let config = redis::AsyncConnectionConfig::new()
            .set_push_sender(move |push: redis::PushInfo| {
                if push.kind == redis::PushKind::Invalidate
                    && let Some(redis::Value::Array(keys)) = push.data.first()
                {
                    told.fetch_add(keys.len(), SeqCst);
                }
                Ok::<_, std::convert::Infallible>(())
            })
            .set_response_timeout(None);
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
        let client = redis::Client::open(info.set_redis_settings(settings)).expect("a URL");
        let reader = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut reader = reader.expect("a server");
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON");
        if by_prefix {
            tracking.arg("BCAST").arg("PREFIX").arg(&service);
        }
        tracking.exec_async(&mut reader).await.expect("no failure");
        readers.push(reader);
    }
    let mut writer = foreign(&url).await;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..WRITES {
        for reader in &mut readers {
            for _ in 0..reads {
                let key = format!("{service}:{}", random.usize(..KEYS));
                redis::cmd("GET").arg(key).exec_async(reader).await.expect("no failure");
            }
        }
        let key = format!("{service}:{}", random.usize(..KEYS));
        redis::cmd("SET").arg(key).arg("x").exec_async(&mut writer).await.expect("no failure");
    }
    for reader in &mut readers {
        // What it is told comes before the answer.
        redis::cmd("PING").exec_async(reader).await.expect("no failure");
    }
    told.load(SeqCst) as f64 / WRITES as f64
}

#[tokio::test]
async fn tracking_by_prefix_tells_everybody_of_each_write_and_by_key_whoever_has_read_it() {
    for reads in [0, 1, 10] {
        let by_prefix = told_of_each_write(true, reads).await;
        let by_key = told_of_each_write(false, reads).await;
        eprintln!("{reads} reads: {by_prefix:.2} by prefix, {by_key:.2} by key");
        assert!(by_key <= by_prefix && by_prefix <= 4.0, "{by_prefix} and {by_key}");
    }
}
