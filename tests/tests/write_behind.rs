//! Writing behind the cache: the journal first, and the source later.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation, SlowStore};
use cache_core::{
    Backlog, BehindOptions, Bounds, CacheStore, CacheStoreExt, Clock, DeadLetter, Due, Error,
    ErrorKind, Journal, MemoryJournal, OneByOne, Overflow, ReadOptions, ReadThrough, Result, Seq,
    StaleWhileRevalidate, Stats, Taken, Write, WriteBehind, WriteCache,
};
use cache_memory::MemoryStore;
use cache_tests::{FromSource, PlainStore, Sink, SinkError, SinkFault, Source, minute};
use futures_util::future::{join_all, poll_fn};
use tokio::time::{Instant, sleep};

type Memory = MemoryJournal<String, u64>;
type Behind<S> = WriteBehind<ReadThrough<S, Sink>, Sink, Memory>;

const KEY: &str = "key";
const LONG: Duration = Duration::from_secs(1_000_000);

fn journal() -> Memory {
    MemoryJournal::new(Bounds::default())
}

fn options() -> BehindOptions {
    BehindOptions::default()
}

fn behind_with<S>(store: S, sink: &Sink, journal: Memory, options: BehindOptions) -> Behind<S>
where
    S: CacheStore<Value = u64>,
{
    let inner = ReadThrough::new(store, sink.clone(), minute()).expect("valid options");
    WriteBehind::new(inner, sink.clone(), journal, options).expect("valid options")
}

fn behind<S: CacheStore<Value = u64>>(store: S, sink: &Sink) -> Behind<S> {
    behind_with(store, sink, journal(), options())
}

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(10_000)
}

async fn read<S: CacheStore<Value = u64>>(cache: &Behind<S>, key: &str) -> Option<u64> {
    cache.get(key).await.expect("an answer")
}

