//! Writing through the cache: the source first, and then the store.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation};
use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, Capabilities, Claim, ClaimOptions, Clock, Entry, Error,
    ErrorKind, Fill, Lease, NearTier, ReadOptions, ReadThrough, Result, SetOptions,
    StaleWhileRevalidate, Stats, Write, WriteBatch, WriteCache, WriteOptions, WriteThrough, Writer,
};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::Json;
use cache_tests::redis::{eventually, patient_at, redis_url};
use cache_tests::{PlainStore, Sink, SinkError, SinkFault, minute, unhurried};
use futures_util::future::{join, join_all, poll_fn};
use tokio::sync::Notify;
use tokio::time::timeout;

type Through<S> = WriteThrough<ReadThrough<S, Sink>, Sink>;

const KEY: &str = "key";

fn through_with<S>(store: S, sink: &Sink, options: WriteOptions) -> Through<S>
where
    S: CacheStore<Value = u64>,
{
    let inner = ReadThrough::new(store, sink.clone(), minute()).expect("valid options");
    WriteThrough::new(inner, sink.clone(), options).expect("valid options")
}

fn through<S: CacheStore<Value = u64>>(store: S, sink: &Sink) -> Through<S> {
    through_with(store, sink, WriteOptions::default())
}

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(1_000)
}

async fn poll_once<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn a_write_is_in_the_source_and_in_the_cache_when_it_returns() {
    let sink = Sink::default();
    let cache = through(memory(), &sink);
    cache.put(KEY, 1).await.expect("written");
    assert_eq!(sink.row(KEY), Some(1));
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(1));
    cache.remove(KEY).await.expect("written");
    assert_eq!(sink.row(KEY), None);
    assert_eq!(sink.loads(), 0, "the value came from the write");
    assert_eq!(cache.get(KEY).await.expect("an answer"), None);
}

#[tokio::test]
async fn that_a_key_was_removed_is_kept_if_that_is_wanted() {
    let sink = Sink::with(&[(KEY, 1)]);
    let options = minute().negative_ttl(Duration::from_secs(60));
    let inner = ReadThrough::new(memory(), sink.clone(), options).expect("valid options");
    let cache = WriteThrough::new(inner, sink.clone(), WriteOptions::default()).expect("valid");
    cache.remove(KEY).await.expect("written");
    assert_eq!(cache.get(KEY).await.expect("an answer"), None);
    assert_eq!(sink.loads(), 0);
}

#[tokio::test]
async fn many_writes_are_one_question_and_the_last_of_a_key_counts() {
    let sink = Sink::with(&[("a", 9)]);
    let cache = through(memory(), &sink);
    let key = |key: &str| key.to_owned();
    let writes = vec![(key("b"), Some(1)), (key("a"), None), (key("b"), Some(2))];
    cache.write_many(writes).await.expect("written");
    assert_eq!(sink.attempts().len(), 1);
    assert_eq!((sink.row("a"), sink.row("b")), (None, Some(2)));
    assert_eq!(cache.get("b").await.expect("an answer"), Some(2));
    assert_eq!(sink.loads(), 0);

    cache.write_many(Vec::new()).await.expect("nothing to do");
    sink.fail(Some(SinkFault::Refuse));
    let writes = vec![(key("b"), Some(3)), (key("c"), Some(3))];
    assert!(cache.write_many(writes).await.is_err());
    // Some of them may have been made, for all that is known.
    assert_eq!(cache.store().value("b").await.expect("an answer"), None);
}

