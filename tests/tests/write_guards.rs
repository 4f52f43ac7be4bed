//! Guards of the write path that no other test would miss.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation, SlowStore};
use cache_core::{
    Backlog, BehindOptions, Bounds, CacheStore, CacheStoreExt, DeadLetter, Due, Error, ErrorKind,
    Journal, Loader, MemoryJournal, Overflow, ReadThrough, Result, Seq, Taken, Write, WriteBehind,
    WriteOptions, WriteThrough,
};
use cache_memory::MemoryStore;
use cache_tests::{Sink, SinkError, SinkFault, minute};
use futures_util::future::poll_fn;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const KEY: &str = "key";
const LONG: Duration = Duration::from_secs(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn through<S, L>(store: S, loader: L, sink: &Sink) -> WriteThrough<ReadThrough<S, L>, Sink>
where
    S: CacheStore<Value = u64>,
    L: Loader<String, Value = u64>,
{
    let options = minute().wait_limit(Duration::from_millis(1)).store_timeout(HOUR);
    let inner = ReadThrough::new(store, loader, options).expect("valid options");
    WriteThrough::new(inner, sink.clone(), WriteOptions::default()).expect("valid options")
}

type Behind<S> = WriteBehind<ReadThrough<S, Sink>, Sink, MemoryJournal<String, u64>>;

fn behind<S: CacheStore<Value = u64>>(store: S, sink: &Sink, options: BehindOptions) -> Behind<S> {
    let inner = ReadThrough::new(store, sink.clone(), minute()).expect("valid options");
    let journal = MemoryJournal::new(Bounds::default());
    WriteBehind::new(inner, sink.clone(), journal, options).expect("valid options")
}

/// Lets every task run until it waits for something.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn push(backlog: &Backlog<String, u64>, key: &str, seq: u64) {
    backlog.push(Write::new(key.to_owned(), Some(seq)).numbered(Seq::new(seq)), 1);
}

/// Of what is due now, one write.
async fn one(backlog: &Backlog<String, u64>, age: Duration) -> Option<Taken<String, u64>> {
    let due = Due { writes: 2, bytes: usize::MAX, age };
    let taken = timeout(Duration::from_secs(1), backlog.take(due)).await;
    taken.ok().and_then(|mut batch| batch.pop())
}

