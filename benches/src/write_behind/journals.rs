//! A cache for each kind of journal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    BehindOptions, Bounds, Journal, MemoryJournal, ReadOptions, ReadThrough, WriteBehind,
};
use cache_journal::DiskJournal;
use cache_memory::MemoryStore;
use cache_redis::{RedisJournal, RedisStore};
use cache_serde::Postcard;
use futures_util::future::BoxFuture;

use super::{Nothing, Source};

/// A value has so many.
pub(super) const BYTES: usize = 200;

type Value = Vec<u8>;
type Cache<J> = WriteBehind<ReadThrough<MemoryStore<Value>, Nothing<Value>>, Source, J>;
type Put = dyn Fn(u64) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// A cache whose puts are measured.
pub(super) struct Putting {
    pub(super) name: &'static str,
    /// Puts a value under this key.
    pub(super) put: Arc<Put>,
    /// How many commits there were so far, where somebody counts them.
    pub(super) commits: Box<dyn Fn() -> Option<u64>>,
}

pub(super) fn memory() -> Result<Putting, String> {
    putting("memory", MemoryJournal::new(Bounds::default()), |_| None)
}

pub(super) async fn disk(path: &Path) -> Result<Putting, String> {
    let journal = DiskJournal::open(path, Postcard::new()).await.map_err(|e| e.to_string())?;
    putting("disk", journal, |journal| Some(journal.commits()))
}

pub(super) async fn redis(name: &'static str, url: &str) -> Result<Putting, String> {
    let store = RedisStore::connect(url, "benches").await.map_err(|e| e.to_string())?;
    let journal = RedisJournal::open(&store, "puts", Postcard::new()).await;
    putting(name, journal.map_err(|e| e.to_string())?, |_| None)
}

fn putting<J>(
    name: &'static str,
    journal: J,
    commits: fn(&J) -> Option<u64>,
) -> Result<Putting, String>
where
    J: Journal<Key = u64, Value = Value>,
{
    let options = ReadOptions::ttl(Duration::from_secs(3600));
    let reads = ReadThrough::new(MemoryStore::new(100_000), Nothing::NEW, options);
    let reads = reads.map_err(|e| e.to_string())?;
    let cache = WriteBehind::new(reads, Source::default(), journal, BehindOptions::default());
    let cache: Arc<Cache<J>> = Arc::new(cache.map_err(|e| e.to_string())?);
    let counted = Arc::clone(&cache);
    let put = move |key: u64| -> BoxFuture<'static, Result<(), String>> {
        let cache = Arc::clone(&cache);
        Box::pin(async move { cache.put(&key, vec![7; BYTES]).await.map_err(|e| e.to_string()) })
    };
    Ok(Putting { name, put: Arc::new(put), commits: Box::new(move || commits(counted.journal())) })
}
