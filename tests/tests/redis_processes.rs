//! Several processes, each with a cache of its own, on one server.

use std::pin::pin;
use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_tests::processes::{Answer, Load, Worker};
use cache_tests::redis::{eventually, foreign, redis_url};
use futures_util::future::join_all;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

async fn worker(service: &str, lease: Duration) -> Worker {
    Worker::start(env!("CARGO_BIN_EXE_cache-worker"), &redis_url().await, service, lease).await
}

#[tokio::test]
async fn a_thousand_tasks_of_four_processes_make_one_load() {
    let service = fresh_name();
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(worker(&service, LONG).await);
    }
    for round in 1..=5 {
        let key = format!("key-{round}");
        let answers: Vec<_> =
            workers.iter_mut().map(|worker| worker.ask(&format!("get 250 {key}"))).collect();
        for worker in &mut workers {
            eventually("all tasks have asked", async || {
                worker.ask("begun").come().await == (250 * round).to_string()
            })
            .await;
        }
        let mut answered = pin!(join_all(answers.into_iter().map(Answer::come)));
        let mut loads = 0;
        let answers = loop {
            if let Ok(answers) = timeout(Duration::from_millis(20), &mut answered).await {
                break answers;
            }
            for worker in &mut workers {
                while let Some(load) = worker.another_load() {
                    loads += 1;
                    worker.answer(&load, round);
                }
            }
        };
        assert_eq!(answers, [(); 4].map(|()| round.to_string()));
        assert_eq!(loads, 1, "round {round}");
    }
}

#[tokio::test]
async fn a_key_whose_owner_is_killed_is_loaded_by_another_process() {
    let service = fresh_name();
    let mut heir = worker(&service, LONG).await;
    let mut third = worker(&service, LONG).await;
    let mut other = foreign(&redis_url().await).await;
    for round in 1..=5 {
        let key = format!("key-{round}");
        let mut owner = worker(&service, Duration::from_millis(500)).await;
        let _lost = owner.ask(&format!("get 1 {key}"));
        owner.load().await;
        let left: i64 = redis::cmd("PTTL")
            .arg(format!("{service}:{key}"))
            .query_async(&mut other)
            .await
            .expect("an answer");
        assert!(left <= 500, "the key is free within the life of a lease, not {left} ms");
        let answer = heir.ask(&format!("get 10 {key}"));
        owner.kill();

        let load = heir.load().await;
        heir.answer(&load, round);
        assert_eq!(answer.come().await, round.to_string());
        assert_eq!(heir.another_load(), None);
        // It has been kept.
        eventually("the value is kept", async || heir.ask("loading").come().await == "0").await;
        assert_eq!(third.ask(&format!("get 1 {key}")).come().await, round.to_string());
        assert_eq!(third.another_load(), None);
    }
}

#[tokio::test]
async fn the_value_of_an_owner_that_was_stopped_for_longer_than_its_lease_is_refused() {
    let service = fresh_name();
    let mut slow = worker(&service, Duration::from_millis(100)).await;
    let mut quick = worker(&service, LONG).await;
    for round in 1..=50 {
        let (old, new) = (round, 1000 + round);
        let slow_answer = slow.ask(&format!("get 1 key-{round}"));
        let slow_load = slow.load().await;
        slow.stop();

        let quick_answer = quick.ask(&format!("get 1 key-{round}"));
        let quick_load = quick.load().await;
        quick.answer(&quick_load, new);
        assert_eq!(quick_answer.come().await, new.to_string());
        eventually("the new value is kept", async || quick.ask("loading").come().await == "0")
            .await;

        slow.answer(&slow_load, old);
        slow.resume();
        assert_eq!(slow_answer.come().await, old.to_string(), "who asked before gets it");
        for worker in [&mut slow, &mut quick] {
            let answer = worker.ask(&format!("get 1 key-{round}")).come().await;
            assert_eq!(answer, new.to_string(), "round {round}");
            assert_eq!(worker.another_load(), None);
        }
    }
    assert_eq!(slow.ask("refused").come().await, "50");
    assert_eq!(quick.ask("refused").come().await, "0");
}

#[tokio::test]
async fn nothing_that_another_process_invalidates_during_its_load_comes_back() {
    let service = fresh_name();
    let mut loads = worker(&service, LONG).await;
    let mut invalidates = worker(&service, LONG).await;
    let mut stale = 0;
    for round in 1..=1000 {
        let (old, new) = (2 * round, 2 * round + 1);
        let answer = loads.ask("get 1 key");
        let load = loads.load().await;
        assert_eq!(invalidates.ask("invalidate key").come().await, "done");
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
        eventually("the new value is kept", async || first.ask("loading").come().await == "0")
            .await;
        stale += u32::from(second.ask("get 1 key").come().await != new.to_string());
        assert_eq!(second.another_load(), None);
        assert_eq!(loads.ask("invalidate key").come().await, "done");
    }
    assert_eq!(stale, 0, "of 1000 rounds");
    assert_eq!(loads.ask("refused").come().await, "1000");
}

/// What a worker wants of the source, and how far it is.
struct Wanted {
    worker: usize,
    load: Load,
    /// What a load has read, once it has; what a write has made, once it has been made.
    took_place: Option<u64>,
}

