//! A new file: it appears whole, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cache_core::Result;
use redb::{Builder, Database};

use super::{CACHE, DEAD, META, PENDING, VERSION, failed};

/// Makes an empty journal, if there is no file. The path is locked.
pub(super) fn unless_there(path: &Path) -> Result<()> {
    let mut name = OsString::from(path);
    name.push(".unfinished");
    let new = Path::new(&name);
    // Who has begun it is not there any more, or would have the lock. If it can't be removed, it does no harm, or
    // none can be made.
    let _ = fs::remove_file(new);
    if path.try_exists().map_err(|error| failed(path, error))? {
        return Ok(());
    }
    let made = make(new).and_then(|()| Ok(publish(new, path)?));
    if made.is_err() {
        let _ = fs::remove_file(new);
    }
    made.map_err(|error| failed(path, error))
}

fn make(new: &Path) -> Result<(), redb::Error> {
    let file = File::options().read(true).write(true).create_new(true).open(new)?;
    let db = Builder::new().set_cache_size(CACHE).create_file(file.try_clone()?)?;
    fill(&db)?;
    drop(db);
    file.sync_all()?;
    Ok(())
}

fn fill(db: &Database) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    write.open_table(PENDING)?;
    write.open_table(DEAD)?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert("version", VERSION)?;
        // Numbers begin with the time, so those of a journal that takes another one's place are higher, and a
        // source that looks at them takes the writes.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        meta.insert("last", u64::try_from(now.as_micros()).unwrap_or(0))?;
    }
    write.commit()?;
    Ok(())
}

/// Gives it its name, unless somebody else has been faster, and sees to it that the name is on the disk as well.
fn publish(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Ok(()) => fs::remove_file(new)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return fs::remove_file(new),
        // Some file systems have no links.
        Err(_) => fs::rename(new, path)?,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