#[tokio::test(start_paused = true)]
async fn who_takes_the_place_of_a_write_that_failed_is_as_old_as_that() {
    let backlog = Backlog::new(Bounds::default());
    push(&backlog, KEY, 1);
    let flying = one(&backlog, Duration::ZERO).await.expect("it is due");
    tokio::time::advance(HOUR).await;
    push(&backlog, KEY, 2);
    backlog.retry(vec![flying], LONG);
    let next = one(&backlog, HOUR).await.expect("what it stands for has waited for an hour");
    assert_eq!(next.write.seq, Seq::new(2));
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_who_takes_the_place_of_a_write_that_failed() {
    let backlog = Arc::new(Backlog::new(Bounds::default()));
    push(&backlog, KEY, 1);
    let flying = one(&backlog, Duration::ZERO).await.expect("it is due");
    let drained = tokio::spawn({
        let backlog = Arc::clone(&backlog);
        async move { backlog.drained().await }
    });
    settle().await;
    push(&backlog, KEY, 2);
    backlog.retry(vec![flying], LONG);
    settle().await;
    assert!(!drained.is_finished(), "what it has to wait for is not in the source");
    let next = one(&backlog, LONG).await.expect("what is to be flushed is due");
    backlog.done(&[next]);
    drained.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_flight_was_forgotten_is_not_taken_before_that_has_landed() {
    for (again, later) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let backlog = Backlog::new(Bounds { writes: 2, ..Bounds::default() });
        push(&backlog, KEY, 1);
        let flying = one(&backlog, Duration::ZERO).await.expect("it is due");
        assert_eq!(backlog.forget(|_| true), 1);
        assert_eq!(backlog.depth().writes(), 0, "it is others' to make");
        push(&backlog, KEY, later); // the same, or one that has been put meanwhile
        push(&backlog, "other", 3);
        let other = one(&backlog, Duration::ZERO).await.expect("it is due");
        assert_eq!(other.write.key, "other");
        assert!(one(&backlog, Duration::ZERO).await.is_none(), "two writes of one key");
        assert_eq!(backlog.forget(|write| write.key == KEY), 1, "it may still land");
        push(&backlog, KEY, later);
        match again {
            true => backlog.retry(vec![flying], LONG),
            false => backlog.done(&[flying]),
        }
        let next = one(&backlog, Duration::ZERO).await.expect("its turn has come");
        assert_eq!(next.write.seq, Seq::new(later));
        backlog.done(&[next, other]);
        assert_eq!((backlog.depth().writes(), backlog.forget(|_| true)), (0, 0));
        assert!(backlog.admit(&KEY.to_owned(), 1).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_overtaken_while_it_is_refused_for_good_is_no_dead_letter() {
    let sink = Sink::default();
    let cache = behind(MemoryStore::new(1_000), &sink, BehindOptions::default());
    sink.hold();
    cache.put(KEY, 1).await.expect("acknowledged");
    sink.writing(1).await;
    cache.put(KEY, 2).await.expect("acknowledged");
    sink.fail(Some(SinkFault::RefuseForGood));
    sink.release();
    sink.writing(0).await;
    sink.fail(None);
    let left = cache.flush(LONG).await.expect("an answer");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!((sink.row(KEY), cache.get(KEY).await.expect("an answer")), (Some(2), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_the_source_at_the_end_is_given_back() {
    let sink = Sink::default();
    let options = BehindOptions::default().backoff(LONG * 1_000, LONG * 1_000);
    let cache = behind(MemoryStore::new(1_000), &sink, options);
    sink.fail(Some(SinkFault::Refuse));
    cache.put("first", 1).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await; // and its next turn is far away
    cache.put("second", 2).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await;
    let depth = || cache.journal().backlog().depth();
    assert_eq!((depth().in_flight, depth().waiting), (1, 1));
    let left = cache.shutdown(Duration::from_secs(1)).await.expect("an answer");
    settle().await;
    assert_eq!((left.writes, depth().in_flight, depth().waiting), (2, 0, 2));
}

/// Its answer is so late that the source has it, and what came later, by then.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_done_before_it_is_cached_leaves_no_entry() {
    let sink = Sink::with(&[(KEY, 1)]);
    let store = SlowStore::new(MemoryStore::new(1_000));
    let cache = Arc::new(behind(store.clone(), &sink, BehindOptions::default()));
    // One that is ahead of it has the key's turn.
    let gate = store.hold(Operation::Set);
    let put = |value: u64| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { cache.put(KEY, value).await })
    };
    let first = put(2);
    gate.arrived(1).await;
    let second = put(3);
    settle().await;
    let left = cache.flush(LONG).await.expect("an answer");
    assert_eq!((left.writes, sink.row(KEY)), (0, Some(3)));
    sink.set(KEY, 4); // by somebody else, who tells all caches
    gate.open();
    for put in [first, second] {
        put.await.expect("no panic").expect("acknowledged");
    }
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_began_before_a_doubt_does_not_end_it() {
    let sink = Sink::with(&[(KEY, 1)]);
    let store = SlowStore::new(MemoryStore::new(1_000));
    let cache = Arc::new(behind(store.clone(), &sink, BehindOptions::default().delay(HOUR)));
    let gate = store.hold(Operation::Set);
    let first = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.put(KEY, 2).await }
    });
    gate.arrived(1).await;
    // In the journal, and then its caller goes away.
    let mut second = Box::pin(cache.put(KEY, 3));
    assert!(poll_fn(|context| Poll::Ready(second.as_mut().poll(context))).await.is_pending());
    drop(second);
    assert_eq!(cache.stats().doubted, 1);
    gate.open();
    first.await.expect("no panic").expect("acknowledged");
    assert_eq!(cache.get(KEY).await.expect("an answer"), Some(3), "what is in the journal");
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_a_doubt_was_cleared_is_not_trusted() {
    let sink = Sink::default();
    let store = FailingStore::new(SlowStore::new(MemoryStore::new(1_000)));
    let cache = through(store.clone(), sink.clone(), &sink);
    let look = store.inner().hold_answer(Operation::Get);
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(KEY).await }
    });
    look.arrived(1).await; // it has found nothing
    cache.put(KEY, 1).await.expect("written");
    for operation in [Operation::Fill, Operation::Remove] {
        store.fail(operation, ErrorKind::Unavailable);
    }
    cache.put(KEY, 2).await.expect("the source has it, and the store still the old entry");
    let claim = store.inner().hold_answer(Operation::Claim);
    look.open();
    claim.arrived(1).await; // the old entry is on its way
    store.heal();
    // The repair, which makes everything well again.
    while store.inner().inner().value(KEY).await.expect("an answer") == Some(1) {
        sleep(Duration::from_millis(10)).await;
    }
    settle().await;
    claim.open();
    assert_eq!(reader.await.expect("no panic").expect("an answer"), Some(2));
}

