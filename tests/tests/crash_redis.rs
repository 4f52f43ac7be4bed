//! `kill -9` of a process that writes behind into a journal on a Redis server, and of the server, which keeps an
//! append-only file.

use std::path::Path;
use std::time::Duration;

use cache_tests::crash::{Doomed, Ledger, Rows, behind, redis_journal};
use cache_tests::redis::Server;

const ROUNDS: u64 = 20;
const SERVER_ROUNDS: u64 = 8;

async fn server(directory: &Path) -> Server {
    let directory = directory.to_str().expect("a path in UTF-8");
    let keeps = ["--appendonly", "yes", "--appendfsync", "always", "--dir", directory];
    Server::start_with(&keeps).await
}

fn start(database: &Path, round: u64, url: &str) -> Doomed {
    let database = database.to_str().expect("a path in UTF-8");
    let first_version = (round << 32).to_string();
    let arguments = [database, &first_version, "redis", url];
    Doomed::start(env!("CARGO_BIN_EXE_cache-crash"), &arguments)
}

async fn drain(rows: &Rows, url: &str) {
    let cache = behind(rows, redis_journal(url).await);
    let left = cache.shutdown(Duration::from_secs(120)).await.expect("it is drained");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_process_is_killed_another_makes_every_write_it_has_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(directory.path()).await;
    let database = directory.path().join("rows");
    let rows = Rows::open(&database);
    let mut ledger = Ledger::default();

    for round in 1..=ROUNDS {
        let mut process = start(&database, round, &server.url());
        process.acknowledge(&mut ledger, random.usize(1..120));
        std::thread::sleep(Duration::from_micros(random.u64(..3000)));
        process.kill(&mut ledger);
        // The next process may find what two have left.
        if random.u8(..4) > 0 || round == ROUNDS {
            drain(&rows, &server.url()).await;
            ledger.check(&rows);
        }
    }
    println!("{} writes acknowledged, {} made", ledger.acknowledged(), rows.writes());
    assert!(ledger.acknowledged() > 0, "nothing was tested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_server_is_killed_its_append_only_file_has_every_acknowledged_write() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = server(directory.path()).await;
    let database = directory.path().join("rows");
    let rows = Rows::open(&database);
    let mut ledger = Ledger::default();

    let mut process = start(&database, 1, &server.url());
    for _ in 0..SERVER_ROUNDS {
        process.acknowledge(&mut ledger, random.usize(50..300));
        server.kill();
        server.restart().await;
    }
    process.acknowledge(&mut ledger, 50);
    process.kill(&mut ledger);
    server.kill();
    server.restart().await;
    drain(&rows, &server.url()).await;
    ledger.check(&rows);
    println!("{} writes acknowledged, {} made", ledger.acknowledged(), rows.writes());
}
