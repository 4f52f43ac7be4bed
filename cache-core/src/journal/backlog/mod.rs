mod bounds;
mod state;
mod taken;

use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use bounds::{Bounds, Depth, Due};
pub use taken::Taken;

use super::Seq;
use crate::{CacheKey, Result, Write};
use state::State;

/// What is in a [`Journal`](super::Journal) and waits for its turn to be written.
///
/// * Of each key there is at most one write that waits: the last. It takes the place of the one before, and
///   its age.
/// * A key that is being written is not taken again before it is done: what is pushed meanwhile waits behind it,
///   and is not merged into it.
/// * What is to be tried again comes when its time has come, in batches that are no larger than they were said to be.
///
/// ```
/// use cache_core::{Backlog, Bounds, Due, Seq, Write};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let backlog = Backlog::new(Bounds::default());
/// backlog.push(Write::new(7_u64, Some("a")).numbered(Seq::new(1)), 1);
/// backlog.push(Write::new(7, Some("b")).numbered(Seq::new(2)), 1); // instead of the first
/// assert_eq!(backlog.pending("7"), Some((Seq::new(2), Some("b"))));
///
/// let due = Due { writes: 100, bytes: usize::MAX, age: Duration::ZERO };
/// let batch = backlog.take(due).await;
/// assert_eq!((batch.len(), batch[0].write.value), (1, Some("b")));
/// backlog.push(Write::new(7, None).numbered(Seq::new(3)), 1); // waits for its turn
/// assert_eq!(backlog.pending("7"), Some((Seq::new(3), None)));
///
/// backlog.done(&batch);
/// assert_eq!(backlog.take(due).await[0].write.seq, Seq::new(3));
/// # });
/// ```
pub struct Backlog<K, V> {
    state: Mutex<State<K, V>>,
    bounds: Bounds,
    /// Something may be due.
    work: Notify,
    /// There may be room, or less to be done.
    less: Notify,
}

/// When a write is tried again that is to wait for longer than clocks go.
const LATEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whose turn it is to be put into the cache.
pub(crate) enum Turn<V> {
    /// This write's, which is the last of its key.
    Last,
    /// That of a later one, with this value.
    Overtaken(Option<V>),
    /// Nobody's: the write, or a later one, is done.
    Done,
}

