//! How many requests find what they ask for, by engine, policy and size.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use cache_core::{CacheStore, SetOptions};
use cache_memory::{EvictionPolicy, MemoryStore, MokaStore};
use lzma_rust2::XzReader;

use crate::hit::now;
use crate::keys::Zipf;
use crate::measure::Effort;
use crate::report::{Section, Table};

/// At most so many requests of a trace are read.
const MOST: usize = 20_000_000;

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
        let requests = read(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
        let name = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
        rows(&format!("{name}, {} requests", requests.len()), &requests, &[500, 1_000, 5_000]);
    }
    section.tables.push(table);
    if traces.iter().any(|path| CITED.iter().any(|name| path.contains(name))) {
        section.notes.push(CITE.to_owned());
    }
    Ok(section)
}

/// Public traces that are not part of this project, and whose they are.
const CITED: [&str; 3] = ["web07", "web12", "orm-busy"];
const CITE: &str = "The traces web07 and web12 (requests for the pages of products in a shop) and orm-busy (objects that an object-relational \
    mapper reads) are by headissue GmbH / Jens Wilke, CC BY 4.0. They are not part of this project.";

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

/// The keys of a trace: big-endian 32-bit numbers, or a key in each line (of a table, the first column). It may be compressed with xz.
fn read(path: &Path) -> Result<Vec<u64>, String> {
    let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut bytes = Vec::new();
    let most = MOST as u64 * 4;
    let read = if path.extension().is_some_and(|extension| extension == "xz") {
        XzReader::new(file, true).take(most).read_to_end(&mut bytes)
    } else {
        file.by_ref().take(most).read_to_end(&mut bytes)
    };
    read.map_err(|e| e.to_string())?;
    let keys: Vec<u64> = if bytes.contains(&0) {
        let (numbers, _) = bytes.as_chunks::<4>();
        numbers.iter().map(|number| u64::from(u32::from_be_bytes(*number))).collect()
    } else {
        let hash = foldhash::quality::FixedState::default();
        let key = |line: &[u8]| {
            let key = line.split(|byte| b", \t".contains(byte)).next().unwrap_or(line);
            std::hash::BuildHasher::hash_one(&hash, key)
        };
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(key).collect()
    };
    if keys.is_empty() { Err("has no requests in it".to_owned()) } else { Ok(keys) }
}
