//! Reads that go together, and those who wait for them.
//!
//! All that a read takes is a place in the lists of its batch.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use cache_core::{Error, Result};
use redis::Value;
use tokio::time::Instant;

use super::Answer;
use crate::error::unexpected;
use crate::keys::Keys;

/// There is room for so many reads from the start, with keys of this length.
const LIKELY: (usize, usize) = (64, 32);

/// Reads that go together.
pub(super) struct Batch {
    /// All its reads have come then, or a little later.
    since: Instant,
    reads: Mutex<Reads>,
    /// Set once, while the reads are locked.
    outcome: OnceLock<Result<Answers>>,
}

/// By their places.
struct Reads {
    keys: Keys,
    waiters: Vec<Waiter>,
}

enum Waiter {
    Waits(Waker),
    /// He has gone away.
    Gone,
    /// He has gone away before his key was sent, so there is no answer for him.
    Skipped,
}

/// The answers by their places, each of which is taken once.
struct Answers {
    values: Box<[Mutex<Value>]>,
    /// The server's time at which they were read.
    now: u64,
}

/// One who waits.
pub(super) struct Waits {
    batch: Arc<Batch>,
    place: usize,
    /// Whether the waker that is kept may be another one than that of the next poll.
    polled: bool,
}

impl Batch {
    /// A batch with a first read.
    pub(super) fn begin(since: Instant, key: &str, context: &Context<'_>) -> (Arc<Self>, Waits) {
        let reads = Reads {
            keys: Keys::with_capacity(LIKELY.0, LIKELY.0 * LIKELY.1),
            waiters: Vec::with_capacity(LIKELY.0),
        };
        let batch = Arc::new(Self { since, reads: reads.into(), outcome: OnceLock::new() });
        let waits = batch.add(&mut batch.lock(), key, context);
        (batch, waits)
    }

    /// A place in the batch, unless it has as many reads as may go together.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &str,
        context: &Context<'_>,
        most: usize,
    ) -> Option<Waits> {
        let mut reads = self.lock();
        (reads.waiters.len() < most).then(|| self.add(&mut reads, key, context))
    }

    fn add(self: &Arc<Self>, reads: &mut Reads, key: &str, context: &Context<'_>) -> Waits {
        let place = reads.waiters.len();
        reads.keys.push("", key);
        reads.waiters.push(Waiter::Waits(context.waker().clone()));
        Waits { batch: Arc::clone(self), place, polled: false }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// How many reads have joined.
    pub(super) fn len(&self) -> usize {
        self.lock().waiters.len()
    }

    /// The keys to be sent: those for which somebody still waits.
    pub(super) fn keys(&self) -> Keys {
        let mut reads = self.lock();
        let Reads { keys, waiters } = &mut *reads;
        let all = mem::take(keys);
        if waiters.iter().all(|waiter| matches!(waiter, Waiter::Waits(_))) {
            return all;
        }
        let mut wanted = Keys::default();
        for (key, waiter) in all.iter().zip(waiters) {
            match waiter {
                Waiter::Waits(_) => wanted.push("", key),
                Waiter::Gone | Waiter::Skipped => *waiter = Waiter::Skipped,
            }
        }
        wanted
    }

    /// Hands out the answers, of which there are as many as there were keys.
    pub(super) fn answer(&self, answers: Vec<Value>, now: u64) {
        let mut answers = answers.into_iter();
        self.end(|waiters| {
            let value = |waiter: &Waiter| match waiter {
                Waiter::Skipped => Value::Nil,
                Waiter::Waits(_) | Waiter::Gone => answers.next().unwrap_or(Value::Nil),
            };
            Ok(Answers { values: waiters.iter().map(value).map(Mutex::new).collect(), now })
        });
    }

    /// Gives everybody this error, unless there are answers.
    pub(super) fn refuse(&self, error: &Error) {
        self.end(|_| Err(error.clone()));
    }

    fn end(&self, outcome: impl FnOnce(&[Waiter]) -> Result<Answers>) {
        let waiters = {
            let mut reads = self.lock();
            let waiters = mem::take(&mut reads.waiters);
            self.outcome.get_or_init(|| outcome(&waiters));
            waiters
        };
        for waiter in waiters {
            if let Waiter::Waits(waker) = waiter {
                waker.wake();
            }
        }
    }

    // A panic can't leave the reads half-changed: they are only moved.
    fn lock(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Waits {
    type Output = Result<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Answer>> {
        if let Some(outcome) = self.batch.outcome.get() {
            return Poll::Ready(self.taken(outcome));
        }
        // The first poll is the one in which the waker was kept.
        if mem::replace(&mut self.polled, true) {
            let mut reads = self.batch.lock();
            // Perhaps by now; and who ends the batch later takes this waker.
            if let Some(outcome) = self.batch.outcome.get() {
                drop(reads);
                return Poll::Ready(self.taken(outcome));
            }
            let before = match reads.waiters.get_mut(self.place) {
                Some(Waiter::Waits(waker)) if !waker.will_wake(context.waker()) => {
                    Some(mem::replace(waker, context.waker().clone()))
                }
                _ => None,
            };
            // A waker may be the last owner of anything, so none is dropped under the lock.
            drop(reads);
            drop(before);
        }
        Poll::Pending
    }
}

impl Waits {
    fn taken(&self, outcome: &Result<Answers>) -> Result<Answer> {
        let answers = outcome.as_ref().map_err(Error::clone)?;
        let value = answers.values.get(self.place).ok_or_else(unexpected)?;
        let mut value = value.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Answer { value: mem::replace(&mut value, Value::Nil), now: answers.now })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if self.batch.outcome.get().is_some() {
            return;
        }
        let mut reads = self.batch.lock();
        let before =
            reads.waiters.get_mut(self.place).map(|waiter| mem::replace(waiter, Waiter::Gone));
        drop(reads);
        drop(before);
    }
}
