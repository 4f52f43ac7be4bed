//! Invalidations that could not be sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;

/// What is to be done as soon as the server can be reached. Doing it twice, or late, makes a miss and
/// nothing worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Remove a key.
    Remove(SmolStr),
    /// Remove all keys with this prefix.
    RemovePrefix(SmolStr),
    /// End a lease that was perhaps granted.
    Release(SmolStr, u64),
}

/// The pending invalidations in their order: bounded, and of each key only the newest.
pub(crate) struct Backlog {
    inner: Mutex<Inner>,
    most: usize,
    /// The prefix of everything; takes the place of all the others when there are too many.
    everything: SmolStr,
}

#[derive(Default)]
struct Inner {
    by_order: BTreeMap<u64, Pending>,
    by_key: HashMap<(bool, SmolStr), u64>,
    count: u64,
}

impl Backlog {
    pub(crate) fn new(most: usize, everything: SmolStr) -> Self {
        Self { inner: Mutex::default(), most, everything }
    }

    pub(crate) fn add(&self, pending: Pending) {
        let mut inner = self.lock();
        let key = pending.key();
        if let Pending::Release(..) = pending
            && (inner.by_key.contains_key(&key) || inner.by_order.len() >= self.most)
        {
            // A removal that is pending takes the lease away as well. And a lease ends by itself, so it is
            // nothing to give other invalidations up for.
            return;
        }
        if let Some(old) = inner.by_key.remove(&key) {
            inner.by_order.remove(&old);
        }
        inner.push(pending);
        if inner.by_order.len() > self.most {
            inner.by_order.clear();
            inner.by_key.clear();
            inner.push(Pending::RemovePrefix(self.everything.clone()));
        }
    }

    /// The oldest ones, with their numbers, at most so many.
    pub(crate) fn oldest(&self, most: usize) -> Vec<(u64, Pending)> {
        let inner = self.lock();
        let oldest = inner.by_order.iter().take(most);
        oldest.map(|(order, pending)| (*order, pending.clone())).collect()
    }

    /// Forgets one that has been done, unless it has been replaced meanwhile.
    pub(crate) fn done(&self, order: u64) {
        let mut inner = self.lock();
        if let Some(pending) = inner.by_order.remove(&order) {
            inner.by_key.remove(&pending.key());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_order.len()
    }

    // Nothing in here panics while it is locked, and each change leaves the two maps in step.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, pending: Pending) {
        self.count += 1;
        self.by_key.insert(pending.key(), self.count);
        self.by_order.insert(self.count, pending);
    }
}

impl Pending {
    fn key(&self) -> (bool, SmolStr) {
        match self {
            Self::Remove(key) | Self::Release(key, _) => (false, key.clone()),
            Self::RemovePrefix(prefix) => (true, prefix.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(key: &str) -> Pending {
        Pending::Remove(key.into())
    }

    fn all(backlog: &Backlog) -> Vec<Pending> {
        let oldest = backlog.oldest(usize::MAX).into_iter();
        oldest.map(|(_, pending)| pending).collect()
    }

    #[test]
    fn the_newest_of_a_key_is_kept_in_its_place() {
        let backlog = Backlog::new(10, "s:".into());
        for key in ["a", "b", "a", "c"] {
            backlog.add(remove(key));
        }
        assert_eq!(all(&backlog), ["b", "a", "c"].map(remove));
    }

    #[test]
    fn too_many_become_the_removal_of_everything() {
        let backlog = Backlog::new(2, "s:".into());
        for key in ["a", "b", "c"] {
            backlog.add(remove(key));
        }
        assert_eq!(all(&backlog), [Pending::RemovePrefix("s:".into())]);
        backlog.add(remove("d"));
        assert_eq!(backlog.len(), 2);
    }

    #[test]
    fn a_release_does_not_replace_a_removal() {
        let backlog = Backlog::new(10, "s:".into());
        backlog.add(Pending::Release("a".into(), 1));
        backlog.add(remove("a"));
        backlog.add(Pending::Release("a".into(), 2));
        assert_eq!(all(&backlog), [remove("a")]);
    }

    #[test]
    fn one_that_was_added_again_meanwhile_is_not_done() {
        let backlog = Backlog::new(10, "s:".into());
        backlog.add(remove("a"));
        let order = backlog.oldest(1)[0].0;
        backlog.add(remove("a"));
        backlog.done(order);
        assert_eq!(backlog.len(), 1);
    }
}
