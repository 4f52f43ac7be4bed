//! Random histories of a write-behind cache, with a source, a store and callers that fail, against a model: no write that
//! was acknowledged is lost, overtaken by an older one, or comes back.
//!
//! A history that fails prints its seed; `CACHE_TEST_SEED=<seed>` runs that one alone, and
//! `CACHE_TEST_HISTORIES=<number>` so many of each of the four kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation};
use cache_core::{
    BehindOptions, Bounds, CacheStore, Capabilities, Claim, ClaimOptions, Clock, Entry, ErrorKind,
    Fill, Lease, MemoryJournal, Overflow, ReadThrough, Result, Seq, SetOptions, WriteBehind,
};
use cache_memory::MemoryStore;
use cache_tests::{PlainStore, Sink, SinkFault, minute};
use fastrand::Rng;
use futures_util::future::{join_all, poll_fn};
use tokio::task::yield_now;
use tokio::time::sleep;

const HISTORIES: u64 = 25_000;
const KEYS: [&str; 3] = ["a", "b", "c"];
const LONG: Duration = Duration::from_secs(1_000_000);

type Cache<S> = WriteBehind<ReadThrough<S, Sink>, Sink, MemoryJournal<String, u64>>;

#[derive(Clone, Debug)]
enum Op {
    /// Put, or remove; and whether the caller goes away after so many polls.
    Write {
        key: usize,
        value: Option<u64>,
        polls: Option<usize>,
    },
    Get {
        key: usize,
    },
    GetMany,
    Invalidate {
        key: usize,
    },
    /// The store forgets it.
    Evict {
        key: usize,
    },
}

impl Op {
    fn any(random: &mut Rng, next: &mut u64) -> Self {
        let key = random.usize(0..KEYS.len());
        *next += 1;
        match random.u8(0..16) {
            0..6 => Self::Write { key, value: Some(*next), polls: None },
            6..8 => Self::Write { key, value: None, polls: None },
            8..10 => {
                let value = random.bool().then_some(*next);
                Self::Write { key, value, polls: Some(random.usize(0..14)) }
            }
            10..13 => Self::Get { key },
            13 => Self::GetMany,
            14 => Self::Invalidate { key },
            _ => Self::Evict { key },
        }
    }
}

/// What a read of a key may return.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was acknowledged last, or one of these if they were made at the same time.
    acknowledged: BTreeSet<Option<u64>>,
    /// What may have been written since, by callers who went away.
    maybe: BTreeSet<Option<u64>>,
}

impl Known {
    fn allows(&self, value: Option<u64>) -> bool {
        self.acknowledged.contains(&value) || self.maybe.contains(&value)
    }
}

/// What an operation has come to.
enum Came {
    Read(usize, Option<u64>),
    Wrote(usize, Option<u64>),
    Maybe(usize, Option<u64>),
    Nothing,
}

async fn run<S>(
    op: Op,
    cache: &Cache<S>,
    evict: &(impl AsyncFn(&str) + Sync),
    late: usize,
) -> Vec<Came>
where
    S: CacheStore<Value = u64>,
{
    for _ in 0..late {
        yield_now().await;
    }
    match op {
        Op::Write { key, value, polls } => {
            let mut write = pin!(async {
                match value {
                    Some(value) => cache.put(KEYS[key], value).await,
                    None => cache.remove(KEYS[key]).await,
                }
            });
            let Some(polls) = polls else {
                return match write.await {
                    Ok(()) => vec![Came::Wrote(key, value)],
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                        vec![Came::Nothing]
                    }
                };
            };
            for _ in 0..polls {
                let polled = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
                if let Poll::Ready(result) = polled {
                    let done = result.is_ok();
                    return vec![if done { Came::Wrote(key, value) } else { Came::Nothing }];
                }
                yield_now().await;
            }
            vec![Came::Maybe(key, value)]
        }
        Op::Get { key } => {
            vec![came_of(key, cache.get(KEYS[key]).await)]
        }
        Op::GetMany => {
            let many = cache.get_many(&KEYS.map(str::to_owned)).await;
            many.into_iter().enumerate().map(|(key, read)| came_of(key, read)).collect()
        }
        Op::Invalidate { key } => {
            // It may fail with the store, which is for the caller to see.
            let _ = cache.invalidate(KEYS[key]).await;
            vec![Came::Nothing]
        }
        Op::Evict { key } => {
            evict(KEYS[key]).await;
            vec![Came::Nothing]
        }
    }
}