#[tokio::test]
async fn an_error_is_the_writers_own() {
    let sink = Sink::default();
    let cache = through(memory(), &sink);
    sink.fail(Some(SinkFault::Refuse));
    let error = cache.put(KEY, 1).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Write);
    assert_eq!(error.cause::<SinkError>(), Some(&SinkError(SinkFault::Refuse)));
    sink.fail(Some(SinkFault::Panic));
    let error = cache.put(KEY, 1).await.expect_err("a panic");
    assert_eq!(error.kind(), ErrorKind::WriterPanicked);
    assert!(error.to_string().contains("lost its mind"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_write_ends_at_its_limit_and_leaves_no_entry() {
    let sink = Sink::with(&[(KEY, 1)]);
    let options = WriteOptions::default().write_timeout(Duration::from_secs(3));
    let cache = through_with(memory(), &sink, options);
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    sink.hold();
    let error = cache.put(KEY, 2).await.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::WriteTimeout);
    assert_eq!(cache.store().value(KEY).await.expect("an answer"), None);
}

/// The table in the docs, row by row.
#[tokio::test]
async fn the_failure_matrix_is_as_documented() {
    let docs = include_str!("../../cache-core/src/strategy/write_through.rs");
    let table = docs.lines().skip_while(|line| !line.contains("| the source | the fill |")).skip(2);
    let mut rows = 0;
    for row in table.map_while(|line| line.strip_prefix("/// | ")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [source, fill, removal, caller, has, reads] = cells[..] else { panic!("{row}") };
        let faults: &[Option<SinkFault>] = match source {
            "ok" => &[None],
            "fails" => &[Some(SinkFault::Refuse), Some(SinkFault::RefuseForGood)],
            "unknown" => {
                &[Some(SinkFault::LoseAnswer), Some(SinkFault::LoseRequest), Some(SinkFault::Panic)]
            }
            other => panic!("{other}"),
        };
        for fault in faults {
            for done_all_the_same in [false, true] {
                rows += 1;
                let case = format!("{row} with {fault:?}, {done_all_the_same}");
                check_row(&case, *fault, done_all_the_same, [fill, removal, caller, has, reads])
                    .await;
            }
        }
    }
    assert_eq!(rows, 2 * (5 + 2 + 2 * 3), "rows of the table were not found");
}

async fn check_row(case: &str, fault: Option<SinkFault>, lost: bool, cells: [&str; 5]) {
    let [fill, removal, caller, has, reads] = cells;
    let sink = Sink::with(&[(KEY, 1)]);
    let store = FailingStore::new(memory());
    let cache = through(store.clone(), &sink);
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));

    sink.hold();
    let put = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put(KEY, 2).await }
    });
    sink.writing(1).await;
    // The old value is served until the source has the new one.
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(1), "{case}");
    if fill == "refused" {
        store.inner().remove(KEY).await.expect("removed by somebody else");
    }
    let break_it = |operation| match lost {
        true => store.lose_answers(operation),
        false => store.fail(operation, ErrorKind::Unavailable),
    };
    if fill == "fails" {
        break_it(Operation::Fill);
    }
    if removal == "fails" {
        break_it(Operation::Remove);
    }
    sink.fail(fault);
    sink.release();
    let result = put.await.expect("no panic");
    assert_eq!(result.is_ok(), caller == "ok", "{case}: {result:?}");

    let entry = store.inner().value(KEY).await.expect("an answer");
    match has {
        "the new value" => assert_eq!(entry, Some(2), "{case}"),
        "the old value" => assert_eq!(entry, Some(1), "{case}"),
        "nothing" => assert_eq!(entry, None, "{case}"),
        "unknown" => {}
        other => panic!("{other}"),
    }
    let truth = sink.row(KEY);
    let loads = sink.loads();
    for _ in 0..3 {
        assert_eq!(cache.get(KEY).await.expect("an answer"), truth, "{case}");
    }
    let many = cache.get_many(&[KEY.to_owned()]).await;
    assert_eq!(many[0].as_ref().expect("an answer"), &truth, "{case}");
    let loads = sink.loads() - loads;
    match reads {
        "from the cache" => assert_eq!(loads, 0, "{case}"),
        // Once, and from the cache from then on; unless the fills still fail.
        "load" => assert!(loads == 1 || fill == "fails", "{case}: {loads}"),
        "past the cache" => assert_eq!((loads, cache.doubted()), (4, 1), "{case}"),
        other => panic!("{other}"),
    }
    store.heal();
    eventually("the entry is trusted again", async || cache.doubted() == 0).await;
    assert_eq!(cache.get(KEY).await.expect("an answer"), truth, "{case}");
}