/// A source that takes its time: what is asked of it takes place, and is answered, in an order of its own.
async fn answered_by(
    source: &mut u64,
    workers: &mut [Worker; 2],
    answers: Vec<Answer>,
    random: &mut fastrand::Rng,
) -> Vec<String> {
    let mut answered = pin!(join_all(answers.into_iter().map(Answer::come)));
    let mut wanted: Vec<Wanted> = Vec::new();
    loop {
        if let Ok(answers) = timeout(Duration::from_millis(1), &mut answered).await {
            // Nobody waits for what is left.
            for left in wanted {
                workers[left.worker].answer(&left.load, left.took_place.unwrap_or(*source));
            }
            return answers;
        }
        for (worker, process) in workers.iter_mut().enumerate() {
            while let Some(load) = process.another_load() {
                wanted.push(Wanted { worker, load, took_place: None });
            }
        }
        if wanted.is_empty() {
            continue;
        }
        let next = random.usize(..wanted.len());
        match wanted[next].took_place {
            None => {
                if let Some(write) = wanted[next].load.key.strip_prefix("write ") {
                    let (value, _) = write.split_once(' ').expect("a value and a key");
                    *source = value.parse().expect("a number");
                }
                wanted[next].took_place = Some(*source);
            }
            Some(value) => {
                let done = wanted.swap_remove(next);
                workers[done.worker].answer(&done.load, value);
            }
        }
    }
}

#[tokio::test]
async fn two_processes_that_write_one_key_leave_what_the_source_has_or_nothing() {
    let service = fresh_name();
    let mut workers = [worker(&service, LONG).await, worker(&service, LONG).await];
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut source, mut kept_rounds) = (0, 0);
    for round in 1..=300_u64 {
        let mut answers = Vec::new();
        for (number, worker) in (0..).zip(&mut workers) {
            // In every third round one of them only reads, so the other's write can be kept.
            let put = match (round % 3, number) {
                (0, 1) => "get 1 key".to_owned(),
                _ => format!("put {} key", 2 * round + number),
            };
            let mut asked = ["get 1 key", &put, "get 1 key"];
            random.shuffle(&mut asked);
            answers.extend(asked.map(|question| worker.ask(question)));
        }
        answered_by(&mut source, &mut workers, answers, &mut random).await;
        assert!(source == 2 * round || source == 2 * round + 1, "the round has been written");
        for worker in &mut workers {
            eventually("no load is left", async || worker.ask("loading").come().await == "0").await;
        }
        let kept = workers[0].ask("kept key").come().await;
        assert!(kept == source.to_string() || kept == "Ok(None)", "{kept}, not {source}, {round}");
        kept_rounds += u64::from(kept != "Ok(None)");
        let answers = workers.each_mut().map(|worker| worker.ask("get 1 key"));
        let got = answered_by(&mut source, &mut workers, answers.into(), &mut random).await;
        assert_eq!(got, [(); 2].map(|()| source.to_string()), "round {round}");
        for worker in &mut workers {
            eventually("no load is left", async || worker.ask("loading").come().await == "0").await;
        }
    }
    assert!(kept_rounds > 0, "some writes are kept");
}

/// Makes a library that sets the clock of a process an hour forward.
#[cfg(target_os = "linux")]
fn an_hour_ahead(directory: &std::path::Path) -> std::path::PathBuf {
    let (source, library) = (directory.join("ahead.c"), directory.join("ahead.so"));
    let code = "
        #define _GNU_SOURCE
        #include <time.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int clock_gettime(clockid_t clock, struct timespec *time) {
            int result = syscall(SYS_clock_gettime, clock, time);
            if (clock == CLOCK_REALTIME) time->tv_sec += 3600;
            return result;
        }";
    std::fs::write(&source, code).expect("a file");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut compiler = std::process::Command::new(compiler);
    let compiled = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.expect("a C compiler: install one, such as gcc").success());
    library
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_whose_clock_is_an_hour_ahead_sees_the_same_lifetimes() {
    let directory = tempfile::tempdir().expect("a directory");
    let library = an_hour_ahead(directory.path());
    let (url, service, program) =
        (redis_url().await, fresh_name(), env!("CARGO_BIN_EXE_cache-worker"));
    let mut right = Worker::start(program, &url, &service, LONG).await;
    let mut ahead = Worker::start_in(program, &url, &service, LONG, Some(&library)).await;
    let mut times = Vec::new();
    for worker in [&mut right, &mut ahead] {
        let now: i64 = worker.ask("now").come().await.parse().expect("a number");
        times.push(now);
    }
    assert!((3500..3700).contains(&(times[1] - times[0])), "their clocks differ: {times:?}");

    for writer in 0..2 {
        let key = format!("key-{writer}");
        let mut both = [&mut right, &mut ahead];
        let answer = both[writer].ask(&format!("get 1 {key}"));
        let load = both[writer].load().await;
        both[writer].answer(&load, 7);
        assert_eq!(answer.come().await, "7");
        eventually("it is kept", async || both[writer].ask("loading").come().await == "0").await;
        for worker in &mut both {
            assert_eq!(worker.ask(&format!("get 1 {key}")).come().await, "7");
            assert_eq!(worker.another_load(), None, "it has not ended for either");
            let left = worker.ask(&format!("left {key}")).come().await;
            let left: u64 = left.parse().expect("an entry");
            assert!((400_000..=600_000).contains(&left), "of ten minutes: {left} ms");
        }
    }
}
