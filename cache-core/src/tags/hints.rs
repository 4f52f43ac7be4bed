use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Stamp;

/// So many keys are remembered.
const SLOTS: usize = 1 << 14;

/// Which tags a key had when it was last seen, so that their marks can be asked for together with its entry.
///
/// A wrong hint, or none, costs one more question. So each key has one place, and the newest key
/// of a place is the one that is remembered.
pub(super) struct Hints {
    slots: OnceLock<Box<[Slot]>>,
    hasher: RandomState,
}

type Slot = Mutex<Option<(u64, Arc<[Stamp]>)>>;

impl Hints {
    pub(super) fn new() -> Self {
        Self { slots: OnceLock::new(), hasher: RandomState::new() }
    }

    /// The stamps that were last seen on the key; not always those of this key.
    pub(super) fn get(&self, key: &str) -> Option<Arc<[Stamp]>> {
        let hash = self.hasher.hash_one(key);
        let slot = &self.slots.get()?[hash as usize % SLOTS];
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (owner, stamps) = slot.as_ref()?;
        (*owner == hash).then(|| Arc::clone(stamps))
    }

    pub(super) fn remember(&self, key: &str, stamps: &Arc<[Stamp]>) {
        // Not before it is needed: marks in this process need no hints.
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| Slot::default()).collect());
        let hash = self.hasher.hash_one(key);
        let hint = Some((hash, Arc::clone(stamps)));
        let mut slot = slots[hash as usize % SLOTS].lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *slot, hint);
        drop(slot);
        drop(before);
    }
}
