//! Several processes of the system on one Redis server: with memory in front of it, and with tags.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cache_core::testing::fresh_name;
use cache_tests::History;
use cache_tests::processes::{Answer, Worker};
use cache_tests::redis::{eventually, redis_url};
use futures_util::future::join_all;

const SECOND: Duration = Duration::from_secs(1);

async fn fleet(count: usize, by: &str) -> Vec<Worker> {
    let (url, service) = (redis_url().await, fresh_name());
    let arguments = [url.as_str(), &service, by];
    let program = env!("CARGO_BIN_EXE_cache-tier");
    join_all((0..count).map(|_| Worker::start_with(program, &arguments))).await
}

async fn ask(worker: &mut Worker, question: &str) -> String {
    worker.ask(question).come().await
}

/// Adds what a worker has written down. Its times are nanoseconds since 1970.
fn add(history: &mut History, path: &Path, (origin, start): (u64, Instant)) {
    let at = |nanos: u64| start + Duration::from_nanos(nanos - origin);
    for line in std::fs::read_to_string(path).expect("a report").lines() {
        let (kind, numbers) = line.split_once(' ').expect("an operation");
        let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [session, key, value, began, ended] = numbers[..] else { panic!("{line}") };
        let (session, key, began, ended) = (session as usize, key as usize, at(began), at(ended));
        match kind {
            "w" => history.wrote(session, key, value, began, ended),
            _ => history.read(session, key, value, began, ended),
        }
    }
}

