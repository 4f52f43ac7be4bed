use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Seq;
use crate::{CacheKey, Error, ErrorKind, Result, Write};

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

/// How much a journal holds at most. Dead letters are not counted.
///
/// ```
/// use cache_core::Bounds;
///
/// let bounds = Bounds { writes: 1_000, ..Bounds::default() };
/// assert_eq!(bounds.bytes, usize::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Writes that wait or are being made.
    pub writes: usize,
    /// Their bytes, as the journal counts them.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 100,000 writes, of whatever size.
    fn default() -> Self {
        Self { writes: 100_000, bytes: usize::MAX }
    }
}

/// When writes are due: as soon as there are so many, or so many bytes of them, or one is so old. No batch has more.
///
/// ```
/// use cache_core::Due;
/// use std::time::Duration;
///
/// let due = Due { writes: 100, bytes: 1 << 20, age: Duration::from_millis(50) };
/// assert!(due.writes > 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// So many writes.
    pub writes: usize,
    /// So many bytes, as the journal counts them.
    pub bytes: usize,
    /// A write that has waited for so long.
    pub age: Duration,
}

/// How much is waiting.
///
/// ```
/// use cache_core::{Backlog, Bounds, Depth};
///
/// assert_eq!(Backlog::<u64, u64>::new(Bounds::default()).depth(), Depth::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Writes that wait.
    pub waiting: usize,
    /// Writes that are being made.
    pub in_flight: usize,
    /// The bytes of both, as the journal counts them.
    pub bytes: usize,
    /// For how long the oldest of them has been waiting.
    pub oldest: Option<Duration>,
}

impl Depth {
    /// All writes that are not in the source.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.waiting + self.in_flight
    }
}

/// A write that has been taken to be made. It is in flight until it is [done](Backlog::done) or
/// [to be tried again](Backlog::retry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken<K, V> {
    /// The write.
    pub write: Write<K, V>,
    /// What has come of it so far.
    pub(crate) trial: Trial,
}

impl<K, V> Taken<K, V> {
    /// How often it has been tried alone before.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.trial.alone
    }
}

/// What has come of a write so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trial {
    /// How often it has failed, with others or alone.
    pub(crate) failed: u32,
    /// How often it has failed alone.
    pub(crate) alone: u32,
    /// The size of the largest batch that it may be in; `None` is any.
    pub(crate) most: Option<usize>,
    /// When it failed alone first, and how many batches had succeeded by then.
    pub(crate) since: Option<(Instant, u64)>,
}

/// When a write is tried again that is to wait for longer than clocks go.
const LATEST: Duration = Duration::from_secs(365 * 24 * 3600);

struct State<K, V> {
    slots: HashMap<SmolStr, Slot<K, V>, RandomState>,
    /// Keys that wait and have not been tried, by epoch and age, oldest first; how many bytes they have.
    fresh: VecDeque<SmolStr>,
    fresh_bytes: usize,
    /// Keys that are to be tried again now, and later.
    again: VecDeque<SmolStr>,
    later: BTreeMap<(Instant, u64), SmolStr>,
    tickets: u64,
    /// Whether those that are to be tried again come next.
    again_next: bool,
    in_flight: usize,
    writes: usize,
    bytes: usize,
    /// How many writes there are of each epoch. An epoch ends when somebody wants to know when all so far is done.
    epochs: BTreeMap<u64, usize>,
    epoch: u64,
    /// What is of an earlier epoch than this is due at once.
    hurried: u64,
    /// What the taker waits for, if it does.
    awaited: Option<Due>,
    closed: bool,
}

struct Slot<K, V> {
    waiting: Option<Waiting<K, V>>,
    flying: Option<Waiting<K, V>>,
}

struct Waiting<K, V> {
    write: Write<K, V>,
    bytes: usize,
    trial: Trial,
    since: Instant,
    epoch: u64,
    place: Place,
    /// Whether the cache has it, or something later, or nothing.
    cached: bool,
}

/// Whose turn it is to be put into the cache.
pub(crate) enum Turn<V> {
    /// This write's, which is the last of its key.
    Last,
    /// That of a later one, with this value.
    Overtaken(Option<V>),
    /// Nobody's: the write, or a later one, is done.
    Done,
}

/// In which list the key of a waiting write is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Fresh,
    Again,
    /// In none: it waits behind a write of its key.
    Behind,
}

