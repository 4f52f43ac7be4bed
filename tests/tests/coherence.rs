//! Memory in front of a Redis server, in several caches at once: who changes what, what goes wrong, and what the
//! others read afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_core::testing::fresh_name;
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Encoded, Namespaced, Resync, Tiered, TieredBuilder,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisBus, RedisStore, Tracking};
use cache_serde::Json;
use cache_tests::redis::{Fault, Proxy, Server, eventually, foreign, patient_at, redis_url};
use cache_tests::{History, Stalls};
use futures_util::future::join_all;

type Far = Encoded<Namespaced<RedisStore>, Json, u64>;
type Tiers = Tiered<MemoryStore<u64>, Far>;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Bus,
    Tracking,
    TrackingByKey,
}

async fn store(url: &str, service: &str) -> RedisStore {
    patient_at(url, service).connect().await.expect("a server")
}

/// One whose reads the server remembers, by two connections.
async fn tracked(url: &str, service: &str) -> RedisStore {
    patient_at(url, service).connections(2).tracked().connect().await.expect("a server")
}

fn far(store: &RedisStore) -> Far {
    store.clone().namespaced("n").encoded(Json::new())
}

fn builder(store: &RedisStore) -> TieredBuilder<MemoryStore<u64>, Far> {
    Tiered::builder(MemoryStore::new(10_000), far(store)).near_ttl(HOUR)
}

/// As in a process of its own: with own connections.
async fn process(url: &str, service: &str, by: By) -> Tiers {
    trusting(url, service, by, None).await
}

/// The same, and it does not begin anew where it only had to wait for its turn.
async fn patient_process(url: &str, service: &str, by: By) -> Tiers {
    trusting(url, service, by, Some(60 * SECOND)).await
}

async fn trusting(url: &str, service: &str, by: By, trust: Option<Duration>) -> Tiers {
    let store = match by {
        By::Bus | By::Tracking => store(url, service).await,
        By::TrackingByKey => tracked(url, service).await,
    };
    let tracking = || {
        let tracking = Tracking::of(&store).namespace("n");
        match trust {
            Some(trust) => tracking.trust(trust),
            None => tracking,
        }
    };
    let bus = || {
        let bus = Broadcast::over(RedisBus::new(&store, "n"));
        match trust {
            Some(trust) => bus.trust(trust),
            None => bus,
        }
    };
    let builder = match by {
        By::Bus => builder(&store).coherent_by(bus()),
        By::Tracking => builder(&store).coherent_by(tracking()),
        By::TrackingByKey => builder(&store).coherent_by(tracking().by_key()),
    };
    let tiers = builder.build().expect("valid options");
    tiers.trusted().await;
    tiers
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key {number}")).collect()
}

async fn put_all(store: &impl CacheStore<Value = u64>, keys: &[String], value: u64) {
    let options = cache_core::SetOptions::ttl(HOUR);
    let entries = keys.iter().map(|key| (key.as_str(), Some(value), options.clone())).collect();
    for result in store.set_many(entries).await {
        result.expect("no failure");
    }
}

/// Has all keys near.
async fn warm(tiers: &Tiers, keys: &[String]) {
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    eventually("all keys are near", async || {
        tiers.trusted().await;
        tiers.get_many(&names).await;
        tiers.near().len() as usize >= keys.len()
    })
    .await;
}

async fn wrong(tiers: &Tiers, keys: &[String], right: Option<u64>) -> usize {
    let mut wrong = 0;
    for key in keys {
        wrong += usize::from(tiers.value(key).await.expect("an answer") != right);
    }
    wrong
}

