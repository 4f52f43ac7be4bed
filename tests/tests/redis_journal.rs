//! The journal in Redis Streams, by what its users see.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{Bounds, Due, Error, ErrorKind, Journal, Seq, Taken, Write};
use cache_redis::{RedisJournal, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{
    Authority, Cluster, Fault, Machine, Proxy, Server, answered, eventually, foreign, patient,
    patient_at, patient_cluster,
};

type InRedis = RedisJournal<u64, String>;

const EVERYTHING: Due = Due { writes: 100_000, bytes: usize::MAX, age: Duration::ZERO };
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

async fn store() -> RedisStore {
    patient().await.connect().await.expect("a server")
}

/// On a server that keeps nothing, since what is tested does not depend on that.
async fn open(store: &RedisStore) -> InRedis {
    let journal = RedisJournal::builder(store, "orders", Json::new());
    journal.lease(LONG).allow_volatile().open().await.expect("a journal")
}

async fn append(journal: &InRedis, key: u64, value: &str) -> Seq {
    journal.append(key, Some(value.to_owned())).await.expect("appended")
}

/// The same, where that may fail for a while.
async fn append_at_last(journal: &InRedis, key: u64, value: &str) -> Seq {
    let mut seq = None;
    eventually("appends work", async || {
        seq = journal.append(key, Some(value.to_owned())).await.ok();
        seq.is_some()
    })
    .await;
    seq.expect("it was appended")
}

/// Takes writes until so many are there: they come by way of the server.
async fn take(journal: &InRedis, count: usize) -> Vec<Taken<u64, String>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let more = tokio::time::timeout(LONG, journal.backlog().take(EVERYTHING)).await;
        taken.extend(more.expect("writes in time"));
    }
    taken.sort_unstable_by_key(|taken| taken.write.seq);
    taken
}

async fn done(journal: &InRedis, writes: &[Taken<u64, String>]) {
    journal.done(writes).await.expect("done");
    journal.backlog().done(writes);
}

#[tokio::test]
async fn a_pending_write_is_seen_by_every_process_until_it_is_done() {
    let store = store().await;
    let (one, other) = (open(&store).await, open(&store).await);
    append(&one, 7, "a").await;
    let seq = append(&other, 7, "b").await;
    for journal in [&one, &other] {
        let pending = journal.pending("7").await.unwrap();
        assert_eq!(pending, Some((seq, Some("b".to_owned()))));
    }
    // Whichever of them has the partition. It may have read the first write before the second was there.
    let mut last = None;
    for journal in [&one, &other].into_iter().cycle() {
        if last == Some(seq) {
            break;
        }
        let batch = tokio::time::timeout(Duration::from_millis(100), take(journal, 1)).await;
        if let Ok(batch) = batch {
            last = batch.last().map(|taken| taken.write.seq);
            done(journal, &batch).await;
        }
    }
    assert_eq!(one.pending("7").await.unwrap(), None);
    assert_eq!(other.pending("7").await.unwrap(), None);
}

#[tokio::test]
async fn what_an_owner_leaves_is_taken_over_in_order_with_only_the_last_of_each_key() {
    let store = store().await;
    let first = open(&store).await;
    let mut numbers = Vec::new();
    for round in 0..3 {
        for key in 0..20 {
            numbers.push((key, append(&first, key, &format!("{round}")).await));
        }
    }
    first.backlog().retry(take(&first, 20).await, LONG); // begun, and never finished
    first.close(LONG).await.unwrap();

    let second = open(&store).await;
    let batch = take(&second, 20).await;
    let found: Vec<_> = batch.iter().map(|taken| (taken.write.key, taken.write.seq)).collect();
    let mut expected = numbers[40..].to_vec();
    expected.sort_unstable_by_key(|(_, seq)| *seq);
    assert_eq!(found, expected);
    assert!(batch.iter().all(|taken| taken.write.value.as_deref() == Some("2")));
    done(&second, &batch).await;
    second.drained().await.unwrap();
    assert_eq!(second.depth().writes(), 0);
}

