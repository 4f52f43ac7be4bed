use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What goes wrong with a file, on demand. Tests get at it by the path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// The file can't get longer, and nothing is written behind it.
    room: Option<u64>,
    /// So many more writes, then none.
    writes_left: Option<u32>,
    fails_to_sync: bool,
    failed: bool,
}

static ALL: Mutex<Option<HashMap<PathBuf, Faults>>> = Mutex::new(None);

impl Faults {
    pub(crate) fn of(path: &Path) -> Self {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().entry(path.to_owned()).or_default().clone()
    }

    /// The disk is full: the file gets no longer than this.
    pub(crate) fn room(&self, bytes: u64) {
        self.0.lock().unwrap().room = Some(bytes);
    }

    /// After so many more writes the disk takes none.
    pub(crate) fn writes_left(&self, writes: u32) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    /// `fsync` fails.
    pub(crate) fn no_sync(&self) {
        self.0.lock().unwrap().fails_to_sync = true;
    }

    /// All is well again; says whether anything has failed meanwhile.
    pub(crate) fn over(&self) -> bool {
        std::mem::take(&mut *self.0.lock().unwrap()).failed
    }

    pub(super) fn before_a_write(&self, end: u64) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        let full = plan.room.is_some_and(|room| end > room) || plan.writes_left == Some(0);
        if full {
            plan.failed = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        plan.writes_left = plan.writes_left.map(|left| left - 1);
        Ok(())
    }

    pub(super) fn before_a_sync(&self) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        plan.failed |= plan.fails_to_sync;
        if plan.fails_to_sync { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}