async fn storm(by: By) {
    for _ in 0..3 {
        let (url, service) = (redis_url().await, fresh_name());
        let writer = process(&url, &service, by).await;
        // Tracking hears of everybody; over the bus, one tells the others.
        let plain = far(&store(&url, &service).await);
        let readers = [(); 4].map(|()| process(&url, &service, by));
        let readers = join_all(readers).await;
        let keys = Arc::new(keys(300));
        let done = Arc::new(AtomicBool::new(false));
        let reading: Vec<_> = readers
            .iter()
            .map(|tiers| {
                let (tiers, keys, done) = (tiers.clone(), Arc::clone(&keys), Arc::clone(&done));
                tokio::spawn(async move {
                    while !done.load(SeqCst) {
                        for key in keys.iter() {
                            tiers.get(key).await.expect("an answer");
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for value in 1..=60 {
            let writes = keys.iter().map(|key| async {
                match by {
                    By::Bus => writer.put(key, value, HOUR).await,
                    By::Tracking | By::TrackingByKey => plain.put(key, value, HOUR).await,
                }
                .expect("no failure");
            });
            join_all(writes).await;
        }
        tokio::time::sleep(SECOND).await;
        for reader in &readers {
            assert_eq!(wrong(reader, &keys, Some(60)).await, 0, "{by:?}: {:?}", reader.snapshot());
            assert!(reader.snapshot().copies > 300, "the near tier is in use");
        }
        done.store(true, SeqCst);
        join_all(reading).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_writes_nobody_keeps_an_old_value_by_the_bus() {
    storm(By::Bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_foreign_writes_nobody_keeps_an_old_value_by_tracking() {
    storm(By::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_foreign_writes_nobody_keeps_an_old_value_by_tracking_of_each_key() {
    storm(By::TrackingByKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_invalidations_arrive_once_and_do_not_come_back() {
    let (url, service) = (redis_url().await, fresh_name());
    let writer = patient_process(&url, &service, By::Bus).await;
    let others = [(); 2].map(|()| patient_process(&url, &service, By::Bus));
    let others = join_all(others).await;
    for key in keys(1000) {
        writer.remove(&key).await.expect("no failure");
    }
    for other in &others {
        eventually("all have arrived", async || other.snapshot().dropped_by_others == 1000).await;
        assert_eq!(other.snapshot().missing, 0);
    }
    assert_eq!(writer.snapshot().dropped_by_others, 0, "no echo");
}

/// Kills the connections on which somebody listens, and says how many there were.
async fn kill_listeners(url: &str, by: By) -> usize {
    let mut admin = foreign(url).await;
    let list: String =
        redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.expect("a list");
    let mut killed = 0;
    for line in list.lines() {
        let field = |name: &str| {
            line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default()
        };
        let listens = match by {
            By::Bus => field("sub=") != "0",
            By::Tracking | By::TrackingByKey => field("flags=").contains('t'),
        };
        if listens {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(field("id="));
            killed += kill.query_async::<usize>(&mut admin).await.expect("an answer");
        }
    }
    killed
}

async fn killed(by: By) {
    let server = Server::start().await;
    let service = fresh_name();
    let writer = process(&server.url(), &service, By::Bus).await;
    let reader = process(&server.url(), &service, by).await;
    let keys = keys(1000);
    put_all(&writer, &keys, 1).await;
    warm(&reader, &keys).await;
    let connected = reader.snapshot().resyncs(Resync::Connected);
    let (half, rest) = keys.split_at(500);
    put_all(&writer, half, 2).await;
    eventually("somebody listens", async || kill_listeners(&server.url(), by).await > 0).await;
    put_all(&writer, rest, 2).await;
    eventually("it is connected again", async || {
        reader.snapshot().resyncs(Resync::Connected) > connected && reader.is_trusted()
    })
    .await;
    // The writer's own subscription was perhaps killed as well; what it says comes over another connection.
    tokio::time::sleep(SECOND).await;
    assert_eq!(wrong(&reader, &keys, Some(2)).await, 0, "{:?}", reader.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_killed_while_keys_change_keeps_no_old_value() {
    killed(By::Bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracking_connection_that_is_killed_while_keys_change_keeps_no_old_value() {
    killed(By::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_connections_that_are_killed_while_keys_change_leave_no_old_value() {
    killed(By::TrackingByKey).await;
}

async fn restarted(by: By) {
    let mut server = Server::start().await;
    let service = fresh_name();
    let reader = process(&server.url(), &service, by).await;
    let writer = process(&server.url(), &service, by).await;
    let keys = keys(1000);
    put_all(&writer, &keys, 1).await;
    warm(&reader, &keys).await;
    let connected = reader.snapshot().resyncs(Resync::Connected);
    server.restart().await;
    let plain = store(&server.url(), &service).await;
    put_all(&far(&plain), &keys, 2).await;
    eventually("it is connected again", async || {
        reader.snapshot().resyncs(Resync::Connected) > connected && reader.is_trusted()
    })
    .await;
    reader.far().inner().inner().connected().await;
    assert_eq!(wrong(&reader, &keys, Some(2)).await, 0, "{:?}", reader.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_nobody_keeps_an_old_value_by_the_bus() {
    restarted(By::Bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_nobody_keeps_an_old_value_by_tracking() {
    restarted(By::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_nobody_keeps_an_old_value_by_tracking_of_each_key() {
    restarted(By::TrackingByKey).await;
}

async fn flushed(by: By) {
    let server = Server::start().await;
    let service = fresh_name();
    let reader = patient_process(&server.url(), &service, by).await;
    let other = patient_process(&server.url(), &service, by).await;
    let keys = keys(1000);
    let mut admin = foreign(&server.url()).await;
    // Also of the second one: whoever noticed the first has to notice this one, too.
    for round in 1..=2 {
        put_all(&reader, &keys, round).await;
        warm(&reader, &keys).await;
        warm(&other, &keys).await;
        let before = [&reader, &other].map(|tiers| tiers.snapshot().resyncs(Resync::Flushed));
        redis::cmd("FLUSHALL").exec_async(&mut admin).await.expect("no failure");
        tokio::time::sleep(SECOND).await;
        for (tiers, before) in [&reader, &other].into_iter().zip(before) {
            eventually("it knows why", async || tiers.snapshot().resyncs(Resync::Flushed) > before)
                .await;
            assert_eq!(wrong(tiers, &keys, None).await, 0, "{by:?}: {:?}", tiers.snapshot());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flush_nobody_keeps_an_old_value_by_tracking() {
    flushed(By::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flush_nobody_keeps_an_old_value_by_tracking_of_each_key() {
    flushed(By::TrackingByKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flush_nobody_keeps_an_old_value_by_the_bus() {
    flushed(By::Bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tracking_hears_of_foreign_writers_of_expiry_and_of_deletion() {
    foreign_changes_are_heard_of(By::Tracking).await;
    foreign_changes_are_heard_of(By::TrackingByKey).await;
}

async fn foreign_changes_are_heard_of(by: By) {
    let (url, service) = (redis_url().await, fresh_name());
    let reader = process(&url, &service, by).await;
    let plain = far(&store(&url, &service).await);
    let mut admin = foreign(&url).await;
    for command in ["DEL", "UNLINK", "SET", "PEXPIRE"] {
        plain.put("key", 1, HOUR).await.expect("no failure");
        eventually("it is near", async || {
            reader.get("key").await.expect("an answer");
            reader.get_now("key").is_ready()
        })
        .await;
        let mut foreign = redis::cmd(command);
        foreign.arg(format!("{service}:n:key"));
        match command {
            "SET" => foreign.arg("something else"),
            "PEXPIRE" => foreign.arg(20),
            _ => &mut foreign,
        };
        foreign.exec_async(&mut admin).await.expect("no failure");
        if command == "PEXPIRE" {
            // It may be read, and copied, until it ends. The server deletes it when somebody asks for it, or at some later time.
            eventually("it is over", async || {
                reader.get("key").await.expect("an answer");
                let mut exists = redis::cmd("EXISTS");
                exists.arg(format!("{service}:n:key"));
                exists.query_async::<u64>(&mut admin.clone()).await.expect("an answer") == 0
            })
            .await;
        }
        eventually("it is gone", async || reader.value("key").await.expect("an answer").is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_stopped_until_the_server_drops_it_keeps_no_old_value() {
    let limit = "client-output-buffer-limit";
    let server = Server::start_with(&[&format!("--{limit}"), "pubsub 64kb 32kb 1"]).await;
    let proxy = Proxy::to(server.port()).await;
    let service = fresh_name();
    let writer = process(&server.url(), &service, By::Bus).await;
    // Only its ear is stopped.
    let (direct, stopped) =
        (store(&server.url(), &service).await, store(&proxy.url(), &service).await);
    let bus = Broadcast::over(RedisBus::new(&stopped, "n"));
    let reader = builder(&direct).coherent_by(bus).build().expect("valid options");
    reader.trusted().await;
    let keys = keys(1000);
    put_all(&writer, &keys, 1).await;
    warm(&reader, &keys).await;
    let connected = reader.snapshot().resyncs(Resync::Connected);

    proxy.fault(Fault::Hang);
    let mut admin = foreign(&server.url()).await;
    let noise = vec![b'x'; 1 << 20];
    put_all(&writer, &keys, 2).await;
    let dropped = |info: String| {
        let subscribers = info.lines().filter(|line| !line.contains(" sub=0 ")).count();
        subscribers < 2
    };
    eventually("the server drops it", async || {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(format!("{service}:bus:n")).arg(&noise);
        publish.exec_async(&mut admin).await.expect("no failure");
        let mut list = redis::cmd("CLIENT");
        let list: String = list.arg("LIST").query_async(&mut admin).await.expect("a list");
        dropped(list)
    })
    .await;
    proxy.fault(Fault::None);
    proxy.reset();
    eventually("it is connected again", async || {
        reader.snapshot().resyncs(Resync::Connected) > connected && reader.is_trusted()
    })
    .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(wrong(&reader, &keys, Some(2)).await, 0, "{:?}", reader.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_closes_the_near_tier_in_time() {
    for by in [By::Bus, By::Tracking, By::TrackingByKey] {
        let server = Server::start().await;
        let proxy = Proxy::to(server.port()).await;
        let service = fresh_name();
        let reader = process(&proxy.url(), &service, by).await;
        let writer = process(&server.url(), &service, by).await;
        reader.put("key", 1, HOUR).await.expect("no failure");
        eventually("it is near", async || {
            reader.get("key").await.expect("an answer");
            reader.get_now("key").is_ready()
        })
        .await;
        // Nothing is closed, nothing is answered.
        proxy.fault(Fault::Hang);
        eventually("it does not answer", async || reader.get_now("key").is_pending()).await;
        writer.put("key", 2, HOUR).await.expect("no failure");
        proxy.fault(Fault::None);
        eventually("it reads again", async || {
            reader.is_trusted() && reader.value("key").await.is_ok_and(|value| value == Some(2))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_twentieth_of_the_messages_is_lost_nobody_keeps_an_old_value() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let service = fresh_name();
    let writer = process(&server.url(), &service, By::Bus).await;
    let reader = process(&proxy.url(), &service, By::Bus).await;
    let keys = keys(1000);
    put_all(&writer, &keys, 1).await;
    warm(&reader, &keys).await;
    proxy.fault(Fault::LoseMessages(20));
    for key in &keys {
        writer.put(key, 2, HOUR).await.expect("no failure");
        reader.get(key).await.expect("an answer");
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(wrong(&reader, &keys, Some(2)).await, 0, "{:?}", reader.snapshot());
    let holes = reader.snapshot().resyncs(Resync::Hole);
    assert!(proxy.lost() > 0 && holes > 0, "{} lost, {holes} holes", proxy.lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tracking_is_refused_the_bus_takes_its_place_and_it_is_told() {
    let server = Server::start().await;
    let mut admin = foreign(&server.url()).await;
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("shop").arg("on").arg(">password").arg("~*").arg("&*").arg("+@all");
    user.arg("-client|tracking").exec_async(&mut admin).await.expect("no failure");
    let service = fresh_name();
    let process = async || {
        let store = patient_at(&server.url(), &service).user("shop").password("password");
        let store = store.connect().await.expect("a server");
        let tracking = Tracking::of(&store).namespace("n");
        let tracking = tracking.or_else(Broadcast::over(RedisBus::new(&store, "n")));
        let tiers = builder(&store).coherent_by(tracking).build().expect("valid options");
        tiers.trusted().await;
        tiers
    };
    let (here, there) = (process().await, process().await);
    let kept_by = here.snapshot().kept_by;
    assert!(
        kept_by.contains("tracking was refused") && kept_by.contains("client|tracking"),
        "{kept_by}"
    );
    there.put("key", 1, HOUR).await.expect("no failure");
    assert_eq!(here.value("key").await.expect("an answer"), Some(1));
    there.put("key", 2, HOUR).await.expect("no failure");
    eventually("it is told", async || here.value("key").await.expect("an answer") == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tracking_of_another_namespace_is_found_out() {
    let store = store(&redis_url().await, &fresh_name()).await;
    let tiers = builder(&store).coherent_by(Tracking::of(&store).namespace("m").trust(SECOND));
    let tiers = tiers.build().expect("valid options");
    eventually("it is told", async || tiers.snapshot().kept_by.contains("namespace")).await;
    assert!(!tiers.is_trusted());
    tiers.put("key", 1, HOUR).await.expect("no failure");
    assert_eq!(tiers.value("key").await.expect("an answer"), Some(1), "from the far store");
}

/// Four caches, ten per cent writes, on keys that all share. The writes of a key come one after the other.
async fn history(by: Option<By>) {
    // Half of the operations are on the first keys, where everything meets. The others are written so seldom that an
    // old copy stays until somebody is told.
    const HOT: usize = 20;
    const KEYS: usize = 5000;
    let seconds = std::env::var("CACHE_TEST_HISTORY_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(4);
    let (url, service, stalls) = (redis_url().await, fresh_name(), Stalls::watch());
    let turns: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| tokio::sync::Mutex::new(0)).collect());
    let first = far(&store(&url, &service).await);
    let mut all = History::default();
    for (key, turn) in turns.iter().enumerate() {
        let began = Instant::now();
        *turn.lock().await = 1;
        first.put(&key.to_string(), 1, HOUR).await.expect("no failure");
        all.wrote(usize::MAX, key, 1, began, Instant::now());
    }
    let mut sessions = Vec::new();
    let mut processes = Vec::new();
    for number in 0..4 {
        let hits: Arc<AtomicU64> = Arc::default();
        let tiers = match by {
            Some(by) => {
                let tiers = process(&url, &service, by).await;
                processes.push((tiers.clone(), Arc::clone(&hits)));
                tiers.shared()
            }
            None => far(&store(&url, &service).await).shared(),
        };
        for session in 0..3 {
            let (tiers, turns, hits) = (tiers.clone(), Arc::clone(&turns), Arc::clone(&hits));
            let session = number * 10 + session;
            sessions.push(tokio::spawn(async move {
                let (mut history, start) = (History::default(), Instant::now());
                while start.elapsed() < SECOND * seconds {
                    let key = fastrand::usize(..if fastrand::bool() { HOT } else { KEYS });
                    if fastrand::u32(..10) > 0 {
                        let began = Instant::now();
                        let value = match tiers.get_now(&key.to_string()) {
                            std::task::Poll::Ready(Some(entry)) => {
                                hits.fetch_add(1, SeqCst);
                                entry.into_value()
                            }
                            _ => tiers.value(&key.to_string()).await.expect("an answer"),
                        };
                        let value = value.expect("a value");
                        history.read(session, key, value, began, Instant::now());
                        tokio::task::yield_now().await;
                    } else {
                        let mut turn = turns[key].lock().await;
                        *turn += 1;
                        let began = Instant::now();
                        tiers.put(&key.to_string(), *turn, HOUR).await.expect("no failure");
                        history.wrote(session, key, *turn, began, Instant::now());
                    }
                }
                history
            }));
        }
    }
    for session in join_all(sessions).await {
        all.and(session.expect("no panic"));
    }
    let count = all.len();
    // If this process has to wait for its turn, it finds out that much later that it has heard of nobody.
    let stalled = stalls.longest();
    let wrongs = all.check(by.map_or(Duration::ZERO, |_| SECOND + stalled));
    eprintln!("{by:?}: {count} operations, {stalled:?} stalled, {wrongs:?}");
    assert_eq!((wrongs.stale, wrongs.future, wrongs.inversions), (0, 0, 0), "{wrongs:?}");
    for (tiers, hits) in processes {
        let (hits, seen) = (hits.load(SeqCst), tiers.snapshot());
        let (copies, far) = (seen.copies, seen.far_reads);
        let mut near = 0;
        for key in 0..KEYS {
            let copy = tiers.near().get(&key.to_string()).await.expect("an answer");
            near += usize::from(copy.is_some());
        }
        let seen = format!("{hits} reads from memory, {copies} copies, {far} far, {near} near");
        eprintln!("{by:?}: {seen}");
        // Otherwise it says nothing that nothing in the memory was stale.
        assert!(copies > 0 && 4 * hits > far, "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_the_bus_has_nothing_stale_beyond_the_bound_and_no_inversions() {
    history(Some(By::Bus)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_by_tracking_has_nothing_stale_beyond_the_bound_and_no_inversions() {
    history(Some(By::Tracking)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_by_tracking_of_each_key_has_nothing_stale_beyond_the_bound_and_no_inversions() {
    history(Some(By::TrackingByKey)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_near_tier_nothing_is_stale_at_all() {
    history(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_news_takes_is_told_by_the_bus_and_by_tracking() {
    for by in [By::Bus, By::Tracking, By::TrackingByKey] {
        let start = Instant::now();
        let tiers = process(&redis_url().await, &fresh_name(), by).await;
        let lag = tiers.snapshot().lag;
        assert!(lag > Duration::ZERO && lag < start.elapsed(), "{by:?}: {lag:?}");
    }
}
