//! The right to make a near copy of what is being read from the far store.
//!
//! A ticket is a lease of the near store, taken *before* the far store is asked. Whatever touches the key in
//! the near store takes it away: a write, a removal, a message from elsewhere, a prefix, a clear. So a copy
//! is made only if nothing has touched the key since.
//!
//! Reads of one key share the ticket of the first of them, as they all began after it was taken. Whoever
//! is answered first makes the copy.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;

use crate::Lease;

const SHARDS: usize = 16;

/// The tickets that are out.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    shards: [Mutex<HashMap<SmolStr, Shared>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Shared {
    lease: Arc<Mutex<Option<Lease>>>,
    readers: usize,
}

/// One reader's share in a ticket.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    tickets: &'a Tickets,
    key: SmolStr,
    lease: Arc<Mutex<Option<Lease>>>,
    /// Whether others can find it.
    listed: bool,
}

impl Tickets {
    /// A share in the ticket that is out for this key, unless it has been used.
    pub(super) fn join(&self, key: &str) -> Option<Ticket<'_>> {
        let mut shard = self.shard(key);
        let (key, shared) = shard.get_key_value(key)?;
        let key = key.clone();
        if lock(&shared.lease).is_none() {
            return None;
        }
        let shared = shard.get_mut(&key)?;
        shared.readers += 1;
        Some(Ticket { tickets: self, key, lease: Arc::clone(&shared.lease), listed: true })
    }

    /// A ticket that others may join.
    pub(super) fn issue(&self, key: &str, lease: Lease) -> Ticket<'_> {
        let lease = Arc::new(Mutex::new(Some(lease)));
        let key = SmolStr::new(key);
        let shared = Shared { lease: Arc::clone(&lease), readers: 1 };
        // One that was there has been used, or its lease has been lost.
        self.shard(&key).insert(key.clone(), shared);
        Ticket { tickets: self, key, lease, listed: true }
    }

    /// A ticket for a write, which is nobody else's: what others read is not what is being written.
    pub(super) fn issue_alone(&self, key: &str, lease: Lease) -> Ticket<'_> {
        let lease = Arc::new(Mutex::new(Some(lease)));
        Ticket { tickets: self, key: SmolStr::new(key), lease, listed: false }
    }

    /// How many keys have a ticket out.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, HashMap<SmolStr, Shared>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

impl Ticket<'_> {
    /// The lease, if nobody has used it.
    pub(super) fn take(&self) -> Option<Lease> {
        lock(&self.lease).take()
    }

    /// Leaves, and returns the lease if it is nobody's any more.
    pub(super) fn leave(&mut self) -> Option<Lease> {
        if !self.listed {
            return self.take();
        }
        self.listed = false;
        let mut shard = self.tickets.shard(&self.key);
        let Some(shared) = shard.get_mut(&self.key) else {
            return self.take();
        };
        if !Arc::ptr_eq(&shared.lease, &self.lease) {
            // A later one has taken its place. Who still shares this one leaves its lease to its end.
            return None;
        }
        shared.readers -= 1;
        if shared.readers > 0 {
            return None;
        }
        shard.remove(&self.key);
        drop(shard);
        self.take()
    }
}

// Nothing panics while one of these is locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_a_ticket_and_the_first_uses_it() {
        let tickets = Tickets::default();
        let mut first = tickets.issue("key", Lease::new("key", 1));
        let mut second = tickets.join("key").expect("it is out");
        assert_eq!(second.take(), Some(Lease::new("key", 1)));
        assert_eq!(first.take(), None);
        assert!(tickets.join("key").is_none(), "it has been used");
        assert_eq!((first.leave(), second.leave()), (None, None));
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn the_last_who_leaves_gives_the_lease_back() {
        let tickets = Tickets::default();
        let mut first = tickets.issue("key", Lease::new("key", 1));
        let mut second = tickets.join("key").expect("it is out");
        assert_eq!(first.leave(), None);
        assert_eq!(second.leave(), Some(Lease::new("key", 1)));
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn a_later_ticket_is_not_ended_by_an_earlier_one() {
        let tickets = Tickets::default();
        let mut old = tickets.issue("key", Lease::new("key", 1));
        drop(old.take());
        let mut new = tickets.issue("key", Lease::new("key", 2));
        assert_eq!(old.leave(), None);
        assert!(tickets.join("key").is_some_and(|mut joined| joined.leave().is_none()));
        assert_eq!(new.leave(), Some(Lease::new("key", 2)));
        assert_eq!(tickets.len(), 0);
    }
}
