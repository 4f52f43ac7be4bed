use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::oneshot;

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
    /// The next sync says that it has begun, and waits until the other end has gone.
    held: Option<(oneshot::Sender<()>, mpsc::Receiver<()>)>,
    platter: Option<Platter>,
}

/// What a loss of power would leave, and what has been written since the last sync.
#[derive(Debug)]
struct Platter {
    bytes: Vec<u8>,
    dirty: Vec<(u64, Vec<u8>)>,
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

    /// The next `fsync` takes until what is second is dropped; what is first tells when it has begun.
    pub(crate) fn hold_a_sync(&self) -> (oneshot::Receiver<()>, mpsc::Sender<()>) {
        let ((begins, begun), (held, holds)) = (oneshot::channel(), mpsc::channel());
        self.0.lock().unwrap().held = Some((begins, holds));
        (begun, held)
    }

    /// All is well again; says whether anything has failed meanwhile.
    pub(crate) fn over(&self) -> bool {
        let mut plan = self.0.lock().unwrap();
        let platter = plan.platter.take();
        std::mem::replace(&mut *plan, Plan { platter, ..Plan::default() }).failed
    }

    /// From now on it is known what of the file, which is closed, is on the disk. A sync that fails forgets what it had to
    /// write, as that of Linux does, and the next one does not write it.
    pub(crate) fn watch_the_disk(&self, path: &Path) {
        let bytes = std::fs::read(path).unwrap();
        self.0.lock().unwrap().platter = Some(Platter { bytes, dirty: Vec::new() });
    }

    /// What the file would be after a loss of power.
    pub(crate) fn on_the_disk(&self) -> Vec<u8> {
        self.0.lock().unwrap().platter.as_ref().expect("it is watched").bytes.clone()
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

    /// The file has this length at once: that is not what a failed sync forgets.
    pub(super) fn after_a_new_length(&self, len: u64) {
        if let Some(platter) = &mut self.0.lock().unwrap().platter {
            platter.bytes.resize(usize::try_from(len).unwrap(), 0);
        }
    }

    pub(super) fn after_a_write(&self, offset: u64, data: &[u8]) {
        if let Some(platter) = &mut self.0.lock().unwrap().platter {
            platter.dirty.push((offset, data.to_vec()));
        }
    }

    pub(super) fn before_a_sync(&self) -> io::Result<()> {
        let held = self.0.lock().unwrap().held.take();
        if let Some((begins, holds)) = held {
            let _ = begins.send(());
            let _ = holds.recv();
        }
        let plan = &mut *self.0.lock().unwrap();
        plan.failed |= plan.fails_to_sync;
        let dirty = plan.platter.as_mut().map(|platter| std::mem::take(&mut platter.dirty));
        if plan.fails_to_sync {
            return Err(io::Error::other("the disk is gone"));
        }
        for (offset, data) in dirty.into_iter().flatten() {
            let bytes = &mut plan.platter.as_mut().expect("it was dirty").bytes;
            let at = usize::try_from(offset).unwrap();
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[at..at + data.len()].copy_from_slice(&data);
        }
        Ok(())
    }
}
