use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;

use crate::tags::marked::Cell;
use crate::tags::{Revision, Stamp};

/// Below so many tags it is not worth looking for those that no entry refers to.
const FEW: usize = 1024;

/// A generation that is not known here.
const UNKNOWN: u64 = 0;

/// What is known here of the marks.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) revision: Revision,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    copies: HashMap<SmolStr, Arc<Copy>>,
    /// Counts what was forgotten.
    changes: u64,
    /// The change at which all was forgotten last.
    emptied: u64,
    sweep_at: usize,
}

/// The copy of a mark.
#[derive(Debug)]
struct Copy {
    generation: Arc<Cell>,
    /// The change at which it was forgotten last. Changed under the table's lock.
    forgotten: AtomicU64,
}

/// The right to copy the marks that are being asked for, unless they are forgotten meanwhile.
pub(super) struct Ticket {
    copies: Vec<Arc<Copy>>,
    change: u64,
}

impl Copies {
    /// To be taken before the marks are asked for.
    pub(super) fn ticket(&self, tags: &[&str]) -> Ticket {
        let mut table = self.lock();
        let copies = tags.iter().map(|tag| table.copy(tag)).collect();
        Ticket { copies, change: table.changes }
    }

    pub(super) fn keep(&self, ticket: &Ticket, generations: impl Iterator<Item = Option<u64>>) {
        let table = self.lock();
        let mut changed = false;
        for (copy, generation) in ticket.copies.iter().zip(generations) {
            let forgotten = table.emptied.max(copy.forgotten.load(Ordering::Relaxed));
            // Answers may overtake each other, and marks only grow.
            if let Some(generation) = generation
                && forgotten <= ticket.change
                && generation > copy.generation.get()
            {
                // While it was not known, no entry with the tag was found to hold.
                changed |= copy.generation.get() != UNKNOWN;
                copy.generation.set(generation);
            }
        }
        if changed {
            self.revision.advance();
        }
    }

    pub(super) fn forget<'a>(&self, tags: impl Iterator<Item = &'a str>) {
        let mut table = self.lock();
        table.changes += 1;
        for tag in tags {
            if let Some(copy) = table.copies.get(tag) {
                copy.forgotten.store(table.changes, Ordering::Relaxed);
                copy.generation.set(UNKNOWN);
            }
        }
        self.revision.advance();
    }

    pub(super) fn forget_all(&self) {
        let mut table = self.lock();
        table.changes += 1;
        table.emptied = table.changes;
        table.copies.values().for_each(|copy| copy.generation.set(UNKNOWN));
        self.revision.advance();
    }

    /// What is known of a tag: the way of a stamp that has not met its copy yet.
    #[cold]
    pub(super) fn attach<'a>(&self, stamp: &'a Stamp) -> Option<&'a Arc<Cell>> {
        let copy = Arc::clone(self.lock().copies.get(stamp.tag())?);
        Some(stamp.cell().get_or_init(|| Arc::clone(&copy.generation)))
    }

    pub(super) fn len(&self) -> usize {
        self.lock().copies.len()
    }

    // Nothing in here panics while it is locked, and every state is a valid one.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn copy(&mut self, tag: &str) -> Arc<Copy> {
        if let Some(copy) = self.copies.get(tag) {
            return Arc::clone(copy);
        }
        if self.copies.len() >= self.sweep_at.max(FEW) {
            // Neither an entry nor a question refers to them. What is left decides when to sweep again.
            self.copies.retain(|_, copy| {
                Arc::strong_count(copy) > 1 || Arc::strong_count(&copy.generation) > 1
            });
            self.copies.shrink_to(2 * self.copies.len());
            self.sweep_at = 2 * self.copies.len();
        }
        let generation = Arc::new(Cell::new(UNKNOWN));
        let copy = Arc::new(Copy { generation, forgotten: AtomicU64::new(0) });
        self.copies.insert(tag.into(), Arc::clone(&copy));
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(copies: &Copies, tag: &str) -> Option<u64> {
        let stamp = Stamp::new(tag, 1);
        copies.attach(&stamp).map(|cell| cell.get()).filter(|generation| *generation != UNKNOWN)
    }

    #[test]
    fn what_was_forgotten_while_it_was_asked_for_is_not_kept() {
        let copies = Copies::default();
        let before = copies.ticket(&["a", "b"]);
        copies.forget(["a"].into_iter());
        copies.keep(&before, [Some(7), Some(7)].into_iter());
        assert_eq!((known(&copies, "a"), known(&copies, "b")), (None, Some(7)));

        let before = copies.ticket(&["a", "b"]);
        copies.forget_all();
        copies.keep(&before, [Some(8), Some(8)].into_iter());
        assert_eq!((known(&copies, "a"), known(&copies, "b")), (None, None));

        let (older, newer) = (copies.ticket(&["a"]), copies.ticket(&["a"]));
        copies.keep(&newer, [Some(9)].into_iter());
        copies.keep(&older, [Some(8)].into_iter());
        assert_eq!(known(&copies, "a"), Some(9), "an answer that was overtaken");
    }

    #[test]
    fn copies_that_nobody_refers_to_are_bounded() {
        let copies = Copies::default();
        let stamp = Stamp::new("0", 1);
        for tag in 0..100_000 {
            let tag = tag.to_string();
            let ticket = copies.ticket(&[tag.as_str()]);
            copies.keep(&ticket, [Some(1)].into_iter());
            copies.attach(&stamp);
        }
        assert!(copies.len() <= 2 * FEW, "{} copies", copies.len());
        assert_eq!(known(&copies, "0"), Some(1), "an entry refers to it");
    }
}