#[tokio::test]
async fn a_store_that_is_down_does_not_fail_a_write_and_is_not_read_until_it_is_clean() {
    let sink = Sink::with(&[(KEY, 1)]);
    let store = FailingStore::new(memory());
    let stats = Arc::new(Stats::default());
    let options = minute().observer(Arc::clone(&stats)).fail_closed();
    let inner = ReadThrough::new(store.clone(), sink.clone(), options).expect("valid options");
    let cache = WriteThrough::new(inner, sink.clone(), WriteOptions::default()).expect("valid");
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    store.fail_all(ErrorKind::Unavailable);
    cache.put(KEY, 2).await.expect("in the source");
    assert_eq!(cache.doubted(), 1);
    // Reads work again, but removals do not.
    store.heal();
    store.fail(Operation::Remove, ErrorKind::Unavailable);
    let error = cache.get(KEY).await.expect_err("this cache fails closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.heal();
    eventually("the old entry is gone", async || cache.doubted() == 0).await;
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(2));
    let seen = stats.snapshot();
    assert_eq!((seen.writes, seen.write_errors), (1, 0));
}

#[tokio::test]
async fn too_many_doubts_are_an_error_and_not_silence() {
    let sink = Sink::default();
    let store = FailingStore::new(memory());
    let cache = through(store.clone(), &sink);
    store.fail_all(ErrorKind::Unavailable);
    for batch in 0..10 {
        let writes = (0..1_000).map(|n| (format!("{batch}-{n}"), Some(1))).collect();
        cache.write_many(writes).await.expect("in the source");
    }
    let error = cache.put(KEY, 2).await.expect_err("one too many");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!((sink.row(KEY), cache.doubted()), (Some(2), 10_000));
}

#[tokio::test]
async fn readers_of_a_key_that_is_not_cached_wait_for_the_write_and_make_no_stampede() {
    let sink = Sink::default();
    let cache = through(memory(), &sink);
    sink.hold();
    let put = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put(KEY, 2).await }
    });
    sink.writing(1).await;
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(KEY).await })
        })
        .collect();
    while cache.loading() == 0 {
        tokio::task::yield_now().await;
    }
    sink.release();
    put.await.expect("no panic").expect("written");
    for reader in readers {
        assert_eq!(reader.await.expect("no panic").expect("an answer"), Some(2));
    }
    assert_eq!(sink.loads(), 0);
}

#[tokio::test]
async fn a_load_under_way_does_not_overwrite_a_write() {
    for evict_first in [false, true] {
        let source = cache_tests::Source::with(&[(KEY, 1)]);
        let sink = Sink::default();
        let options = WriteOptions::default();
        let options = if evict_first { options.evict_first() } else { options };
        let loader = cache_tests::FromSource(Arc::clone(&source));
        let inner = ReadThrough::new(memory(), loader, minute()).expect("valid options");
        let cache = WriteThrough::new(inner, sink.clone(), options).expect("valid options");
        source.hold();
        let reader = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get(KEY).await }
        });
        source.running(1).await;
        cache.put(KEY, 2).await.expect("written");
        source.release();
        let early = reader.await.expect("no panic").expect("loaded");
        assert_eq!(early, Some(1), "its caller asked before");
        assert_eq!(cache.get(KEY).await.expect("an answer"), Some(2));
        assert_eq!(cache.store().value(KEY).await.expect("an answer"), Some(2));
    }
}

#[tokio::test]
async fn evicting_first_leaves_nothing_for_who_comes_after_a_crash() {
    let sink = Sink::with(&[(KEY, 1)]);
    let cache = through_with(memory(), &sink, WriteOptions::default().evict_first());
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    sink.hold();
    let put = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put(KEY, 2).await }
    });
    sink.writing(1).await;
    assert_eq!(cache.store().value(KEY).await.expect("an answer"), None);
    sink.release();
    put.await.expect("no panic").expect("written");
    assert_eq!(cache.store().value(KEY).await.expect("an answer"), Some(2));
}

#[tokio::test]
async fn a_store_that_does_not_fence_is_left_without_the_entry() {
    for options in [WriteOptions::default(), WriteOptions::default().evict_first()] {
        let sink = Sink::with(&[(KEY, 1)]);
        let store = PlainStore::new(Clock::system());
        let cache = through_with(store.clone(), &sink, options);
        assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
        cache.put(KEY, 2).await.expect("written");
        assert_eq!(store.value_now(KEY), None);
        assert_eq!(cache.get(KEY).await.expect("loaded"), Some(2));
    }
}

