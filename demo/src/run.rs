//! Concurrent clients that send the requests of a workload to a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, yield_now};
use tokio::time::MissedTickBehavior;

use crate::caches::{CacheUnderTest, Scenario};
use crate::failure::{Failure, Result};
use crate::measure::{Acknowledged, Durations, Outcome, Seen, Slot};
use crate::source::{Change, Source};
use crate::workload::Workload;

/// The timeline is kept to this many slots: when it is full, every two become one.
const MOST_SLOTS: usize = 120;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// One run of a scenario.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) cache: Arc<dyn CacheUnderTest>,
    pub(crate) source: Source,
    pub(crate) workload: Arc<Workload>,
    pub(crate) acknowledged: Arc<Acknowledged>,
}

/// How long a run lasts, whichever comes first, and with how many clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) clients: usize,
    pub(crate) requests: u64,
    pub(crate) time: Duration,
}

impl Run {
    /// Sends the requests. Each client sends its next one when the last one is answered.
    pub(crate) async fn measure(self, limits: Limits, progress: impl Fn(Slot)) -> Result<Outcome> {
        let began = Instant::now();
        let clients = Arc::new(Clients {
            cache: Arc::clone(&self.cache),
            source: self.source.clone(),
            workload: self.workload,
            acknowledged: self.acknowledged,
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            requests: limits.requests,
            until: began + limits.time,
        });
        let mut running: JoinSet<Seen> =
            (0..limits.clients).map(|_| client(Arc::clone(&clients))).collect();

        let mut seen = Seen::new();
        let mut timeline = Timeline::default();
        let mut sample = tokio::time::interval(SAMPLE_EVERY);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = || Slot {
            until_seconds: began.elapsed().as_secs_f64(),
            requests: clients.answered.load(Ordering::Relaxed),
            source_reads: self.source.reads(),
        };
        loop {
            tokio::select! {
                client = running.join_next() => match client {
                    Some(client) => seen.add(client.map_err(|e| Failure::new("a client", e))?),
                    None => break,
                },
                _ = sample.tick() => {
                    timeline.add(now());
                    progress(now());
                }
            }
        }
        let end = now();
        timeline.add(end);
        self.cache.end().await?;
        let cache = self.cache.counts();
        Ok(Outcome {
            scenario: self.scenario,
            seconds: end.until_seconds,
            requests: end.requests,
            requests_per_second: end.requests as f64 / end.until_seconds,
            cache,
            hit_rate: cache.and_then(|cache| cache.hit_rate()),
            source_reads: self.source.reads(),
            source_writes: self.source.writes(),
            most_concurrent_loads_of_a_key: self.source.most_concurrent_loads(),
            stale_reads: seen.stale,
            errors: seen.errors,
            first_error: seen.first_error,
            get: Durations::from(&seen.gets),
            write: Durations::from(&seen.writes),
            timeline: timeline.slots(),
        })
    }
}

/// What the clients share.
struct Clients {
    cache: Arc<dyn CacheUnderTest>,
    source: Source,
    workload: Arc<Workload>,
    acknowledged: Arc<Acknowledged>,
    next: AtomicU64,
    answered: AtomicU64,
    requests: u64,
    until: Instant,
}

async fn client(clients: Arc<Clients>) -> Seen {
    let mut seen = Seen::new();
    loop {
        let n = clients.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        if n >= clients.requests || began >= clients.until {
            return seen;
        }
        let Some(request) = clients.workload.request(n) else {
            return seen;
        };
        let id = request.id;
        if request.write {
            let change = Change { price_cents: 99 + (n % 50_000) as u32, stock: (n % 500) as u32 };
            let began = Instant::now();
            let _overtaking = clients.source.overtake_loads(id);
            match clients.cache.write(id, change).await {
                Ok(version) => {
                    seen.write(began.elapsed());
                    clients.acknowledged.acknowledge(id, version);
                }
                Err(error) => seen.error(error),
            }
            // A load that the write has overtaken may not have reached the source yet.
            yield_now().await;
        } else {
            let oldest_allowed = clients.acknowledged.oldest_allowed(id);
            let began = Instant::now();
            match clients.cache.read(id).await {
                Ok(product) => {
                    let version = product.map(|product| product.version);
                    seen.read(began.elapsed(), version, oldest_allowed);
                }
                Err(error) => seen.error(error),
            }
        }
        clients.answered.fetch_add(1, Ordering::Relaxed);
        // A hit never waits; without this one client would run on its own until its first miss.
        yield_now().await;
    }
}

/// Totals at growing times, thinned out when there are too many.
#[derive(Default)]
struct Timeline {
    totals: Vec<Slot>,
    /// Only every so many samples one is kept; a power of two.
    every: usize,
    skipped: usize,
}

impl Timeline {
    fn add(&mut self, totals: Slot) {
        self.skipped += 1;
        if self.skipped < self.every {
            return;
        }
        self.skipped = 0;
        self.totals.push(totals);
        if self.totals.len() > MOST_SLOTS {
            let mut index = 0;
            self.totals.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every = self.every.max(1) * 2;
        }
    }

    /// What happened between one time and the next.
    fn slots(&self) -> Vec<Slot> {
        let between = |pair: &[Slot]| Slot {
            until_seconds: pair[1].until_seconds,
            requests: pair[1].requests - pair[0].requests,
            source_reads: pair[1].source_reads - pair[0].source_reads,
        };
        self.totals.windows(2).map(between).collect()
    }
}

#[cfg(test)]
mod tests;
