//! What goes on without a caller: how much of it there is, when it pauses, and how it ends.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// So many pauses are remembered. Over it a key is tried again sooner than it should be.
const MOST_PAUSES: usize = 65_536;

/// When there is no room for a pause, those that have ended are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// The tasks of a cache.
pub(super) struct Background {
    work: Mutex<Work>,
    /// Nothing is under way any more.
    idle: Notify,
    /// Refreshes that are still under way are to end now.
    over: watch::Sender<bool>,
    pauses: Pauses,
}

#[derive(Default)]
struct Work {
    refreshes: usize,
    loads: usize,
    /// No refresh may begin any more.
    closed: bool,
}

/// What the task is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Load,
    Refresh,
}

/// A place among the tasks, until it is dropped.
pub(super) struct Place {
    background: Arc<Background>,
    task: Task,
}

/// Why a key is not refreshed for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Its load has failed.
    Failed,
    /// Somebody else is loading it.
    Busy,
}

impl Background {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::default(),
            idle: Notify::new(),
            over: watch::Sender::new(false),
            pauses: Pauses::default(),
        })
    }

    /// A place for a load that somebody waits for. There is always one.
    pub(super) fn load(self: &Arc<Self>) -> Place {
        lock(&self.work).loads += 1;
        Place { background: Arc::clone(self), task: Task::Load }
    }

    /// A place for a refresh, unless there are too many, or no more are to begin.
    pub(super) fn refresh(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut work = lock(&self.work);
        if work.closed || work.refreshes >= most {
            return None;
        }
        work.refreshes += 1;
        Some(Place { background: Arc::clone(self), task: Task::Refresh })
    }

    /// How many refreshes are under way.
    pub(super) fn refreshes(&self) -> usize {
        lock(&self.work).refreshes
    }

    /// Lets no refresh begin any more, and waits for what is under way; see `ReadThrough::shutdown`.
    pub(super) async fn shutdown(&self, limit: Duration) -> usize {
        lock(&self.work).closed = true;
        if timeout(limit, self.idle()).await.is_ok() {
            return 0;
        }
        let left = lock(&self.work).under_way();
        self.over.send_replace(true);
        left
    }

    async fn idle(&self) {
        loop {
            // Listening begins before looking, so that the end does not fall in between.
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if lock(&self.work).under_way() == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn pause(&self, key: &SmolStr, why: Pause, pause: Duration) {
        self.pauses.put(key, why, pause);
    }

    pub(super) fn resume(&self, key: &str) {
        self.pauses.remove(key);
    }

    pub(super) fn paused(&self, key: &str) -> Option<Pause> {
        self.pauses.of(key)
    }
}

impl Work {
    fn under_way(&self) -> usize {
        self.refreshes + self.loads
    }
}

impl Place {
    /// Does the work. A refresh is dropped if the cache shuts down and can wait no longer.
    pub(super) async fn run(self, work: impl Future<Output = ()>) {
        if self.task == Task::Load {
            return work.await;
        }
        let mut over = self.background.over.subscribe();
        let over = pin!(async { drop(over.wait_for(|over| *over).await) });
        select(pin!(work), over).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut work = lock(&self.background.work);
        match self.task {
            Task::Load => work.loads -= 1,
            Task::Refresh => work.refreshes -= 1,
        }
        let idle = work.under_way() == 0;
        drop(work);
        if idle {
            self.background.idle.notify_waiters();
        }
    }
}

/// The keys that are not to be refreshed for a while.
#[derive(Default)]
struct Pauses {
    paused: Mutex<Paused>,
    /// How many there are, so that nobody takes the lock when there is none.
    count: AtomicUsize,
}

#[derive(Default)]
struct Paused {
    ends: HashMap<SmolStr, (Instant, Pause)>,
    /// When room is looked for again: a sweep looks at all of them.
    sweep_at: Option<Instant>,
}

impl Pauses {
    fn put(&self, key: &SmolStr, why: Pause, pause: Duration) {
        let now = Instant::now();
        let mut paused = lock(&self.paused);
        if let (Some(end), true) = (now.checked_add(pause), paused.has_room(key, now)) {
            paused.ends.insert(key.clone(), (end, why));
        }
        self.count.store(paused.ends.len(), Ordering::Relaxed);
    }

    fn remove(&self, key: &str) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut paused = lock(&self.paused);
            paused.ends.remove(key);
            self.count.store(paused.ends.len(), Ordering::Relaxed);
        }
    }

    fn of(&self, key: &str) -> Option<Pause> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut paused = lock(&self.paused);
        let (end, why) = *paused.ends.get(key)?;
        if Instant::now() < end {
            return Some(why);
        }
        paused.ends.remove(key);
        self.count.store(paused.ends.len(), Ordering::Relaxed);
        None
    }
}

impl Paused {
    /// Whether there is room for this key, which is made if it can be.
    fn has_room(&mut self, key: &SmolStr, now: Instant) -> bool {
        if self.ends.len() < MOST_PAUSES || self.ends.contains_key(key) {
            return true;
        }
        if self.sweep_at.is_none_or(|at| at <= now) {
            self.ends.retain(|_, (end, _)| now < *end);
            self.sweep_at = now.checked_add(SWEEP_EVERY);
        }
        self.ends.len() < MOST_PAUSES
    }
}

// A lock without poison: nothing of the user's runs under it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_end_and_are_bounded() {
        let pauses = Pauses::default();
        let second = Duration::from_secs(1);
        for key in 0..2 * MOST_PAUSES {
            pauses.put(&key.to_string().into(), Pause::Failed, second);
        }
        assert_eq!(lock(&pauses.paused).ends.len(), MOST_PAUSES);
        assert_eq!(pauses.of("7"), Some(Pause::Failed));
        tokio::time::advance(second).await;
        assert_eq!(pauses.of("7"), None);
        pauses.put(&"one more".into(), Pause::Failed, second);
        pauses.put(&"new".into(), Pause::Busy, second);
        let left = lock(&pauses.paused).ends.len();
        assert!(left <= 2, "what had ended was swept: {left}");
        pauses.remove("new");
        assert_eq!(pauses.of("new"), None);
    }
}