async fn flushed<S: CacheStore<Value = u64>>(cache: &Behind<S>) {
    let left = cache.flush(LONG).await.expect("a journal in memory does not fail");
    assert_eq!(left.writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_put_is_seen_at_once_and_is_in_the_source_later() {
    let sink = Sink::with(&[(KEY, 1)]);
    let cache = behind(memory(), &sink);
    assert_eq!(read(&cache, KEY).await, Some(1));
    cache.put(KEY, 2).await.expect("acknowledged");
    assert_eq!((read(&cache, KEY).await, sink.row(KEY)), (Some(2), Some(1)));
    flushed(&cache).await;
    assert_eq!((read(&cache, KEY).await, sink.row(KEY)), (Some(2), Some(2)));
    cache.remove(KEY).await.expect("acknowledged");
    assert_eq!((read(&cache, KEY).await, sink.row(KEY)), (None, Some(2)));
    flushed(&cache).await;
    assert_eq!((read(&cache, KEY).await, sink.row(KEY)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn writes_go_out_by_themselves_when_they_are_old_enough() {
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, journal(), options().delay(Duration::from_secs(3)));
    let began = Instant::now();
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(2)).await;
    cache.put(KEY, 2).await.expect("acknowledged");
    sleep(Duration::from_secs(30)).await;
    let attempts = sink.attempts();
    assert_eq!(
        (attempts.len(), sink.row(KEY)),
        (1, Some(2)),
        "the last one, at the age of the first"
    );
    assert_eq!((attempts[0].at - began).as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_count_and_by_bytes() {
    for (journal, options) in
        [(journal(), options().batch(10)), (journal().weigh(|_, _| 7), options().batch_bytes(70))]
    {
        let sink = Sink::default();
        let cache = behind_with(memory(), &sink, journal, options.delay(LONG));
        for n in 0..25 {
            cache.put(&*format!("key-{n}"), n).await.expect("acknowledged");
        }
        sleep(Duration::from_secs(1)).await;
        let sizes: Vec<_> = sink.attempts().iter().map(|attempt| attempt.keys.len()).collect();
        assert_eq!(sizes, [10, 10], "the rest is neither many nor old");
        flushed(&cache).await;
        assert_eq!((sink.rows(), sink.attempts().len()), (25, 3));
    }
}

/// Put, put, remove; and remove, put.
#[tokio::test(start_paused = true)]
async fn the_last_of_several_writes_of_a_key_is_made_and_no_other() {
    let sink = Sink::with(&[("a", 1)]);
    let cache = behind(memory(), &sink);
    cache.put("a", 2).await.expect("acknowledged");
    cache.remove("b").await.expect("acknowledged");
    cache.put("a", 3).await.expect("acknowledged");
    cache.put("b", 4).await.expect("acknowledged");
    cache.remove("a").await.expect("acknowledged");
    flushed(&cache).await;
    assert_eq!((sink.row("a"), sink.row("b")), (None, Some(4)));
    let attempts = sink.attempts();
    assert_eq!(attempts.len(), 1, "puts and removals go together: {attempts:?}");
    assert_eq!(attempts[0].keys, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_key_that_is_being_written_waits_and_is_not_merged_into_it() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.hold();
    cache.put(KEY, 1).await.expect("acknowledged");
    sink.writing(1).await;
    cache.put(KEY, 2).await.expect("acknowledged");
    cache.put("other", 3).await.expect("acknowledged");
    sink.writing(2).await; // the other key overtakes
    assert_eq!(read(&cache, KEY).await, Some(2));
    sink.release();
    flushed(&cache).await;
    let values: Vec<_> =
        sink.applied().iter().map(|write| (write.key.clone(), write.value)).collect();
    assert!(values.contains(&(KEY.to_owned(), Some(1))), "{values:?}");
    assert_eq!((values.len(), sink.row(KEY), sink.most_at_once()), (3, Some(2), 1));
}

#[tokio::test(start_paused = true)]
async fn numbers_grow_with_the_writes_of_a_key() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    for value in 0..20 {
        sink.fail((value % 3 == 0).then_some(SinkFault::LoseAnswer));
        cache.put(KEY, value).await.expect("acknowledged");
        sleep(Duration::from_millis(70)).await;
        sink.fail(None);
        flushed(&cache).await;
    }
    let seqs: Vec<_> = sink.applied().iter().map(|write| write.seq).collect();
    assert!(seqs.is_sorted() && seqs.len() >= 20 + 7, "{seqs:?}");
    let repeated = seqs.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(repeated >= 7, "a repetition has the number of the first attempt: {seqs:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_see_what_is_pending_when_the_cache_has_forgotten_it() {
    for capacity in [0, 1] {
        let sink = Sink::with(&[("a", 1), ("b", 1), ("c", 1)]);
        let cache = behind(MemoryStore::new(capacity), &sink);
        sink.hold();
        cache.put("a", 2).await.expect("acknowledged");
        cache.remove("b").await.expect("acknowledged");
        cache.put("x", 3).await.expect("acknowledged");
        for _ in 0..2 {
            assert_eq!(read(&cache, "a").await, Some(2));
            assert_eq!(read(&cache, "b").await, None);
            assert_eq!(read(&cache, "c").await, Some(1));
            let keys = ["a", "b", "c", "x", "y"].map(str::to_owned);
            let many = cache.get_many(&keys).await;
            let many: Vec<_> = many.into_iter().map(|read| read.expect("an answer")).collect();
            assert_eq!(many, [Some(2), None, Some(1), Some(3), None]);
            sink.writing(1).await; // and while it is being written
        }
        sink.release();
        flushed(&cache).await;
        assert_eq!(read(&cache, "a").await, Some(2));
        assert_eq!((sink.row("a"), sink.row("b")), (Some(2), None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_does_not_bring_the_source_back_while_a_write_is_pending() {
    let sink = Sink::with(&[(KEY, 1)]);
    let cache = behind(memory(), &sink);
    sink.hold();
    cache.put(KEY, 2).await.expect("acknowledged");
    cache.invalidate(KEY).await.expect("invalidated");
    assert_eq!(read(&cache, KEY).await, Some(2));
    cache.clear().await.expect("cleared");
    assert_eq!(read(&cache, KEY).await, Some(2));
    sink.release();
    flushed(&cache).await;
    cache.clear().await.expect("cleared");
    assert_eq!(read(&cache, KEY).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_load_under_way_does_not_overwrite_what_was_put() {
    let source = Source::with(&[(KEY, 1)]);
    let inner = ReadThrough::new(memory(), FromSource(Arc::clone(&source)), minute());
    let cache = WriteBehind::new(inner.expect("valid"), Sink::default(), journal(), options());
    let cache = Arc::new(cache.expect("valid options"));
    source.hold();
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get(KEY).await }
    });
    source.running(1).await;
    cache.put(KEY, 2).await.expect("acknowledged");
    source.release();
    assert_eq!(reader.await.expect("no panic").expect("loaded"), Some(1), "it asked before");
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn one_poisoned_write_among_a_thousand_is_parked_and_the_others_land() {
    let sink = Sink::default();
    let stats = Arc::new(Stats::default());
    let observed = minute().observer(Arc::clone(&stats));
    let inner = ReadThrough::new(memory(), sink.clone(), observed).expect("valid options");
    let cache = WriteBehind::new(inner, sink.clone(), journal(), options()).expect("valid options");
    sink.poison("key-567");
    for n in 0..1_000 {
        cache.put(&*format!("key-{n}"), n).await.expect("acknowledged");
    }
    let left = cache.flush(LONG).await.expect("an answer");
    assert_eq!((left.writes, left.dead_letters, sink.rows()), (0, 1, 999));
    let dead = cache.dead_letters(10).await.expect("an answer");
    let write = dead[0].write.as_ref().expect("it is in memory");
    assert_eq!((dead.len(), &*dead[0].key, write.value), (1, "key-567", Some(567)));
    assert_eq!((dead[0].tries, dead[0].cause.contains("Refuse")), (5, true), "{dead:?}");
    assert_eq!((stats.snapshot().parked, cache.stats().parked), (1, 1));
    // Each of the ten batches was written once, but for halves of the one with the bad write.
    assert!(sink.attempts().len() < 10 + 2 * 7 + 5, "{}", sink.attempts().len());

    // What is not in the source is not read any more.
    assert_eq!(cache.get("key-567").await.expect("loaded"), None);
    sink.cure();
    cache.replay(&dead[0]).await.expect("acknowledged");
    assert_eq!(cache.get("key-567").await.expect("an answer"), Some(567));
    let left = cache.flush(LONG).await.expect("an answer");
    assert!(left.is_empty());
    assert_eq!(sink.row("key-567"), Some(567));
}

#[tokio::test(start_paused = true)]
async fn many_poisoned_writes_hold_nobody_up() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    for n in 0..300 {
        let key = format!("key-{n}");
        if n % 10 == 0 {
            sink.poison(&key);
        }
        cache.put(&*key, n).await.expect("acknowledged");
    }
    let left = cache.flush(LONG).await.expect("an answer");
    assert_eq!((left.writes, left.dead_letters, sink.rows()), (0, 30, 270));
    for letter in cache.dead_letters(usize::MAX).await.expect("an answer") {
        assert!(cache.discard(&letter).await.expect("an answer"));
        assert!(!cache.discard(&letter).await.expect("an answer"), "it is gone");
    }
    assert_eq!(cache.stats().dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_for_good_is_parked_at_once() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.fail(Some(SinkFault::RefuseForGood));
    cache.put(KEY, 1).await.expect("acknowledged");
    let left = cache.flush(LONG).await.expect("an answer");
    assert_eq!((left.writes, left.dead_letters, sink.attempts().len()), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_works_is_parked_in_the_end_without_any_others() {
    let sink = Sink::default();
    let wait = Duration::from_secs(600);
    let cache = behind_with(memory(), &sink, journal(), options().park_after(wait));
    sink.poison(KEY);
    let began = Instant::now();
    cache.put(KEY, 1).await.expect("acknowledged");
    let left = cache.flush(LONG).await.expect("an answer");
    assert_eq!((left.writes, left.dead_letters), (0, 1));
    assert!(began.elapsed() >= wait && began.elapsed() < wait * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_is_overtaken_by_a_later_one() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.poison(KEY);
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await;
    cache.put(KEY, 2).await.expect("acknowledged");
    sink.cure();
    flushed(&cache).await;
    assert_eq!((sink.row(KEY), cache.stats().dead_letters), (Some(2), 0));
    let applied: Vec<_> = sink.applied().iter().map(|write| write.seq).collect();
    assert!(applied.is_sorted(), "{applied:?}");
}

/// The trace of attempts while the source is down for an hour, with 10,000 writes waiting.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_sees_a_trickle_and_everything_lands_afterwards() {
    let sink = Sink::default();
    let bounds = Bounds { writes: 10_000, ..Bounds::default() };
    let options = options().overflow(Overflow::Reject).park_after(Duration::MAX);
    let cache = behind_with(memory(), &sink, MemoryJournal::new(bounds), options);
    sink.fail(Some(SinkFault::Refuse));
    let began = Instant::now();
    let mut refused = 0;
    for round in 0..3_600 {
        for n in 0..10 {
            let put = cache.put(&*format!("key-{round}-{n}"), n).await;
            refused += u32::from(put.is_err_and(|error| error.kind() == ErrorKind::Full));
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(refused, 26_000, "memory is bounded");
    assert_eq!(cache.stats().depth.writes(), 10_000);
    assert!(cache.stats().failing);
    let attempts = sink.attempts();
    let at: Vec<_> = attempts.iter().map(|attempt| (attempt.at - began).as_secs_f64()).collect();
    println!("seconds of the {} attempts: {at:.1?}", at.len());
    // At intervals of 15 s in the mean, there would be 240 in an hour.
    assert!((120..400).contains(&at.len()), "{}", at.len());
    let early = at.iter().filter(|at| **at < 1.0).count();
    assert!(early < 15, "{early} within the first second");
    let gaps = at.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap <= 30.1), "no gap above the cap");
    assert!(gaps.filter(|gap| *gap > 10.0).count() > 60, "the gaps grow to the cap");

    sink.fail(None);
    let healed = Instant::now();
    flushed(&cache).await;
    assert_eq!((sink.rows(), cache.stats().dead_letters), (10_000, 0));
    assert!(healed.elapsed() < Duration::from_secs(70), "{:?}", healed.elapsed());
    assert!(!cache.stats().failing);
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_rejects_or_blocks_until_there_is_room() {
    let bounds = Bounds { writes: 2, ..Bounds::default() };
    let sink = Sink::default();
    sink.hold();
    let reject = options().overflow(Overflow::Reject);
    let cache = behind_with(memory(), &sink, MemoryJournal::new(bounds), reject);
    cache.put("a", 1).await.expect("acknowledged");
    cache.put("b", 1).await.expect("acknowledged");
    cache.put("b", 2).await.expect("in the place of the one before");
    let error = cache.put("c", 1).await.expect_err("full");
    assert!(error.kind() == ErrorKind::Full && error.is_transient());
    assert_eq!(cache.store().value("c").await.expect("an answer"), None, "not acknowledged");

    let limit = Duration::from_secs(5);
    let block = options().overflow(Overflow::Block(limit));
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, MemoryJournal::new(bounds), block);
    sink.hold();
    cache.put("a", 1).await.expect("acknowledged");
    cache.put("b", 1).await.expect("acknowledged");
    let began = Instant::now();
    let error = cache.put("c", 1).await.expect_err("full for too long");
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Full, limit));
    let puts = ["c", "d", "e", "f"].map(|key| cache.put(key, 1));
    let (results, ()) = futures_util::future::join(join_all(puts), async {
        sleep(Duration::from_secs(1)).await;
        sink.release();
    })
    .await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    flushed(&cache).await;
    assert_eq!(sink.rows(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_bound_in_bytes_holds_as_well() {
    let bounds = Bounds { bytes: 100, ..Bounds::default() };
    let sink = Sink::default();
    sink.hold();
    let journal = MemoryJournal::new(bounds).weigh(|_, value| *value.unwrap_or(&1) as usize);
    let cache = behind_with(memory(), &sink, journal, options().overflow(Overflow::Reject));
    cache.put("a", 60).await.expect("acknowledged");
    assert!(cache.put("b", 60).await.is_err());
    cache.put("b", 40).await.expect("acknowledged");
    assert!(cache.put("b", 41).await.is_err(), "no room for more in its place");
    cache.put("b", 2).await.expect("acknowledged");
    assert_eq!(cache.stats().depth.bytes, 62);
    sink.release();
    flushed(&cache).await;
    cache.put("large", 1_000).await.expect("one is always admitted");
    flushed(&cache).await;
    assert_eq!(cache.stats().depth.bytes, 0);
}

/// The writer puts into the cache that it writes for, whose journal is full.
#[tokio::test(start_paused = true)]
async fn a_writer_that_puts_does_not_wait_for_itself_for_ever() {
    type Cache = WriteBehind<ReadThrough<MemoryStore<u64>, Sink>, Reentrant, Memory>;
    struct Reentrant(Arc<std::sync::OnceLock<std::sync::Weak<Cache>>>, Sink);
    impl cache_core::Writer<String, u64> for Reentrant {
        type Error = SinkError;
        async fn write(&self, write: Write<String, u64>) -> Result<(), SinkError> {
            if write.key == "first"
                && let Some(cache) = self.0.get().and_then(std::sync::Weak::upgrade)
            {
                let error = cache.put("second", 2).await.expect_err("no room");
                assert_eq!(error.kind(), ErrorKind::Full);
            }
            self.1.write(write).await
        }
    }
    impl cache_core::BatchWriter<String, u64> for Reentrant {
        async fn write_many(&self, writes: Vec<Write<String, u64>>) -> Result<(), SinkError> {
            self.1.write_many(writes).await
        }
    }
    let (sink, slot) = (Sink::default(), Arc::default());
    let inner = ReadThrough::new(memory(), sink.clone(), minute()).expect("valid options");
    let journal = MemoryJournal::new(Bounds { writes: 1, ..Bounds::default() });
    let writer = Reentrant(Arc::clone(&slot), sink.clone());
    let cache = Arc::new(WriteBehind::new(inner, writer, journal, options()).expect("valid"));
    slot.set(Arc::downgrade(&cache)).expect("set once");
    cache.put("first", 1).await.expect("acknowledged");
    let left = cache.flush(LONG).await.expect("an answer");
    assert!(left.is_empty());
    assert_eq!(sink.row("first"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn batches_of_different_keys_are_written_in_parallel_and_no_more_than_said() {
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, journal(), options().batch(10).parallel(3));
    sink.hold();
    for n in 0..100 {
        cache.put(&*format!("key-{n}"), n).await.expect("acknowledged");
    }
    sink.writing(3).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sink.attempts().len(), 3);
    assert_eq!((cache.stats().depth.waiting, cache.stats().depth.in_flight), (70, 30));
    sink.release();
    flushed(&cache).await;
    assert_eq!((sink.rows(), sink.most_at_once()), (100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_is_given_up_and_tried_again() {
    let sink = Sink::default();
    let limit = Duration::from_secs(3);
    let cache = behind_with(memory(), &sink, journal(), options().write_timeout(limit));
    sink.hold();
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(60)).await;
    assert!(sink.attempts().len() > 3);
    sink.release();
    flushed(&cache).await;
    assert_eq!(sink.row(KEY), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_panics_is_one_that_fails() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.fail(Some(SinkFault::Panic));
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(read(&cache, KEY).await, Some(1));
    sink.fail(None);
    flushed(&cache).await;
    assert_eq!(sink.row(KEY), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_the_rest_and_says_what_is_left() {
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, journal(), options().delay(LONG));
    for n in 0..250 {
        cache.put(&*format!("key-{n}"), n).await.expect("acknowledged");
    }
    let left = cache.shutdown(Duration::from_secs(10)).await.expect("an answer");
    assert_eq!((left.is_empty(), sink.rows()), (true, 250));
    assert_eq!(cache.put(KEY, 1).await.expect_err("shut down").kind(), ErrorKind::Closed);
    assert_eq!(read(&cache, "key-7").await, Some(7), "reads go on");
    assert!(cache.shutdown(LONG).await.expect("again").is_empty());

    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.fail(Some(SinkFault::Refuse));
    cache.put("a", 1).await.expect("acknowledged");
    cache.put("b", 1).await.expect("acknowledged");
    let began = Instant::now();
    let left = cache.shutdown(Duration::from_secs(10)).await.expect("an answer");
    assert_eq!((left.writes, began.elapsed().as_secs()), (2, 10));
    let tried = sink.attempts().len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(sink.attempts().len(), tried, "nothing goes on");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_wakes_those_who_wait_for_room() {
    let sink = Sink::default();
    let bounds = Bounds { writes: 1, ..Bounds::default() };
    let options = options().overflow(Overflow::Block(LONG));
    let cache = behind_with(memory(), &sink, MemoryJournal::new(bounds), options);
    sink.hold();
    cache.put("a", 1).await.expect("acknowledged");
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put("b", 1).await }
    });
    sleep(Duration::from_secs(1)).await;
    let left = cache.shutdown(Duration::from_secs(1)).await.expect("an answer");
    assert_eq!(left.writes, 1);
    let error = waiting.await.expect("no panic").expect_err("shut down");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn without_a_shutdown_a_journal_in_memory_is_emptied_while_the_source_works() {
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, journal(), options().delay(LONG));
    for n in 0..1_000 {
        cache.put(&*format!("key-{n}"), n).await.expect("acknowledged");
    }
    drop(cache);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sink.rows(), 1_000);

    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    sink.fail(Some(SinkFault::Refuse));
    cache.put(KEY, 1).await.expect("acknowledged");
    drop(cache);
    sleep(Duration::from_secs(3600)).await;
    assert!(sink.attempts().len() <= 1, "it does not go on for ever");
}

/// What was in the journal before, and what another process put into it, may be newer than the cache.
#[tokio::test(start_paused = true)]
async fn what_the_journal_has_from_before_is_read_and_written_and_leaves_no_old_entry() {
    let sink = Sink::with(&[(KEY, 1), ("other", 1)]);
    let store = memory();
    store.put(KEY, 1, LONG).await.expect("put");
    let journal = journal();
    journal.append(KEY.to_owned(), Some(2)).await.expect("appended");
    journal.append("other".to_owned(), Some(2)).await.expect("appended");
    let cache = behind_with(store.clone(), &sink, journal, options());
    assert_eq!(read(&cache, "other").await, Some(2), "a miss finds what is pending");
    flushed(&cache).await;
    assert_eq!((sink.row(KEY), read(&cache, KEY).await), (Some(2), Some(2)));
}

/// A journal in memory that calls itself durable, fails and hangs on demand.
struct Scripted {
    inner: Memory,
    fails: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    late: usize,
}

impl Journal for Scripted {
    type Key = String;
    type Value = u64;

    fn backlog(&self) -> &Backlog<String, u64> {
        self.inner.backlog()
    }
    async fn append(&self, key: String, value: Option<u64>) -> Result<Seq> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::with_cause(ErrorKind::Journal, "no space left on device"));
        }
        let seq = self.inner.append(key, value).await?;
        // Its answers come in another order.
        for _ in 0..self.late * (seq.get() as usize * 7 % 5) {
            tokio::task::yield_now().await;
        }
        Ok(seq)
    }
    async fn done(&self, _: &[Taken<String, u64>]) -> Result<()> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Journal)),
            false => Ok(()),
        }
    }
    async fn park(&self, write: &Taken<String, u64>, cause: &Error) -> Result<()> {
        self.inner.park(write, cause).await
    }
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<String, u64>>> {
        self.inner.dead_letters(most).await
    }
    async fn discard(&self, key: &str, seq: Seq) -> Result<bool> {
        self.inner.discard(key, seq).await
    }
    fn dead(&self) -> usize {
        Journal::dead(&self.inner)
    }
    fn is_durable(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_that_the_journal_has_not_taken() {
    let sink = Sink::with(&[(KEY, 1)]);
    let (fails, hangs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let scripted = Scripted {
        inner: journal(),
        fails: Arc::clone(&fails),
        hangs: Arc::clone(&hangs),
        late: 0,
    };
    let stats = Arc::new(Stats::default());
    let observed = minute().observer(Arc::clone(&stats));
    let inner = ReadThrough::new(memory(), sink.clone(), observed).expect("valid options");
    let cache = WriteBehind::new(inner, sink.clone(), scripted, options()).expect("valid options");
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    fails.store(true, Ordering::SeqCst);
    let error = cache.put(KEY, 2).await.expect_err("the disk is full");
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(1), "not acknowledged, not seen");
    fails.store(false, Ordering::SeqCst);
    hangs.store(true, Ordering::SeqCst);
    let mut put = Box::pin(cache.put(KEY, 3));
    for _ in 0..10 {
        assert!(poll_once(&mut put).await.is_pending());
    }
    drop(put);
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(1), "not acknowledged, not seen");
    hangs.store(false, Ordering::SeqCst);

    // A journal that can't be told what is done repeats it after a restart, and that is told.
    cache.put(KEY, 4).await.expect("acknowledged");
    fails.store(true, Ordering::SeqCst);
    assert!(cache.flush(LONG).await.expect("an answer").is_empty());
    assert_eq!((sink.row(KEY), stats.snapshot().journal_errors), (Some(4), 1));
}

async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_fails_does_not_fail_a_put_and_is_not_read() {
    let sink = Sink::with(&[(KEY, 1)]);
    let store = FailingStore::new(memory());
    let cache = behind(store.clone(), &sink);
    assert_eq!(read(&cache, KEY).await, Some(1));
    store.fail_all(ErrorKind::Unavailable);
    cache.put(KEY, 2).await.expect("acknowledged");
    assert_eq!(read(&cache, KEY).await, Some(2), "from the journal");
    store.heal();
    store.fail(Operation::Remove, ErrorKind::Unavailable);
    assert_eq!(read(&cache, KEY).await, Some(2), "and not the old entry");
    assert_eq!(cache.stats().doubted, 1);
    flushed(&cache).await;
    assert_eq!(read(&cache, KEY).await, Some(2), "from the source");
    store.heal();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cache.stats().doubted, 0);
    assert_eq!(read(&cache, KEY).await, Some(2));
    assert_eq!(store.inner().value(KEY).await.expect("an answer"), Some(2), "kept again");
}

/// A store whose operations take a few polls, that may be shared with other processes, or not fence.
#[derive(Clone)]
struct Halting<S> {
    inner: S,
    shared: bool,
}

impl<S: CacheStore> Halting<S> {
    async fn halt(&self) {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
    }
}

impl<S: CacheStore> CacheStore for Halting<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<cache_core::Entry<S::Value>>> {
        self.halt().await;
        let found = self.inner.get(key).await;
        self.halt().await;
        found
    }
    async fn set(
        &self,
        key: &str,
        value: Option<S::Value>,
        options: cache_core::SetOptions,
    ) -> Result<()> {
        self.halt().await;
        self.inner.set(key, value, options).await?;
        self.halt().await;
        Ok(())
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.halt().await;
        self.inner.remove(key).await?;
        self.halt().await;
        Ok(())
    }
    async fn claim(
        &self,
        key: &str,
        options: cache_core::ClaimOptions,
    ) -> Result<cache_core::Claim<S::Value>> {
        self.halt().await;
        self.inner.claim(key, options).await
    }
    async fn fill(
        &self,
        lease: cache_core::Lease,
        value: Option<S::Value>,
        options: cache_core::SetOptions,
    ) -> Result<cache_core::Fill> {
        self.halt().await;
        let filled = self.inner.fill(lease, value, options).await;
        self.halt().await;
        filled
    }
    async fn release(&self, lease: cache_core::Lease) -> Result<bool> {
        self.halt().await;
        self.inner.release(lease).await
    }
    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.remove_prefix(prefix).await
    }
    fn capabilities(&self) -> cache_core::Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.shared = self.shared;
        capabilities
    }
}

async fn drop_after<S>(polls: usize, store: S, sink: &Sink)
where
    S: CacheStore<Value = u64> + Clone,
{
    let cache = behind(store, sink);
    assert_eq!(read(&cache, KEY).await, Some(1));
    let mut put = Box::pin(cache.put(KEY, 2));
    let mut done = false;
    for _ in 0..polls {
        done = poll_once(&mut put).await.is_ready();
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(put);
    // Whatever was made of it is seen by the time that it is in the source.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(read(&cache, KEY).await, sink.row(KEY), "dropped after {polls} polls");
    assert!(!done || sink.row(KEY) == Some(2));
    cache.put(KEY, 3).await.expect("acknowledged");
    assert_eq!(read(&cache, KEY).await, Some(3));
    flushed(&cache).await;
    assert_eq!(sink.row(KEY), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_dropped_at_any_point_leaves_no_wrong_entry() {
    for polls in 0..40 {
        for shared in [false, true] {
            let sink = Sink::with(&[(KEY, 1)]);
            drop_after(polls, Halting { inner: memory(), shared }, &sink).await;
        }
        let sink = Sink::with(&[(KEY, 1)]);
        let inner = PlainStore::new(Clock::system());
        drop_after(polls, Halting { inner, shared: false }, &sink).await;
    }
}

/// Puts of one key at the same time: what is read in the end is what is in the source in the end.
#[tokio::test(start_paused = true)]
async fn puts_of_one_key_at_the_same_time_leave_the_last_one_everywhere() {
    for shared in [false, true] {
        for round in 0..200 {
            let sink = Sink::with(&[(KEY, 1)]);
            let store = Halting { inner: memory(), shared };
            let cache = behind(store, &sink);
            let puts = (0..5_u64).map(|n| {
                let cache = &cache;
                async move {
                    for _ in 0..(round * 7 + n * 13) % 11 {
                        tokio::task::yield_now().await;
                    }
                    cache.put(KEY, 10 + n).await.expect("acknowledged");
                    let seen = read(cache, KEY).await;
                    assert!(seen > Some(9), "older than what it has put itself: {seen:?}");
                }
            });
            join_all(puts).await;
            let seen = read(&cache, KEY).await;
            flushed(&cache).await;
            assert_eq!((sink.row(KEY), read(&cache, KEY).await), (seen, seen), "{shared} {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_fence_shows_what_was_put() {
    let sink = Sink::with(&[(KEY, 1)]);
    let store = PlainStore::new(Clock::system());
    let cache = behind(store.clone(), &sink);
    assert_eq!(read(&cache, KEY).await, Some(1));
    cache.put(KEY, 2).await.expect("acknowledged");
    assert_eq!(store.value_now(KEY), Some(2));
    flushed(&cache).await;
    assert_eq!((read(&cache, KEY).await, sink.row(KEY)), (Some(2), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_bounded_and_nothing_is_dropped_for_it() {
    let sink = Sink::default();
    let cache = behind_with(memory(), &sink, journal().most_dead_letters(1), options());
    sink.poison("a");
    sink.poison("b");
    for key in ["a", "b", "c"] {
        cache.put(key, 1).await.expect("acknowledged");
    }
    let left = cache.flush(Duration::from_secs(3600)).await.expect("an answer");
    assert_eq!((left.writes, left.dead_letters, sink.rows()), (1, 1, 1));
    sink.cure();
    flushed(&cache).await;
    assert_eq!(sink.rows(), 2);
}

#[tokio::test]
async fn an_inner_strategy_belongs_to_one_cache_and_a_runtime_is_needed() {
    let sink = Sink::default();
    let inner = ReadThrough::new(memory(), sink.clone(), minute()).expect("valid options");
    let _first = WriteBehind::new(inner.clone(), sink.clone(), journal(), options());
    let second = WriteBehind::new(inner, sink.clone(), journal(), options());
    let error = second.expect_err("it has one already");
    assert!(error.kind() == ErrorKind::InvalidOption && error.to_string().contains("inner"));
    let error = std::thread::spawn(move || {
        let inner = ReadThrough::new(memory(), sink.clone(), minute()).expect("valid options");
        WriteBehind::new(inner, sink, journal(), options()).expect_err("no runtime").kind()
    });
    assert_eq!(error.join().expect("no panic"), ErrorKind::NoRuntime);
}

#[test]
fn an_invalid_option_is_named() {
    let zero = Duration::ZERO;
    for (options, name) in [
        (options().batch(0), "batch"),
        (options().batch_bytes(0), "batch_bytes"),
        (options().parallel(0), "parallel"),
        (options().write_timeout(zero), "write_timeout"),
        (options().backoff(zero, LONG), "backoff"),
        (options().tries(0), "tries"),
        (options().park_after(zero), "park_after"),
    ] {
        let error = options.check().expect_err(name);
        assert!(error.to_string().contains(&format!(": {name}:")), "{error}");
    }
}

async fn count(visits: &impl WriteCache<String, Value = u64>, page: &str) -> Result<()> {
    let page = page.to_owned();
    let so_far = visits.get(&page).await?.unwrap_or_default();
    visits.put(&page, so_far + 1).await
}

#[tokio::test(start_paused = true)]
async fn a_counter_in_the_cache_reaches_the_source_in_few_writes() {
    let sink = Sink::default();
    let cache = behind(memory(), &sink);
    let pages = ["home", "about"];
    for n in 0..1_000 {
        count(&cache, pages[n % 2]).await.expect("counted");
    }
    flushed(&cache).await;
    assert_eq!((sink.row("home"), sink.row("about")), (Some(500), Some(500)));
    assert_eq!(sink.applied().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_writer_of_single_writes_will_do() {
    let rows = Arc::new(std::sync::Mutex::new(HashMap::new()));
    let writer = OneByOne({
        let rows = Arc::clone(&rows);
        move |write: Write<u64, String>| {
            rows.lock().expect("no panic").insert(write.key, write.value);
            async { Ok::<_, std::io::Error>(()) }
        }
    });
    let load = |_: u64| async { Ok::<_, std::io::Error>(None::<String>) };
    let store = MemoryStore::new(100);
    let inner = ReadThrough::new(store, load, ReadOptions::ttl(LONG)).expect("valid options");
    let journal = MemoryJournal::new(Bounds::default());
    let cache = WriteBehind::new(inner, writer, journal, options()).expect("valid options");
    cache.put(&7, "Ada".to_owned()).await.expect("acknowledged");
    assert!(cache.shutdown(LONG).await.expect("an answer").is_empty());
    assert_eq!(rows.lock().expect("no panic")[&7].as_deref(), Some("Ada"));
}

/// The inner strategy serves stale values and refreshes them; what it loads is the pending write.
#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_refreshes_with_what_is_pending() {
    let (clock, hands) = Clock::manual();
    let store = MemoryStore::builder().capacity(100).clock(clock).build().expect("valid options");
    let sink = Sink::with(&[(KEY, 1)]);
    let second = Duration::from_secs(1);
    let freshness =
        ReadOptions::ttl(60 * second).stale_for(60 * second).stale_if_error(60 * second);
    let inner = StaleWhileRevalidate::new(store, sink.clone(), freshness).expect("valid options");
    let cache = WriteBehind::new(inner, sink.clone(), journal(), options()).expect("valid options");
    assert_eq!(cache.get(KEY).await.expect("loaded"), Some(1));
    sink.hold();
    cache.put(KEY, 2).await.expect("acknowledged");
    hands.advance(90 * second);
    let stale = cache.get_detailed(KEY).await.expect("an answer");
    assert_eq!((stale.value, stale.freshness.is_fresh()), (Some(2), false));
    sleep(second).await; // it is refreshed in the background, from the journal
    let fresh = cache.get_detailed(KEY).await.expect("an answer");
    assert_eq!((fresh.value, fresh.freshness.is_fresh()), (Some(2), true));
    assert_eq!((sink.loads(), sink.row(KEY)), (1, Some(1)), "the source was not asked");
    sink.release();
    assert!(cache.shutdown(LONG).await.expect("an answer").is_empty());
    assert_eq!(sink.row(KEY), Some(2));
}

/// The journal has them in one order, and their callers learn of it in another.
#[tokio::test(start_paused = true)]
async fn puts_whose_journal_answers_late_leave_the_last_one_everywhere() {
    for late in 1..6 {
        let sink = Sink::with(&[(KEY, 1)]);
        let (fails, hangs) = (Arc::default(), Arc::default());
        let scripted = Scripted { inner: journal(), fails, hangs, late };
        let inner = ReadThrough::new(memory(), sink.clone(), minute()).expect("valid options");
        let cache = WriteBehind::new(inner, sink.clone(), scripted, options());
        let cache = cache.expect("valid options");
        join_all((10..20).map(|value| cache.put(KEY, value))).await.iter().for_each(|put| {
            assert!(put.is_ok(), "{put:?}");
        });
        assert_eq!(cache.get(KEY).await.expect("an answer"), Some(19));
        assert!(cache.flush(LONG).await.expect("an answer").is_empty());
        assert_eq!((sink.row(KEY), cache.get(KEY).await.expect("an answer")), (Some(19), Some(19)));
    }
}

/// Of what is due now, one write.
async fn one(backlog: &Backlog<String, u64>, age: Duration) -> Option<Taken<String, u64>> {
    let due = Due { writes: 1, bytes: usize::MAX, age };
    let taken = tokio::time::timeout(Duration::from_secs(1), backlog.take(due)).await;
    taken.ok().and_then(|mut batch| batch.pop())
}

fn push(backlog: &Backlog<String, u64>, key: &str, seq: u64) {
    backlog.push(Write::new(key.to_owned(), Some(seq)).numbered(Seq::new(seq)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_written_all_the_time_does_not_keep_others_waiting() {
    let backlog = Backlog::new(Bounds::default());
    push(&backlog, "hot", 1);
    let mut flying = one(&backlog, Duration::ZERO).await.unwrap();
    push(&backlog, "cold", 2);
    let mut order = Vec::new();
    for seq in 3..6 {
        tokio::time::advance(Duration::from_millis(1)).await;
        push(&backlog, "hot", seq);
        backlog.done(&[flying]);
        flying = one(&backlog, Duration::ZERO).await.unwrap();
        order.push(flying.write.key.clone());
    }
    assert_eq!(order, ["cold", "hot", "hot"]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_is_put_while_it_waits() {
    let backlog = Arc::new(Backlog::new(Bounds::default()));
    let age = Duration::from_secs(3600);
    push(&backlog, "a", 1);
    tokio::spawn({
        let backlog = Arc::clone(&backlog);
        async move { backlog.drained().await }
    });
    tokio::task::yield_now().await;
    let flying = one(&backlog, age).await.unwrap();
    push(&backlog, "b", 2);
    let drained = tokio::spawn({
        let backlog = Arc::clone(&backlog);
        async move { backlog.drained().await }
    });
    tokio::task::yield_now().await;
    push(&backlog, "a", 3); // waits behind its own key, and is nothing that was to be flushed
    backlog.done(&[flying]);
    let next = one(&backlog, age).await.expect("what is to be flushed is due");
    assert_eq!(next.write.seq, Seq::new(2));
    backlog.done(&[next]);
    drained.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_longest_of_all_durations_are_taken_as_for_ever() {
    let sink = Sink::default();
    let options = options()
        .delay(Duration::MAX)
        .write_timeout(Duration::MAX)
        .park_after(Duration::MAX)
        .backoff(Duration::from_millis(1), Duration::MAX);
    let cache = behind_with(memory(), &sink, journal(), options);
    cache.put("a", 1).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(cache.flush(Duration::MAX).await.unwrap().is_empty());
    cache.put("b", 2).await.unwrap();
    assert!(cache.shutdown(Duration::MAX).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_an_older_write_says_nothing_of_the_one_under_way() {
    let backlog = Backlog::new(Bounds::default());
    push(&backlog, "a", 1);
    let old = one(&backlog, Duration::ZERO).await.unwrap();
    backlog.done(std::slice::from_ref(&old));
    push(&backlog, "a", 2);
    let new = one(&backlog, Duration::ZERO).await.unwrap();
    backlog.done(&[old]);
    assert_eq!(
        (backlog.depth().in_flight, backlog.pending("a")),
        (1, Some((Seq::new(2), Some(2))))
    );
    backlog.done(&[new]);
    assert_eq!(backlog.pending("a"), None);
}

/// Another process has claimed the key, appended, and died before it has brought the cache in line.
#[tokio::test(start_paused = true)]
async fn a_put_says_nothing_of_the_cache_for_a_later_write_of_another_process() {
    let sink = Sink::with(&[(KEY, 1)]);
    let slow = SlowStore::new(memory());
    let store = Halting { inner: slow.clone(), shared: true };
    let cache = Arc::new(behind_with(store, &sink, journal(), options().delay(LONG)));
    let gate = slow.hold(Operation::Fill);
    let put = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.put(KEY, 2).await }
    });
    gate.arrived(1).await;
    cache.journal().append(KEY.to_owned(), Some(3)).await.expect("appended");
    gate.open();
    put.await.expect("no panic").expect("acknowledged");
    flushed(&cache).await;
    assert_eq!((sink.row(KEY), read(&cache, KEY).await), (Some(3), Some(3)));
}
