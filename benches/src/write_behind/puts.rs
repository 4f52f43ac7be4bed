//! What a put costs, by journal.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::journals::{self, BYTES, Putting};
use crate::measure::{Effort, cpu_time, median};
use crate::redis::Server;
use crate::report::{Bar, Section, Table, short, times};

const KEYS: u64 = 10_000;
const CALLERS: [usize; 3] = [1, 16, 64];

/// A `put` has failed if it takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was measured with so many callers.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    nanos: Vec<u32>,
    cpu: Duration,
    commits: Option<u64>,
}

/// Measures puts into each journal that the machine has parts for.
///
/// # Errors
///
/// What did not work.
pub async fn measure(effort: Effort) -> Result<Section, String> {
    let mut section = Section::new(
        "Write-behind: a put",
        format!(
            "`WriteBehind` over `ReadThrough<MemoryStore>`, {KEYS} keys, values of {BYTES} bytes, a source that takes no time. So many \
             callers put one value after the other, each when the last one was acknowledged: in memory, on the disk by `fsync`, or \
             on a Redis server with an append-only file, on the same machine. Writes that come together share a commit; the \
             last column holds the journal on disk against a plain file to which one thread appends as many values as there \
             are callers, with one `fsync`."
        ),
    );
    // Beside the program, since the system's folder for temporary files may be in memory.
    let beside = std::env::current_exe().map_err(|e| e.to_string())?;
    let beside = beside.parent().unwrap_or_else(|| std::path::Path::new("."));
    let folder = tempfile::tempdir_in(beside).map_err(|e| e.to_string())?;
    let mut caches =
        vec![journals::memory()?, journals::disk(&folder.path().join("journal")).await?];
    let mut servers = Vec::new();
    for (name, fsync) in
        [("Redis Streams, fsync everysec", "everysec"), ("Redis Streams, fsync always", "always")]
    {
        let own = folder.path().join(fsync);
        let connected = async {
            std::fs::create_dir(&own).map_err(|e| e.to_string())?;
            let own = own.to_string_lossy();
            let arguments = ["--appendonly", "yes", "--appendfsync", fsync, "--dir", &own];
            let server = Server::start_with(&arguments)?;
            let cache = journals::redis(name, &server.url()).await?;
            servers.push(server);
            Ok::<_, String>(cache)
        };
        match connected.await {
            Ok(cache) => caches.push(cache),
            Err(why) => section.absent.push((name.to_owned(), why)),
        }
    }

    let mut file = File::create(folder.path().join("file")).map_err(|e| e.to_string())?;
    let mut table = Table::new([
        "journal",
        "callers",
        "puts per second",
        "p50 us",
        "p99 us",
        "CPU us",
        "in a commit",
        "to a file",
    ]);
    for callers in CALLERS {
        let (figures, alone) = compare(&caches, callers, effort, &mut file).await?;
        for (cache, mut figures) in caches.iter().zip(figures) {
            figures.nanos.sort_unstable();
            let (puts, commits) = (figures.nanos.len() as f64, figures.commits);
            let quantile = |q: f64| {
                let at = (puts * q) as usize;
                figures.nanos.get(at).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1000.0)
            };
            let together = commits.map_or(f64::NAN, |commits| puts / commits as f64);
            let ratios = figures.rates.iter().zip(&alone).map(|(own, file)| own / file);
            let to_file = commits.map_or(f64::NAN, |_| median(ratios.collect()));
            table.row([
                cache.name.to_owned(),
                callers.to_string(),
                short(median(figures.rates.clone())),
                short(quantile(0.5)),
                short(quantile(0.99)),
                short(figures.cpu.as_secs_f64() * 1e6 / puts),
                short(together),
                times(to_file),
            ]);
            if commits.is_some() && callers == 64 {
                let what = "the journal on disk, 64 callers: writes in a commit";
                section.bars.push(Bar::at_least(what, together, 16.0).because(
                    "writes share a commit if they come while the one before is on its way: a disk whose `fsync` takes less time \
                     than callers need to come back has little to share",
                ));
            }
        }
    }
    section.tables.push(table);
    Ok(section)
}

/// What each cache does in its turns, and how many writes a second the file alone takes in the same rounds.
async fn compare(
    caches: &[Putting],
    callers: usize,
    effort: Effort,
    file: &mut File,
) -> Result<(Vec<Figures>, Vec<f64>), String> {
    let mut figures: Vec<Figures> = caches.iter().map(|_| Figures::default()).collect();
    let mut alone = Vec::new();
    for _ in 0..effort.rounds.min(9) {
        for (cache, figures) in caches.iter().zip(&mut figures) {
            let (began, cpu, commits) = (Instant::now(), cpu_time(), (cache.commits)());
            let nanos = round(cache, callers, began + effort.turn).await?;
            figures.rates.push(nanos.len() as f64 / began.elapsed().as_secs_f64());
            figures.cpu += cpu_time().saturating_sub(cpu);
            let more = (cache.commits)().zip(commits).map(|(after, before)| after - before);
            figures.commits = more.map(|more| figures.commits.unwrap_or(0) + more);
            figures.nanos.extend(nanos);
        }
        let (began, mut writes) = (Instant::now(), 0);
        while began.elapsed() < effort.turn {
            let together = vec![7; BYTES * callers];
            file.write_all(&together).and_then(|()| file.sync_data()).map_err(|e| e.to_string())?;
            writes += callers;
        }
        alone.push(writes as f64 / began.elapsed().as_secs_f64());
    }
    Ok((figures, alone))
}

/// How long each put took, in nanoseconds.
async fn round(cache: &Putting, callers: usize, end: Instant) -> Result<Vec<u32>, String> {
    // Each caller has a part of the keys, so nobody waits for another's put of the same key.
    let span = KEYS / callers as u64;
    let mut tasks = JoinSet::new();
    for caller in 0..callers as u64 {
        let put = Arc::clone(&cache.put);
        tasks.spawn(async move {
            let (mut nanos, mut began) = (Vec::new(), Instant::now());
            while began < end {
                let key = caller * span + nanos.len() as u64 % span;
                let done = timeout(PATIENCE, put(key)).await;
                done.map_err(|_| format!("a put has no answer in {PATIENCE:?}"))??;
                let now = Instant::now();
                nanos.push(u32::try_from((now - began).as_nanos()).unwrap_or(u32::MAX));
                began = now;
            }
            Ok::<_, String>(nanos)
        });
    }
    let mut nanos = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let of_caller = ended.map_err(|e| e.to_string())?;
        nanos.extend(of_caller.map_err(|e| format!("{}: {e}", cache.name))?);
    }
    Ok(nanos)
}
