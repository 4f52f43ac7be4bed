//! The lists of a backlog, and how writes go from one to another.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::taken::Trial;
use super::{Bounds, Due, Taken};
use crate::{CacheKey, Error, ErrorKind, Result, Write};

pub(super) struct State<K, V> {
    pub(super) slots: HashMap<SmolStr, Slot<K, V>, RandomState>,
    /// Keys that wait and have not been tried, by epoch and age, oldest first; how many bytes they have.
    fresh: VecDeque<SmolStr>,
    fresh_bytes: usize,
    /// Keys that are to be tried again now, and later.
    again: VecDeque<SmolStr>,
    later: BTreeMap<(Instant, u64), SmolStr>,
    tickets: u64,
    /// Whether those that are to be tried again come next.
    again_next: bool,
    pub(super) in_flight: usize,
    pub(super) writes: usize,
    pub(super) bytes: usize,
    /// How many writes there are of each epoch. An epoch ends when somebody wants to know when all so far is done.
    pub(super) epochs: BTreeMap<u64, usize>,
    pub(super) epoch: u64,
    /// What is of an earlier epoch than this is due at once.
    pub(super) hurried: u64,
    /// What the taker waits for, if it does.
    pub(super) awaited: Option<Due>,
    pub(super) closed: bool,
}

pub(super) struct Slot<K, V> {
    pub(super) waiting: Option<Waiting<K, V>>,
    pub(super) flying: Option<Waiting<K, V>>,
    /// What was in flight when it was forgotten, and has not landed yet. Nothing of the key flies meanwhile.
    ghost: Option<Write<K, V>>,
}

pub(super) struct Waiting<K, V> {
    pub(super) write: Write<K, V>,
    bytes: usize,
    trial: Trial,
    pub(super) since: Instant,
    epoch: u64,
    place: Place,
    /// Whether the cache has it, or something later, or nothing.
    pub(super) cached: bool,
}

/// In which list the key of a waiting write is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Fresh,
    Again,
    /// In none: it waits behind a write of its key.
    Behind,
}

impl<K: CacheKey + Clone, V: Clone> State<K, V> {
    pub(super) fn new() -> Self {
        Self {
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
        }
    }

    pub(super) fn admit(&self, key: &SmolStr, bytes: usize, bounds: Bounds) -> Result<()> {
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
    pub(super) fn push(&mut self, key: SmolStr, write: Write<K, V>, bytes: usize) -> bool {
        let (slot, place) = match self.slots.entry(key) {
            MapEntry::Occupied(slot) => (slot.into_mut(), Place::Behind),
            MapEntry::Vacant(slot) => {
                self.fresh.push_back(slot.key().clone());
                let slot = slot.insert(Slot { waiting: None, flying: None, ghost: None });
                (slot, Place::Fresh)
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
    pub(super) fn take(&mut self, due: Due) -> Vec<Taken<K, V>> {
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
    pub(super) fn next(&self, due: Due) -> Option<Instant> {
        let fresh = self.oldest().and_then(|oldest| oldest.since.checked_add(due.age));
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        fresh.into_iter().chain(later).min()
    }

    fn oldest(&self) -> Option<&Waiting<K, V>> {
        self.slots.get(self.fresh.front()?)?.waiting.as_ref()
    }

    /// A write comes back: done, or to be tried again at this time.
    pub(super) fn land(&mut self, taken: &Taken<K, V>, again: Option<Instant>) {
        let key = taken.write.key.key().to_smol();
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(mut back) = slot.flying.take_if(|flying| flying.write.seq == taken.write.seq)
        else {
            return self.land_ghost(key, taken);
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

    /// Whether it has not been forgotten since it was taken.
    pub(super) fn flies(&self, taken: &Taken<K, V>) -> bool {
        let slot = self.slots.get(&*taken.write.key.key());
        let flying = slot.and_then(|slot| slot.flying.as_ref());
        flying.is_some_and(|flying| flying.write.seq == taken.write.seq)
    }

    /// What was forgotten in flight is others' to try again, and lets go of its key.
    fn land_ghost(&mut self, key: SmolStr, taken: &Taken<K, V>) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.ghost.take_if(|ghost| ghost.seq == taken.write.seq).is_none() {
            return;
        }
        if slot.waiting.is_some() {
            self.behind_is_fresh(key);
        } else {
            self.slots.remove(&key);
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

    /// Takes out all writes for which `gone` holds; returns how many of them may still reach the source.
    pub(super) fn forget(&mut self, gone: impl Fn(&Write<K, V>) -> bool) -> usize {
        let (mut freed, mut flying) = (Vec::new(), 0);
        for slot in self.slots.values_mut() {
            freed.extend(slot.waiting.take_if(|waiting| gone(&waiting.write)));
            if let Some(forgotten) = slot.flying.take_if(|flying| gone(&flying.write)) {
                self.in_flight -= 1;
                slot.ghost = Some(forgotten.write.clone());
                freed.push(forgotten);
            }
            flying += usize::from(slot.ghost.as_ref().is_some_and(&gone));
        }
        for write in &freed {
            self.count_out(write);
        }
        self.unlist();
        flying
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
    fn unlist(&mut self) {
        let slots = &mut self.slots;
        slots.retain(|_, slot| {
            slot.waiting.is_some() || slot.flying.is_some() || slot.ghost.is_some()
        });
        let waits = |key: &SmolStr| slots.get(key).is_some_and(|slot| slot.waiting.is_some());
        self.fresh.retain(&waits);
        self.again.retain(&waits);
        self.later.retain(|_, key| waits(key));
        let fresh = self.fresh.iter().filter_map(|key| self.slots.get(key)?.waiting.as_ref());
        self.fresh_bytes = fresh.map(|waiting| waiting.bytes).sum();
    }
}

type MapEntryOf<'a> = std::collections::btree_map::Entry<'a, u64, usize>;
