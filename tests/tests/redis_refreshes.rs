//! Several processes that refresh what they share on one server.

use std::time::Duration;

use cache_core::testing::fresh_name;
use cache_tests::processes::Worker;
use cache_tests::redis::{eventually, redis_url};

async fn workers(ttl: Duration, beta: f64) -> Vec<Worker> {
    let (url, service) = (redis_url().await, fresh_name());
    let mut workers = Vec::new();
    for _ in 0..4 {
        let program = env!("CARGO_BIN_EXE_cache-worker");
        workers.push(Worker::start_refreshing(program, &url, &service, ttl, beta).await);
    }
    workers
}

/// What all processes get, each by so many tasks.
async fn read(workers: &mut [Worker], tasks: u32) -> Vec<String> {
    let question = format!("get {tasks} key");
    let answers: Vec<_> = workers.iter_mut().map(|worker| worker.ask(&question)).collect();
    let mut got = Vec::new();
    for answer in answers {
        got.push(answer.come().await);
    }
    got
}

/// Loads it, as the first of all.
async fn load(worker: &mut Worker) {
    let answer = worker.ask("get 1 key");
    let load = worker.load().await;
    worker.answer(&load, 1);
    assert_eq!(answer.come().await, "1");
    eventually("the value is kept", async || worker.ask("loading").come().await == "0").await;
}

#[tokio::test]
async fn a_stale_value_is_refreshed_once_by_four_processes() {
    let mut workers = workers(Duration::from_millis(200), 0.0).await;
    load(&mut workers[0]).await;
    eventually("the value is stale", async || workers[0].ask("fresh key").come().await == "false")
        .await;

    // A thousand readers: none of them waits, for nobody answers the load yet.
    let mut loads = Vec::new();
    for tasks in [250, 10, 10, 10] {
        assert_eq!(read(&mut workers, tasks).await, ["1"; 4]);
        for (at, worker) in workers.iter_mut().enumerate() {
            while let Some(load) = worker.another_load() {
                loads.push((at, load));
            }
        }
    }
    eventually("one of them refreshes", async || {
        for (at, worker) in workers.iter_mut().enumerate() {
            while let Some(load) = worker.another_load() {
                loads.push((at, load));
            }
        }
        !loads.is_empty()
    })
    .await;
    assert_eq!(loads.len(), 1, "{loads:?}");
    let (at, load) = &loads[0];
    workers[*at].answer(load, 2);
    eventually("all processes have the new value", async || {
        read(&mut workers, 1).await == ["2"; 4]
    })
    .await;
}

/// Values end again and again under readers of four processes. Each end is one load, whoever makes it, and nobody waits for
/// any of them.
#[tokio::test]
async fn with_early_refresh_the_ends_of_a_value_are_no_storms() {
    let mut workers = workers(Duration::from_millis(500), 1.0).await;
    load(&mut workers[0]).await;
    for generation in 2..=4_u64 {
        let old = (generation - 1).to_string();
        let mut loads = Vec::new();
        // Read until somebody refreshes, and some more while he does.
        let mut rounds_left = 20;
        while rounds_left > 0 {
            let got = read(&mut workers, 10).await;
            assert!(got.iter().all(|got| *got == old), "{got:?}, not all {old}");
            for (at, worker) in workers.iter_mut().enumerate() {
                while let Some(load) = worker.another_load() {
                    loads.push((at, load));
                }
            }
            rounds_left -= u32::from(!loads.is_empty());
        }
        assert_eq!(loads.len(), 1, "the processes load once together: {loads:?}");
        let (at, load) = &loads[0];
        workers[*at].answer(load, generation);
        eventually("the new value is kept", async || {
            read(&mut workers, 1).await
                == [
                    generation.to_string(),
                    generation.to_string(),
                    generation.to_string(),
                    generation.to_string(),
                ]
        })
        .await;
    }
}
