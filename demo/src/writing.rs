//! The caches that write to the source themselves.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    BatchWriter, BehindOptions, Bounds, CacheStore, Journal, Loader, MemoryJournal, ReadThrough,
    Stats, Write, WriteBehind, WriteCache, WriteOptions, WriteThrough, Writer,
};
use cache_journal::DiskJournal;
use cache_serde::Postcard;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::caches::{CacheUnderTest, counts};
use crate::failure::{Failure, Result};
use crate::measure::Counts;
use crate::source::{Change, Product, Source};

/// Longer than it takes to write what is left at the end.
const LIMIT: Duration = Duration::from_secs(60);

/// Writers of one product come one after the other: each changes what the one before has left.
const LOCKS: usize = 1_024;

type Reads<S, L> = ReadThrough<S, L, Arc<Stats>>;

/// A write is in the source and in the cache when it returns.
pub(crate) fn through<S, L>(
    reads: Reads<S, L>,
    source: Source,
    stats: Arc<Stats>,
) -> Result<Arc<dyn CacheUnderTest>>
where
    S: CacheStore<Value = Arc<Product>>,
    L: Loader<u64, Value = Arc<Product>>,
{
    let cache = WriteThrough::new(reads, Rows(source), WriteOptions::default())?;
    Ok(Written::over(cache, stats, None))
}

/// A write is in a journal in memory and in the cache when it returns.
pub(crate) fn behind<S, L>(
    reads: Reads<S, L>,
    source: Source,
    stats: Arc<Stats>,
) -> Result<Arc<dyn CacheUnderTest>>
where
    S: CacheStore<Value = Arc<Product>>,
    L: Loader<u64, Value = Arc<Product>>,
{
    let journal = MemoryJournal::new(Bounds::default());
    let cache = WriteBehind::new(reads, Rows(source), journal, BehindOptions::default())?;
    Ok(Written::over(cache, stats, None))
}

/// The same with a journal on disk.
pub(crate) async fn behind_on_disk<S, L>(
    reads: Reads<S, L>,
    source: Source,
    stats: Arc<Stats>,
) -> Result<Arc<dyn CacheUnderTest>>
where
    S: CacheStore<Value = Arc<Product>>,
    L: Loader<u64, Value = Arc<Product>>,
{
    let folder = tempfile::Builder::new().prefix("cache-demo-").tempdir();
    let folder = folder.map_err(|e| Failure::new("no temporary folder", e))?;
    let journal = DiskJournal::open(folder.path().join("journal"), Postcard::new()).await?;
    let cache = WriteBehind::new(reads, Rows(source), journal, BehindOptions::default())?;
    Ok(Written::over(cache, stats, Some(folder)))
}

struct Written<C> {
    cache: C,
    stats: Arc<Stats>,
    writers: Box<[Mutex<()>]>,
    // Last, so that the folder goes when the journal in it is closed.
    _folder: Option<TempDir>,
}

impl<C: Ends + 'static> Written<C> {
    fn over(cache: C, stats: Arc<Stats>, folder: Option<TempDir>) -> Arc<dyn CacheUnderTest> {
        let writers = (0..LOCKS).map(|_| Mutex::default()).collect();
        Arc::new(Self { cache, stats, writers, _folder: folder })
    }
}

impl<C: Ends> CacheUnderTest for Written<C> {
    fn read(&self, id: u64) -> BoxFuture<'_, Result<Option<Arc<Product>>>> {
        Box::pin(async move { Ok(self.cache.get(&id).await?) })
    }

    fn write(&self, id: u64, change: Change) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let _first = self.writers[id as usize % LOCKS].lock().await;
            let none = || Failure::new("a write", format!("there is no product {id}"));
            let product = self.cache.get(&id).await?.ok_or_else(none)?;
            let Change { price_cents, stock } = change;
            let version = product.version + 1;
            let product = Product { price_cents, stock, version, ..Product::clone(&product) };
            self.cache.put(&id, Arc::new(product)).await?;
            Ok(version)
        })
    }

    fn counts(&self) -> Option<Counts> {
        Some(counts(&self.stats))
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.cache.end())
    }
}

/// What is left to do when the clients have gone.
trait Ends: WriteCache<u64, Value = Arc<Product>> {
    fn end(&self) -> impl Future<Output = Result<()>> + Send;
}

impl<S, L> Ends for WriteThrough<Reads<S, L>, Rows>
where
    S: CacheStore<Value = Arc<Product>>,
    L: Loader<u64, Value = Arc<Product>>,
{
    async fn end(&self) -> Result<()> {
        Ok(())
    }
}

impl<S, L, J> Ends for WriteBehind<Reads<S, L>, Rows, J>
where
    S: CacheStore<Value = Arc<Product>>,
    L: Loader<u64, Value = Arc<Product>>,
    J: Journal<Key = u64, Value = Arc<Product>>,
{
    async fn end(&self) -> Result<()> {
        let left = self.shutdown(LIMIT).await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Failure::new("not all writes came to the source", format!("{left:?}")))
    }
}

/// The way of writes to SQLite: each call is one transaction.
struct Rows(Source);

impl Writer<u64, Arc<Product>> for Rows {
    type Error = Failure;

    async fn write(&self, write: Write<u64, Arc<Product>>) -> Result<()> {
        self.write_many(vec![write]).await
    }
}

impl BatchWriter<u64, Arc<Product>> for Rows {
    async fn write_many(&self, writes: Vec<Write<u64, Arc<Product>>>) -> Result<()> {
        // No client removes a product.
        self.0.put(writes.into_iter().filter_map(|write| write.value).collect()).await
    }
}