#[tokio::test]
async fn who_is_closed_while_it_writes_keeps_others_from_writing_what_is_newer() {
    let store = store().await;
    let journal = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let journal = || journal().partitions(1).lease(Duration::from_secs(10)).allow_volatile();
    let first = journal().open().await.unwrap();
    append(&first, 7, "old").await;
    let flying = take(&first, 1).await; // and the source is slow
    first.close(LONG).await.unwrap();

    let second = journal().open().await.unwrap();
    append(&second, 7, "new").await;
    let early = tokio::time::timeout(Duration::from_millis(700), take(&second, 1)).await;
    assert!(early.is_err(), "two processes write the key at the same time");
    // What it was given has landed long since, or been given up.
    drop(flying);
    let batch = take(&second, 1).await;
    assert_eq!(batch[0].write.value.as_deref(), Some("new"));
}

#[tokio::test]
async fn who_has_lost_its_lease_can_say_nothing_to_be_done() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), &fresh_name()).connect().await.unwrap();
    let journal = open(&store).await;
    append(&journal, 7, "a").await;
    let batch = take(&journal, 1).await;
    // As the end of the lease does, while the process stands still.
    let mut other = foreign(&server.url()).await;
    let owners: Vec<String> =
        redis::cmd("KEYS").arg("*:owner").query_async(&mut other).await.unwrap();
    for owner in &owners {
        let () = redis::cmd("SET").arg(owner).arg(1_000).query_async(&mut other).await.unwrap();
    }
    let error = journal.done(&batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(journal.pending("7").await.unwrap().is_some());
    let error = journal.park(&batch[0], &Error::new(ErrorKind::Write)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // It finds out by itself, and lets go of what it has.
    eventually("it forgets", async || journal.backlog().depth().writes() == 0).await;
}

#[tokio::test]
async fn an_older_write_that_is_done_leaves_the_newer_one_of_its_key() {
    let store = store().await;
    let journal = open(&store).await;
    append(&journal, 7, "old").await;
    let old = take(&journal, 1).await;
    let new = append(&journal, 7, "new").await;
    done(&journal, &old).await;
    assert_eq!(journal.pending("7").await.unwrap(), Some((new, Some("new".to_owned()))));
    let batch = take(&journal, 1).await;
    assert_eq!(batch[0].write.seq, new);
}

#[tokio::test]
async fn a_dead_letter_is_seen_by_all_until_one_discards_it() {
    let store = store().await;
    let journal = open(&store).await;
    let seq = append(&journal, 7, "bad").await;
    let batch = take(&journal, 1).await;
    let cause = Error::with_cause(ErrorKind::Write, "violates a constraint");
    journal.park(&batch[0], &cause).await.unwrap();
    journal.backlog().done(&batch);
    assert_eq!(journal.dead(), 1);
    assert_eq!(journal.pending("7").await.unwrap(), None);

    let other = open(&store).await;
    let letters = other.dead_letters(10).await.unwrap();
    assert_eq!((letters[0].key.as_str(), letters[0].seq), ("7", seq));
    assert_eq!(letters[0].cause, cause.to_string());
    assert!(!other.discard("8", seq).await.unwrap());
    assert!(other.discard("7", seq).await.unwrap());
    assert!(journal.dead_letters(10).await.unwrap().is_empty());
}

/// Whoever is dropped keeps its lease until that ends, as who is killed does.
#[tokio::test]
async fn a_write_that_processes_die_of_becomes_a_dead_letter() {
    let store = store().await;
    let builder = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let deadly = |lease| builder().partitions(1).lease(lease).most_deliveries(2).allow_volatile();
    let journal = deadly(LONG).open().await.unwrap();
    let seq = append(&journal, 7, "deadly").await;
    // It is the owner by then, and gives that up when it is closed.
    eventually("it has it", async || journal.backlog().depth().waiting == 1).await;
    journal.close(LONG).await.unwrap();
    for _ in 0..3 {
        // In good order, so it has not died of anything.
        let journal = deadly(LONG).open().await.unwrap();
        let batch = take(&journal, 1).await;
        assert_eq!(batch[0].write.seq, seq);
        journal.backlog().retry(batch, LONG);
        journal.close(LONG).await.unwrap();
    }
    for _ in 0..2 {
        // It ends soon once nobody renews it.
        let journal = deadly(SHORT).open().await.unwrap();
        assert_eq!(take(&journal, 1).await[0].write.seq, seq);
    }
    let journal = deadly(SHORT).open().await.unwrap();
    eventually("nobody tries it any more", async || journal.dead() == 1).await;
    let letters = journal.dead_letters(1).await.unwrap();
    assert_eq!(letters[0].seq, seq);
    assert!(letters[0].cause.contains("none has finished it"), "{}", letters[0].cause);
    assert_eq!(journal.depth().writes(), 0);
}

/// How often each entry counts as given out, as the server sees it.
async fn deliveries(server: &Server) -> Vec<i64> {
    let mut other = foreign(&server.url()).await;
    let logs: Vec<String> = redis::cmd("KEYS").arg("*:log").query_async(&mut other).await.unwrap();
    let mut times = Vec::new();
    for log in logs {
        let pending: Vec<(String, String, i64, i64)> = redis::cmd("XPENDING")
            .arg(log)
            .arg(&["writers", "-", "+", "1000"])
            .query_async(&mut other)
            .await
            .unwrap();
        times.extend(pending.into_iter().map(|(.., times)| times));
    }
    times
}

/// How often the server has been asked what it has given out.
async fn asked_again(server: &Server) -> u64 {
    let mut other = foreign(&server.url()).await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut other).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_xpending:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_connection_that_fails_does_not_count_as_a_process_that_died() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = patient_at(&proxy.url(), &fresh_name()).connect().await.unwrap();
    let journal = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let journal = journal.partitions(1).lease(LONG).most_deliveries(2).allow_volatile();
    let journal = journal.open().await.unwrap();
    for key in 0..5 {
        append(&journal, key, "v").await;
    }
    eventually("it has them", async || journal.backlog().depth().waiting == 5).await;
    for _ in 0..3 {
        let before = asked_again(&server).await;
        while asked_again(&server).await == before {
            proxy.fault(Fault::Refuse);
            proxy.reset();
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.fault(Fault::None);
            store.connected().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert_eq!(deliveries(&server).await, [1; 5]);
    assert_eq!(take(&journal, 5).await.len(), 5, "nothing is lost, and nothing twice");
    assert_eq!((journal.backlog().depth().waiting, journal.dead()), (0, 0));
}

#[tokio::test]
async fn a_write_that_cant_be_read_holds_nobody_up_and_is_parked_as_soon_as_there_is_room() {
    let store = store().await;
    let builder = || RedisJournal::<u64, u64>::builder(&store, "orders", Json::new());
    let writer = builder().partitions(1).lease(LONG).allow_volatile().open().await.unwrap();
    for (key, value) in [(1, 700), (2, 701), (3, 7)] {
        writer.append(key, Some(value)).await.unwrap();
    }
    writer.close(LONG).await.unwrap();

    // Its values are smaller.
    let reader = RedisJournal::<u64, u8>::builder(&store, "orders", Json::new());
    let reader = reader.partitions(1).lease(LONG).allow_volatile().most_dead_letters(1);
    let reader = reader.open().await.unwrap();
    let batch = reader.backlog().take(EVERYTHING).await;
    assert_eq!((batch.len(), batch[0].write.key), (1, 3));
    let mut found = Vec::new();
    for _ in 0..2 {
        eventually("there is a dead letter", async || reader.dead() == 1).await;
        let letters = reader.dead_letters(10).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].write, None);
        assert!(letters[0].cause.contains("can't be read"), "{}", letters[0].cause);
        found.push(letters[0].key.clone());
        assert!(reader.discard(&letters[0].key, letters[0].seq).await.unwrap());
    }
    found.sort();
    assert_eq!(found, ["1", "2"]);
}

