//! How many requests find what they ask for, by engine, policy and size.

use cache_core::{CacheStore, SetOptions};
use cache_memory::{EvictionPolicy, MemoryStore, MokaStore};

use crate::hit::now;
use crate::keys::Zipf;
use crate::measure::Effort;
use crate::report::{Section, Table};
use crate::traces::{Trace, cite};

/// Hit rates of made-up requests, and of traces.
///
/// # Errors
///
/// What is wrong with a trace.
pub fn measure(traces: &[String], effort: Effort) -> Result<Section, String> {
    let mut section = Section::new(
        "Hit rates",
        "Percent of the requests that hit, when each miss is stored. `MemoryStore` makes room by S3-FIFO as `quick_cache` has it. \
         What is read from a file is named after it.",
    );
    let requests = if effort.quick { 100_000 } else { 1_000_000 };
    let mut table =
        Table::new(["requests", "entries", "MemoryStore", "MokaStore, TinyLfu", "MokaStore, Lru"]);
    let mut rows = |name: &str, requests: &[u64], sizes: &[usize]| {
        for size in sizes.iter().copied() {
            let moka = |policy| {
                let store = MokaStore::builder().capacity(size).policy(policy).build();
                rate(&store.expect("valid options"), requests)
            };
            table.row([
                name.to_owned(),
                size.to_string(),
                rate(&MemoryStore::new(size), requests),
                moka(EvictionPolicy::TinyLfu),
                moka(EvictionPolicy::Lru),
            ]);
        }
    };
    rows("Zipf 0.99 of 100,000 keys", &zipf(requests), &[100, 1_000, 10_000]);
    rows("the same, with scans", &scanned(requests), &[1_000, 10_000]);
    rows("the newest keys, which move on", &newest(requests), &[1_000, 10_000]);
    let looped: Vec<u64> = (0..requests as u64).map(|at| at % 1_250).collect();
    rows("a loop over 1,250 keys", &looped, &[1_000]);
    for path in traces {
        let trace = Trace::read(path)?;
        let name = format!("{}, {} requests", trace.name, trace.requests.len());
        rows(&name, &trace.requests, &[500, 1_000, 5_000]);
    }
    section.tables.push(table);
    section.notes.extend(cite(traces));
    Ok(section)
}

fn rate<S: CacheStore<Value = ()>>(store: &S, requests: &[u64]) -> String {
    let mut hits = 0;
    for request in requests {
        let key = request.to_string();
        if now(store.get(&key)).expect("memory answers").is_some() {
            hits += 1;
        } else {
            now(store.set(&key, Some(()), SetOptions::forever())).expect("memory takes it");
        }
    }
    format!("{:.1}", 100.0 * f64::from(hits) / requests.len() as f64)
}

fn zipf(requests: usize) -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(100_000, 0.99, 2), fastrand::Rng::with_seed(2));
    (0..requests).map(|_| zipf.draw(&mut random)).collect()
}

/// After every 10,000 requests, a scan of 2,000 keys that are asked for just once.
fn scanned(requests: usize) -> Vec<u64> {
    let zipf = zipf(requests);
    let scan = |at: usize| (0..2_000).map(move |key| 1_000_000 + (at * 2_000 + key) as u64);
    let parts = zipf.chunks(10_000).enumerate();
    parts.flat_map(|(at, part)| part.iter().copied().chain(scan(at))).collect()
}

/// Each key comes up again soon or never.
fn newest(requests: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(3);
    let one = |at: usize| (at as u64 / 10).saturating_sub((random.f64().powi(3) * 1_200.0) as u64);
    (0..requests).map(one).collect()
}
