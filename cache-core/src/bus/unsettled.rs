//! What was to be removed from the far store, and of which nobody knows whether it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Change;

/// Each key, tag, prefix by itself: one that can't be removed holds up no other, and has no other removed twice.
#[derive(Debug)]
pub(super) struct Unsettled {
    waiting: Mutex<Waiting>,
    most: usize,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    each: HashMap<Change, Coming>,
    /// Those that have not been tried, in their order.
    fresh: VecDeque<Change>,
    /// Those that have failed, by when they are tried again.
    failed: BTreeMap<(Instant, u64), Change>,
    /// How many have come.
    come: u64,
    /// How many have failed.
    failures: u64,
    overflows: u64,
}

/// Which of all that came it was: a key may come once more while it waits.
#[derive(Clone, Copy, Debug)]
struct Coming {
    first: u64,
    last: u64,
    failures: u32,
}

/// One that is in hand.
#[derive(Debug)]
pub(super) struct One {
    pub(super) change: Change,
    /// How often it has failed.
    pub(super) failures: u32,
    came: u64,
}

impl Unsettled {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most, came: Notify::new() }
    }

    /// Adds what is to be removed. If there is too much, everything is; returns how many are given up because the store
    /// can't do that.
    pub(super) fn push(&self, change: Change, clears: bool) -> usize {
        let mut waiting = self.lock();
        let mut given_up = 0;
        for one in change.each() {
            waiting.add(one.clone());
            if waiting.each.len() <= self.most {
                continue;
            }
            if clears {
                waiting.take_everything();
            } else {
                // Those before it have waited for longer.
                waiting.each.remove(&one);
                waiting.fresh.pop_back();
                given_up += 1;
            }
        }
        drop(waiting);
        self.came.notify_one();
        given_up
    }

    /// The next that is to be tried now, which is in hand from now on; the new ones first.
    pub(super) fn next(&self, now: Instant) -> Option<One> {
        let mut waiting = self.lock();
        loop {
            let change = waiting.fresh.pop_front().or_else(|| waiting.due(now))?;
            // It may have been forgotten because there were too many.
            if let Some(Coming { last, failures, .. }) = waiting.each.get(&change).copied() {
                return Some(One { change, failures, came: last });
            }
        }
    }

    /// When one that has failed is to be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().failed.first_key_value().map(|((due, _), _)| *due)
    }

    /// It is settled, unless it has come once more since it was in hand: what came may have been made after the removal.
    pub(super) fn done(&self, one: One) {
        let mut waiting = self.lock();
        match waiting.each.get(&one.change) {
            Some(coming) if coming.last != one.came => waiting.fresh.push_back(one.change),
            _ => drop(waiting.each.remove(&one.change)),
        }
    }

    pub(super) fn failed(&self, one: One, again: Instant) {
        let mut waiting = self.lock();
        waiting.failures += 1;
        let nth = waiting.failures;
        if let Some(coming) = waiting.each.get_mut(&one.change) {
            coming.failures = coming.failures.saturating_add(1);
            waiting.failed.insert((again, nth), one.change);
        }
    }

    /// Waits until something may have come.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// How many have come.
    pub(super) fn come(&self) -> u64 {
        self.lock().come
    }

    /// Whether one that is not settled is among the first so many that came.
    pub(super) fn has_any_of(&self, first: u64) -> bool {
        self.lock().each.values().any(|coming| coming.first <= first)
    }

    /// How many wait or are in hand, and how often it was too many.
    pub(super) fn state(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.each.len(), waiting.overflows)
    }

    // Nothing in here panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, change: Change) {
        self.come += 1;
        let nth = self.come;
        if let Some(coming) = self.each.get_mut(&change) {
            coming.last = nth;
            return;
        }
        self.each.insert(change.clone(), Coming { first: nth, last: nth, failures: 0 });
        self.fresh.push_back(change);
    }

    fn take_everything(&mut self) {
        let first = self.each.values().map(|coming| coming.first).min().unwrap_or(self.come);
        self.each.clear();
        self.fresh.clear();
        self.failed.clear();
        let coming = Coming { first, last: self.come, failures: 0 };
        self.each.insert(Change::Clear, coming);
        self.fresh.push_back(Change::Clear);
        self.overflows += 1;
    }

    fn due(&mut self, now: Instant) -> Option<Change> {
        let first = self.failed.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}