#[tokio::test]
async fn a_lease_whose_grant_got_lost_is_recognised_by_who_asked_for_it() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let service = fresh_name();
    let open = async |url: &str| {
        let store = patient_at(url, &service).operation_timeout(Duration::from_secs(5));
        let store = store.connect().await.unwrap();
        let journal = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
        journal.partitions(1).lease(LONG * 10).allow_volatile().open().await.unwrap()
    };
    let first = open(&server.url()).await;
    append(&first, 7, "a").await;
    assert_eq!(take(&first, 1).await.len(), 1, "it is the owner");
    let second = open(&proxy.url()).await;
    drop(first);

    let mut other = foreign(&server.url()).await;
    let mut owner = async |command: &str| -> Vec<String> {
        redis::cmd(command).arg("*:owner").query_async(&mut other).await.unwrap()
    };
    let [owner_key] = &owner("KEYS").await[..] else { panic!("one partition, one owner") };
    let mut other = foreign(&server.url()).await;
    // It has just been told to wait, so it does not ask again at this very moment.
    let before = proxy.answers();
    eventually("it has asked", async || proxy.answers() > before).await;
    // The server gets what the second one sends, and its answers get lost.
    proxy.fault(Fault::DropAnswers);
    let () = redis::cmd("DEL").arg(owner_key).query_async(&mut other).await.unwrap();
    eventually("it is granted", async || !owner("KEYS").await.is_empty()).await;
    proxy.fault(Fault::Refuse);
    proxy.reset();
    proxy.fault(Fault::None);
    assert_eq!(take(&second, 1).await[0].write.key, 7);
}

