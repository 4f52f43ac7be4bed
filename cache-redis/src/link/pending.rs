//! Invalidations that could not be sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache_core::Version;
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
    /// Invalidate a tag.
    Invalidate { log: SmolStr, mark: SmolStr, tag: SmolStr },
}

/// Something pending.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) what: Pending,
    /// The version of an entry that this process has written since, or tried to.
    pub(crate) spared: Option<Version>,
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
    by_order: BTreeMap<u64, Kept>,
    by_key: HashMap<(bool, SmolStr), u64>,
    count: u64,
}

impl Backlog {
    pub(crate) fn new(most: usize, everything: SmolStr) -> Self {
        Self { inner: Mutex::default(), most, everything }
    }

    /// Adds what comes now.
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

    /// The number of the removal that is pending for a key.
    pub(crate) fn removal_of(&self, key: &str) -> Option<u64> {
        let inner = self.lock();
        if inner.by_order.is_empty() {
            return None;
        }
        let order = *inner.by_key.get(&(false, key.into()))?;
        let kept = inner.by_order.get(&order)?;
        matches!(kept.what, Pending::Remove(_)).then_some(order)
    }

    /// Has the removal of this number spare the entry of a write that began later than it came. If that write fails, its
    /// own removal takes the place of this one.
    pub(crate) fn spare(&self, order: u64, version: Version) {
        if let Some(kept) = self.lock().by_order.get_mut(&order) {
            kept.spared = Some(version);
        }
    }

    /// A key is removed once more: what was written since the removal that is pending goes with it.
    pub(crate) fn spare_none(&self, key: &str) {
        let mut inner = self.lock();
        if !inner.by_order.is_empty()
            && let Some(&order) = inner.by_key.get(&(false, key.into()))
            && let Some(kept) = inner.by_order.get_mut(&order)
        {
            kept.spared = None;
        }
    }

    /// All keys with this prefix are removed once more.
    pub(crate) fn spare_none_of(&self, prefix: &str) {
        for kept in self.lock().by_order.values_mut() {
            if matches!(&kept.what, Pending::Remove(key) if key.starts_with(prefix)) {
                kept.spared = None;
            }
        }
    }

    /// The oldest ones of those that are `wanted`, with their numbers, at most so many, and none up to
    /// the number `after`.
    pub(crate) fn oldest(
        &self,
        after: u64,
        most: usize,
        wanted: impl Fn(&Pending) -> bool,
    ) -> Vec<(u64, Kept)> {
        let inner = self.lock();
        let wanted = inner.by_order.range(after + 1..).filter(|(_, kept)| wanted(&kept.what));
        wanted.take(most).map(|(order, kept)| (*order, kept.clone())).collect()
    }

    /// The removals by prefix.
    pub(crate) fn prefixes(&self) -> Vec<(u64, Kept)> {
        self.oldest(0, usize::MAX, |pending| matches!(pending, Pending::RemovePrefix(_)))
    }

    /// Forgets one that has been done, unless it has been replaced meanwhile.
    pub(crate) fn done(&self, order: u64) {
        let mut inner = self.lock();
        if let Some(kept) = inner.by_order.remove(&order) {
            inner.by_key.remove(&kept.what.key());
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
    fn push(&mut self, what: Pending) {
        self.count += 1;
        self.by_key.insert(what.key(), self.count);
        self.by_order.insert(self.count, Kept { what, spared: None });
    }
}

impl Pending {
    fn key(&self) -> (bool, SmolStr) {
        match self {
            Self::Remove(key) | Self::Release(key, _) | Self::Invalidate { mark: key, .. } => {
                (false, key.clone())
            }
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
        let oldest = backlog.oldest(0, usize::MAX, |_| true).into_iter();
        oldest.map(|(_, kept)| kept.what).collect()
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
        let order = backlog.oldest(0, 1, |_| true)[0].0;
        backlog.add(remove("a"));
        backlog.done(order);
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn a_removal_spares_what_is_written_later_and_the_next_removal_does_not() {
        let backlog = Backlog::new(10, "s:".into());
        let spared = || backlog.oldest(0, 1, |_| true)[0].1.spared;
        assert_eq!(backlog.removal_of("a"), None, "nothing is pending");
        backlog.add(remove("a"));
        assert_eq!((backlog.removal_of("b"), spared()), (None, None), "another key");
        let order = backlog.removal_of("a").expect("it is pending");
        let spare = |number| backlog.spare(order, Version::new(number));
        spare(1);
        spare(2);
        assert_eq!(spared(), Some(Version::new(2)), "what is written last");
        backlog.spare_none("a");
        assert_eq!(spared(), None, "it is removed once more");
        spare(3);
        backlog.spare_none_of("a");
        assert_eq!(spared(), None, "with its prefix");
        backlog.add(remove("a"));
        spare(4);
        assert_eq!(spared(), None, "it came after the write had begun");
        backlog.done(backlog.oldest(0, 1, |_| true)[0].0);
        backlog.add(Pending::Release("a".into(), 1));
        assert_eq!(backlog.removal_of("a"), None, "a lease that is given back spares all entries");
    }
}