/// Dropped after its first poll, its second, and so on: the cache never keeps what the source has no longer.
#[tokio::test]
async fn a_put_whose_caller_goes_away_leaves_no_old_value() {
    for polls in 0..12 {
        let sink = Sink::with(&[(KEY, 1)]);
        let turns = Turns::default();
        let store = StepStore { inner: memory(), turns: turns.clone(), id: 0 };
        let inner = ReadThrough::new(store.clone(), sink.clone(), minute()).expect("valid");
        let writer = StepWriter { sink: sink.clone(), turns: turns.clone(), id: 0 };
        let cache = WriteThrough::new(inner, writer, WriteOptions::default()).expect("valid");
        assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
        let mut put = Box::pin(cache.put(KEY, 2));
        for _ in 0..polls {
            if poll_once(&mut put).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(put);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let entry = store.inner.value(KEY).await.expect("an answer");
        assert!(entry.is_none() || entry == sink.row(KEY), "{polls}: {entry:?}");
        let begun = polls > 0;
        assert_eq!(sink.row(KEY), Some(if begun { 2 } else { 1 }), "{polls}");
    }
}

/// Whose step comes next, of those who share a store.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<Schedule>>, Arc<Notify>);

#[derive(Default)]
struct Schedule {
    /// From the last to the first; when it is over, everybody goes on.
    steps: Vec<usize>,
    finished: Vec<usize>,
}

impl Turns {
    fn of(steps: Vec<usize>) -> Self {
        Self(Arc::new(Mutex::new(Schedule { steps, finished: Vec::new() })), Arc::default())
    }

    async fn step(&self, id: usize) {
        loop {
            let mut changed = pin!(self.1.notified());
            changed.as_mut().enable();
            if self.0.lock().expect("no panic").takes(id) {
                return self.1.notify_waiters();
            }
            changed.await;
        }
    }

    fn finish(&self, id: usize) {
        self.0.lock().expect("no panic").finished.push(id);
        self.1.notify_waiters();
    }
}

impl Schedule {
    fn takes(&mut self, id: usize) -> bool {
        while self.steps.last().is_some_and(|next| self.finished.contains(next)) {
            self.steps.pop();
        }
        let its_turn = self.steps.last().is_none_or(|next| *next == id);
        if its_turn {
            self.steps.pop();
        }
        its_turn
    }
}

/// A store whose operations are steps of a schedule.
#[derive(Clone)]
struct StepStore {
    inner: MemoryStore<u64>,
    turns: Turns,
    id: usize,
}

#[deny(clippy::missing_trait_methods)]
impl CacheStore for StepStore {
    type Value = u64;

    async fn get(&self, key: &str) -> Result<Option<Entry<u64>>> {
        self.turns.step(self.id).await;
        self.inner.get(key).await
    }
    fn get_now(&self, _: &str) -> Poll<Option<Entry<u64>>> {
        Poll::Pending
    }
    fn get_now_as<T>(
        &self,
        _: &str,
        _: impl FnOnce(Option<u64>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Poll::Pending
    }
    async fn set(&self, key: &str, value: Option<u64>, options: SetOptions) -> Result<()> {
        self.turns.step(self.id).await;
        self.inner.set(key, value, options).await
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.turns.step(self.id).await;
        self.inner.remove(key).await
    }
    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<u64>>>> {
        self.turns.step(self.id).await;
        self.inner.get_many(keys).await
    }
    async fn set_many(&self, entries: Vec<(&str, Option<u64>, SetOptions)>) -> Vec<Result<()>> {
        self.turns.step(self.id).await;
        self.inner.set_many(entries).await
    }
    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.turns.step(self.id).await;
        self.inner.remove_many(keys).await
    }
    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.remove_prefix(prefix).await
    }
    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.inner.remove_tagged(tags).await
    }
    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }
    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<u64>> {
        self.turns.step(self.id).await;
        self.inner.claim(key, options).await
    }
    async fn fill(&self, lease: Lease, value: Option<u64>, options: SetOptions) -> Result<Fill> {
        self.turns.step(self.id).await;
        self.inner.fill(lease, value, options).await
    }
    async fn release(&self, lease: Lease) -> Result<bool> {
        self.turns.step(self.id).await;
        self.inner.release(lease).await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near);
    }
}

