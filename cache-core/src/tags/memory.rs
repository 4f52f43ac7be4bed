use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use smol_str::SmolStr;

use super::marked::Cell;
use super::{Marks, Revision, Stamp};
use crate::unique::unique;
use crate::{NearTier, Result};

/// So many marks that no entry refers to are kept, those that were changed last: by them it is known
/// which tags have been invalidated during the loads that are under way.
const KEPT: usize = 1024;

/// The marks of tags, in this process. A clone is a handle to the same marks.
///
/// A hit compares one number per tag, without a look-up. A mark lives as long as an entry in memory
/// refers to it. Of the others the 1024 that were changed last are kept; a store of *bytes* whose entries have more tags
/// than that forgets some of them early.
///
/// They belong to the stores of this process, and end with it: entries that others have stamped, or that were stamped before a
/// restart, are not valid by these, and others do not hear of what is invalidated by these. What processes share needs marks that
/// they share, on a server.
///
/// ```
/// use cache_core::{CacheStoreExt, MemoryMarks, TagStore};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let marks = MemoryMarks::new();
/// let prices = MemoryStore::new(100).tagged(marks, |key: &str, _: Option<&u32>| [key.to_owned()]);
/// prices.put("tea", 3, Duration::from_secs(60)).await?;
/// prices.invalidate_tags(&["tea"]).await?;
/// assert_eq!(prices.value("tea").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryMarks(Arc<Shared>);

struct Shared {
    revision: Revision,
    table: Mutex<Table>,
}

struct Table {
    marks: HashMap<SmolStr, Arc<Cell>>,
    epoch: u64,
    /// No mark that has been forgotten was changed later than this.
    forgotten: u64,
    /// When there are this many, those that nothing refers to are swept.
    sweep_at: usize,
}

impl MemoryMarks {
    /// No marks yet.
    #[must_use]
    pub fn new() -> Self {
        // Far from where those from before a restart began, and those of others, so that no entry they have stamped has a
        // generation of these. It leaves room for more invalidations than there will be.
        let first = (unique() >> 2) + 1;
        let table =
            Table { marks: HashMap::new(), epoch: first, forgotten: first, sweep_at: 2 * KEPT };
        Self(Arc::new(Shared { revision: Revision::new(), table: Mutex::new(table) }))
    }

    /// How many marks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().marks.len()
    }

    /// Whether there are no marks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the marks that no entry refers to. Loads that are under way may then not be kept.
    ///
    /// Nobody has to call it: they are bounded.
    pub fn purge(&self) {
        self.lock().sweep(0);
    }

    // Nothing in here panics while it is locked, and every state is a valid one.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of a stamp that has not met its cell yet.
    #[cold]
    fn look_up(&self, stamp: &Stamp) -> bool {
        let table = self.lock();
        table.marks.get(stamp.tag()).is_some_and(|cell| {
            let cell = stamp.cell().get_or_init(|| Arc::clone(cell));
            cell.get() == stamp.generation()
        })
    }
}

impl Table {
    fn stamp(&mut self, tags: &[&str], since: Option<u64>) -> Option<Vec<Stamp>> {
        if let Some(since) = since {
            let known = |tag: &&str| {
                let generation = self.marks.get(*tag).map_or(self.forgotten, |cell| cell.get());
                generation <= since
            };
            // An epoch that has not been yet is not one of these marks'.
            if since > self.epoch || !tags.iter().all(known) {
                return None;
            }
        }
        self.make_room(tags.len());
        let stamps = tags.iter().map(|tag| {
            let tag = SmolStr::new(tag);
            let cell = match self.marks.entry(tag.clone()) {
                MapEntry::Occupied(mark) => mark.into_mut(),
                MapEntry::Vacant(mark) => mark.insert(Arc::new(Cell::new(self.forgotten))),
            };
            Stamp::at(tag, Arc::clone(cell))
        });
        Some(stamps.collect())
    }

    fn invalidate(&mut self, tags: &[&str]) {
        self.epoch += 1;
        self.make_room(tags.len());
        for tag in tags {
            match self.marks.get(*tag) {
                Some(cell) => cell.set(self.epoch),
                None => {
                    self.marks.insert(SmolStr::new(tag), Arc::new(Cell::new(self.epoch)));
                }
            }
        }
    }

    fn invalidate_all(&mut self) {
        self.epoch += 1;
        // Also of tags that have no mark now.
        self.forgotten = self.epoch;
        self.marks.values().for_each(|cell| cell.set(self.epoch));
    }

    /// What is left decides when to sweep again, so that each change pays a constant share of it.
    fn make_room(&mut self, more: usize) {
        if self.marks.len() + more > self.sweep_at {
            self.sweep(KEPT);
        }
    }

    /// Drops the marks that nothing refers to, except for so many that were changed last.
    fn sweep(&mut self, kept: usize) {
        // Nobody but this table, which is locked, could make a reference of the only one.
        let idle = |cell: &Arc<Cell>| Arc::strong_count(cell) == 1;
        let idle_marks = self.marks.values().filter(|cell| idle(cell));
        let mut generations: Vec<u64> = idle_marks.map(|cell| cell.get()).collect();
        if generations.len() > kept {
            let last = generations.len() - kept - 1;
            let (_, &mut dropped, _) = generations.select_nth_unstable(last);
            self.marks.retain(|_, cell| !idle(cell) || cell.get() > dropped);
            self.forgotten = self.forgotten.max(dropped);
        }
        self.marks.shrink_to(2 * self.marks.len());
        self.sweep_at = 2 * self.marks.len().max(KEPT);
    }
}

#[deny(clippy::missing_trait_methods)]
impl Marks for MemoryMarks {
    async fn epoch(&self) -> Result<u64> {
        Ok(self.lock().epoch)
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        _life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        Ok(self.lock().stamp(tags, since))
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        let table = self.lock();
        Ok(tags.iter().map(|tag| table.marks.get(*tag).map(|cell| cell.get())).collect())
    }

    #[inline]
    fn holds_now(&self, stamps: &[Stamp]) -> Poll<bool> {
        Poll::Ready(stamps.iter().all(|stamp| match stamp.cell().get() {
            Some(cell) => cell.get() == stamp.generation(),
            None => self.look_up(stamp),
        }))
    }

    #[inline(always)]
    fn revision(&self) -> Option<&Revision> {
        Some(&self.0.revision)
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        self.lock().invalidate(tags);
        self.0.revision.advance();
        Ok(())
    }

    async fn invalidate_all(&self) -> Result<()> {
        self.lock().invalidate_all();
        self.0.revision.advance();
        Ok(())
    }

    // It keeps no copies.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

impl Default for MemoryMarks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.lock();
        f.debug_struct("MemoryMarks")
            .field("len", &table.marks.len())
            .field("epoch", &table.epoch)
            .finish_non_exhaustive()
    }
}
