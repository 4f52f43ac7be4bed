//! The file: what is in it, and how it is opened and changed.

mod backend;
mod create;
mod lock;
pub(crate) mod row;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache_core::{Error, ErrorKind, Result};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError,
};
use smol_str::SmolStr;

use backend::Backend;
use lock::Lock;

const PENDING: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pending");
const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of the layout in `row.rs`.
const VERSION: u64 = 1;

/// How much of the file is kept in memory. What is written lately is read seldom, and each key is small.
const CACHE: usize = 8 << 20;

/// The file of a journal.
pub(crate) struct Log {
    path: PathBuf,
    /// Gone after a failure: then nobody knows what of the last changes is in the file, and it is opened anew.
    db: Option<Database>,
    /// Held also while there is no `db`; the last field, so that it is let go of when that is closed.
    lock: Arc<Lock>,
}

/// What is in a file.
#[derive(Default)]
pub(crate) struct Contents {
    /// Keys as they are spelled, numbers and bodies.
    pub(crate) pending: Vec<(SmolStr, u64, Vec<u8>)>,
    /// Numbers and letters.
    pub(crate) dead: Vec<(u64, Vec<u8>)>,
    /// The highest number so far.
    pub(crate) last: u64,
}

/// What is to be different in the file, in one step.
#[derive(Default)]
pub(crate) struct Changes {
    /// Rows, `None` for those that go.
    pub(crate) pending: HashMap<SmolStr, Option<Vec<u8>>>,
    /// Letters, `None` for those that go.
    pub(crate) dead: Vec<(u64, Option<Vec<u8>>)>,
    pub(crate) last: u64,
}

impl Log {
    /// Opens the file, or makes it. One that is damaged, newer, no journal at all, or whose contents can't be `read`,
    /// is left as it is.
    pub(crate) fn open<T>(
        path: &Path,
        read: impl FnOnce(&Contents) -> Result<T>,
    ) -> Result<(Self, T)> {
        let lock = Arc::new(Lock::take(path)?);
        create::unless_there(path)?;
        let mut log = Self { path: path.to_owned(), db: None, lock };
        let contents = read(&log.examine()?)?;
        log.db = Some(log.opened()?);
        Ok((log, contents))
    }

    /// Makes the changes, all or, if this fails, perhaps none. They are on the disk when it returns.
    pub(crate) fn commit(&mut self, changes: &Changes) -> Result<()> {
        // It only comes back if all went well.
        let Some(db) = self.db.take() else {
            return Err(failed(&self.path, "has to be opened anew"));
        };
        write(&db, changes).map_err(|error| failed(&self.path, error))?;
        self.db = Some(db);
        Ok(())
    }

    /// Whether the last commit failed, so that it has to be [opened anew](Self::reopen).
    pub(crate) fn is_broken(&self) -> bool {
        self.db.is_none()
    }

    /// Opens the file anew, if what is in it can be `read`.
    pub(crate) fn reopen(&mut self, read: impl FnOnce(&Contents) -> Result<()>) -> Result<()> {
        read(&self.examine()?)?;
        self.db = Some(self.opened()?);
        Ok(())
    }

    /// Checks all of the file, and reads it. What a failed sync may have left out is on the disk then.
    fn examine(&self) -> Result<Contents> {
        if self.lock.is_in_doubt() {
            // Before it is looked at: what was not written may be forgotten at any moment.
            let file = self.backend().map_err(|error| explained(&self.path, &error))?;
            file.rewrite().map_err(|error| failed(&self.path, error))?;
            self.lock.trust();
        }
        examine(&self.path, &self.lock)
    }

    fn opened(&self) -> Result<Database> {
        open(self.backend()).map_err(|error| explained(&self.path, &error))
    }

    fn backend(&self) -> Result<Backend, DatabaseError> {
        Backend::open(&self.path, &self.lock)
    }

    /// The first letters.
    pub(crate) fn letters(&self, most: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let Some(db) = &self.db else {
            return Err(failed(&self.path, "has to be opened anew"));
        };
        let letters = || -> Result<_, redb::Error> {
            let dead = db.begin_read()?.open_table(DEAD)?;
            dead.iter()?.take(most).map(|letter| letter.map(owned).map_err(Into::into)).collect()
        };
        letters().map_err(|error| failed(&self.path, error))
    }
}

fn owned(letter: (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>)) -> (u64, Vec<u8>) {
    (letter.0.value(), letter.1.value().to_vec())
}

fn write(db: &Database, changes: &Changes) -> Result<(), redb::Error> {
    // `Durability::Immediate` is the default: `commit` returns after fsync.
    let write = db.begin_write()?;
    {
        let mut pending = write.open_table(PENDING)?;
        for (key, row) in &changes.pending {
            match row {
                Some(row) => pending.insert(key.as_str(), row.as_slice())?,
                None => pending.remove(key.as_str())?,
            };
        }
        write.open_table(META)?.insert("last", changes.last)?;
    }
    if !changes.dead.is_empty() {
        let mut dead = write.open_table(DEAD)?;
        for (seq, letter) in &changes.dead {
            match letter {
                Some(letter) => dead.insert(seq, letter.as_slice())?,
                None => dead.remove(seq)?,
            };
        }
    }
    write.commit()?;
    Ok(())
}

