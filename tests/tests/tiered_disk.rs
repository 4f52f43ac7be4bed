//! Memory over memory over a store on disk that somebody wrote: any stores can be tiers.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cache_core::testing::Subject;
use cache_core::{
    CacheStore, CacheStoreExt, Capabilities, Entry, Error, ErrorKind, LoadTime, Result, SetOptions,
    Tiered, store_conformance,
};
use cache_memory::MemoryStore;
use cache_serde::Json;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// A file for each entry: when it was written, for how long it is fresh and usable, how long its load took, the length of
/// its key, the key, and the value, if there is one.
struct Files(TempDir);

fn failed(error: io::Error) -> Error {
    Error::with_cause(ErrorKind::Store, error)
}

/// Nanoseconds; more than 584 years are for ever.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn duration(nanos: u64) -> Duration {
    if nanos == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanos) }
}

/// Since 1970, as an `Instant` means nothing to the next process.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, key: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.0.path().join(hasher.finish().to_string())
    }

    fn read(bytes: &[u8]) -> Option<(String, Option<Entry<Bytes>>)> {
        let number = |at: usize| Some(u64::from_be_bytes(*bytes.get(8 * at..)?.first_chunk()?));
        let [written, fresh, usable] = [number(0)?, number(1)?, number(2)?].map(duration);
        let [load, length] = [number(3)?, number(4)?];
        let (key, value) = bytes.get(40..)?.split_at_checked(usize::try_from(length).ok()?)?;
        let (there, value) = value.split_first()?;
        let value = (*there == 1).then(|| Bytes::copy_from_slice(value));
        let load = if load > 0 { LoadTime::from(duration(load)) } else { LoadTime::UNKNOWN };
        let stale = usable.saturating_sub(fresh);
        let options = SetOptions::ttl(fresh).stale_for(stale).at_most(usable).with_load_time(load);
        let age = now().saturating_sub(written);
        Some((String::from_utf8(key.to_vec()).ok()?, Entry::aged(value, &options, age)))
    }
}

impl CacheStore for Files {
    type Value = Bytes;

    async fn get(&self, key: &str) -> Result<Option<Entry<Bytes>>> {
        match fs::read(self.path(key)) {
            // Another key may have the same hash.
            Ok(bytes) => Ok(Self::read(&bytes).and_then(|(of, entry)| entry.filter(|_| of == key))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn set(&self, key: &str, value: Option<Bytes>, options: SetOptions) -> Result<()> {
        options.check()?;
        let mut bytes = Vec::new();
        let load = options.load_time().duration().unwrap_or_default();
        for number in [now(), options.fresh_for(), options.usable_for(), load] {
            bytes.extend(nanos(number).to_be_bytes());
        }
        bytes.extend((key.len() as u64).to_be_bytes());
        bytes.extend(key.as_bytes());
        bytes.push(u8::from(value.is_some()));
        bytes.extend(value.unwrap_or_default());
        // Whoever reads sees one of the two as a whole.
        let new = tempfile::NamedTempFile::new_in(self.0.path()).map_err(failed)?;
        fs::write(new.path(), bytes).map_err(failed)?;
        new.persist(self.path(key)).map_err(|error| failed(error.error))?;
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        for file in fs::read_dir(self.0.path()).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            // It may have been removed, or not be written yet.
            let Ok(bytes) = fs::read(&path) else { continue };
            if Self::read(&bytes).is_some_and(|(key, _)| key.starts_with(prefix)) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.prefix = true;
        capabilities
    }
}

fn three_levels<F: CacheStore<Value = Bytes>>(
    files: F,
) -> Tiered<MemoryStore<String>, impl CacheStore<Value = String>> {
    let bytes = Tiered::builder(MemoryStore::new(10_000), files).near_ttl(Duration::MAX);
    let bytes = bytes.build().expect("valid options");
    let values = bytes.namespaced("shop").encoded::<_, String>(Json::new());
    let tiers = Tiered::builder(MemoryStore::new(10_000), values).near_ttl(Duration::MAX);
    tiers.build().expect("valid options")
}

store_conformance!(files, Subject::new(Files::new()).real_time(Duration::from_millis(100)));
store_conformance!(memory_over_memory_over_files, {
    Subject::new(three_levels(Files::new())).real_time(Duration::from_millis(100))
});

#[tokio::test]
async fn what_is_on_disk_is_there_when_both_memories_have_been_lost() {
    let files = Arc::new(Files::new());
    let before = three_levels(Arc::clone(&files));
    before.put("7", "Ada".to_owned(), MINUTE).await.expect("no failure");
    drop(before);
    let after = three_levels(Arc::clone(&files));
    assert!(after.get_now("7").is_pending());
    assert_eq!(after.value("7").await.expect("an answer").as_deref(), Some("Ada"));
    assert!(after.get_now("7").is_ready(), "it is near by now");
    assert!(files.get("shop:7").await.expect("an answer").is_some());
    after.clear().await.expect("no failure");
    assert_eq!(after.value("7").await.expect("an answer"), None);
    assert!(files.get("shop:7").await.expect("an answer").is_none());
}
