//! How many writes a second are acknowledged, against what the disk allows: rounds in which the same writes are put
//! into a file of the same engine by one thread, as many in one commit as there are writers.
//!
//! ```text
//! cargo run --release -p cache-journal --example group_commit [directory [writers]]
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_core::{Due, Journal};
use cache_journal::DiskJournal;
use cache_serde::Postcard;
use redb::{Database, TableDefinition};

const VALUE: usize = 200;
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 50;
const KEYS: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let within = arguments.next().unwrap_or_else(|| ".".to_owned());
    let writers = arguments.next().map_or(Ok(64), |writers| writers.parse())?;
    let directory = tempfile::tempdir_in(within)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let journal =
        runtime.block_on(DiskJournal::open(directory.path().join("journal"), Postcard::new()))?;
    let journal = Arc::new(journal);
    let db = Database::create(directory.path().join("engine"))?;
    let mut file = File::create(directory.path().join("file"))?;

    println!("{writers} writers, {VALUE} bytes each, {ROUNDS} rounds of all three, medians:\n");
    let mut figures = [const { Vec::new() }; 6];
    for round in 0..=ROUNDS {
        let commits = journal.commits();
        let ours = runtime.block_on(put_for_a_while(&journal, writers));
        let together = ours.0 as f64 / (journal.commits() - commits) as f64;
        let engine = a_round(|n| commit(&db, n, writers))? * writers as f64;
        let plain = a_round(|_| append(&mut file, writers))? * writers as f64;
        // The first round warms up.
        if round > 0 {
            let round = [ours.1, together, engine, plain, ours.1 / engine, ours.1 / plain];
            figures.iter_mut().zip(round).for_each(|(figures, figure)| figures.push(figure));
        }
    }
    let [ours, together, engine, plain, to_engine, to_file] = figures.map(median);
    println!("journal       {ours:>8.0} acknowledged writes/s, {together:.1} in a commit");
    println!("engine alone  {engine:>8.0} writes/s; the journal has {to_engine:.2} of it");
    println!("file alone    {plain:>8.0} writes/s; the journal has {to_file:.2} of it");
    Ok(())
}

/// Every writer puts its next write when the last one is acknowledged. The number of writes, and how many a second.
/// What has gathered is taken away meanwhile, in batches of 500, as a flusher does.
async fn put_for_a_while(journal: &Arc<DiskJournal<u64, Vec<u8>>>, writers: usize) -> (u64, f64) {
    let began = Instant::now();
    let flusher = {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            let due = Due { writes: 500, bytes: usize::MAX, age: Duration::from_millis(100) };
            loop {
                let batch = journal.backlog().take(due).await;
                if journal.done(&batch).await.is_err() {
                    return;
                }
                journal.backlog().done(&batch);
            }
        })
    };
    let writers = (0..writers as u64).map(|writer| {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            let mut writes = 0_u64;
            while began.elapsed() < ROUND {
                let key = (writer + writes * 7919) % KEYS;
                journal.append(key, Some(vec![7; VALUE])).await.expect("an acknowledgement");
                writes += 1;
            }
            writes
        })
    });
    let mut writes = 0;
    for writer in writers.collect::<Vec<_>>() {
        writes += writer.await.expect("no panic");
    }
    flusher.abort();
    (writes, writes as f64 / began.elapsed().as_secs_f64())
}

/// How often a second it can be done.
fn a_round(
    mut operation: impl FnMut(u64) -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        operation(done)?;
        done += 1;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// One commit of so many rows, which is one `fsync`.
fn commit(db: &Database, n: u64, rows: usize) -> Result<(), Box<dyn Error>> {
    let table = TableDefinition::<&str, &[u8]>::new("rows");
    let write = db.begin_write()?;
    {
        let mut table = write.open_table(table)?;
        for row in 0..rows as u64 {
            let key = ((row + n * 7919) % KEYS).to_string();
            table.insert(key.as_str(), &[7; VALUE][..])?;
        }
    }
    write.commit()?;
    Ok(())
}

/// So many rows at the end of a file, and one `fsync`: less can't be done.
fn append(file: &mut File, rows: usize) -> Result<(), Box<dyn Error>> {
    file.write_all(&vec![7; rows * (VALUE + 16)])?;
    file.sync_data()?;
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