/// Reads the row, and returns it only when it is let.
#[derive(Clone)]
struct Late {
    sink: Sink,
    held: watch::Sender<bool>,
    reading: watch::Sender<usize>,
}

impl Late {
    fn of(sink: &Sink) -> Self {
        let (held, reading) = (watch::Sender::new(true), watch::Sender::new(0));
        Self { sink: sink.clone(), held, reading }
    }

    async fn reading(&self) {
        let _ = self.reading.subscribe().wait_for(|reading| *reading > 0).await;
    }
}

impl Loader<String> for Late {
    type Value = u64;
    type Error = SinkError;

    async fn load(&self, key: String) -> Result<Option<u64>, SinkError> {
        let row = self.sink.row(&key);
        self.reading.send_modify(|reading| *reading += 1);
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        Ok(row)
    }
}

/// While the store can't be read, no lease tells whether what a load has found is still true.
#[tokio::test(start_paused = true)]
async fn who_reads_after_a_write_does_not_join_a_load_from_during_the_write() {
    let sink = Sink::with(&[(KEY, 1)]);
    let (store, late) = (FailingStore::new(MemoryStore::new(1_000)), Late::of(&sink));
    store.fail(Operation::Get, ErrorKind::Unavailable);
    let cache = through(store.clone(), late.clone(), &sink);
    let get = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get(KEY).await })
    };
    sink.hold();
    let put = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put(KEY, 2).await }
    });
    sink.writing(1).await;
    let during = get();
    late.reading().await;
    sink.release();
    put.await.expect("no panic").expect("written");
    assert_eq!(store.inner().value(KEY).await.expect("an answer"), Some(2), "filled");
    let after = get();
    settle().await;
    late.held.send_replace(false);
    assert_eq!(after.await.expect("no panic").expect("loaded"), Some(2));
    during.await.expect("no panic").expect("loaded, from before or after");
}

/// Callers may drop what they like where they like.
#[test]
fn a_doubt_from_outside_of_the_runtime_is_cleared_in_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let sink = Sink::with(&[(KEY, 1)]);
    let store = SlowStore::new(MemoryStore::new(1_000));
    let cache = {
        let _inside = runtime.enter();
        behind(store.clone(), &sink, BehindOptions::default().delay(HOUR))
    };
    let gate = store.hold(Operation::Set);
    {
        let mut put = Box::pin(cache.put(KEY, 2));
        runtime.block_on(async {
            let once = poll_fn(|context| Poll::Ready(put.as_mut().poll(context))).await;
            assert!(once.is_pending());
        });
    }
    gate.open();
    assert_eq!(cache.stats().doubted, 1);
    runtime.block_on(async {
        let cleared = pin!(async {
            while cache.stats().doubted > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        });
        timeout(HOUR, cleared).await.expect("the entry is removed");
    });
}

/// A journal in memory that has a log of its own, somewhere else, of which the test says what becomes.
struct Scripted {
    inner: MemoryJournal<String, u64>,
    /// What was appended is another process's to make, and the answer is lost.
    loses_appends: AtomicBool,
    hangs: AtomicBool,
    /// The answers of `park`.
    loses_parks: AtomicBool,
    /// Its lease may have ended.
    is_foreign: AtomicBool,
    is_closed: AtomicBool,
}

