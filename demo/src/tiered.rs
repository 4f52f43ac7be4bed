//! `cache-demo tiered`: several processes with memory in front of one Redis server. One of them changes data, the others read
//! it, and what they have read is compared with what had been acknowledged by then.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cache_core::{Broadcast, CacheStoreExt, ReadOptions, ReadThrough, Stats, Tiered};
use cache_memory::MemoryStore;
use cache_redis::{RedisBus, Tracking};
use cache_serde::Json;
use clap::ValueEnum;

use crate::crash::{Rows, in_runtime, say};
use crate::failure::{Failure, Result};
use crate::redis::{Redis, builder};

const PRODUCTS: u64 = 200;

/// What both ways to coherence declare, if messages don't come.
const BOUND: Duration = Duration::from_secs(1);

/// Longer than it takes until the memory is in use.
const LIMIT: Duration = Duration::from_secs(60);

/// The URL of the server may hold a password, so it is no argument, which everybody could see.
const URL: &str = "CACHE_DEMO_REDIS_URL";

/// What keeps the copies in memory coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Every process tells the others what it has changed
    Bus,
    /// The server tells each process what has changed
    Tracking,
    /// The server tells each process what has changed of what it has read
    TrackingByKey,
}

/// Starts the processes, ends them after `time`, and compares.
pub(crate) fn run(processes: u32, time: Duration, by: By, url: Option<&str>) -> Result<()> {
    in_runtime(async {
        tokio::select! {
            done = compare(processes, time, by, url) => done,
            // Children and server end on this way out as well.
            _ = tokio::signal::ctrl_c() => Err(Failure::new("stopped", "interrupted")),
        }
    })
}

async fn compare(processes: u32, time: Duration, by: By, url: Option<&str>) -> Result<()> {
    let redis = match url {
        Some(url) => Redis::at(url).await?,
        None => Redis::start().await?.ok_or_else(|| {
            let none = "there is none on the PATH; install one, or name a server with --redis";
            Failure::new("redis-server", none)
        })?,
    };
    let folder = tempfile::tempdir().map_err(|e| Failure::new("a temporary folder", e))?;
    Rows::open(folder.path())?.replace((0..PRODUCTS).map(|id| (id, 1)))?;
    let start = |writes| Process::start(folder.path(), &redis, by, writes);
    let mut writer = start(true)?;
    let mut readers = (0..processes).map(|_| start(false)).collect::<Result<Vec<_>>>()?;
    for process in readers.iter_mut().chain([&mut writer]) {
        process.begins().await?;
    }
    tokio::time::sleep(time).await;

    // The readers go on for a while, to see the last changes.
    let changes = tokio::task::spawn_blocking(|| writer.end());
    let changes = changes.await.map_err(|e| Failure::new("a process", e))??;
    let overtaken: HashMap<(u64, u64), u64> =
        changes.seen.iter().map(|&(id, version, at)| ((id, version - 1), at)).collect();
    say("process     reads   from memory   copies   from the source   read after a change   \
         the latest after   beyond the bound")?;
    let (mut beyond, mut idle, mut longest) = (0, 0, 0_u64);
    for (index, reader) in readers.into_iter().enumerate() {
        let report = tokio::task::spawn_blocking(|| reader.end());
        let report = report.await.map_err(|e| Failure::new("a process", e))??;
        let late = report.seen.iter().filter_map(|&(id, version, last_read)| {
            last_read.checked_sub(*overtaken.get(&(id, version))?).filter(|late| *late > 0)
        });
        let late: Vec<u64> = late.collect();
        let Counts { reads, loads, far_reads, copies, pause } = report.counts;
        // Who has to wait for its turn finds out that much later that it has heard of nobody.
        let bound = BOUND.as_micros() + u128::from(pause);
        let too_late = late.iter().filter(|late| u128::from(**late) > bound).count();
        longest = longest.max(pause);
        let latest = late.iter().max().map_or(0.0, |micros| *micros as f64 / 1_000.0);
        let (near, late) = (reads.saturating_sub(far_reads), late.len());
        say(&format!(
            "{:>7}  {reads:>8}   {near:>11}   {copies:>6}   {loads:>15}   {late:>19}   \
             {latest:>13.1} ms   {too_late:>16}",
            index + 1
        ))?;
        beyond += too_late;
        idle += u32::from(copies == 0 || near == 0);
    }
    redis.tidy_up().await?;
    say(&format!("{} changes were made.", changes.seen.len()))?;
    let longest = longest as f64 / 1_000.0;
    say(&format!(
        "The bound is 1 s, and as much more as has passed between two reads of a process: at most \
         {longest:.1} ms."
    ))?;
    if beyond > 0 {
        return Err(Failure::new("stale reads", format!("{beyond} versions were read too long")));
    }
    if idle > 0 {
        // Otherwise it says nothing that nothing in it was stale.
        let idle = format!("{idle} processes have read nothing from it");
        return Err(Failure::new("the memory in front of Redis", idle));
    }
    say("No read was stale beyond the declared bound.")
}

/// One of the processes: it works until its standard input ends, which it does however the one that started it ends.
pub(crate) fn child(folder: &Path, service: &str, by: By, writes: bool) -> Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ends);
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        end.store(true, Ordering::Relaxed);
    });
    in_runtime(work(folder, service, by, writes, &ends))
}