fn came_of(key: usize, read: Result<Option<u64>>) -> Came {
    match read {
        Ok(value) => Came::Read(key, value),
        // A claim whose answer is lost keeps the key from everybody until its lease ends.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WaitTimeout, "{error}");
            Came::Nothing
        }
    }
}

async fn history<S: CacheStore<Value = u64>>(
    seed: u64,
    store: S,
    evict: impl AsyncFn(&str) + Sync,
    faults: impl Fn(&mut Rng),
    heal: impl Fn(),
) {
    let mut random = Rng::with_seed(seed);
    let mut next = 100;
    let sink = Sink::with(&[("a", 1), ("b", 2)]);
    let inner = ReadThrough::new(store, sink.clone(), minute()).expect("valid options");
    let options = BehindOptions::default()
        .batch(random.usize(1..4))
        .delay(Duration::from_millis(random.u64(0..30)))
        .parallel(random.usize(1..3))
        .park_after(Duration::MAX)
        .tries(u32::MAX)
        .overflow(match random.bool() {
            true => Overflow::Reject,
            false => Overflow::Block(Duration::from_millis(20)),
        });
    let bounds = Bounds { writes: random.usize(1..5), ..Bounds::default() };
    let cache = WriteBehind::new(inner, sink.clone(), MemoryJournal::new(bounds), options);
    let cache = cache.expect("valid options");

    let mut known = BTreeMap::new();
    for (key, value) in [Some(1), Some(2), None].into_iter().enumerate() {
        let acknowledged = BTreeSet::from([value]);
        known.insert(key, Known { acknowledged, maybe: BTreeSet::new() });
    }
    let mut trace = Vec::new();
    for _ in 0..random.usize(4..14) {
        match random.u8(0..12) {
            0 => sink.fail(Some(random.choice(FAULTS).expect("some"))),
            1..4 => sink.fail(None),
            4 => sink.hold(),
            5..8 => sink.release(),
            8 => sleep(Duration::from_millis(random.u64(0..200))).await,
            9 => faults(&mut random),
            10 => heal(),
            _ => {}
        }
        let count = [1, 1, 2, 3][random.usize(0..4)];
        let ops: Vec<Op> = (0..count).map(|_| Op::any(&mut random, &mut next)).collect();
        let before = known.clone();
        trace.push(ops.clone());
        let running = ops.iter().map(|op| {
            let late = if count == 1 { 0 } else { random.usize(0..6) };
            run(op.clone(), &cache, &evict, late)
        });
        let came: Vec<Came> = join_all(running).await.into_iter().flatten().collect();
        learn(&mut known, &came);
        for came in &came {
            let Came::Read(key, value) = came else { continue };
            let written = ops.iter().any(|op| match op {
                Op::Write { key: other, value: written, .. } => other == key && written == value,
                _ => false,
            });
            let allowed = before[key].allows(*value) || written;
            assert!(allowed, "{value:?} of {key}; before: {:?}; {trace:#?}", before[key]);
            if count == 1
                && let Some(known) = known.get_mut(key)
            {
                // What is older than what was seen does not come back.
                known.maybe.remove(value);
                known.acknowledged = BTreeSet::from([*value]);
            }
        }
    }
    sink.release();
    sink.fail(None);
    heal();
    let left = cache.flush(LONG).await.expect("a journal in memory does not fail");
    assert!(left.is_empty(), "{left:?}; {trace:#?}");
    sleep(Duration::from_secs(30)).await; // until the last doubts are gone
    for (key, known) in &known {
        let row = sink.row(KEYS[*key]);
        assert!(known.allows(row), "{row:?} of {key} is in the source; {known:?}; {trace:#?}");
        for _ in 0..2 {
            let read = cache.get(KEYS[*key]).await.expect("an answer");
            assert_eq!(read, row, "of {key} is read; {trace:#?}");
        }
    }
    assert!(sink.most_at_once() <= 1, "a key was written twice at the same time");
    let mut last: BTreeMap<String, Seq> = BTreeMap::new();
    for write in sink.applied() {
        let before = last.insert(write.key, write.seq);
        assert!(before <= Some(write.seq), "{before:?}, {:?}; {trace:#?}", write.seq);
    }
}

