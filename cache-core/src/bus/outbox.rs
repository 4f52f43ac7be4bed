//! Changes that have not been announced yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::Change;

/// So many keys, or tags, go together.
const TOGETHER: usize = 500;

/// A message has at most about so many bytes, unless a key alone is longer.
const LONGEST: usize = 32 << 10;

/// A bounded queue. What does not fit becomes one change of everything.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    most: usize,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<Outgoing>,
    /// Keys, tags, and other changes, in all of them.
    count: usize,
    /// How many have come, however many are together by now.
    come: u64,
    overflows: u64,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) change: Change,
    /// The last of all that came of which nothing is left behind it.
    pub(super) last: u64,
    bytes: usize,
}

impl Outbox {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most, came: Notify::new() }
    }

    pub(super) fn push(&self, change: Change) {
        if change.count() == 0 {
            // No message would ever say that it has come.
            return;
        }
        let mut waiting = self.lock();
        waiting.count += change.count();
        waiting.come += 1;
        let last = waiting.come;
        match change {
            Change::Keys(keys) => waiting.add(keys, Change::Keys),
            Change::Tags(tags) => waiting.add(tags, Change::Tags),
            change => waiting.changes.push_back(Outgoing { change, last, bytes: 0 }),
        }
        if waiting.count > self.most {
            waiting.changes.clear();
            waiting.changes.push_back(Outgoing { change: Change::Clear, last, bytes: 0 });
            waiting.count = 1;
            waiting.overflows += 1;
        }
        drop(waiting);
        self.came.notify_one();
    }

    pub(super) fn pop(&self) -> Option<Outgoing> {
        let mut waiting = self.lock();
        let next = waiting.changes.pop_front()?;
        waiting.count -= next.change.count();
        Some(next)
    }

    /// Waits until something may have come.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// How many changes have come.
    pub(super) fn come(&self) -> u64 {
        self.lock().come
    }

    /// How much waits, and how often it was too much.
    pub(super) fn state(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.count, waiting.overflows)
    }

    // Nothing in here panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds keys, or tags, to the last change if it is of their kind, and has room.
    fn add(&mut self, names: Vec<SmolStr>, kind: fn(Vec<SmolStr>) -> Change) {
        for name in names {
            let bytes = name.len();
            let one = kind(vec![name.clone()]);
            if let Some(last) = self.changes.back_mut()
                && let (Change::Keys(names), Change::Keys(_))
                | (Change::Tags(names), Change::Tags(_)) = (&mut last.change, &one)
                && names.len() < TOGETHER
                && last.bytes + bytes <= LONGEST
            {
                names.push(name);
                last.bytes += bytes;
            } else {
                self.changes.push_back(Outgoing { change: one, last: self.come - 1, bytes });
            }
        }
        // They may take several messages, and have not been sent before the last of these.
        if let Some(last) = self.changes.back_mut() {
            last.last = self.come;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &Outbox) -> Vec<Change> {
        std::iter::from_fn(|| outbox.pop()).map(|next| next.change).collect()
    }

    #[test]
    fn keys_go_together_and_nothing_overtakes() {
        let outbox = Outbox::new(100);
        outbox.push(Change::key("a"));
        outbox.push(Change::keys(["b", "c"]));
        outbox.push(Change::Prefix("e".into()));
        outbox.push(Change::key("f"));
        outbox.push(Change::tag("f"));
        outbox.push(Change::tags(["g", "h"]));
        assert_eq!(outbox.state().0, 8);
        let expected = [
            Change::keys(["a", "b", "c"]),
            Change::Prefix("e".into()),
            Change::key("f"),
            Change::tags(["f", "g", "h"]),
        ];
        assert_eq!(all(&outbox), expected);
        assert_eq!(outbox.state(), (0, 0));
    }

    #[test]
    fn of_a_change_that_takes_several_messages_only_the_last_one_is_its_end() {
        let outbox = Outbox::new(10_000);
        outbox.push(Change::key("before"));
        let keys: Vec<_> = (0..1200).map(|n| format!("key {n}")).collect();
        outbox.push(Change::keys(keys.iter().map(String::as_str)));
        outbox.push(Change::key("after"));
        let ends: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|next| next.last).collect();
        // The first has the end of the first, and the third that of both others.
        assert_eq!((ends, outbox.come()), (vec![1, 1, 3], 3));
    }

    #[test]
    fn a_change_of_nothing_is_none() {
        let outbox = Outbox::new(10);
        outbox.push(Change::tags([]));
        outbox.push(Change::keys([]));
        assert_eq!((outbox.come(), all(&outbox)), (0, Vec::new()));
    }

    #[test]
    fn too_many_become_everything() {
        let outbox = Outbox::new(3);
        outbox.push(Change::keys(["a", "b", "c"]));
        outbox.push(Change::key("d"));
        assert_eq!(outbox.state(), (1, 1));
        outbox.push(Change::key("e"));
        assert_eq!(all(&outbox), [Change::Clear, Change::key("e")]);
    }

    #[test]
    fn a_message_is_bounded_by_keys_and_by_bytes() {
        let outbox = Outbox::new(10_000);
        let keys: Vec<_> = (0..1200).map(|n| format!("key {n}")).collect();
        outbox.push(Change::keys(keys.iter().map(String::as_str)));
        let long = "k".repeat(20 << 10);
        outbox.push(Change::keys([&*long, &*long]));
        let lengths: Vec<_> = all(&outbox)
            .into_iter()
            .map(|change| match change {
                Change::Keys(keys) => keys.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(lengths, [500, 500, 201, 1]);
    }
}
