//! What a hit, an entry and a miss cost with each store, against the raw engine below it.
//!
//! ```text
//! cargo run --release -p cache-memory --all-features --example engine_cost
//! ```
//!
//! For instructions, one candidate at a time with two numbers of hits; the difference of the
//! totals by the difference of the hits is what one of them costs, together with what `nothing` costs, the drawing of a key:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/engine_cost hits MemoryStore 200000
//! ```

use std::collections::HashMap;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use cache_core::{CacheStore, SetOptions};
use cache_memory::{EvictionPolicy, MemoryStore, MokaStore};

const KEYS: usize = 10_000;
const ROUNDS: usize = 41;
const HITS: usize = 100_000;

type Value = Arc<[u64; 25]>;
/// Looks a key up, and says whether it was there.
type Get = Box<dyn Fn(&str) -> bool>;
/// Makes one pass over the keys, looking each up.
type Pass = Box<dyn Fn(&[&str])>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            nanoseconds();
            bytes();
            hit_rates();
        }
        ["hits", candidate, hits] => {
            let hits = hits.parse().expect("a number of hits");
            let keys = keys(KEYS);
            let (_, pass) = candidates(&keys)
                .into_iter()
                .find(|(name, _)| *name == candidate)
                .expect("the name of a candidate");
            pass(&zipf(&keys, hits, 1));
        }
        _ => panic!("no arguments, or: hits <candidate> <number>"),
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("user:profile:{i:08}")).collect()
}

fn value() -> Value {
    Arc::new([7; 25])
}

/// The futures of these stores are done when they are first polled.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a memory store never waits"),
    }
}

fn fill<S: CacheStore<Value = Value>>(store: &S, keys: &[String]) {
    for key in keys {
        now(store.set(key, Some(value()), SetOptions::forever())).expect("a valid lifetime");
    }
}

/// The loop is inside, so that each candidate is called directly and may be inlined.
fn pass<T>(get: impl Fn(&str) -> Option<T> + 'static) -> Pass {
    Box::new(move |keys| {
        for key in keys {
            assert!(black_box(get(black_box(key))).is_some());
        }
    })
}

fn candidates(keys: &[String]) -> Vec<(&'static str, Pass)> {
    let quick = quick_cache::sync::Cache::<String, Value>::new(KEYS * 2);
    let moka = moka::sync::Cache::<String, Value>::new(KEYS as u64 * 2);
    let moka_fold = moka::sync::Cache::<String, Value>::builder()
        .max_capacity(KEYS as u64 * 2)
        .build_with_hasher(foldhash::quality::RandomState::default());
    for key in keys {
        quick.insert(key.clone(), value());
        moka.insert(key.clone(), value());
        moka_fold.insert(key.clone(), value());
    }
    let memory_store = MemoryStore::new(KEYS * 2);
    fill(&memory_store, keys);
    let moka_store = MokaStore::new(KEYS * 2);
    fill(&moka_store, keys);
    moka_store.purge_expired();

    vec![
        ("nothing", pass(|key| Some(key.len()))),
        ("quick_cache", pass(move |key| quick.get(key))),
        ("MemoryStore", pass(move |key| now(memory_store.get(key)).expect("no error"))),
        ("moka", pass(move |key| moka.get(key))),
        ("moka+foldhash", pass(move |key| moka_fold.get(key))),
        ("MokaStore", pass(move |key| now(moka_store.get(key)).expect("no error"))),
    ]
}

/// Wall time of a hit: the lower quartile of interleaved rounds.
fn nanoseconds() {
    let keys = keys(KEYS);
    let sequence = zipf(&keys, HITS, 1);
    let candidates = candidates(&keys);
    let mut times = vec![Vec::new(); candidates.len()];
    for _ in 0..ROUNDS {
        for ((_, pass), times) in candidates.iter().zip(&mut times) {
            let start = Instant::now();
            pass(&sequence);
            times.push(start.elapsed().as_nanos() as f64 / HITS as f64);
        }
    }
    println!("hit on {KEYS} keys of 21 bytes, Zipf 0.99, ns");
    for ((name, _), mut times) in candidates.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("  {name:24}{:8.1}", times[ROUNDS / 4]);
    }
}

