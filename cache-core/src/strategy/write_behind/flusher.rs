//! How what is in the journal gets to the source.
//!
//! While the source takes what it is given, batches of different keys are written in parallel. When it has refused a batch, one batch at
//! a time is tried, at growing intervals, until it takes one: a source that is down sees a trickle, however much
//! waits. A batch that was refused comes again in halves, so a write that the source does not like soon stands alone; then it
//! waits by itself and holds nobody up.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::{BehindOptions, LATEST};
use crate::engine::{Engine, Failed};
use crate::strategy::write_through::{bounded, failed};
use crate::{BatchWriter, CacheKey, CacheStore, Failure, Journal, Observer, Result, Taken, Write};

pub(super) struct Flusher<S: CacheStore, O, W, J> {
    pub(super) engine: Arc<Engine<S, O>>,
    pub(super) writer: W,
    pub(super) journal: J,
    pub(super) options: BehindOptions,
    pub(super) counts: Counts,
    gate: Mutex<Gate>,
    /// Whether to go on.
    stop: watch::Sender<Stop>,
    /// Whether the dispatcher has ended.
    ended: AtomicBool,
    end: Notify,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) flushes: AtomicU64,
    pub(super) flushed: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) parked: AtomicU64,
}

/// What lets batches through.
struct Gate {
    /// How many batches have failed since one succeeded.
    failures: u32,
    /// When the last of them did.
    failed_at: Instant,
    /// When the next one may be tried.
    opens_at: Instant,
    /// How many have succeeded, ever.
    successes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Stop {
    GoOn,
    /// Once the source refuses something.
    AtFailure,
    Now,
}

/// How long a write waits that is another process's to make, as it seems, until the journal has seen to it.
const FOREIGN: Duration = Duration::from_millis(50);

type TakenBy<J> = Taken<<J as Journal>::Key, <J as Journal>::Value>;

impl<S, O, W, J> Flusher<S, O, W, J>
where
    S: CacheStore,
    O: Observer,
    W: BatchWriter<J::Key, S::Value>,
    J: Journal<Value = S::Value>,
{
    pub(super) fn new(
        engine: Arc<Engine<S, O>>,
        writer: W,
        journal: J,
        options: BehindOptions,
    ) -> Self {
        let now = Instant::now();
        let gate = Gate { failures: 0, failed_at: now, opens_at: now, successes: 0 };
        Self {
            engine,
            writer,
            journal,
            options,
            counts: Counts::default(),
            gate: Mutex::new(gate),
            stop: watch::Sender::new(Stop::GoOn),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Writes what is due, until it is stopped, or the journal is closed and empty.
    pub(super) async fn run(self: Arc<Self>) {
        let _ended = Ended(&self);
        let slots = Arc::new(Semaphore::new(self.options.parallel));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let Some(batch) =
                self.unless_stopped(self.journal.backlog().take(self.options.due)).await
            else {
                break;
            };
            if batch.is_empty() {
                break;
            }
            let batch = InFlight { flusher: &self, batch };
            let Some(trickle) = self.unless_stopped(self.opened()).await else { break };
            let batch = batch.go();
            if trickle {
                self.flush(batch).await;
            } else {
                let flusher = Arc::clone(&self);
                tokio::spawn(async move {
                    flusher.flush(batch).await;
                    drop(slot);
                });
            }
        }
        // Those that are being written are let finish; each is bounded.
        let all = u32::try_from(self.options.parallel).unwrap_or(u32::MAX);
        drop(slots.acquire_many(all).await);
    }

    /// Lets go of the journal as soon as nothing is written any more.
    pub(super) async fn close_when_ended(self: Arc<Self>) {
        self.ended().await;
        if let Err(error) = self.journal.close(LATEST).await {
            self.engine.journal_failed(&error);
        }
    }

    /// Waits until the next batch may be tried; whether to try it by itself.
    async fn opened(&self) -> bool {
        loop {
            let opens_at = {
                let gate = self.gate();
                if gate.failures == 0 {
                    return false;
                }
                gate.opens_at
            };
            if opens_at <= Instant::now() {
                return true;
            }
            sleep_until(opens_at).await;
        }
    }

    /// Once it is stopped, nothing is begun any more, however much is due.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        let stopped = async move {
            // The sender lives as long as this.
            let _ = stop.wait_for(|stop| *stop == Stop::Now).await;
        };
        // The first of the two is asked first.
        match select(Box::pin(stopped), Box::pin(work)).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// Writes a batch, and sees to what comes of it.
    async fn flush(self: &Arc<Self>, batch: Vec<TakenBy<J>>) {
        // It may have waited for long, and others may have written what is newer meanwhile.
        let ours = |write: &Write<_, _>| self.journal.is_ours(write);
        let batch = self.journal.backlog().still_taken(batch, ours, FOREIGN);
        if batch.is_empty() {
            return;
        }
        let mut flight = InFlight { flusher: self, batch };
        let began = Instant::now();
        let result = self.write(&flight.batch).await;
        self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.count_success();
                self.counts.flushed.fetch_add(flight.batch.len() as u64, Ordering::Relaxed);
                self.settle(&mut flight).await;
                self.unpark(&flight.batch).await;
                self.journal.backlog().done(&std::mem::take(&mut flight.batch));
            }
            Err(failed) => self.refused(flight, &failed, began).await,
        }
    }

    async fn write(&self, batch: &[TakenBy<J>]) -> Result<(), Failed> {
        let mut writes: Vec<Write<_, _>> = batch.iter().map(|taken| taken.write.clone()).collect();
        let count = writes.len();
        let write = async {
            let written = match writes.pop() {
                Some(only) if count == 1 => self.writer.write(only).await,
                last => {
                    writes.extend(last);
                    self.writer.write_many(writes).await
                }
            };
            written.map_err(|error| failed(&self.writer, error))
        };
        bounded(&self.engine, count, self.options.write_timeout, write).await
    }

    /// Sees to it that the cache has nothing older than what was written, and tells the journal. What the cache may still have
    /// something older of is not done: it is taken out of the batch, and made again later.
    async fn settle(self: &Arc<Self>, flight: &mut InFlight<'_, S, O, W, J>) {
        let mut stuck = InFlight { flusher: self, batch: Vec::new() };
        let mut at = 0;
        while let Some(taken) = flight.batch.get(at) {
            // If nobody has put it into the cache, it is from before a restart, or from another process.
            if self.journal.backlog().is_cached(taken) || self.drop_cached(taken).await {
                at += 1;
            } else {
                let mut taken = flight.batch.swap_remove(at);
                taken.trial.stuck += 1;
                stuck.batch.push(taken);
            }
        }
        if !flight.batch.is_empty() {
            self.log(self.journal.done(&flight.batch)).await;
        }
        if let Some(times) = stuck.batch.iter().map(|taken| taken.trial.stuck).min() {
            let after = self.options.backoff.after(times - 1);
            self.journal.backlog().retry(stuck.go(), after);
        }
    }

    /// What is in the source is no dead letter, though it may have become one: to be replayed over what is newer.
    async fn unpark(&self, batch: &[TakenBy<J>]) {
        for taken in batch.iter().filter(|taken| taken.trial.parked) {
            let key = taken.write.key.key();
            let discarded = self.journal.discard(&key, taken.write.seq);
            self.log(async { discarded.await.map(drop) }).await;
        }
    }

    /// Removes from the cache what it has under the key; whether nobody reads that any more.
    async fn drop_cached(self: &Arc<Self>, taken: &TakenBy<J>) -> bool {
        let dropped = self.engine.remove_or_doubt(&taken.write.key.key().to_smol()).await;
        dropped.inspect_err(|error| self.engine.journal_failed(error)).is_ok()
    }

    /// Waits for the journal, but not for ever, and tells the observer if it fails.
    async fn log(&self, told: impl Future<Output = Result<()>>) -> bool {
        let late = |_| Err(crate::Error::new(crate::ErrorKind::Unavailable));
        let told = timeout(self.options.write_timeout, told).await.unwrap_or_else(late);
        told.inspect_err(|error| self.engine.journal_failed(error)).is_ok()
    }

    /// A batch has failed: it comes again in halves, or later, or not at all.
    async fn refused(
        self: &Arc<Self>,
        mut flight: InFlight<'_, S, O, W, J>,
        failed: &Failed,
        began: Instant,
    ) {
        if *self.stop.borrow() == Stop::AtFailure {
            self.stop(Stop::Now);
        }
        let successes = self.count_failure(began, flight.batch[0].trial.alone > 0);
        let alone = flight.batch.len() == 1;
        let half = flight.batch.len().div_ceil(2);
        for taken in &mut flight.batch {
            let trial = &mut taken.trial;
            trial.since.get_or_insert((began, successes));
            trial.failed += 1;
            trial.alone += u32::from(alone);
            trial.most = Some(half);
        }
        if alone && self.gives_up(&flight.batch[0], failed.failure, successes) {
            let overtaken = self.journal.backlog().is_overtaken(&flight.batch[0]);
            if !overtaken && self.log(self.journal.park(&flight.batch[0], &failed.error)).await {
                self.counts.parked.fetch_add(1, Ordering::Relaxed);
                self.engine.parked(&failed.error);
                // It will not be in the source, so it is not to be read any more.
                let batch = std::mem::take(&mut flight.batch);
                self.journal.backlog().done(&batch);
                self.drop_cached(&batch[0]).await;
                return;
            }
            flight.batch[0].trial.parked |= !overtaken;
        }
        self.counts.retries.fetch_add(flight.batch.len() as u64, Ordering::Relaxed);
        let trial = flight.batch[0].trial;
        let after =
            if alone { self.options.backoff.after(trial.alone - 1) } else { Duration::ZERO };
        self.journal.backlog().retry(std::mem::take(&mut flight.batch), after);
    }

    fn count_success(&self) {
        let mut gate = self.gate();
        (gate.failures, gate.successes) = (0, gate.successes + 1);
    }

    /// Lets fewer batches through. One that is known to be refused says nothing about the source, unless that
    /// is in doubt anyway.
    fn count_failure(&self, began: Instant, known: bool) -> u64 {
        let mut gate = self.gate();
        let news = gate.failures == 0 || began >= gate.failed_at;
        if news && !(known && gate.failures == 0) {
            let now = Instant::now();
            let after = self.options.backoff.after(gate.failures);
            gate.opens_at = now.checked_add(after).unwrap_or(now + LATEST);
            gate.failed_at = now;
            gate.failures = gate.failures.saturating_add(1);
        }
        gate.successes
    }

    fn gives_up(&self, taken: &TakenBy<J>, failure: Failure, successes: u64) -> bool {
        let Some((since, then)) = taken.trial.since else { return false };
        let tried = taken.trial.alone >= self.options.tries;
        failure == Failure::Permanent
            || (tried && successes > then)
            || (tried && since.elapsed() >= self.options.park_after)
    }

    /// Whether the source has refused the last batch.
    pub(super) fn is_failing(&self) -> bool {
        self.gate().failures > 0
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: CacheStore, O, W, J> Flusher<S, O, W, J> {
    pub(super) fn stop(&self, when: Stop) {
        self.stop.send_modify(|stop| {
            if when > *stop {
                *stop = when;
            }
        });
    }

    /// Waits until nothing is written any more.
    pub(super) async fn ended(&self) {
        loop {
            let end = self.end.notified();
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            end.await;
        }
    }
}

/// Says that the dispatcher has ended, however it did.
struct Ended<'a, S: CacheStore, O, W, J>(&'a Flusher<S, O, W, J>);

impl<S: CacheStore, O, W, J> Drop for Ended<'_, S, O, W, J> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.end.notify_waiters();
    }
}

/// A batch that is given back when whoever has it goes away.
struct InFlight<'a, S, O, W, J>
where
    S: CacheStore,
    O: Observer,
    W: BatchWriter<J::Key, S::Value>,
    J: Journal<Value = S::Value>,
{
    flusher: &'a Flusher<S, O, W, J>,
    batch: Vec<TakenBy<J>>,
}

impl<S, O, W, J> InFlight<'_, S, O, W, J>
where
    S: CacheStore,
    O: Observer,
    W: BatchWriter<J::Key, S::Value>,
    J: Journal<Value = S::Value>,
{
    fn go(mut self) -> Vec<TakenBy<J>> {
        std::mem::take(&mut self.batch)
    }
}

impl<S, O, W, J> Drop for InFlight<'_, S, O, W, J>
where
    S: CacheStore,
    O: Observer,
    W: BatchWriter<J::Key, S::Value>,
    J: Journal<Value = S::Value>,
{
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.flusher.journal.backlog().retry(std::mem::take(&mut self.batch), Duration::ZERO);
        }
    }
}