/// Four processes, three sessions in each, ten per cent writes, on a thousand keys that all share.
async fn history(by: &str, bound: Option<Duration>) {
    let seconds = std::env::var("CACHE_TEST_HISTORY_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: usize| directory.path().join(name.to_string());
    let origin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let origin = (u64::try_from(origin.as_nanos()).expect("before 2554"), Instant::now());
    let mut all = History::default();

    let mut workers = fleet(4, by).await;
    assert_eq!(ask(&mut workers[0], &format!("begin {}", path(4).display())).await, "done");
    add(&mut all, &path(4), origin);
    let answers: Vec<_> = workers
        .iter_mut()
        .enumerate()
        .map(|(number, worker)| {
            worker.ask(&format!("history {seconds} {number} {}", path(number).display()))
        })
        .collect();
    assert_eq!(join_all(answers.into_iter().map(Answer::come)).await, ["done"; 4]);
    for number in 0..4 {
        add(&mut all, &path(number), origin);
    }
    let count = all.len();
    assert!(count > 1000, "they have done something: {count}");
    // Who has to wait for its turn finds out that much later that it has heard of nobody.
    let mut stalled = Duration::ZERO;
    for worker in &mut workers {
        let [nanos] = numbers(&ask(worker, "stalls").await);
        stalled = stalled.max(Duration::from_nanos(nanos));
    }
    let wrongs = all.check(bound.map_or(Duration::ZERO, |bound| bound + stalled));
    eprintln!(
        "{by}: {count} operations of 4 processes in {seconds} s, {stalled:?} stalled, {wrongs:?}"
    );
    assert_eq!((wrongs.stale, wrongs.future, wrongs.inversions), (0, 0, 0), "{wrongs:?}");
    if bound.is_none() {
        return;
    }
    for worker in &mut workers {
        let [hits, copies, far] = numbers(&ask(worker, "hits").await);
        let [near] = numbers(&ask(worker, "near 1000").await);
        let seen = format!("{hits} reads from memory, {copies} copies, {far} far, {near} near");
        eprintln!("{by}: {seen}");
        // Otherwise it says nothing that nothing in the memory was stale.
        assert!(copies > 0 && 4 * hits > far, "{seen}");
    }
}

fn numbers<const N: usize>(answer: &str) -> [u64; N] {
    let numbers: Vec<u64> = answer.split(' ').map(|n| n.parse().expect("a number")).collect();
    numbers.try_into().expect("so many numbers")
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_read_nothing_stale_beyond_the_bound_by_the_bus() {
    history("bus", Some(SECOND)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_read_nothing_stale_beyond_the_bound_by_tracking() {
    history("tracking", Some(SECOND)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_read_nothing_stale_beyond_the_bound_by_tracking_of_each_key() {
    history("tracking-by-key", Some(SECOND)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_without_a_near_tier_read_nothing_stale_at_all() {
    history("none", None).await;
}

/// Of each key, when it happened.
fn times(path: &Path) -> Vec<u64> {
    let report = std::fs::read_to_string(path).expect("a report");
    let mut times: Vec<(usize, u64)> = report
        .lines()
        .map(|line| line.split_once(' ').expect("a key and a time"))
        .map(|(key, time)| (key.parse().expect("a number"), time.parse().expect("a number")))
        .collect();
    times.sort_unstable();
    assert!(times.iter().enumerate().all(|(at, (key, _))| at == *key), "each key once");
    times.into_iter().map(|(_, time)| time).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_invalidations_arrive_in_two_other_processes_and_do_not_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let mut workers = fleet(3, "patient-bus").await;
    let [writer, others @ ..] = &mut workers[..] else { panic!("three workers") };
    assert_eq!(ask(writer, "put 1000 1").await, "done");
    let mut emptied = Vec::new();
    for other in &mut *others {
        eventually("it has heard of the writes", async || {
            numbers::<3>(&ask(other, "heard").await)[..2] == [1000, 0]
        })
        .await;
        assert_eq!(ask(other, "warm 1000").await, "done");
        emptied.push(numbers::<3>(&ask(other, "heard").await)[2]);
    }
    let told: Vec<_> = others
        .iter_mut()
        .zip(["first", "second"])
        .map(|(other, name)| other.ask(&format!("told 1000 1000 {}", path(name).display())))
        .collect();
    let removed = path("removed");
    assert_eq!(ask(writer, &format!("remove 1000 {}", removed.display())).await, "done");
    assert_eq!(join_all(told.into_iter().map(Answer::come)).await, ["done"; 2], "none is lost");
    for (other, emptied) in others.iter_mut().zip(emptied) {
        // Near copies live for an hour, and nothing else has dropped them.
        assert_eq!(numbers(&ask(other, "heard").await), [2000, 0, emptied]);
        eventually("none is near", async || ask(other, "near 1000").await == "0").await;
    }
    assert_eq!(numbers::<3>(&ask(writer, "heard").await)[..2], [0, 0], "no echo");

    let removed = times(&removed);
    for name in ["first", "second"] {
        let mut took: Vec<f64> = times(&path(name))
            .into_iter()
            .zip(&removed)
            .map(|(told, began)| told.saturating_sub(*began) as f64 / 1e6)
            .collect();
        took.sort_unstable_by(f64::total_cmp);
        let [p50, p99, most] = [500, 990, 999].map(|at| took[at]);
        eprintln!("{name}: told {p50:.2} ms after its removal began; p99 {p99:.2}, most {most:.2}");
    }
}

#[tokio::test]
async fn nothing_whose_tag_another_process_invalidates_during_its_load_comes_back() {
    let (url, service) = (redis_url().await, fresh_name());
    let program = env!("CARGO_BIN_EXE_cache-worker");
    let arguments = [url.as_str(), &service, "120000", "tagged"];
    let mut loads = Worker::start_with(program, &arguments).await;
    let mut invalidates = Worker::start_with(program, &arguments).await;
    let mut stale = 0;
    for round in 1..=1000_u64 {
        let (old, new) = (2 * round, 2 * round + 1);
        let answer = loads.ask("get 1 key");
        let load = loads.load().await;
        assert_eq!(ask(&mut invalidates, "invalidate-tag t").await, "done");
        loads.answer(&load, old);
        assert_eq!(answer.come().await, old.to_string(), "who asked before gets it");

        // From here on the old value is stale, whichever process is asked, in either order.
        let (first, second) = match round % 2 {
            0 => (&mut loads, &mut invalidates),
            _ => (&mut invalidates, &mut loads),
        };
        let answer = first.ask("get 1 key");
        let load = first.load().await;
        first.answer(&load, new);
        stale += u32::from(answer.come().await != new.to_string());
        eventually("the new value is kept", async || ask(first, "loading").await == "0").await;
        stale += u32::from(ask(second, "get 1 key").await != new.to_string());
        assert_eq!(second.another_load(), None);
        assert_eq!(ask(&mut loads, "invalidate-tag t").await, "done");
    }
    assert_eq!(stale, 0, "of 1000 rounds");
    assert_eq!(ask(&mut loads, "refused").await, "1000");
}