impl Scripted {
    fn new(bounds: Bounds) -> Self {
        Self {
            inner: MemoryJournal::new(bounds),
            loses_appends: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            loses_parks: AtomicBool::new(false),
            is_foreign: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    fn lost() -> Error {
        Error::with_cause(ErrorKind::Unavailable, "the answer is lost")
    }
}

impl Journal for Scripted {
    type Key = String;
    type Value = u64;

    fn backlog(&self) -> &Backlog<String, u64> {
        self.inner.backlog()
    }
    async fn append(&self, key: String, value: Option<u64>) -> Result<Seq> {
        if self.loses_appends.load(Ordering::SeqCst) {
            return Err(Self::lost());
        }
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.append(key, value).await
    }
    fn is_ours(&self, _: &Write<String, u64>) -> bool {
        !self.is_foreign.load(Ordering::SeqCst)
    }
    async fn done(&self, writes: &[Taken<String, u64>]) -> Result<()> {
        self.inner.done(writes).await
    }
    async fn park(&self, write: &Taken<String, u64>, cause: &Error) -> Result<()> {
        self.inner.park(write, cause).await?;
        if self.loses_parks.load(Ordering::SeqCst) { Err(Self::lost()) } else { Ok(()) }
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
    async fn close(&self, limit: Duration) -> Result<()> {
        self.is_closed.store(true, Ordering::SeqCst);
        self.inner.close(limit).await?;
        // It takes a moment.
        if limit.is_zero() { Err(Error::new(ErrorKind::Journal)) } else { Ok(()) }
    }
}

type OnScript = WriteBehind<ReadThrough<MemoryStore<u64>, Sink>, Sink, Scripted>;

fn on_script(sink: &Sink, options: BehindOptions) -> OnScript {
    let inner = ReadThrough::new(MemoryStore::new(1_000), sink.clone(), minute());
    let journal = Scripted::new(Bounds { writes: 3, ..Bounds::default() });
    WriteBehind::new(inner.expect("valid options"), sink.clone(), journal, options)
        .expect("valid options")
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_while_it_waits_for_the_source_is_not_written() {
    let sink = Sink::default();
    let options = BehindOptions::default().backoff(LONG, LONG);
    let cache = behind(MemoryStore::new(1_000), &sink, options);
    sink.fail(Some(SinkFault::Refuse));
    cache.put("first", 1).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await; // and its next turn is far away
    cache.put("second", 2).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await;
    let backlog = cache.journal().backlog();
    assert_eq!((backlog.depth().in_flight, backlog.depth().waiting), (1, 1));
    // Others make both from here on.
    assert_eq!(backlog.forget(|_| true), 1);
    sink.fail(None);
    sink.set("second", 3);
    sleep(LONG * 2).await;
    assert_eq!((sink.attempts().len(), sink.row("second")), (1, Some(3)));
    // And it holds up nothing that comes later.
    cache.put("second", 4).await.expect("acknowledged");
    assert!(cache.flush(LONG).await.expect("an answer").is_empty());
    assert_eq!(sink.row("second"), Some(4));
}

#[tokio::test(start_paused = true)]
async fn no_write_begins_after_the_lease_of_its_journal_may_have_ended() {
    let sink = Sink::default();
    let cache = on_script(&sink, BehindOptions::default());
    cache.journal().is_foreign.store(true, Ordering::SeqCst);
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((sink.attempts().len(), cache.stats().depth.writes()), (0, 1));
    // It has been kept after all.
    cache.journal().is_foreign.store(false, Ordering::SeqCst);
    assert!(cache.flush(LONG).await.expect("an answer").is_empty());
    assert_eq!(sink.row(KEY), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_late_says_what_is_left() {
    let sink = Sink::default();
    let cache = on_script(&sink, BehindOptions::default());
    sink.fail(Some(SinkFault::Refuse));
    cache.put(KEY, 1).await.expect("acknowledged");
    let left = cache.shutdown(Duration::from_secs(1)).await.expect("that it is late is no error");
    settle().await;
    assert_eq!((left.writes, cache.journal().is_closed.load(Ordering::SeqCst)), (1, true));
}

/// Whoever opens it next would write what is newer, and be overtaken.
#[tokio::test(start_paused = true)]
async fn a_journal_is_not_closed_while_a_batch_of_it_is_being_written() {
    let sink = Sink::default();
    let cache = on_script(&sink, BehindOptions::default());
    let closed = || cache.journal().is_closed.load(Ordering::SeqCst);
    sink.hold();
    cache.put(KEY, 1).await.expect("acknowledged");
    sink.writing(1).await;
    let left = cache.shutdown(Duration::from_millis(100)).await.expect("an answer");
    settle().await;
    assert_eq!((left.writes, closed()), (1, false));
    sink.release();
    settle().await;
    assert_eq!((sink.row(KEY), closed()), (Some(1), true));
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_no_batch_begins() {
    let sink = Sink::default();
    let options = BehindOptions::default().batch(1).parallel(1);
    let cache = on_script(&sink, options);
    sink.hold();
    for key in ["a", "b", "c"] {
        cache.put(key, 1).await.expect("acknowledged");
    }
    sink.writing(1).await;
    let left = cache.shutdown(Duration::from_millis(100)).await.expect("an answer");
    assert_eq!(left.writes, 3);
    sink.release();
    sleep(HOUR).await;
    assert_eq!((sink.attempts().len(), sink.rows()), (1, 1), "the rest is the next start's");
}

#[tokio::test(start_paused = true)]
async fn a_write_of_which_nobody_knows_leaves_no_old_entry_whoever_makes_it() {
    let sink = Sink::with(&[(KEY, 1)]);
    let cache = on_script(&sink, BehindOptions::default().overflow(Overflow::Reject).delay(HOUR));
    let read = || async {
        sleep(Duration::from_secs(1)).await;
        cache.get(KEY).await.expect("an answer")
    };
    assert_eq!(read().await, Some(1));
    cache.journal().loses_appends.store(true, Ordering::SeqCst);
    let error = cache.put(KEY, 2).await.expect_err("nobody knows");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    sink.set(KEY, 2); // by another process
    assert_eq!(read().await, Some(2));
    cache.journal().loses_appends.store(false, Ordering::SeqCst);
    cache.journal().hangs.store(true, Ordering::SeqCst);
    {
        let mut put = Box::pin(cache.put(KEY, 3));
        assert!(poll_fn(|context| Poll::Ready(put.as_mut().poll(context))).await.is_pending());
    }
    sink.set(KEY, 3); // by another process
    assert_eq!(read().await, Some(3));
    // What was not appended for sure leaves the entry as it is.
    cache.journal().hangs.store(false, Ordering::SeqCst);
    for key in ["a", "b", "c"] {
        cache.put(key, 1).await.expect("acknowledged");
    }
    let loads = sink.loads();
    assert_eq!(cache.put(KEY, 4).await.expect_err("no room").kind(), ErrorKind::Full);
    assert_eq!((cache.stats().doubted, read().await, sink.loads()), (0, Some(3), loads));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lands_after_all_is_no_dead_letter() {
    let sink = Sink::default();
    let cache = on_script(&sink, BehindOptions::default().backoff(LONG, LONG));
    cache.journal().loses_parks.store(true, Ordering::SeqCst);
    sink.fail(Some(SinkFault::RefuseForGood));
    cache.put(KEY, 1).await.expect("acknowledged");
    sleep(Duration::from_secs(1)).await;
    let stats = cache.stats();
    assert_eq!((stats.dead_letters, stats.parked), (1, 0), "it is tried again");
    sink.fail(None);
    assert!(cache.flush(LONG).await.expect("an answer").is_empty());
    assert_eq!(sink.row(KEY), Some(1));
}

/// There are more of them than can be doubted.
#[tokio::test(start_paused = true)]
async fn a_write_is_not_done_before_its_old_entry_is_gone_or_doubted() {
    const KEYS: u64 = 10_200;
    let sink = Sink::default();
    let store = FailingStore::new(MemoryStore::new(100_000));
    let inner = ReadThrough::new(store.clone(), sink.clone(), minute()).expect("valid options");
    let journal = MemoryJournal::new(Bounds::default());
    for key in 0..KEYS {
        store.put(&key.to_string(), 1, LONG).await.expect("put");
        journal.append(key.to_string(), Some(2)).await.expect("appended, before a restart");
    }
    store.fail(Operation::Remove, ErrorKind::Unavailable);
    let options = BehindOptions::default().batch(1_000);
    let cache = WriteBehind::new(inner, sink.clone(), journal, options).expect("valid options");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sink.row("0"), Some(2));
    let left = cache.flush(Duration::from_secs(60)).await.expect("an answer");
    store.heal();
    assert!(cache.flush(LONG).await.expect("an answer").is_empty());
    sleep(HOUR).await; // for the doubts
    for key in 0..KEYS {
        assert_eq!(cache.get(&key.to_string()).await.expect("an answer"), Some(2), "{key}");
    }
    assert_eq!(left.writes, 200, "they are written, and not yet done");
}

/// Some of the times after which it is to be tried again are later than clocks go.
#[tokio::test(start_paused = true)]
async fn who_is_to_wait_for_ever_waits() {
    for _ in 0..20 {
        let sink = Sink::default();
        let options = BehindOptions::default().backoff(Duration::MAX, Duration::MAX);
        let cache = behind(MemoryStore::new(1_000), &sink, options);
        sink.fail(Some(SinkFault::Refuse));
        cache.put(KEY, 1).await.expect("acknowledged");
        sleep(HOUR).await;
        assert_eq!((sink.attempts().len(), cache.stats().failing), (1, true));
    }
}

#[test]
fn more_batches_at_a_time_than_can_be_counted_are_refused() {
    for (parallel, is_valid) in [(1_000, true), (usize::MAX, false)] {
        let checked = BehindOptions::default().parallel(parallel).check();
        assert_eq!(checked.is_ok(), is_valid, "{checked:?}");
        if let Err(error) = checked {
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(error.to_string().contains("parallel: "), "{error}");
        }
    }
}