/// What lost its lease while it was writing may still be writing when it has it again.
#[tokio::test]
async fn a_key_in_flight_is_not_given_out_again_to_who_regains_its_lease() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), &fresh_name()).connect().await.unwrap();
    let journal = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    // It finds out that it has lost it when it looks for writes, once a second.
    let journal = journal.partitions(1).lease(LONG).allow_volatile().open().await.unwrap();
    append(&journal, 7, "a").await;
    let flying = take(&journal, 1).await;
    append(&journal, 8, "b").await;
    eventually("it has both", async || journal.backlog().depth().waiting == 1).await;

    let mut other = foreign(&server.url()).await;
    let owners: Vec<String> =
        redis::cmd("KEYS").arg("*:owner").query_async(&mut other).await.unwrap();
    // Another has it for a while.
    let () = redis::cmd("SET").arg(&[&*owners[0], "1000"]).query_async(&mut other).await.unwrap();
    eventually("it forgets", async || journal.backlog().depth().writes() == 0).await;
    let () = redis::cmd("DEL").arg(&owners[0]).query_async(&mut other).await.unwrap();
    eventually("it has both again", async || journal.backlog().depth().waiting == 2).await;
    let free = take(&journal, 1).await;
    assert_eq!(free.iter().map(|taken| taken.write.key).collect::<Vec<_>>(), [8]);
    done(&journal, &free).await;
    done(&journal, &flying).await; // it has landed
    assert_eq!(take(&journal, 1).await[0].write.key, 7);
}

#[tokio::test]
async fn it_takes_no_more_than_its_bounds_whoever_appends() {
    let store = store().await;
    let builder = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let bounded = || builder().partitions(1).bounds(Bounds { writes: 10, bytes: 3_000 });
    let one = Arc::new(bounded().allow_volatile().lease(LONG).open().await.unwrap());
    let other = bounded().allow_volatile().lease(LONG).open().await.unwrap();
    for key in 0..10 {
        append(if key % 2 == 0 { &one } else { &other }, key, "v").await;
    }
    for journal in [&*one, &other] {
        let full = journal.append(10, Some("v".to_owned())).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Full);
        append(journal, 9, "in place of another").await;
        let heavy = journal.append(9, Some("v".repeat(5_000))).await.unwrap_err();
        assert_eq!(heavy.kind(), ErrorKind::Full);
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_or_evicts_is_refused() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), "shop").connect().await.unwrap();
    let open = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let error = open().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert!(error.to_string().contains("appendonly no"), "{error}");
    assert!(!open().allow_volatile().open().await.unwrap().is_durable());

    let mut other = foreign(&server.url()).await;
    let mut set = async |option: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        let () = command.arg("SET").arg(option).arg(value).query_async(&mut other).await.unwrap();
    };
    set("appendonly", "yes").await;
    assert!(open().open().await.unwrap().is_durable());
    set("maxmemory-policy", "allkeys-lru").await;
    let error = open().open().await.unwrap_err();
    assert!(error.to_string().contains("allkeys-lru"), "{error}");
    set("maxmemory-policy", "volatile-lru").await;
    assert!(open().open().await.unwrap().is_durable());
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let store = store().await;
    drop(open(&store).await);
    let other = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let error = other.partitions(5).allow_volatile().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("has 4, not 5"), "{error}");
}

#[tokio::test]
async fn clearing_the_store_leaves_the_journal() {
    use cache_core::CacheStore;
    let store = store().await;
    let journal = open(&store).await;
    append(&journal, 7, "a").await;
    store.clear().await.unwrap();
    assert!(journal.pending("7").await.unwrap().is_some());
}

