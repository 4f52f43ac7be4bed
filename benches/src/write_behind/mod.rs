//! What it costs to acknowledge a write that is made later, and how many of them need not be made.

mod coalescing;
mod journals;
mod puts;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{BatchWriter, Loader, Write, Writer};
use tokio::time::sleep;

pub use coalescing::measure as coalescing;
pub use puts::measure as puts;

/// A source that counts, and keeps nothing.
#[derive(Clone, Debug, Default)]
struct Source {
    writes: Arc<AtomicU64>,
    batches: Arc<AtomicU64>,
    takes: Duration,
}

impl Source {
    /// The writes it was given, and the batches.
    fn counts(&self) -> (u64, u64) {
        (self.writes.load(Ordering::Relaxed), self.batches.load(Ordering::Relaxed))
    }
}

impl<V: Send + 'static> Writer<u64, V> for Source {
    type Error = Infallible;

    async fn write(&self, write: Write<u64, V>) -> Result<(), Infallible> {
        self.write_many(vec![write]).await
    }
}

impl<V: Send + 'static> BatchWriter<u64, V> for Source {
    async fn write_many(&self, writes: Vec<Write<u64, V>>) -> Result<(), Infallible> {
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        self.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Nothing is ever loaded: what is put is in the cache.
#[derive(Clone, Copy, Debug)]
struct Nothing<V>(std::marker::PhantomData<fn() -> V>);

impl<V> Nothing<V> {
    const NEW: Self = Self(std::marker::PhantomData);
}

impl<V: Send + 'static> Loader<u64> for Nothing<V> {
    type Value = V;
    type Error = Infallible;

    async fn load(&self, _: u64) -> Result<Option<V>, Infallible> {
        Ok(None)
    }
}