/// What an entry takes beside its value: keys, tables, book-keeping.
fn bytes() {
    const ENTRIES: usize = 100_000;

    fn row<T>(name: &str, fill: impl FnOnce(&[String], &Value) -> T) {
        let (keys, value, mut filled) = (keys(ENTRIES), value(), None);
        let info = allocation_counter::measure(|| filled = Some(fill(&keys, &value)));
        drop(filled);
        println!("  {name:24}{:8.1}", info.bytes_current as f64 / ENTRIES as f64);
    }

    println!("heap bytes an entry, {ENTRIES} of them in a store of that capacity");
    row("HashMap<String, Arc>", |keys, value| {
        keys.iter().map(|key| (key.clone(), Arc::clone(value))).collect::<HashMap<_, _>>()
    });
    row("quick_cache", |keys, value| {
        let cache = quick_cache::sync::Cache::new(ENTRIES);
        keys.iter().for_each(|key| cache.insert(key.clone(), Arc::clone(value)));
        cache
    });
    row("MemoryStore", |keys, value| {
        let store = MemoryStore::new(ENTRIES);
        for key in keys {
            let set = store.set(key, Some(Arc::clone(value)), SetOptions::forever());
            now(set).expect("a valid lifetime");
        }
        store
    });
    row("moka", |keys, value| {
        let cache = moka::sync::Cache::new(ENTRIES as u64);
        keys.iter().for_each(|key| cache.insert(key.clone(), Arc::clone(value)));
        cache.run_pending_tasks();
        cache
    });
    row("MokaStore", |keys, value| {
        let store = MokaStore::new(ENTRIES);
        for key in keys {
            let set = store.set(key, Some(Arc::clone(value)), SetOptions::forever());
            now(set).expect("a valid lifetime");
        }
        store.purge_expired();
        store
    });
}

/// Percent of the look-ups that hit, when each miss is stored.
fn hit_rates() {
    const LOOK_UPS: usize = 1_000_000;
    const CAPACITY: usize = 1_000;

    let keys = keys(100_000);
    // A scan of one-time keys after every 10,000 look-ups, a fifth as long.
    let zipfian = zipf(&keys, LOOK_UPS, 2);
    let scans: Vec<String> = (0..LOOK_UPS / 5).map(|i| format!("scan:{i}")).collect();
    let scanned: Vec<&str> = zipfian
        .chunks(10_000)
        .zip(scans.chunks(2_000))
        .flat_map(|(look_ups, scan)| look_ups.iter().copied().chain(scan.iter().map(|k| &**k)))
        .collect();
    // Each key comes up again soon or never: what was new an hour ago is nobody's favourite now.
    let recent: Vec<&str> = (0..LOOK_UPS)
        .scan(fastrand::Rng::with_seed(3), |rng, i| {
            let newest = i / 10;
            let back = (rng.f64().powi(3) * 1_200.0) as usize;
            Some(&*keys[newest.saturating_sub(back) % keys.len()])
        })
        .collect();
    let looped: Vec<&str> = (0..LOOK_UPS).map(|i| &*keys[i % (CAPACITY * 5 / 4)]).collect();

    println!("hit rate at a capacity of {CAPACITY}, %");
    println!("  {:24}{:>10}{:>10}{:>10}{:>10}", "", "Zipf", "with scan", "recent", "loop");
    for name in ["MemoryStore", "MokaStore TinyLfu", "MokaStore Lru"] {
        print!("  {name:24}");
        for sequence in [&zipfian, &scanned, &recent, &looped] {
            let get = cache(name, CAPACITY);
            let hits = sequence.iter().filter(|key| get(key)).count();
            print!("{:10.1}", 100.0 * hits as f64 / sequence.len() as f64);
        }
        println!();
    }
}

fn cache(name: &str, capacity: usize) -> Get {
    fn read_through<S: CacheStore<Value = ()>>(store: S) -> Get {
        Box::new(move |key| {
            let hit = now(store.get(key)).expect("no error").is_some();
            if !hit {
                now(store.set(key, Some(()), SetOptions::forever())).expect("a valid lifetime");
            }
            hit
        })
    }
    let moka = |policy| MokaStore::builder().capacity(capacity).policy(policy).build();
    match name {
        "MemoryStore" => read_through(MemoryStore::new(capacity)),
        "MokaStore TinyLfu" => read_through(moka(EvictionPolicy::TinyLfu).expect("valid options")),
        _ => read_through(moka(EvictionPolicy::Lru).expect("valid options")),
    }
}

/// Keys drawn with Zipf's law, exponent 0.99; which of them are popular is random.
fn zipf(keys: &[String], count: usize, seed: u64) -> Vec<&str> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    rng.shuffle(&mut keys);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys.len())
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    (0..count)
        .map(|_| {
            let drawn = rng.f64() * sum;
            keys[sums.partition_point(|sum| *sum < drawn).min(keys.len() - 1)]
        })
        .collect()
}
