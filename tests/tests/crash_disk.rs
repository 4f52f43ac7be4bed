//! `kill -9` of a process that writes behind into a journal on disk.

use std::time::Duration;

use cache_core::{Due, Journal};
use cache_journal::DiskJournal;
use cache_serde::Postcard;
use cache_tests::crash::{Doomed, Ledger, Rows, behind};

const ROUNDS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_every_acknowledged_write_is_in_the_source() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let (database, file) = (directory.path().join("rows"), directory.path().join("journal"));
    let rows = Rows::open(&database);
    let mut ledger = Ledger::default();
    let mut replayed = 0;

    for round in 1..=ROUNDS {
        let first_version = (round << 32).to_string();
        let paths = [&database, &file].map(|path| path.to_str().expect("a path in UTF-8"));
        let arguments = [paths[0], &first_version, "disk", paths[1]];
        let mut process = Doomed::start(env!("CARGO_BIN_EXE_cache-crash"), &arguments);
        // At any moment: also while it starts, and while it replays.
        if random.u8(..4) == 0 {
            std::thread::sleep(Duration::from_millis(random.u64(..40)));
        } else {
            process.acknowledge(&mut ledger, random.usize(1..120));
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
        }
        process.kill(&mut ledger);

        // The next process may find what two have left.
        if random.u8(..4) > 0 || round == ROUNDS {
            let journal = DiskJournal::open(&file, Postcard::new()).await.expect("a journal");
            let cache = behind(&rows, journal);
            replayed += cache.stats().depth.writes();
            let left = cache.shutdown(Duration::from_secs(120)).await.expect("it is drained");
            assert!(left.is_empty(), "{left:?}");
            ledger.check(&rows);
        }
    }
    println!(
        "{} writes acknowledged, {} made, {replayed} replayed",
        ledger.acknowledged(),
        rows.writes()
    );
    assert!(replayed > 0 && ledger.acknowledged() > 0, "nothing was tested");
}

/// The limit on the size of files is as good as a full disk: the system call fails.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_is_full_fails_the_put_and_loses_nothing() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("journal");
    // 16,384 blocks of 512 bytes. Without the trap the process would be killed.
    let limited = "trap '' XFSZ; ulimit -S -f 16384; exec \"$@\"";
    let mut process = Command::new("sh")
        .args(["-c", limited, "sh", env!("CARGO_BIN_EXE_cache-crash"), "fill"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let mut acknowledged = Vec::new();
    let full = loop {
        let line = lines.next().expect("it goes on").expect("a line");
        match line.strip_prefix("! ") {
            Some(key) => acknowledged.push(key.parse::<u64>().expect("a key")),
            None => break line,
        }
    };
    assert!(full.contains("journal failed") && full.contains("large"), "{full}");
    assert!((10..90).contains(&acknowledged.len()), "{acknowledged:?}");

    let process_id = process.id().to_string();
    let more = ["--fsize=unlimited:unlimited", "--pid", &process_id];
    let room = Command::new("prlimit").args(more).status();
    assert!(room.expect("there is a `prlimit`, of util-linux").success());
    process.stdin.take().expect("it is piped").write_all(b"\n").expect("it listens");
    assert_eq!(lines.next().expect("it goes on").expect("a line"), "! 10000");
    process.wait().expect("it ends");
    acknowledged.push(10_000);

    let journal = DiskJournal::<u64, Vec<u8>>::open(&file, Postcard::new()).await;
    let journal = journal.expect("a journal");
    let due = Due { writes: 100_000, bytes: usize::MAX, age: Duration::ZERO };
    let found = journal.backlog().take(due).await;
    let found: Vec<_> = found.iter().map(|taken| taken.write.key).collect();
    assert_eq!(found, acknowledged);
}