impl<K: CacheKey + Clone, V: Clone> Backlog<K, V> {
    /// An empty backlog.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let state = State {
            slots: HashMap::default(),
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            again: VecDeque::new(),
            later: BTreeMap::new(),
            tickets: 0,
            again_next: true,
            in_flight: 0,
            writes: 0,
            bytes: 0,
            epochs: BTreeMap::new(),
            epoch: 1,
            hurried: 0,
            awaited: None,
            closed: false,
        };
        Self { state: Mutex::new(state), bounds, work: Notify::new(), less: Notify::new() }
    }

    /// Whether there is room for a write of this key. One that takes the place of another needs none, but
    /// for its bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`], [`ErrorKind::Closed`].
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

    /// Says that this write is put into the cache now, if it is its turn.
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
    /// many are in flight: they may still reach the source, after what others have written meanwhile.
    pub fn forget(&self, gone: impl Fn(&Write<K, V>) -> bool) -> usize {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (mut freed, before) = (Vec::new(), state.in_flight);
        for slot in state.slots.values_mut() {
            freed.extend(slot.waiting.take_if(|waiting| gone(&waiting.write)));
            if let Some(flying) = slot.flying.take_if(|flying| gone(&flying.write)) {
                state.in_flight -= 1;
                freed.push(flying);
                // What waits behind it is to be found.
                if let Some(waiting) = &mut slot.waiting {
                    waiting.place = Place::Behind;
                }
            }
        }
        for write in &freed {
            state.count_out(write);
        }
        state.list_anew();
        let flying = before - state.in_flight;
        drop(guard);
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

impl<K: CacheKey + Clone, V: Clone> State<K, V> {
    fn admit(&self, key: &SmolStr, bytes: usize, bounds: Bounds) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Closed));
        }
        // As a rule there is room, whether it takes the place of another or not.
        if self.writes < bounds.writes && self.bytes.saturating_add(bytes) <= bounds.bytes {
            return Ok(());
        }
        let waiting = self.slots.get(key).and_then(|slot| slot.waiting.as_ref());
        let more = bytes.saturating_sub(waiting.map_or(0, |waiting| waiting.bytes));
        // One write is always admitted, however large.
        let heavy = self.bytes.saturating_add(more) > bounds.bytes && self.bytes > 0;
        if (waiting.is_none() && self.writes >= bounds.writes) || (heavy && more > 0) {
            return Err(Error::new(ErrorKind::Full));
        }
        Ok(())
    }

    /// Returns whether the taker is to be woken.
    fn push(&mut self, key: SmolStr, write: Write<K, V>, bytes: usize) -> bool {
        let (slot, place) = match self.slots.entry(key) {
            MapEntry::Occupied(slot) => (slot.into_mut(), Place::Behind),
            MapEntry::Vacant(slot) => {
                self.fresh.push_back(slot.key().clone());
                (slot.insert(Slot { waiting: None, flying: None }), Place::Fresh)
            }
        };
        self.bytes += bytes;
        match &mut slot.waiting {
            // The place and the age of the one before stay. So nobody asks for the time, which costs as much as the rest.
            Some(waiting) => {
                if waiting.place == Place::Fresh {
                    self.fresh_bytes = self.fresh_bytes - waiting.bytes + bytes;
                }
                self.bytes -= waiting.bytes;
                (waiting.write, waiting.bytes) = (write, bytes);
                (waiting.trial, waiting.cached) = (Trial::default(), false);
            }
            waiting => {
                if place == Place::Fresh {
                    self.fresh_bytes += bytes;
                }
                let epoch = self.epoch;
                *self.epochs.entry(epoch).or_default() += 1;
                self.writes += 1;
                *waiting = Some(Waiting {
                    write,
                    bytes,
                    trial: Trial::default(),
                    since: Instant::now(),
                    epoch,
                    place,
                    cached: false,
                });
            }
        }
        let wakes = self.awaited.is_some_and(|due| {
            self.fresh.len() == 1 || self.fresh.len() >= due.writes || self.fresh_bytes >= due.bytes
        });
        if wakes {
            self.awaited = None;
        }
        wakes
    }

    /// What is due, which is in flight from now on.
    fn take(&mut self, due: Due) -> Vec<Taken<K, V>> {
        self.awaited = None;
        let now = Instant::now();
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            self.again.push_back(first.remove());
        }
        // They take turns, so that neither keeps the other waiting.
        let from = match (!self.again.is_empty(), self.fresh_due(due, now)) {
            (true, true) if self.again_next => Place::Again,
            (true, false) => Place::Again,
            (_, true) => Place::Fresh,
            (false, false) => return Vec::new(),
        };
        self.again_next = from == Place::Fresh;
        let (mut batch, mut bytes, mut most) = (Vec::new(), 0_usize, due.writes.max(1));
        loop {
            let list = if from == Place::Again { &mut self.again } else { &mut self.fresh };
            let Some(slot) = list.front().and_then(|key| self.slots.get_mut(key)) else { break };
            let Some(waiting) = &slot.waiting else { break };
            let size = waiting.trial.most.unwrap_or(usize::MAX).min(most);
            let heavy = bytes.saturating_add(waiting.bytes) > due.bytes;
            if !batch.is_empty() && (heavy || batch.len() >= size) {
                break;
            }
            batch.push(Taken { write: waiting.write.clone(), trial: waiting.trial });
            (bytes, most) = (bytes.saturating_add(waiting.bytes), size);
            if from == Place::Fresh {
                self.fresh_bytes -= waiting.bytes;
            }
            list.pop_front();
            slot.flying = slot.waiting.take();
            self.in_flight += 1;
        }
        batch
    }

    fn fresh_due(&self, due: Due, now: Instant) -> bool {
        self.closed
            || self.fresh.len() >= due.writes
            || self.fresh_bytes >= due.bytes
            || self.oldest().is_some_and(|oldest| {
                oldest.epoch < self.hurried || now.duration_since(oldest.since) >= due.age
            })
    }

    /// When something becomes due by itself.
    fn next(&self, due: Due) -> Option<Instant> {
        let fresh = self.oldest().and_then(|oldest| oldest.since.checked_add(due.age));
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        fresh.into_iter().chain(later).min()
    }

    fn oldest(&self) -> Option<&Waiting<K, V>> {
        self.slots.get(self.fresh.front()?)?.waiting.as_ref()
    }

    /// A write comes back: done, or to be tried again at this time.
    fn land(&mut self, taken: &Taken<K, V>, again: Option<Instant>) {
        let key = taken.write.key.key().to_smol();
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(mut back) = slot.flying.take_if(|flying| flying.write.seq == taken.write.seq)
        else {
            return;
        };
        self.in_flight -= 1;
        match (&mut slot.waiting, again) {
            (Some(waiting), _) => {
                if again.is_some() {
                    // What it was to bring to the source, the later one brings.
                    let (from, to) = (waiting.epoch, back.epoch.min(waiting.epoch));
                    waiting.since = waiting.since.min(back.since);
                    waiting.epoch = to;
                    self.move_epoch(from, to);
                }
                self.behind_is_fresh(key);
                self.count_out(&back);
            }
            (None, Some(at)) => {
                back.trial = taken.trial;
                back.place = Place::Again;
                slot.waiting = Some(back);
                self.tickets += 1;
                self.later.insert((at, self.tickets), key);
            }
            (None, None) => {
                self.slots.remove(&key);
                self.count_out(&back);
            }
        }
    }

    /// What has waited behind a write of its key takes its place among the fresh ones, which is that of its age: a key that
    /// is written all the time would otherwise always come before the others, and what a flush waits for after what
    /// it does not.
    fn behind_is_fresh(&mut self, key: SmolStr) {
        let Some(waiting) = self.slots.get_mut(&key).and_then(|slot| slot.waiting.as_mut()) else {
            return;
        };
        waiting.place = Place::Fresh;
        self.fresh_bytes += waiting.bytes;
        let age = (waiting.epoch, waiting.since);
        let slots = &self.slots;
        let older = |key: &SmolStr| {
            let waiting = slots.get(key).and_then(|slot| slot.waiting.as_ref());
            waiting.is_none_or(|waiting| (waiting.epoch, waiting.since) <= age)
        };
        let at = self.fresh.partition_point(older);
        self.fresh.insert(at, key);
    }

    fn count_out(&mut self, gone: &Waiting<K, V>) {
        self.writes -= 1;
        self.bytes -= gone.bytes;
        self.leave_epoch(gone.epoch);
    }

    fn move_epoch(&mut self, from: u64, to: u64) {
        *self.epochs.entry(to).or_default() += 1;
        self.leave_epoch(from);
    }

    fn leave_epoch(&mut self, epoch: u64) {
        if let MapEntryOf::Occupied(mut count) = self.epochs.entry(epoch) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Brings the lists in line with the slots, after some of these have been emptied.
    fn list_anew(&mut self) {
        let slots = &mut self.slots;
        slots.retain(|_, slot| slot.waiting.is_some() || slot.flying.is_some());
        let waits = |key: &SmolStr| slots.get(key).is_some_and(|slot| slot.waiting.is_some());
        self.fresh.retain(&waits);
        self.again.retain(&waits);
        self.later.retain(|_, key| waits(key));
        let behind = slots.iter().filter(|(_, slot)| {
            slot.flying.is_none()
                && slot.waiting.as_ref().is_some_and(|waiting| waiting.place == Place::Behind)
        });
        let behind: Vec<_> = behind.map(|(key, _)| key.clone()).collect();
        for key in behind {
            self.behind_is_fresh(key);
        }
        let fresh = self.fresh.iter().filter_map(|key| self.slots.get(key)?.waiting.as_ref());
        self.fresh_bytes = fresh.map(|waiting| waiting.bytes).sum();
    }
}

type MapEntryOf<'a> = std::collections::btree_map::Entry<'a, u64, usize>;

impl<K, V> fmt::Debug for Backlog<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Backlog")
            .field("writes", &state.writes)
            .field("in_flight", &state.in_flight)
            .finish_non_exhaustive()
    }
}
