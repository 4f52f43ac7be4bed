use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use super::lock::Lock;

/// The unit in which a dry run keeps what would have been written.
const PAGE: usize = 4096;

/// The unit in which a file is written again.
const CHUNK: u64 = 1 << 20;

/// The file; or a dry run over it, in which whatever is written stays in memory: so a file can be opened, which
/// may repair it, and examined, and is as it was afterwards.
#[derive(Debug)]
pub(crate) struct Backend {
    file: FileBackend,
    dry: Option<Mutex<Dry>>,
    lock: Arc<Lock>,
    #[cfg(test)]
    faults: super::tests::Faults,
}

#[derive(Debug)]
struct Dry {
    len: u64,
    pages: HashMap<u64, Box<[u8; PAGE]>>,
}

impl Backend {
    pub(crate) fn open(path: &Path, lock: &Arc<Lock>) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self {
            file: FileBackend::new(file)?,
            dry: None,
            lock: Arc::clone(lock),
            #[cfg(test)]
            faults: super::tests::Faults::of(path),
        })
    }

    /// From now on nothing is written.
    pub(crate) fn dry(mut self) -> Result<Self, DatabaseError> {
        let dry = Dry { len: self.file.len()?, pages: HashMap::new() };
        self.dry = Some(Mutex::new(dry));
        Ok(self)
    }

    /// Writes all of the file again as it is, so that all of it has to get to the disk, and waits until it is there.
    pub(crate) fn rewrite(&self) -> io::Result<()> {
        let (len, mut at, mut chunk) = (self.len()?, 0, Vec::new());
        while at < len {
            chunk.resize(CHUNK.min(len - at) as usize, 0);
            self.read(at, &mut chunk)?;
            self.write(at, &chunk)?;
            at += chunk.len() as u64;
        }
        self.sync_data()
    }

    fn dry_run(&self) -> Option<MutexGuard<'_, Dry>> {
        Some(self.dry.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.dry_run().map_or_else(|| self.file.len(), |dry| Ok(dry.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.dry_run() {
            Some(dry) => dry.read(&self.file, offset, out),
            None => self.file.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(mut dry) = self.dry_run() {
            dry.len = len;
            return Ok(());
        }
        #[cfg(test)]
        self.faults.before_a_write(len)?;
        self.file.set_len(len)?;
        #[cfg(test)]
        self.faults.after_a_new_length(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.dry.is_some() {
            return Ok(());
        }
        #[cfg(test)]
        self.faults.before_a_sync().inspect_err(|_| self.lock.doubt())?;
        self.file.sync_data().inspect_err(|_| self.lock.doubt())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(mut dry) = self.dry_run() {
            return dry.write(&self.file, offset, data);
        }
        #[cfg(test)]
        self.faults.before_a_write(offset + data.len() as u64)?;
        self.file.write(offset, data)?;
        #[cfg(test)]
        self.faults.after_a_write(offset, data);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

impl Dry {
    fn read(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, at, part) in pages(offset, out.len()) {
            let out = &mut out[at.clone()];
            match self.pages.get(&number) {
                Some(page) => out.copy_from_slice(&page[part..part + out.len()]),
                None => read_or_zero(file, offset + at.start as u64, out)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &FileBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        for (number, at, part) in pages(offset, data.len()) {
            let data = &data[at];
            let page = match self.pages.entry(number) {
                std::collections::hash_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    let mut page = Box::new([0; PAGE]);
                    read_or_zero(file, number * PAGE as u64, &mut page[..])?;
                    vacant.insert(page)
                }
            };
            page[part..part + data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}

/// The pages that a range touches: the number of each, which part of the range it has, and where in the page that is.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let part = (at % PAGE as u64) as usize;
        let take = (PAGE - part).min(length - done);
        done += take;
        Some((at / PAGE as u64, done - take..done, part))
    })
}

/// What the file has there, and zeros behind its end.
fn read_or_zero(file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let there = file.len()?.saturating_sub(offset);
    let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
    out[there..].fill(0);
    if there > 0 { file.read(offset, &mut out[..there]) } else { Ok(()) }
}