/// A writer whose write is a step of a schedule.
#[derive(Clone)]
struct StepWriter {
    sink: Sink,
    turns: Turns,
    id: usize,
}

impl Writer<String, u64> for StepWriter {
    type Error = SinkError;

    async fn write(&self, write: Write<String, u64>) -> Result<(), SinkError> {
        self.turns.step(self.id).await;
        self.sink.write(write).await
    }
}

/// Two processes write one key, their steps in the order of the schedule. In the end the cache has what the source has, or
/// nothing.
async fn two_writers(steps: Vec<usize>, old: Option<u64>, evict_first: bool, reader: bool) {
    let sink = Sink::default();
    let store = memory();
    if let Some(old) = old {
        sink.set(KEY, old);
        store.put(KEY, old, Duration::from_secs(60)).await.expect("put");
    }
    let turns = Turns::of(steps.clone());
    let options = WriteOptions::default();
    let options = if evict_first { options.evict_first() } else { options };
    let cache = |id| {
        let store = StepStore { inner: store.clone(), turns: turns.clone(), id };
        let inner = ReadThrough::new(store, sink.clone(), minute()).expect("valid options");
        let writer = StepWriter { sink: sink.clone(), turns: turns.clone(), id };
        WriteThrough::new(inner, writer, options).expect("valid options")
    };
    let put = |id: usize, value| {
        let (cache, turns) = (cache(id), turns.clone());
        async move {
            cache.put(KEY, value).await.expect("written");
            turns.finish(id);
        }
    };
    let read = async {
        if reader {
            let value = cache(2).get(KEY).await.expect("an answer");
            assert!(value.is_none() || value == old || value > Some(9), "{value:?}");
        }
        turns.finish(2);
    };
    join(join(put(0, 10), put(1, 11)), read).await;
    let entry = store.value(KEY).await.expect("an answer");
    assert!(
        entry.is_none() || entry == sink.row(KEY),
        "{steps:?}, {old:?}, {evict_first}: {entry:?} is cached, the source has {:?}",
        sink.row(KEY)
    );
}

