//! Reads that gather while others are on their way.
//!
//! While little is in flight, a read is sent at once, by itself. Beyond that, reads go together as one
//! `MGET`: whatever has gathered while the one before was on its way. There is no timer, and nobody
//! waits for others to come.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{Error, ErrorKind, Result};
use redis::{Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::unexpected;
use crate::link::{Link, Live};
use crate::route::Route;

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
    reads: Vec<Read>,
    /// When the last batch was taken, or the task started: reads that wait have come since. So they
    /// need not look at the clock themselves.
    taken: Option<Instant>,
}

struct Read {
    key: String,
    /// The read has come then, or a little later.
    since: Instant,
    answer: oneshot::Sender<Result<Answer>>,
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
        let value = link.send(live, redis::cmd("GET").arg(key), link.deadline()).await?;
        let now = live.clock.now();
        return Ok(Answer { value, now });
    }
    let (answer, answered) = oneshot::channel();
    if live.gather.join(key, answer, link.settings.max_in_flight)? {
        tokio::spawn(send_gathered(Arc::clone(link), Arc::clone(live)));
    }
    answered.await.unwrap_or_else(|_| {
        Err(Error::with_cause(
            ErrorKind::Unavailable,
            "the runtime of the store has been shut down",
        ))
    })
}

/// Sends what has gathered, batch by batch, until nothing has.
async fn send_gathered(link: Arc<Link>, live: Arc<Live>) {
    let mut task = Task { gather: &live.gather, ended: false };
    while let Some(mut batch) = task.next(link.settings.largest_batch) {
        batch.retain(|read| !read.answer.is_closed());
        let Some(oldest) = batch.first() else {
            continue;
        };
        let deadline = oldest.since + link.settings.operation_timeout;
        let keys = batch.iter().map(|read| read.key.as_str());
        match link.read_all(&live, keys, deadline).await {
            Ok(answers) if answers.len() == batch.len() => {
                let now = live.clock.now();
                for (read, value) in batch.into_iter().zip(answers) {
                    // Whoever has gone away does not need it.
                    let _ = read.answer.send(Ok(Answer { value, now }));
                }
            }
            Ok(_) => refuse(batch, &unexpected()),
            Err(error) => {
                refuse(batch, &error);
                if error.is_transient() {
                    // The others have waited as long, and would have to wait once more.
                    refuse(mem::take(&mut live.gather.lock().reads), &error);
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
        keys: impl Iterator<Item = &str>,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        if self.place.is_in_cluster() {
            // `MGET` takes keys of one slot only, and a thousand keys are in about a thousand slots.
            let mut commands = Pipeline::with_capacity(keys.size_hint().0);
            for key in keys {
                commands.cmd("GET").arg(key);
            }
            return self.send_all(live, &commands, deadline).await;
        }
        let mut command = redis::cmd("MGET");
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

fn refuse(reads: Vec<Read>, error: &Error) {
    for read in reads {
        let _ = read.answer.send(Err(error.clone()));
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
    fn join(
        &self,
        key: String,
        answer: oneshot::Sender<Result<Answer>>,
        most: usize,
    ) -> Result<bool> {
        let mut waiting = self.lock();
        if waiting.reads.len() >= most {
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
        let since = *waiting.taken.get_or_insert_with(Instant::now);
        waiting.reads.push(Read { key, since, answer });
        Ok(starts)
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
struct Task<'a> {
    gather: &'a Gather,
    ended: bool,
}

impl Task<'_> {
    /// The oldest reads, or the end of the task.
    fn next(&mut self, most: usize) -> Option<Vec<Read>> {
        let mut waiting = self.gather.lock();
        if waiting.reads.is_empty() {
            self.gather.gathering.store(false, Ordering::Relaxed);
            self.ended = true;
            return None;
        }
        waiting.taken = Some(Instant::now());
        if waiting.reads.len() <= most {
            return Some(mem::take(&mut waiting.reads));
        }
        let later = waiting.reads.split_off(most);
        Some(mem::replace(&mut waiting.reads, later))
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.gather.lock();
            waiting.reads.clear();
            self.gather.gathering.store(false, Ordering::Relaxed);
        }
    }
}
