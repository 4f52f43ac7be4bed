use std::collections::HashMap;
use std::sync::Mutex;

use clap::ValueEnum;
use futures_util::future::BoxFuture;

use super::*;
use crate::caches::{Settings, Store, Strategy};
use crate::measure::Counts;
use crate::redis::Redis;
use crate::source::Product;
use crate::workload::{Generator, Settings as Generated};

const PRODUCTS: u64 = 50;
const WRITES: f64 = 0.1;
const LIMITS: Limits = Limits { clients: 16, requests: 4_000, time: Duration::from_secs(60) };
const SETTINGS: Settings = Settings {
    capacity: 10_000,
    ttl: Duration::from_secs(60),
    jitter: 0.1,
    negative_ttl: Duration::from_secs(60),
};

fn workload(writes: f64) -> Arc<Workload> {
    let settings = Generated {
        seed: 3,
        products: PRODUCTS,
        zipf: 1.0,
        writes,
        missing: 0.05,
        shift_every: 1_000,
    };
    Arc::new(Workload::Generated(Generator::new(settings)))
}

fn source() -> Source {
    let workload = workload(WRITES);
    Source::create(workload.products(), workload.ids(), Duration::ZERO).unwrap()
}

async fn measure(scenario: Scenario, cache: Arc<dyn CacheUnderTest>, source: Source) -> Outcome {
    measure_with(WRITES, scenario, cache, source).await
}

async fn measure_with(
    writes: f64,
    scenario: Scenario,
    cache: Arc<dyn CacheUnderTest>,
    source: Source,
) -> Outcome {
    let acknowledged = Arc::new(Acknowledged::new(PRODUCTS));
    let run = Run { scenario, cache, source, workload: workload(writes), acknowledged };
    run.measure(LIMITS, |_| {}).await.unwrap()
}

/// Keeps for ever what it has once read.
struct NeverInvalidates {
    source: Source,
    kept: Mutex<HashMap<u64, Option<Arc<Product>>>>,
}

impl CacheUnderTest for NeverInvalidates {
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>> {
        Box::pin(async move {
            let kept = self.kept.lock().unwrap().get(&id).cloned();
            if let Some(kept) = kept {
                return Ok(kept);
            }
            let product = self.source.read(id).await?.map(Arc::new);
            self.kept.lock().unwrap().insert(id, product.clone());
            Ok(product)
        })
    }

    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { Ok(self.source.write(id, change).await?.version) })
    }

    fn counts(&self) -> Option<Counts> {
        None
    }
}

fn all_with_a_cache() -> Vec<Scenario> {
    let mut scenarios = Scenario::all(Strategy::value_variants(), Store::value_variants());
    scenarios.retain(|scenario| scenario.store.is_some());
    scenarios
}

const NO_CACHE: Scenario = Scenario { strategy: Strategy::NoCache, store: None };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_never_invalidates_is_caught() {
    let source = source();
    let cache = NeverInvalidates { source: source.clone(), kept: Mutex::default() };
    let outcome = measure(NO_CACHE, Arc::new(cache), source).await;
    assert!(outcome.stale_reads > 100, "{}", outcome.stale_reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cache_every_read_goes_to_the_source() {
    let source = source();
    let cache = NO_CACHE.open(source.clone(), &SETTINGS, None).await.unwrap();
    let outcome = measure(NO_CACHE, cache, source).await;
    assert_eq!((outcome.requests, outcome.errors, outcome.stale_reads), (4_000, 0, 0));
    assert_eq!(outcome.source_reads, outcome.get.count);
    assert_eq!(outcome.source_writes, outcome.write.count);
    assert_eq!(outcome.source_reads + outcome.source_writes, 4_000);
    assert_eq!(outcome.hit_rate, None);
    let slots: u64 = outcome.timeline.iter().map(|slot| slot.requests).sum();
    assert!(slots <= 4_000);
}

async fn redis() -> Redis {
    Redis::at(&cache_tests::redis::redis_url().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cache_saves_reads_and_is_never_stale() {
    let (source, redis) = (source(), redis().await);
    for scenario in all_with_a_cache() {
        let source = source.counted_anew();
        let cache = scenario.open(source.clone(), &SETTINGS, Some(&redis)).await.unwrap();
        let outcome = measure(scenario, cache, source).await;
        let name = outcome.name();
        assert_eq!(
            (outcome.requests, outcome.errors, outcome.stale_reads),
            (4_000, 0, 0),
            "{name}"
        );
        let counts = outcome.cache.unwrap();
        let reads = counts.hits + counts.misses;
        if name.starts_with("write") {
            // To change a product, it reads it.
            assert!(reads >= outcome.get.count, "{name}");
        } else {
            assert_eq!(reads, outcome.get.count, "{name}");
        }
        let writes = outcome.source_writes;
        assert!(name.starts_with("write-behind") || writes == outcome.write.count, "{name}");
        // A load that finds the last write of its key in the journal does not ask the source.
        let from_journal = counts.loads - outcome.source_reads;
        assert!(from_journal == 0 || name.starts_with("write-behind"), "{name}: {from_journal}");
        assert!(outcome.source_reads < outcome.get.count / 2, "{name}: {}", outcome.source_reads);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cache_loads_what_it_has_or_what_it_is_loading() {
    let (source, redis) = (source(), redis().await);
    for scenario in all_with_a_cache() {
        let source = source.counted_anew();
        let cache = scenario.open(source.clone(), &SETTINGS, Some(&redis)).await.unwrap();
        let outcome = measure_with(0.0, scenario, cache, source).await;
        assert_eq!(outcome.most_concurrent_loads_of_a_key, 1, "{}", outcome.name());
        assert!(outcome.source_reads <= workload(0.0).ids(), "{}", outcome.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_when_its_time_is_up() {
    let source = source();
    let run = Run {
        scenario: NO_CACHE,
        cache: NO_CACHE.open(source.clone(), &SETTINGS, None).await.unwrap(),
        source,
        workload: workload(WRITES),
        acknowledged: Arc::new(Acknowledged::new(PRODUCTS)),
    };
    let limits = Limits { requests: u64::MAX, time: Duration::from_millis(200), ..LIMITS };
    let outcome = run.measure(limits, |_| {}).await.unwrap();
    assert!(outcome.requests > 0);
}

#[test]
fn a_long_timeline_is_thinned_out_and_loses_nothing() {
    let mut timeline = Timeline::default();
    for n in 0..=1_024 {
        let until_seconds = n as f64;
        timeline.add(Slot { until_seconds, requests: n * 10, source_reads: n });
    }
    let slots = timeline.slots();
    assert!(slots.len() <= MOST_SLOTS && slots.len() > MOST_SLOTS / 4, "{}", slots.len());
    assert!(slots.iter().all(|slot| slot.requests == slots[0].requests));
}