/// Every order of the first twelve steps of two writers.
#[tokio::test(start_paused = true)]
async fn two_writers_of_one_key_leave_what_the_source_has_in_whatever_order_they_come() {
    for schedule in 0..1_usize << 12 {
        let steps: Vec<usize> = (0..12).map(|step| schedule >> step & 1).collect();
        for (old, evict_first) in [(None, false), (Some(1), false), (Some(1), true)] {
            two_writers(steps.clone(), old, evict_first, false).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_writers_and_a_reader_leave_what_the_source_has() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..10_000 {
        let steps = (0..24).map(|_| random.usize(0..3)).collect();
        let old = random.bool().then_some(1);
        two_writers(steps, old, random.bool(), true).await;
    }
}

/// Writers and readers of all kinds, at random, in many tasks; the caches stand for processes.
async fn stress<S: CacheStore<Value = u64>>(stores: Vec<S>, rounds: u64) {
    let sink = Sink::default();
    let cache = |store: S| {
        let inner = ReadThrough::new(store, sink.clone(), unhurried()).expect("valid options");
        WriteThrough::new(inner, sink.clone(), WriteOptions::default()).expect("valid options")
    };
    let caches: Vec<_> = stores.into_iter().map(cache).collect();
    for round in 0..rounds {
        let key = format!("key-{}", round % 3);
        let tasks = caches.iter().enumerate().flat_map(|(at, cache)| {
            let value = round * 10 + at as u64;
            let (put, get) = (cache.clone(), cache.clone());
            let (put_key, get_key) = (key.clone(), key.clone());
            [
                tokio::spawn(async move {
                    put.put(&put_key, value).await.expect("written");
                }),
                tokio::spawn(async move {
                    get.get(&get_key).await.expect("an answer");
                }),
            ]
        });
        for done in join_all(tasks.collect::<Vec<_>>()).await {
            done.expect("no panic");
        }
        let truth = sink.row(&key);
        for cache in &caches {
            assert_eq!(cache.get(&key).await.expect("an answer"), truth, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn caches_on_one_store_in_memory_end_with_what_the_source_has() {
    let memory = memory();
    stress(vec![memory.clone(), memory.clone(), memory], 2_000).await;
    let moka = MokaStore::new(1_000);
    stress(vec![moka.clone(), moka.clone(), moka], 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn caches_on_one_redis_end_with_what_the_source_has() {
    let (url, service) = (redis_url().await, cache_core::testing::fresh_name());
    let mut stores = Vec::new();
    for _ in 0..2 {
        let store = patient_at(&url, &service).connect().await.expect("a server");
        stores.push(store.encoded(Json::new()));
    }
    timeout(Duration::from_secs(120), stress(stores, 300)).await.expect("in time");
}

/// What an application that is generic over its strategy does.
async fn double(numbers: &impl WriteCache<String, Value = u64>, key: &str) -> Result<(), Error> {
    if let Some(value) = numbers.get(&key.to_owned()).await? {
        numbers.put(&key.to_owned(), value * 2).await?;
    }
    Ok(())
}

#[tokio::test]
async fn application_code_can_be_generic_over_writing_strategies() {
    let sink = Sink::with(&[(KEY, 21)]);
    let cache = through(memory(), &sink);
    double(&cache, KEY).await.expect("written");
    assert_eq!(sink.row(KEY), Some(42));
    WriteCache::<String>::remove(&cache, &KEY.to_owned()).await.expect("written");
    assert_eq!(sink.row(KEY), None);
}

#[tokio::test]
async fn cache_aside_can_be_written_through_as_well() {
    let sink = Sink::with(&[(KEY, 1)]);
    let inner = CacheAside::new(memory(), ReadOptions::ttl(Duration::from_secs(60)));
    let writer = WriteBatch({
        let sink = sink.clone();
        move |writes: Vec<Write<String, u64>>| {
            let sink = sink.clone();
            async move { cache_core::BatchWriter::write_many(&sink, writes).await }
        }
    });
    let cache = WriteThrough::new(inner.expect("valid"), writer, WriteOptions::default());
    let cache = cache.expect("valid options");
    let load = || async { Ok::<_, std::io::Error>(Some(1)) };
    assert_eq!(cache.get_or_load(KEY, load).await.expect("loaded"), Some(1));
    cache.put(KEY, 2).await.expect("written");
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(2));
    let mut reading = pin!(cache.get_or_load(KEY, load));
    assert_eq!(reading.as_mut().await.expect("cached"), Some(2));
}

/// A refresh that began before a write does not bring the old value back, nor is it served stale afterwards.
#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_keeps_its_fences_when_it_is_written_through() {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(100).clock(clock).build().expect("valid options");
    let source = cache_tests::Source::with(&[(KEY, 1)]);
    let second = Duration::from_secs(1);
    let freshness =
        ReadOptions::ttl(60 * second).stale_for(60 * second).stale_if_error(60 * second);
    let loader = cache_tests::FromSource(Arc::clone(&source));
    let inner = StaleWhileRevalidate::new(store, loader, freshness).expect("valid options");
    let cache = WriteThrough::new(inner, Sink::default(), WriteOptions::default()).expect("valid");
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    hands.advance(90 * second);
    source.hold();
    assert_eq!(cache.get(KEY).await.expect("stale"), Some(1));
    source.running(1).await; // a refresh has read the old value
    cache.put(KEY, 2).await.expect("written");
    source.release();
    tokio::time::sleep(second).await;
    let reading = cache.get_detailed(KEY).await.expect("an answer");
    assert_eq!((reading.value, reading.freshness.is_fresh()), (Some(2), true));
}

/// Its caller has an error, and the source has the value.
#[tokio::test(start_paused = true)]
async fn a_closure_that_loses_the_answer_to_its_commit_leaves_no_old_entry() {
    let sink = Sink::with(&[(KEY, 1)]);
    let rows = sink.clone();
    let write = move |write: Write<String, u64>| {
        rows.set(&write.key, write.value.unwrap_or(0));
        async { Err::<(), _>(SinkError(SinkFault::LoseAnswer)) }
    };
    let inner = ReadThrough::new(memory(), sink.clone(), minute()).expect("valid options");
    let cache = WriteThrough::new(inner, write, WriteOptions::default()).expect("valid options");
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    cache.put(KEY, 2).await.expect_err("the answer is lost");
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(2));
}