/// As long as nobody fails, all is as on one server.
#[tokio::test]
async fn in_a_cluster_every_partition_is_made_wherever_it_is() {
    let store = patient_cluster().await.connect().await.unwrap();
    let journal = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let journal = journal.partitions(8).lease(LONG).allow_volatile().open().await.unwrap();
    for key in 0..50 {
        append(&journal, key, "v").await;
    }
    let batch = take(&journal, 50).await;
    done(&journal, &batch).await;
    journal.drained().await.unwrap();
    // Those who wait for news are told of it by each node.
    for key in 0..50 {
        append(&journal, key, "w").await;
    }
    assert_eq!(take(&journal, 50).await.len(), 50);
}

/// What was acknowledged and replicated before the primary died, and what was acknowledged after the failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_takes_nothing_with_it_that_was_replicated() {
    let mut cluster = Cluster::start().await;
    let store = patient_at(&cluster.url(), &fresh_name()).operation_timeout(Duration::from_secs(2));
    let store = store.connect().await.unwrap();
    let builder = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let builder = || builder().partitions(6).lease(Duration::from_secs(1)).allow_volatile();
    let journal = answered(async || builder().open().await).await;
    let mut expected = std::collections::BTreeMap::new();
    for key in 0..60 {
        expected.insert(key, append_at_last(&journal, key, "before").await);
    }
    let made = take(&journal, 30).await; // and not done: it is in flight when the primary dies
    for primary in 0..3 {
        let mut connection = cluster.foreign(primary).await;
        // What was written on this node before is in the stream to its replica before this.
        let mut mark = 0;
        while cluster.owner(primary, &format!("mark-{mark}")).await != primary {
            mark += 1;
        }
        let mark = format!("mark-{mark}");
        let () = redis::cmd("SET").arg(&[&*mark, "1"]).query_async(&mut connection).await.unwrap();
        let replicas: i64 =
            redis::cmd("WAIT").arg(&[1, 20_000]).query_async(&mut connection).await.unwrap();
        assert_eq!(replicas, 1);
    }
    cluster.nodes[0].kill();
    for key in 60..90 {
        expected.insert(key, append_at_last(&journal, key, "after").await);
    }
    journal.backlog().retry(made, Duration::ZERO);
    let mut found = std::collections::BTreeMap::new();
    eventually("all of them are given out", async || {
        let batch = tokio::time::timeout(SHORT, journal.backlog().take(EVERYTHING)).await;
        let batch = batch.unwrap_or_default();
        found.extend(batch.iter().map(|taken| (taken.write.key, taken.write.seq)));
        match journal.done(&batch).await {
            Ok(()) => journal.backlog().done(&batch),
            Err(_) => journal.backlog().retry(batch, Duration::ZERO),
        }
        expected.iter().all(|(key, seq)| found.get(key) >= Some(seq))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_journal_works_with_the_connections_that_wait() {
    let authority = Authority::new();
    let (_server, port) = encrypted(&authority).await;
    let store = patient_at(&format!("rediss://localhost:{port}"), &fresh_name());
    let store = store.root_certificates(authority.root()).connect().await.unwrap();
    let journal = open(&store).await;
    append(&journal, 7, "a").await;
    let batch = take(&journal, 1).await;
    done(&journal, &batch).await;
    // It waits for this one by now.
    append(&journal, 7, "b").await;
    assert_eq!(take(&journal, 1).await[0].write.value.as_deref(), Some("b"));
}

/// A server, and the port at which it talks TLS.
async fn encrypted(authority: &Authority) -> (Server, u16) {
    for _ in 0..10 {
        // Somebody else may take one of the ports.
        let (machine, ports) = Machine::with_ports(2).await;
        let arguments = authority.arguments(ports[1], &["localhost"], "no");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(server) = Server::start_on(&machine, ports[0], &arguments).await {
            return (server, ports[1]);
        }
    }
    panic!("the server does not start");
}

/// A journal of one partition.
async fn open_one(store: &RedisStore, lease: Duration) -> InRedis {
    let journal = RedisJournal::builder(store, "orders", Json::new());
    journal.partitions(1).lease(lease).allow_volatile().open().await.expect("a journal")
}

/// Whether a journal of one partition says that it owns it.
fn owns(journal: &InRedis) -> bool {
    format!("{journal:?}").contains("owned: 1")
}

/// Without its data the server knows of no owner, and nothing of those before.
#[tokio::test]
async fn who_has_lost_its_lease_with_the_servers_data_knows_it_when_another_has_it() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let service = fresh_name();
    let open = async |url: &str| {
        let store = patient_at(url, &service).connect().await.unwrap();
        open_one(&store, LONG * 10).await
    };
    let first = open(&proxy.url()).await;
    eventually("the first has it", async || owns(&first)).await;
    let second = open(&server.url()).await;

    // The first one is told nothing until the second one has it.
    proxy.fault(Fault::Hang);
    let mut other = foreign(&server.url()).await;
    let () = redis::cmd("FLUSHALL").query_async(&mut other).await.unwrap();
    eventually("the second has it", async || owns(&second)).await;
    proxy.fault(Fault::None);
    eventually("the first knows it", async || !owns(&first)).await;
    assert!(owns(&second));
    let seq = append(&first, 7, "a").await;
    assert_eq!(take(&second, 1).await[0].write.seq, seq);
}

/// Five writes are made, and then the server is taken back to when there were two, as by a failover to a replica that was
/// behind. Its numbers begin this many microseconds ahead of its clock. The number of the fifth, and that of a write after
/// the loss, which is made.
async fn numbers_around_a_loss(ahead: u64) -> (Seq, Seq) {
    let server = Server::start().await;
    let store = patient_at(&server.url(), &fresh_name()).connect().await.unwrap();
    let journal = open_one(&store, LONG * 10).await;
    eventually("it has its partition", async || owns(&journal)).await;
    let mut other = foreign(&server.url()).await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*:state").query_async(&mut other).await.unwrap();
    let (state, log) = (keys[0].as_str(), keys[0].replace(":state", ":log"));
    if ahead > 0 {
        let first = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() + u128::from(ahead);
        let mut set = redis::cmd("HSET");
        set.arg(&[state, "seq", &first.to_string()]);
        let () = set.query_async(&mut other).await.unwrap();
    }
    let mut numbers = Vec::new();
    for key in 0..5 {
        numbers.push(append(&journal, key, "before").await);
        let batch = take(&journal, 1).await;
        done(&journal, &batch).await;
    }
    let second = numbers[1].get().to_string();
    let mut back = redis::pipe();
    back.atomic().cmd("HSET").arg(&[state, "seq", &second]).cmd("DEL").arg(&log);
    back.cmd("XGROUP").arg(&["CREATE", &log, "writers", &second, "MKSTREAM"]);
    back.cmd("XSETID").arg(&[&log, &second]);
    let () = back.query_async(&mut other).await.unwrap();
    let after = append(&journal, 4, "after").await;
    assert_eq!(take(&journal, 1).await[0].write.seq, after);
    (numbers[4], after)
}

#[tokio::test]
async fn what_is_acknowledged_after_a_loss_is_numbered_higher_than_what_was_lost() {
    let (lost, after) = numbers_around_a_loss(0).await;
    assert!(after > lost, "{after:?} after {lost:?}");
}

#[tokio::test]
async fn what_is_acknowledged_after_a_loss_by_a_clock_that_is_behind_is_made() {
    let (lost, after) = numbers_around_a_loss(3_600_000_000).await;
    assert!(after < lost, "the clock is not behind");
}

#[tokio::test]
async fn no_batch_begins_after_the_lease_however_long_the_server_is_waited_for() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = patient_at(&proxy.url(), &fresh_name()).operation_timeout(LONG * 10);
    let store = store.connect().await.unwrap();
    let journal = open_one(&store, Duration::from_secs(3)).await;
    let write = Write::new(7, Some("a".to_owned()));
    append(&journal, 7, "a").await;
    eventually("it has it", async || journal.backlog().depth().waiting == 1).await;
    eventually("it may make it", async || journal.is_ours(&write)).await;
    proxy.fault(Fault::Hang);
    eventually("it lets go", async || journal.backlog().depth().writes() == 0).await;
    let early = tokio::time::timeout(SHORT, journal.backlog().take(EVERYTHING)).await;
    assert!(early.is_err(), "a batch begins without a lease");
    assert!(!journal.is_ours(&write), "a batch may begin without a lease");
    // Nothing is lost by that.
    proxy.fault(Fault::None);
    assert_eq!(take(&journal, 1).await[0].write.key, 7);
}

