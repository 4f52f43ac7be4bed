//! Whether near copies are made of what is read alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Set while whoever tells of changes tells of those of what was read alone: what is written, and not read, is not to be
/// copied then, here or above.
#[derive(Debug, Default)]
pub(crate) struct OnlyReads {
    own: AtomicBool,
    /// How many of those that are asked behind it have it set.
    below: AtomicUsize,
}

impl OnlyReads {
    pub(crate) fn is_set(&self) -> bool {
        self.own.load(Relaxed) || self.below.load(Relaxed) > 0
    }

    /// For what keeps these copies themselves.
    pub(crate) fn set(&self, only: bool) {
        self.own.store(only, Relaxed);
    }

    /// One of those below has it set now, or not any more.
    pub(crate) fn below(&self, only: bool) {
        match only {
            true => self.below.fetch_add(1, Relaxed),
            false => self.below.fetch_sub(1, Relaxed),
        };
    }
}