const FAULTS: [SinkFault; 3] = [SinkFault::Refuse, SinkFault::LoseAnswer, SinkFault::LoseRequest];

/// What is known after a round of operations that were made at the same time.
fn learn(known: &mut BTreeMap<usize, Known>, came: &[Came]) {
    for (key, known) in known {
        let of_key = |came: &Came, done: bool| match came {
            Came::Wrote(of, value) if done && of == key => Some(*value),
            Came::Maybe(of, value) if !done && of == key => Some(*value),
            _ => None,
        };
        let wrote: BTreeSet<_> = came.iter().filter_map(|came| of_key(came, true)).collect();
        if !wrote.is_empty() {
            // Nothing is left of what was before.
            *known = Known { acknowledged: wrote, maybe: BTreeSet::new() };
        }
        known.maybe.extend(came.iter().filter_map(|came| of_key(came, false)));
    }
}

/// Runs many histories, each with a seed of its own.
async fn histories<F: Future<Output = ()>>(run: impl Fn(u64) -> F) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("CACHE_TEST_SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("CACHE_TEST_SEED").ok();
    let only = only.map(|seed| seed.parse::<u64>().expect("a number"));
    let first = only.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let count = std::env::var("CACHE_TEST_HISTORIES").ok();
    let count = count.map_or(HISTORIES, |count| count.parse().expect("a number"));
    let count = if only.is_some() { 1 } else { count };
    println!("seeds from {first}, {count} of them");
    for seed in first..first + count {
        let _seed = Seed(seed);
        run(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_small_memory() {
    histories(async |seed| {
        let store = MemoryStore::new(2);
        let evict = {
            let store = store.clone();
            async move |key: &str| store.remove(key).await.expect("removed")
        };
        history(seed, store, evict, |_| (), || ()).await;
    })
    .await;
}

/// A store whose operations take a few polls.
#[derive(Clone)]
struct Halting<S> {
    inner: S,
    shared: bool,
}

async fn halt() {
    yield_now().await;
}

impl<S: CacheStore> CacheStore for Halting<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        halt().await;
        let found = self.inner.get(key).await;
        halt().await;
        found
    }
    async fn set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        halt().await;
        self.inner.set(key, value, options).await?;
        halt().await;
        Ok(())
    }
    async fn remove(&self, key: &str) -> Result<()> {
        halt().await;
        self.inner.remove(key).await?;
        halt().await;
        Ok(())
    }
    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        halt().await;
        let claim = self.inner.claim(key, options).await;
        halt().await;
        claim
    }
    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        halt().await;
        let filled = self.inner.fill(lease, value, options).await;
        halt().await;
        filled
    }
    async fn release(&self, lease: Lease) -> Result<bool> {
        halt().await;
        self.inner.release(lease).await
    }
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.shared = self.shared;
        capabilities
    }
}

async fn on_a_store_that_fails(seed: u64, shared: bool) {
    let failing = FailingStore::new(MemoryStore::new(100));
    let store = Halting { inner: failing.clone(), shared };
    let evict = {
        let failing = failing.clone();
        async move |key: &str| failing.inner().remove(key).await.expect("removed")
    };
    let faults = |random: &mut Rng| {
        let operation = Operation::ALL[random.usize(0..Operation::ALL.len())];
        match random.bool() {
            true => failing.fail(operation, ErrorKind::Unavailable),
            false => failing.lose_answers(operation),
        }
    };
    history(seed, store, evict, faults, || failing.heal()).await;
}

#[tokio::test(start_paused = true)]
async fn on_a_store_that_fails_now_and_then() {
    histories(|seed| on_a_store_that_fails(seed, false)).await;
}

#[tokio::test(start_paused = true)]
async fn on_a_store_that_is_shared_and_fails_now_and_then() {
    histories(|seed| on_a_store_that_fails(seed, true)).await;
}

#[tokio::test(start_paused = true)]
async fn on_a_store_that_does_not_fence() {
    histories(async |seed| {
        let store = PlainStore::new(Clock::system());
        let evict = {
            let store = store.clone();
            async move |key: &str| store.remove(key).await.expect("removed")
        };
        history(seed, Halting { inner: store, shared: false }, evict, |_| (), || ()).await;
    })
    .await;
}