#[tokio::test]
async fn what_could_not_be_said_to_be_done_is_said_as_soon_as_the_server_listens() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = patient_at(&proxy.url(), &fresh_name()).connect().await.unwrap();
    let journal = open_one(&store, LONG * 10).await;
    for (key, fault) in [(7, Fault::Refuse), (8, Fault::Hang)] {
        append(&journal, key, "a").await;
        let batch = take(&journal, 1).await;
        proxy.fault(fault);
        if fault == Fault::Hang {
            // As by a caller that does not wait for longer.
            let given_up = tokio::time::timeout(SHORT, journal.done(&batch)).await;
            assert!(given_up.is_err(), "{given_up:?}");
        }
        proxy.reset();
        eventually("the connection is lost", async || !store.is_connected()).await;
        if fault == Fault::Refuse {
            let error = journal.done(&batch).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        journal.backlog().done(&batch);
        proxy.fault(Fault::None);
        store.connected().await;
        tokio::time::timeout(LONG, journal.drained()).await.expect("drained in time").unwrap();
        assert_eq!(journal.pending(&key.to_string()).await.unwrap(), None);
        assert_eq!(journal.depth().writes(), 0);
    }
}

#[tokio::test]
async fn a_lease_that_no_server_can_keep_is_refused() {
    let store = store().await;
    for lease in [Duration::MAX, Duration::from_secs(u64::MAX / 1000), Duration::ZERO] {
        let journal = RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
        let error = journal.lease(lease).allow_volatile().open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{lease:?}");
        assert!(error.to_string().contains("lease"), "{error}");
    }
}

