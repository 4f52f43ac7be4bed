//! How many puts become one write.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_core::{BehindOptions, Bounds, MemoryJournal, ReadOptions, ReadThrough, WriteBehind};
use cache_memory::MemoryStore;
use tokio::task::JoinSet;

use super::{Nothing, Source};
use crate::keys::Zipf;
use crate::measure::Effort;
use crate::report::{Bar, Section, Table, short};
use crate::traces::{Trace, cite};

const WINDOWS: [usize; 4] = [100, 1_000, 10_000, 100_000];
const CALLERS: usize = 64;
const A_BATCH: Duration = Duration::from_millis(5);

/// Longer than writing what waits takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Cache =
    WriteBehind<ReadThrough<MemoryStore<u64>, Nothing<u64>>, Source, MemoryJournal<u64, u64>>;

/// Puts made-up writes, and those of traces.
///
/// # Errors
///
/// What is wrong with a trace, or did not work.
pub async fn measure(traces: &[String], effort: Effort) -> Result<Section, String> {
    let mut section = Section::new(
        "Write-behind: coalescing",
        format!(
            "Puts for each write that the source was given. First, with everything written after so many puts, whatever the time: with \
             20,000 puts a second, 1,000 are what comes in a `delay` of 50 ms. Then with the default options, {CALLERS} callers who \
             put as fast as they can, and a source that takes {} ms for a batch.",
            A_BATCH.as_millis()
        ),
    );
    let most = if effort.quick { 100_000 } else { 1_000_000 };
    let mut all = vec![
        ("Zipf 0.99 of 10,000 keys".to_owned(), zipf(10_000, most)),
        ("Zipf 0.99 of 1,000,000 keys".to_owned(), zipf(1_000_000, most)),
    ];
    for path in traces {
        let Trace { name, requests, writes } = Trace::read(path)?;
        let (name, mut writes) = match writes {
            Some(writes) => (format!("{name}, its writes"), writes),
            None => (format!("{name}, requests taken for writes"), requests),
        };
        writes.truncate(most);
        if !writes.is_empty() {
            all.push((name, writes));
        }
    }
    let mut windows = Table::new(
        ["puts for a write, all written after".to_owned(), "puts".to_owned()]
            .into_iter()
            .chain(WINDOWS.map(|window| short(window as f64))),
    );
    let mut free = Table::new([
        "default options",
        "puts per second",
        "writes per second",
        "puts for a write",
        "writes in a batch",
    ]);
    let (mut made, mut needed) = (0, 0);
    for (name, keys) in all {
        let mut row = vec![name.clone(), short(keys.len() as f64)];
        for window in WINDOWS {
            let writes = in_windows(&keys, window).await?;
            row.push(if keys.len() < window {
                "-".to_owned()
            } else {
                short(keys.len() as f64 / writes as f64)
            });
            made += writes;
            needed += keys.chunks(window).map(distinct).sum::<u64>();
        }
        windows.row(row);
        let (puts, source, took) = as_they_come(keys, effort).await?;
        let (writes, batches) = source.counts();
        let (puts, writes) = (puts as f64, writes as f64);
        free.row([
            name,
            short(puts / took.as_secs_f64()),
            short(writes / took.as_secs_f64()),
            short(puts / writes),
            short(writes / batches as f64),
        ]);
    }
    section.tables.extend([windows, free]);
    let what = "writes that reach the source, to the different keys that were put since everything was written";
    section.bars.push(Bar::at_most(what, made as f64 / needed as f64, 1.0));
    section.notes.extend(cite(traces));
    Ok(section)
}

fn zipf(keys: usize, puts: usize) -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(keys, 0.99, 5), fastrand::Rng::with_seed(5));
    (0..puts).map(|_| zipf.draw(&mut random)).collect()
}

fn distinct(keys: &[u64]) -> u64 {
    keys.iter().collect::<HashSet<_>>().len() as u64
}

fn cache(source: &Source, options: BehindOptions) -> Result<Cache, String> {
    let reading = ReadOptions::ttl(Duration::from_secs(3600));
    let reads = ReadThrough::new(MemoryStore::new(100_000), Nothing::NEW, reading);
    let reads = reads.map_err(|e| e.to_string())?;
    let journal = MemoryJournal::new(Bounds { writes: 1_000_000, ..Bounds::default() });
    WriteBehind::new(reads, source.clone(), journal, options).map_err(|e| e.to_string())
}

/// How many writes reach the source if everything is written after each `window` puts, and never before.
async fn in_windows(keys: &[u64], window: usize) -> Result<u64, String> {
    let source = Source::default();
    let never = Duration::from_secs(24 * 3600);
    let cache = cache(&source, BehindOptions::default().batch(1_000_000).delay(never))?;
    for puts in keys.chunks(window) {
        for (number, key) in puts.iter().enumerate() {
            cache.put(key, number as u64).await.map_err(|e| e.to_string())?;
        }
        let left = cache.flush(PATIENCE).await.map_err(|e| e.to_string())?;
        if !left.is_empty() {
            return Err(format!("{left:?} after {PATIENCE:?}"));
        }
    }
    Ok(source.counts().0)
}

/// How many puts there were in some time, what became of them, and how long it took until all was written.
async fn as_they_come(keys: Vec<u64>, effort: Effort) -> Result<(usize, Source, Duration), String> {
    let source = Source { takes: A_BATCH, ..Source::default() };
    let cache = Arc::new(cache(&source, BehindOptions::default())?);
    let (keys, next) = (Arc::new(keys), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let end = began + effort.turn * 10;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (cache, keys, next) = (Arc::clone(&cache), Arc::clone(&keys), Arc::clone(&next));
        callers.spawn(async move {
            let mut puts = 0;
            while Instant::now() < end {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(key) = keys.get(at) else { break };
                cache.put(key, at as u64).await.map_err(|e| e.to_string())?;
                puts += 1;
            }
            Ok::<usize, String>(puts)
        });
    }
    let mut puts = 0;
    while let Some(caller) = callers.join_next().await {
        puts += caller.map_err(|e| e.to_string())??;
    }
    let left = cache.flush(PATIENCE).await.map_err(|e| e.to_string())?;
    if left.is_empty() { Ok((puts, source, began.elapsed())) } else { Err(format!("{left:?}")) }
}