/// Checks all of the file, and reads it, without changing it.
fn examine(path: &Path, lock: &Arc<Lock>) -> Result<Contents> {
    // What is in a damaged file may be anything; the engine gives up on some of it by panicking.
    catch_unwind(AssertUnwindSafe(|| {
        let dry = Backend::open(path, lock).and_then(Backend::dry);
        let mut db = open(dry).map_err(|error| explained(path, &error))?;
        check_version(path, &db)?;
        match db.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(damaged(path, "its parts do not fit together")),
            Err(error) => return Err(explained(path, &error)),
        }
        contents(&db).map_err(|error| damaged(path, error))
    }))
    .unwrap_or_else(|_| Err(damaged(path, "it can't be made sense of")))
}

/// Reads what can be read of a file that [`examine`] refuses, and says what went wrong.
pub(crate) fn rescue(path: &Path) -> Result<(Contents, Option<String>)> {
    let lock = Arc::new(Lock::take(path)?);
    let refused = match examine(path, &lock) {
        Ok(contents) => return Ok((contents, None)),
        Err(refused) => refused,
    };
    let mut rescued = Contents::default();
    let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), redb::Error> {
        let db = open(Backend::open(path, &lock).and_then(Backend::dry))?;
        let read = db.begin_read()?;
        for row in read.open_table(PENDING)?.iter()? {
            let (key, row) = row?;
            if let Some((seq, body)) = row::read_row(row.value()) {
                rescued.pending.push((SmolStr::new(key.value()), seq, body.to_vec()));
            }
        }
        for letter in read.open_table(DEAD)?.iter()? {
            rescued.dead.push(owned(letter?));
        }
        Ok(())
    }));
    if !matches!(read, Ok(Ok(()))) && rescued.pending.is_empty() && rescued.dead.is_empty() {
        return Err(refused);
    }
    rescued.pending.sort_unstable_by_key(|(_, seq, _)| *seq);
    Ok((rescued, Some(refused.to_string())))
}

fn open(backend: Result<Backend, DatabaseError>) -> Result<Database, DatabaseError> {
    let backend = backend?;
    if redb::StorageBackend::len(&backend)? == 0 {
        // It would be made into a journal, but was one, perhaps, before something emptied it.
        let empty = std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty");
        return Err(DatabaseError::from(empty));
    }
    Builder::new().set_cache_size(CACHE).create_with_backend(backend)
}

fn check_version(path: &Path, db: &Database) -> Result<()> {
    let version = || -> Result<_, redb::Error> {
        let meta = db.begin_read()?.open_table(META)?;
        Ok(meta.get("version")?.map(|version| version.value()))
    };
    match version() {
        Ok(Some(VERSION)) => Ok(()),
        Ok(Some(version)) => {
            let why = format!("is of version {version}, and this program knows {VERSION}");
            Err(failed(path, format!("{why}; it has not been touched. Use the newer program")))
        }
        Ok(None) | Err(redb::Error::TableDoesNotExist(_)) => Err(damaged(path, "it is no journal")),
        Err(error) => Err(damaged(path, error)),
    }
}

fn contents(db: &Database) -> Result<Contents, redb::Error> {
    let read = db.begin_read()?;
    let mut contents = Contents::default();
    let pending = read.open_table(PENDING)?;
    contents.pending.reserve(usize::try_from(pending.len()?).unwrap_or(0).min(1 << 20));
    for row in pending.iter()? {
        let (key, row) = row?;
        let Some((seq, body)) = row::read_row(row.value()) else {
            return Err(redb::Error::Corrupted("a row is too short".to_owned()));
        };
        contents.pending.push((SmolStr::new(key.value()), seq, body.to_vec()));
    }
    match read.open_table(DEAD) {
        Ok(dead) => {
            for letter in dead.iter()? {
                contents.dead.push(owned(letter?));
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    contents.last = read.open_table(META)?.get("last")?.map_or(0, |last| last.value());
    contents.pending.sort_unstable_by_key(|(_, seq, _)| *seq);
    Ok(contents)
}

/// What the engine's error means to who opened the file.
fn explained(path: &Path, error: &DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => in_use(path),
        DatabaseError::UpgradeRequired(_) => failed(path, format!("can't be read: {error}")),
        DatabaseError::Storage(redb::StorageError::Io(io))
            if io.kind() != std::io::ErrorKind::InvalidData
                && io.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            failed(path, io)
        }
        _ => damaged(path, error),
    }
}

fn in_use(path: &Path) -> Error {
    let why = "is in use, by another process or another journal of this one: each needs a file of its own";
    failed(path, why)
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    failed(
        path,
        format!(
            "is damaged: {why}. It has not been touched. Move it away to begin a new one, and look with \
             `cache_journal::salvage` for what can still be read of it"
        ),
    )
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::with_cause(ErrorKind::Journal, format!("{}: {why}", path.display()))
}
