//! Reads that gather while others are on their way.
//!
//! While little is in flight, a read is sent at once, by itself. Beyond that, reads go together as one
//! `MGET`: whatever has gathered while the one before was on its way. There is no timer, and nobody
//! waits for others to come.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{Error, ErrorKind, Result};
use redis::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::unexpected;
use crate::link::{Link, Live};

/// Up to so many reads are in flight one by one. Measured: at 16 callers, one by one is still faster;
/// at 32, together is.
const DIRECT: usize = 16;

/// The reads of one connection.
#[derive(Default)]
pub(crate) struct Gather {
    direct: AtomicUsize,
    /// Whether reads gather, and a task sends them.
    gathering: AtomicBool,
    waiting: Mutex<Vec<Read>>,
}

struct Read {
    key: String,
    since: Instant,
    answer: oneshot::Sender<Result<Value>>,
}

/// Reads one key. An error of the server's is an answer here.
pub(crate) async fn read(link: &Arc<Link>, live: &Arc<Live>, key: String) -> Result<Value> {
    let gather = &live.gather;
    if link.settings.largest_batch <= 1 {
        return link
            .send(live, redis::cmd("GET").arg(key), link.deadline())
            .await;
    }
    if let Some(_direct) = gather.direct() {
        return link
            .send(live, redis::cmd("GET").arg(key), link.deadline())
            .await;
    }
    let (answer, answered) = oneshot::channel();
    let read = Read {
        key,
        since: Instant::now(),
        answer,
    };
    if gather.join(read, link.settings.max_in_flight)? {
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
    let mut task = Task {
        gather: &live.gather,
        ended: false,
    };
    while let Some(mut batch) = task.next(link.settings.largest_batch) {
        batch.retain(|read| !read.answer.is_closed());
        let Some(oldest) = batch.first() else {
            continue;
        };
        let mut command = redis::cmd("MGET");
        for read in &batch {
            command.arg(&read.key);
        }
        let deadline = oldest.since + link.settings.operation_timeout;
        let answer = link.send(&live, &command, deadline).await;
        match answer.and_then(|answer| link.accepted(&live, answer)) {
            Ok(Value::Array(answers)) if answers.len() == batch.len() => {
                for (read, answer) in batch.into_iter().zip(answers) {
                    // Whoever has gone away does not need it.
                    let _ = read.answer.send(Ok(answer));
                }
            }
            Ok(_) => refuse(batch, &unexpected()),
            Err(error) => {
                refuse(batch, &error);
                if error.is_transient() {
                    // The others have waited as long, and would have to wait once more.
                    refuse(mem::take(&mut *live.gather.lock()), &error);
                }
            }
        }
        // Those who have been answered may have a next question, which then goes with the next batch.
        tokio::task::yield_now().await;
    }
}

fn refuse(reads: Vec<Read>, error: &Error) {
    for read in reads {
        let _ = read.answer.send(Err(error.clone()));
    }
}

impl Gather {
    /// The right to send a read by itself, if reads do not gather.
    fn direct(&self) -> Option<Direct<'_>> {
        if self.gathering.load(Ordering::Relaxed) {
            return None;
        }
        let direct = Direct(&self.direct);
        // `direct` takes it back when it is dropped.
        (self.direct.fetch_add(1, Ordering::Relaxed) < DIRECT).then_some(direct)
    }

    /// Waits with the others; says whether a task has to be started.
    fn join(&self, read: Read, most: usize) -> Result<bool> {
        let mut waiting = self.lock();
        if waiting.len() >= most {
            return Err(Error::with_cause(
                ErrorKind::Unavailable,
                "too many operations are in flight",
            ));
        }
        waiting.push(read);
        // Changed under the lock only, so that nobody joins a task that has just ended.
        Ok(!self.gathering.swap(true, Ordering::Relaxed))
    }

    // A panic can't leave the reads half-changed: they are only moved.
    fn lock(&self) -> MutexGuard<'_, Vec<Read>> {
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
        if waiting.is_empty() {
            self.gather.gathering.store(false, Ordering::Relaxed);
            self.ended = true;
            return None;
        }
        if waiting.len() <= most {
            return Some(mem::take(&mut *waiting));
        }
        let later = waiting.split_off(most);
        Some(mem::replace(&mut *waiting, later))
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.gather.lock();
            waiting.clear();
            self.gather.gathering.store(false, Ordering::Relaxed);
        }
    }
}
