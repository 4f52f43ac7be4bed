//! Who may use a journal's file.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cache_core::Result;

use super::{failed, in_use};

/// The right to use a journal's file, for as long as this lives. The engine has a lock on the file as well, but only while
/// it has it open, which is not so between a check and what comes after it, or after a commit that has failed.
///
/// It is a file of its own beside the journal, and stays there: if it were removed, one process could lock what is
/// gone while another locks what is new.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closed, it is unlocked. It is empty, unless the journal is in doubt.
    file: File,
    in_doubt: AtomicBool,
}

impl Lock {
    /// Does not wait: whoever has the file keeps it for long.
    pub(super) fn take(path: &Path) -> Result<Self> {
        // A link to the file is the same file.
        let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = OsString::from(file);
        name.push(".lock");
        let opened = File::options().write(true).create(true).truncate(false).open(&name);
        let cant_be_locked = |error| failed(path, format!("can't be locked: {error}"));
        let file = opened.map_err(cant_be_locked)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, in_doubt: AtomicBool::new(false) }),
            Err(TryLockError::WouldBlock) => Err(in_use(path)),
            Err(TryLockError::Error(error)) => Err(cant_be_locked(error)),
        }
    }

    /// A sync of the journal has failed. The system may have forgotten then what it had to write, and still shows it
    /// to whoever reads, so a later sync succeeds without it. That goes on for as long as the system runs, and
    /// so the next journal has to know: the length of the lock's file tells it, which takes no room on a full disk.
    pub(super) fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
        let _ = self.file.set_len(1);
    }

    /// Whether what the journal's file shows is perhaps not on the disk, here or before.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed) || self.file.metadata().map_or(true, |m| m.len() > 0)
    }

    /// All that the file shows is on the disk.
    pub(super) fn trust(&self) {
        self.in_doubt.store(false, Ordering::Relaxed);
        let _ = self.file.set_len(0); // If it fails, the next journal writes it again, and that is all.
    }
}