impl<K: CacheKey + Clone, V: Clone> Backlog<K, V> {
    /// An empty backlog.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { state: Mutex::new(State::new()), bounds, work: Notify::new(), less: Notify::new() }
    }

    /// Whether there is room for a write of this key. One that takes the place of another needs none, but
    /// for its bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`](crate::ErrorKind::Full), [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn admit(&self, key: &K, bytes: usize) -> Result<()> {
        self.lock().admit(&key.key().to_smol(), bytes, self.bounds)
    }

    /// Waits until there is room for a write more, or the backlog is closed.
    pub async fn room(&self) {
        self.wait(|state| {
            let room = state.writes < self.bounds.writes && state.bytes < self.bounds.bytes;
            (room || state.closed).then_some(())
        })
        .await;
    }

    /// Adds a write, which is later than all of its key so far. What has waited under the key is replaced. Nothing is
    /// refused here: ask [`admit`](Self::admit) first, unless the write is in the log already.
    pub fn push(&self, write: Write<K, V>, bytes: usize) {
        let key = write.key.key().to_smol();
        if self.lock().push(key, write, bytes) {
            self.work.notify_one();
        }
    }

    /// [`admit`](Self::admit), number, and [`push`](Self::push) in one step.
    pub(super) fn push_next(
        &self,
        key: K,
        value: Option<V>,
        bytes: usize,
        next: impl FnOnce() -> Seq,
    ) -> Result<Seq> {
        let spelled = key.key().to_smol();
        let mut state = self.lock();
        state.admit(&spelled, bytes, self.bounds)?;
        let seq = next();
        let wakes = state.push(spelled, Write { key, value, seq }, bytes);
        drop(state);
        if wakes {
            self.work.notify_one();
        }
        Ok(seq)
    }

    /// The last write of a key that is not done.
    #[must_use]
    pub fn pending(&self, key: &str) -> Option<(Seq, Option<V>)> {
        let state = self.lock();
        let slot = state.slots.get(key)?;
        let last = slot.waiting.as_ref().or(slot.flying.as_ref())?;
        Some((last.write.seq, last.write.value.clone()))
    }

    /// Waits until something is due, and takes it: writes of different keys, of which none is in flight. Empty only
    /// if the backlog is closed and nothing waits. One caller at a time.
    ///
    /// # Cancellation
    ///
    /// Nothing is taken.
    pub async fn take(&self, due: Due) -> Vec<Taken<K, V>> {
        loop {
            let mut work = pin!(self.work.notified());
            work.as_mut().enable();
            let next = {
                let mut state = self.lock();
                let batch = state.take(due);
                if !batch.is_empty() || (state.closed && state.writes == 0) {
                    return batch;
                }
                state.awaited = Some(due);
                state.next(due)
            };
            match next {
                Some(at) => {
                    let timer = pin!(sleep_until(at));
                    futures_util::future::select(work, timer).await;
                }
                None => work.await,
            }
        }
    }

    /// These writes are in the source, or parked.
    pub fn done(&self, writes: &[Taken<K, V>]) {
        let mut state = self.lock();
        for taken in writes {
            state.land(taken, None);
        }
        drop(state);
        self.work.notify_one();
        self.less.notify_waiters();
    }

    /// These writes are to be made again, after some time. One that has been overtaken by a later write of its key
    /// is not: the later one is.
    pub fn retry(&self, writes: Vec<Taken<K, V>>, after: Duration) {
        if writes.is_empty() {
            return;
        }
        let now = Instant::now();
        let at = now.checked_add(after).unwrap_or(now + LATEST);
        let mut state = self.lock();
        for taken in writes {
            state.land(&taken, Some(at));
        }
        drop(state);
        self.work.notify_one();
        self.less.notify_waiters();
    }

    /// What of a batch may be written now. What was [forgotten](Self::forget) since it was taken is others' to make. That for
    /// which `ours` does not hold is so, too, or will be ours again: it comes back after some time, unless it is forgotten.
    pub(crate) fn still_taken(
        &self,
        batch: Vec<Taken<K, V>>,
        ours: impl Fn(&Write<K, V>) -> bool,
        after: Duration,
    ) -> Vec<Taken<K, V>> {
        // The lock is not held while the journal is asked, which may have one of its own.
        let (batch, foreign): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|taken| ours(&taken.write));
        self.retry(foreign, after);
        let state = self.lock();
        let (batch, forgotten) = batch.into_iter().partition(|taken| state.flies(taken));
        drop(state);
        // They let go of their keys.
        self.retry(forgotten, Duration::ZERO);
        batch
    }

    /// Says that the last write of the key is put into the cache now, if that is this one or a later one.
    pub(crate) fn turn(&self, key: &str, seq: Seq) -> Turn<V> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(key);
        match slot.and_then(|slot| slot.waiting.as_mut().or(slot.flying.as_mut())) {
            Some(last) if last.write.seq >= seq => {
                last.cached = true;
                match last.write.seq == seq {
                    true => Turn::Last,
                    false => Turn::Overtaken(last.write.value.clone()),
                }
            }
            _ => Turn::Done,
        }
    }

    /// Says that the cache has this write, or something later, or nothing. That says nothing of a later one.
    pub(crate) fn mark_cached(&self, key: &str, seq: Seq) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(key) else { return };
        for write in slot.waiting.iter_mut().chain(&mut slot.flying) {
            write.cached |= write.write.seq == seq;
        }
    }

    /// Whether the cache has what was taken, or something later, or nothing.
    pub(crate) fn is_cached(&self, taken: &Taken<K, V>) -> bool {
        let state = self.lock();
        let slot = state.slots.get(&*taken.write.key.key());
        slot.and_then(|slot| slot.flying.as_ref()).is_some_and(|flying| flying.cached)
    }

    /// Whether a later write of the key waits.
    #[must_use]
    pub fn is_overtaken(&self, taken: &Taken<K, V>) -> bool {
        let state = self.lock();
        state.slots.get(&*taken.write.key.key()).is_some_and(|slot| slot.waiting.is_some())
    }

    /// Takes out all writes for which `gone` holds, whether they wait or are in flight: others make them now. Returns how
    /// many of them are in flight, now or since they were forgotten before: they may still reach the source, after what
    /// others have written meanwhile.
    ///
    /// What is in flight and forgotten still keeps its key: what is pushed under it waits until the flight has landed,
    /// by [`done`](Self::done) or [`retry`](Self::retry), which do nothing else then.
    pub fn forget(&self, gone: impl Fn(&Write<K, V>) -> bool) -> usize {
        let flying = self.lock().forget(gone);
        self.work.notify_one();
        self.less.notify_waiters();
        flying
    }

    /// Makes everything so far due at once, and waits until it is done. (What is to be tried again waits for its
    /// time even so.)
    pub async fn drained(&self) {
        let epoch = {
            let mut state = self.lock();
            state.epoch += 1;
            state.hurried = state.epoch;
            state.epoch
        };
        self.work.notify_one();
        self.wait(|state| state.epochs.range(..epoch).next().is_none().then_some(())).await;
    }

    /// Lets nothing more in, and makes everything due at once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
        self.less.notify_waiters();
    }

    /// How much there is.
    #[must_use]
    pub fn depth(&self) -> Depth {
        let state = self.lock();
        let writes = state.slots.values().flat_map(|slot| slot.waiting.iter().chain(&slot.flying));
        Depth {
            waiting: state.writes - state.in_flight,
            in_flight: state.in_flight,
            bytes: state.bytes,
            oldest: writes.map(|write| write.since).min().map(|since| since.elapsed()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait<T>(&self, mut answer: impl FnMut(&State<K, V>) -> Option<T>) -> T {
        loop {
            let mut less = pin!(self.less.notified());
            less.as_mut().enable();
            if let Some(answer) = answer(&self.lock()) {
                return answer;
            }
            less.await;
        }
    }
}

impl<K, V> fmt::Debug for Backlog<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Backlog")
            .field("writes", &state.writes)
            .field("in_flight", &state.in_flight)
            .finish_non_exhaustive()
    }
}
