//! Reads that gather while others are on their way.
//!
//! While little is in flight, a read is sent at once, by itself. Beyond that, reads go together as one
//! `MGET`: whatever has gathered while the one before was on its way. There is no timer, and nobody
//! waits for others to come.

mod batch;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use cache_core::{Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::error::unexpected;
use crate::link::{Link, Live};
use crate::route::Route;
use crate::settings::Settings;
use batch::{Batch, Waits};

/// Up to so many reads are in flight one by one. In the table of the crate, one by one is as fast at 16 callers;
/// at 32, together is.
const DIRECT: usize = 16;

/// The reads of one connection.
#[derive(Default)]
pub(crate) struct Gather {
    direct: AtomicUsize,
    /// Whether reads gather, and a task sends them.
    gathering: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// The oldest first. All but the last are full.
    batches: VecDeque<Arc<Batch>>,
    reads: usize,
    /// When the last batch was taken, or the task started: reads that wait have come since. So they
    /// need not look at the clock themselves.
    taken: Option<Instant>,
}

/// The bytes under a key, and the server's time at which they were read.
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) now: u64,
}

/// Reads one key. An error of the server's is an answer here.
pub(crate) async fn read(route: &Route<'_>, key: String) -> Result<Answer> {
    let (link, live) = (&*route.link, &route.live);
    if let Some(_direct) = live.gather.direct(link.settings.largest_batch) {
        let mut command = Cmd::with_capacity(2, "GET".len() + key.len());
        command.arg("GET").arg(key);
        let value = link.send(live, &command, link.deadline()).await?;
        let now = live.clock.now();
        return Ok(Answer { value, now });
    }
    let joined = |context: &mut Context<'_>| live.gather.join(&key, context, &link.settings);
    let (answer, starts) = poll_fn(|context| Poll::Ready(joined(context))).await?;
    if starts {
        let task = Task { live: Arc::clone(live), batch: None, ended: false };
        // Not on the caller's runtime, which may stop as soon as the caller has his answer.
        link.runtime.spawn(send_gathered(Arc::clone(link), task));
    }
    // It is in the batch now.
    drop(key);
    answer.await
}

/// Sends what has gathered, batch by batch, until nothing has.
async fn send_gathered(link: Arc<Link>, mut task: Task) {
    let live = Arc::clone(&task.live);
    while let Some(batch) = task.next() {
        let deadline = batch.since() + link.settings.operation_timeout;
        let keys = batch.keys();
        if keys.is_empty() {
            continue;
        }
        match link.read_all(&live, keys.iter(), deadline).await {
            Ok(answers) if answers.len() == keys.len() => batch.answer(answers, live.clock.now()),
            Ok(_) => batch.refuse(&unexpected()),
            Err(error) => {
                batch.refuse(&error);
                if error.is_transient() {
                    // The others have waited as long, and would have to wait once more.
                    live.gather.refuse(&error);
                }
            }
        }
        // Those who have been answered may have a next question, which then goes with the next batch.
        tokio::task::yield_now().await;
    }
}

impl Link {
    /// What is under each of the keys. An error that is about one key stands in its place.
    pub(crate) async fn read_all(
        &self,
        live: &Live,
        keys: impl ExactSizeIterator<Item = &str> + Clone,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        if self.place.is_in_cluster() {
            // `MGET` takes keys of one slot only, and a thousand keys are in about a thousand slots.
            let mut commands = Pipeline::with_capacity(keys.len());
            for key in keys {
                commands.cmd("GET").arg(key);
            }
            return self.send_all(live, &commands, deadline).await;
        }
        let bytes = keys.clone().fold("MGET".len(), |bytes, key| bytes + key.len());
        let mut command = Cmd::with_capacity(1 + keys.len(), bytes);
        command.arg("MGET");
        for key in keys {
            command.arg(key);
        }
        let answer = self.send(live, &command, deadline).await?;
        match self.accepted(live, answer)? {
            Value::Array(answers) => Ok(answers),
            _ => Err(unexpected()),
        }
    }
}

impl Gather {
    /// The right to send a read by itself, if reads do not gather.
    fn direct(&self, largest_batch: usize) -> Option<Direct<'_>> {
        if self.gathering.load(Ordering::Relaxed) {
            return None;
        }
        let direct = Direct(&self.direct);
        let others = self.direct.fetch_add(1, Ordering::Relaxed);
        // Otherwise `direct` takes it back when it is dropped.
        (others < DIRECT || largest_batch == 1).then_some(direct)
    }

    /// Waits with the others; says whether a task has to be started.
    fn join(&self, key: &str, context: &Context<'_>, settings: &Settings) -> Result<(Waits, bool)> {
        let mut waiting = self.lock();
        if waiting.reads >= settings.max_in_flight {
            return Err(Error::with_cause(
                ErrorKind::Unavailable,
                "too many operations are in flight",
            ));
        }
        // Changed under the lock only, so that nobody joins a task that has just ended.
        let starts = !self.gathering.swap(true, Ordering::Relaxed);
        if starts {
            waiting.taken = None;
        }
        waiting.reads += 1;
        if let Some(batch) = waiting.batches.back()
            && let Some(waits) = Batch::join(batch, key, context, settings.largest_batch)
        {
            return Ok((waits, starts));
        }
        let since = *waiting.taken.get_or_insert_with(Instant::now);
        let (batch, waits) = Batch::begin(since, key, context);
        waiting.batches.push_back(batch);
        Ok((waits, starts))
    }

    /// Refuses all that wait.
    fn refuse(&self, error: &Error) {
        let batches = {
            let mut waiting = self.lock();
            waiting.reads = 0;
            mem::take(&mut waiting.batches)
        };
        batches.iter().for_each(|batch| batch.refuse(error));
    }

    // A panic can't leave the reads half-changed: they are only moved.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Direct<'a>(&'a AtomicUsize);

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The task that sends. When its runtime is shut down, nobody is left waiting.
struct Task {
    live: Arc<Live>,
    batch: Option<Arc<Batch>>,
    ended: bool,
}

impl Task {
    /// The oldest reads, or the end of the task.
    fn next(&mut self) -> Option<Arc<Batch>> {
        let gather = &self.live.gather;
        let mut waiting = gather.lock();
        self.batch = waiting.batches.pop_front();
        let Some(batch) = &self.batch else {
            gather.gathering.store(false, Ordering::Relaxed);
            self.ended = true;
            return None;
        };
        waiting.taken = Some(Instant::now());
        waiting.reads -= batch.len();
        Some(Arc::clone(batch))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            let error = Error::with_cause(
                ErrorKind::Unavailable,
                "the runtime of the store has been shut down",
            );
            let gather = &self.live.gather;
            gather.gathering.store(false, Ordering::Relaxed);
            gather.refuse(&error);
            self.batch.iter().for_each(|batch| batch.refuse(&error));
        }
    }
}
