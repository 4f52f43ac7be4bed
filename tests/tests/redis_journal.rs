//! The journal in Redis Streams, by what its users see.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_core::{Bounds, Due, Error, ErrorKind, Journal, Seq, Taken};
use cache_redis::{RedisJournal, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Server, eventually, foreign, patient, patient_at};

type InRedis = RedisJournal<u64, String>;

const EVERYTHING: Due = Due { writes: 100_000, bytes: usize::MAX, age: Duration::ZERO };
const LONG: Duration = Duration::from_secs(60);

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
    // Whichever of them has the partition.
    let owner = async {
        for journal in [&one, &other].into_iter().cycle() {
            let batch = tokio::time::timeout(Duration::from_millis(100), take(journal, 1)).await;
            if let Ok(batch) = batch {
                return (journal, batch);
            }
        }
        unreachable!()
    };
    let (owner, batch) = owner.await;
    assert_eq!(batch.last().map(|taken| taken.write.seq), Some(seq));
    done(owner, &batch).await;
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
    let journal = || journal().partitions(1).lease(Duration::from_secs(3)).allow_volatile();
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
    assert_eq!((letters[0].write.key, letters[0].write.seq), (7, seq));
    assert_eq!(letters[0].cause, cause.to_string());
    assert!(!other.discard("8", seq).await.unwrap());
    assert!(other.discard("7", seq).await.unwrap());
    assert!(journal.dead_letters(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_write_that_processes_die_of_becomes_a_dead_letter() {
    let store = store().await;
    let deadly = || RedisJournal::<u64, String>::builder(&store, "orders", Json::new());
    let deadly = || deadly().lease(LONG).most_deliveries(2).allow_volatile();
    let journal = deadly().open().await.unwrap();
    let seq = append(&journal, 7, "deadly").await;
    journal.close(LONG).await.unwrap();
    let mut died = 0;
    loop {
        let journal = deadly().open().await.unwrap();
        let batch = tokio::time::timeout(LONG, async {
            loop {
                let soon = Duration::from_millis(50);
                if let Ok(batch) = tokio::time::timeout(soon, take(&journal, 1)).await {
                    return Some(batch);
                }
                if !journal.dead_letters(1).await.unwrap().is_empty() {
                    return None;
                }
            }
        });
        let Some(batch) = batch.await.expect("in time") else { break };
        died += 1;
        journal.backlog().retry(batch, LONG);
        journal.close(LONG).await.unwrap(); // and not done
    }
    assert!((1..=2).contains(&died), "{died}"); // the first one may have begun it, too
    let letters = deadly().open().await.unwrap().dead_letters(1).await.unwrap();
    assert_eq!(letters[0].write.seq, seq);
    assert!(letters[0].cause.contains("none has finished it"), "{}", letters[0].cause);
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