#[tokio::test]
async fn what_is_foreign_in_the_log_becomes_a_dead_letter_and_holds_nobody_up() {
    let server = Server::start().await;
    let store = patient_at(&server.url(), &fresh_name()).connect().await.unwrap();
    let journal = open_one(&store, LONG * 10).await;
    eventually("it has its partition", async || owns(&journal)).await;
    let mut other = foreign(&server.url()).await;
    let logs: Vec<String> = redis::cmd("KEYS").arg("*:log").query_async(&mut other).await.unwrap();
    for (id, fields) in [("1-0", &[&b"a"[..], b"b"][..]), ("2-0", &[b"k", b"\xff\xfe", b"b", b"c"])]
    {
        let mut add = redis::cmd("XADD");
        let () = add.arg(&logs[0]).arg(id).arg(fields).query_async(&mut other).await.unwrap();
    }
    append(&journal, 7, "a").await;
    let batch = take(&journal, 1).await;
    assert_eq!((batch.len(), batch[0].write.key), (1, 7));
    done(&journal, &batch).await;
    tokio::time::timeout(LONG, journal.drained()).await.expect("drained in time").unwrap();
    let letters = journal.dead_letters(10).await.unwrap();
    let found: Vec<_> = letters.iter().map(|letter| letter.seq.get()).collect();
    assert_eq!(found, [1, 2]);
    for letter in &letters {
        assert!(letter.cause.contains("can't be read"), "{}", letter.cause);
        assert!(journal.discard(&letter.key, letter.seq).await.unwrap());
    }
    assert_eq!(journal.dead(), 0);
}

#[tokio::test]
async fn who_drains_in_vain_knows_how_much_is_left_also_if_another_makes_it() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let service = fresh_name();
    let open = async |url: &str| {
        let store = patient_at(url, &service).connect().await.unwrap();
        open_one(&store, LONG * 10).await
    };
    let owner = open(&server.url()).await;
    eventually("it has its partition", async || owns(&owner)).await;
    let (other, deaf) = (open(&server.url()).await, open(&proxy.url()).await);
    for key in 0..50 {
        append(&other, key, "v").await;
    }
    // Nobody takes what the owner has, so this does not end.
    tokio::select! {
        drained = other.drained() => panic!("drained: {drained:?}"),
        () = eventually("it knows", async || other.depth().writes() == 50) => {}
    }
    assert_eq!(other.depth().writes(), 50);
    // Who can't ask knows that it is not known to be nothing.
    proxy.fault(Fault::Hang);
    let drained = tokio::time::timeout(SHORT, deaf.drained()).await;
    assert!(drained.is_err(), "{drained:?}");
    assert_eq!(deaf.depth().writes(), 1);
}