async fn work(folder: &Path, service: &str, by: By, writes: bool, ends: &AtomicBool) -> Result<()> {
    let url = std::env::var(URL).map_err(|e| Failure::new(URL, e))?;
    let redis = builder(service).url(&url);
    let redis = if by == By::TrackingByKey { redis.tracked() } else { redis };
    let redis = redis.connect().await?;
    let tracking = || Tracking::of(&redis).namespace("product");
    let far = redis.clone().namespaced("product").encoded::<_, u64>(Json::new());
    let tiers = Tiered::builder(MemoryStore::new(10_000), far).near_ttl(Duration::from_secs(60));
    let store = match by {
        By::Bus => tiers.coherent_by(Broadcast::over(RedisBus::new(&redis, "product"))),
        By::Tracking => tiers.coherent_by(tracking()),
        By::TrackingByKey => tiers.coherent_by(tracking().by_key()),
    };
    let rows = Rows::open(folder)?;
    let stats = Arc::new(Stats::default());
    let options = ReadOptions::ttl(Duration::from_secs(600)).observer(Arc::clone(&stats));
    let store = store.build()?;
    let cache = ReadThrough::new(store.clone(), rows.clone(), options)?;
    let until = Instant::now() + LIMIT;
    while !store.is_trusted() && !ends.load(Ordering::Relaxed) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say(BEGINS)?;

    let mut random = fastrand::Rng::new();
    let mut reads = 0_u64;
    let (mut last, mut pause) = (now(), 0_u64);
    // When each version of each product was acknowledged, or was read for the last time.
    let mut seen = HashMap::new();
    while !ends.load(Ordering::Relaxed) {
        let id = random.u64(..PRODUCTS);
        if writes {
            let version = rows.version(id).map_err(|e| Failure::new("SQLite", e))?.unwrap_or(0) + 1;
            rows.replace([(id, version)])?;
            cache.invalidate(&id).await?;
            seen.insert((id, version), now());
            tokio::time::sleep(Duration::from_millis(5)).await;
        } else {
            let began = now();
            pause = began.saturating_sub(last).max(pause);
            last = began;
            if let Some(version) = cache.get(&id).await? {
                seen.insert((id, version), began);
            }
            reads += 1;
            if reads.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let (loads, tiers) = (stats.snapshot().loads, store.snapshot());
    let mut report = format!("{reads} {loads} {pause}\n{} {} 0\n", tiers.far_reads, tiers.copies);
    for ((id, version), at) in seen {
        report += &format!("{id} {version} {at}\n");
    }
    io::stdout().write_all(report.as_bytes()).map_err(|e| Failure::new("standard output", e))
}

/// Microseconds by the clock that all processes of this machine share.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

struct Report {
    counts: Counts,
    /// Product, version, and when.
    seen: Vec<(u64, u64, u64)>,
}

struct Counts {
    reads: u64,
    loads: u64,
    /// Reads that the memory had no answer to.
    far_reads: u64,
    /// Into memory, of what was on the server.
    copies: u64,
    /// The longest time from one read to the next, in microseconds.
    pause: u64,
}

/// What a process says when its memory is in use.
const BEGINS: &str = "it begins";

/// It does not outlive this.
struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    fn start(folder: &Path, redis: &Redis, by: By, writes: bool) -> Result<Self> {
        let failed = |e| Failure::new("a process", e);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        let by = by.to_possible_value().ok_or_else(|| Failure::new("--by", "has no name"))?;
        command.arg("tiered-child").arg(folder).args([redis.service(), by.get_name()]);
        command.args(writes.then_some("--writes")).env(URL, redis.url());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(failed)?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    /// Waits until it begins.
    async fn begins(&mut self) -> Result<()> {
        let bad = |why: &str| Failure::new("a process", why.to_owned());
        let mut output = self.output.take().ok_or_else(|| bad("it has no output"))?;
        let said = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).map(|_| (line, output))
        });
        let said = said.await.map_err(|e| Failure::new("a process", e))?;
        let (line, output) = said.map_err(|e| Failure::new("a process", e))?;
        self.output = Some(output);
        if line.trim_end() == BEGINS { Ok(()) } else { Err(bad("it ended by itself")) }
    }

    /// Tells it to end, and waits for what it has to say.
    fn end(mut self) -> Result<Report> {
        let bad = |why: &str| Failure::new("a process", why.to_owned());
        drop(self.child.stdin.take());
        let mut text = String::new();
        let mut output = self.output.take().ok_or_else(|| bad("it has no output"))?;
        output.read_to_string(&mut text).map_err(|e| Failure::new("a process", e))?;
        let line = |line: &str| {
            let mut words = line.split(' ').map(str::parse);
            let mut next = || words.next()?.ok();
            Some((next()?, next()?, next()?))
        };
        let mut lines = text.lines().map(|text| line(text).ok_or_else(|| bad("it said nonsense")));
        let mut next = || lines.next().ok_or_else(|| bad("it ended by itself"))?;
        let ((reads, loads, pause), (far_reads, copies, _)) = (next()?, next()?);
        let counts = Counts { reads, loads, far_reads, copies, pause };
        Ok(Report { counts, seen: lines.collect::<Result<_>>()? })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
