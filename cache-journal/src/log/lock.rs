//! Who may use a journal's file.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;

use cache_core::Result;

use super::{failed, in_use};

/// The right to use a journal's file, for as long as this lives. The engine has a lock on the file as well, but only while
/// it has it open, which is not so between a check and what comes after it, or after a commit that has failed.
///
/// It is a file of its own beside the journal, and stays there: if it were removed, one process could lock what is
/// gone while another locks what is new.
pub(crate) struct Lock {
    /// Closed, it is unlocked.
    _file: File,
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
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(in_use(path)),
            Err(TryLockError::Error(error)) => Err(cant_be_locked(error)),
        }
    }
}
