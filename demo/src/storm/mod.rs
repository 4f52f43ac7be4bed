//! `cache-demo storm`: keys in demand that were loaded together expire together, and the source is slow. How many readers
//! wait then, and what do early refresh and stale answers make of it?

mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Clock, Loader, ReadOptions, ReadThrough, Stats};
use cache_memory::MemoryStore;
use futures_util::stream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::crash::{in_runtime, say};
use crate::failure::{Failure, Result};
use crate::measure::{Durations, Seen};
use crate::source::Source;

/// Products that everybody wants.
const PRODUCTS: u64 = 10;
/// Readers that come in each millisecond, whether those before them have been answered or not.
const READERS: u64 = 5;

/// What becomes of an entry whose lifetime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is gone: who comes waits for the load.
    ReadThrough,
    /// One of those who come shortly before the end has it loaded.
    EarlyRefresh,
    /// It is returned for as long again, while one load is under way.
    StaleWhileRevalidate,
}

impl Way {
    const ALL: [Self; 3] = [Self::ReadThrough, Self::EarlyRefresh, Self::StaleWhileRevalidate];

    fn name(self) -> &'static str {
        match self {
            Self::ReadThrough => "read-through",
            Self::EarlyRefresh => "early-refresh",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
        }
    }

    /// Without jitter, so that what was loaded together expires together.
    fn options<V>(self, ttl: Duration) -> ReadOptions<V> {
        let options = ReadOptions::ttl(ttl);
        match self {
            Self::ReadThrough => options,
            Self::EarlyRefresh => options.early_refresh(1.0),
            Self::StaleWhileRevalidate => options.stale_for(ttl),
        }
    }
}

/// What one way has shown.
#[derive(Clone, Debug)]
struct Outcome {
    way: Way,
    get: Durations,
    /// Reads that were not answered before a load had ended.
    waited: u64,
    /// Reads that were answered with what was past its lifetime.
    stale: u64,
    loads: u64,
    most_loads_at_once: u64,
    first_error: Option<String>,
}

/// Measures one way after the other.
pub(crate) fn run(time: Duration, ttl: Duration, delay: Duration) -> Result<()> {
    in_runtime(async {
        tokio::select! {
            done = compare(time, ttl, delay) => done,
            // The database in the temporary folder is removed on this way out as well.
            _ = tokio::signal::ctrl_c() => Err(Failure::new("stopped", "interrupted")),
        }
    })
}

async fn compare(time: Duration, ttl: Duration, delay: Duration) -> Result<()> {
    let source = Source::create(PRODUCTS, PRODUCTS, delay)?;
    let [seconds, life, slow] = [time, ttl, delay].map(humantime::format_duration);
    say(&format!(
        "{PRODUCTS} products were loaded together and live for {life}. The source takes {slow}. {} readers a second, {seconds} for each row.\n",
        READERS * 1_000
    ))?;
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let source = source.clone();
        let load = move |id| {
            let source = source.clone();
            async move { source.read(id).await }
        };
        let outcome = storm(way, time, ttl, load, Clock::system()).await?;
        if let Some(error) = outcome.first_error {
            return Err(Failure::new(way.name(), error));
        }
        outcomes.push(outcome);
    }
    say(&table::table(&outcomes))?;
    say(&table::summary(&outcomes))
}

/// Readers come at a steady pace for `time`, after all values were loaded at once.
async fn storm<L>(way: Way, time: Duration, ttl: Duration, load: L, clock: Clock) -> Result<Outcome>
where
    L: Loader<u64, Value: Clone + Send + Sync + 'static, Error = Failure>,
{
    let store = MemoryStore::builder().capacity(1_000).clock(clock).build()?;
    let loads = Arc::new(Loads::default());
    let load = counted(load, &loads);
    let stats = Arc::new(Stats::default());
    let options = way.options(ttl).observer(Arc::clone(&stats));
    let cache = ReadThrough::new(store, load, options)?;
    cache.warm_up(stream::iter(0..PRODUCTS), PRODUCTS as usize, |_| {}).await;
    loads.forget();

    let seen = Arc::new(Mutex::new(Seen::new()));
    let (mut readers, began) = (JoinSet::new(), Instant::now());
    // Who can't keep up makes up for it, so the pace is kept.
    let mut milliseconds = interval(Duration::from_millis(1));
    let mut next = 0;
    while milliseconds.tick().await.duration_since(began) < time {
        for _ in 0..READERS {
            let (cache, seen, id) = (cache.clone(), Arc::clone(&seen), next % PRODUCTS);
            next += 1;
            readers.spawn(async move {
                let began = Instant::now();
                let read = cache.get(&id).await;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match read {
                    Ok(_) => seen.read(began.elapsed(), None, 0),
                    Err(error) => seen.error(error),
                }
            });
        }
        while readers.try_join_next().is_some() {}
    }
    readers.join_all().await;
    // Nothing of this way is to go on during the next.
    let _ = cache.shutdown(Duration::from_secs(10)).await;

    let (counted, seen) = (stats.snapshot(), seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Outcome {
        way,
        get: Durations::from(&seen.gets),
        waited: counted.misses(),
        stale: counted.stale,
        loads: loads.all.load(Ordering::Relaxed),
        most_loads_at_once: loads.most.load(Ordering::Relaxed),
        first_error: seen.first_error.clone(),
    })
}

/// Loads, and how many of them go on at the same time.
#[derive(Default)]
struct Loads {
    all: AtomicU64,
    now: AtomicU64,
    most: AtomicU64,
}

impl Loads {
    fn forget(&self) {
        self.all.store(0, Ordering::Relaxed);
        self.most.store(0, Ordering::Relaxed);
    }
}

fn counted<L>(
    load: L,
    loads: &Arc<Loads>,
) -> impl Loader<u64, Value = L::Value, Error = Failure> + use<L>
where
    L: Loader<u64, Value: Send, Error = Failure>,
{
    let (load, loads) = (Arc::new(load), Arc::clone(loads));
    move |id| {
        let (load, loads) = (Arc::clone(&load), Arc::clone(&loads));
        async move {
            loads.all.fetch_add(1, Ordering::Relaxed);
            let now = loads.now.fetch_add(1, Ordering::Relaxed) + 1;
            loads.most.fetch_max(now, Ordering::Relaxed);
            let loaded = load.load(id).await;
            loads.now.fetch_sub(1, Ordering::Relaxed);
            loaded
        }
    }
}

#[cfg(test)]
mod tests;
