//! Who loads, who writes, and when.

mod cache_aside;
pub(crate) mod inner;
mod read_through;
mod stale_while_revalidate;
mod write_behind;
mod write_through;

use std::future::Future;

use crate::{CacheKey, ReadHints, Reading, Result};

pub use cache_aside::CacheAside;
pub use inner::ReadStrategy;
pub use read_through::ReadThrough;
pub use stale_while_revalidate::StaleWhileRevalidate;
pub use write_behind::{BehindOptions, Leftover, Overflow, WriteBehind, WriteBehindStats};
pub use write_through::{WriteOptions, WriteThrough};

/// A strategy that loads what it misses by itself. Application code can be generic over it.
///
/// ```
/// use cache_core::{ReadCache, Result};
///
/// async fn greeting(names: &impl ReadCache<u64, Value = String>, id: u64) -> Result<String> {
///     Ok(match names.get(&id).await? {
///         Some(name) => format!("Hello {name}"),
///         None => "Who are you?".to_owned(),
///     })
/// }
/// ```
pub trait ReadCache<K: CacheKey>: Send + Sync + 'static {
    /// What is read.
    type Value: Clone + Send + Sync + 'static;

    /// The value under `key`; `None` if the source has none.
    ///
    /// # Errors
    ///
    /// Those of the load: see [`ReadThrough::get`].
    fn get(&self, key: &K) -> impl Future<Output = Result<Option<Self::Value>>> + Send;

    /// As [`get`](Self::get), with wishes of this one read, and with what the value is worth.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn get_with(
        &self,
        key: &K,
        hints: ReadHints,
    ) -> impl Future<Output = Result<Reading<Self::Value>>> + Send;

    /// As [`get`](Self::get), with what the value is worth.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn get_detailed(&self, key: &K) -> impl Future<Output = Result<Reading<Self::Value>>> + Send {
        self.get_with(key, ReadHints::new())
    }

    /// Removes the entry under `key`, and keeps loads of it that are under way from being kept.
    ///
    /// # Errors
    ///
    /// Those of the store's removal: see [`ReadThrough::invalidate`].
    fn invalidate(&self, key: &K) -> impl Future<Output = Result<()>> + Send;
}

/// A strategy that writes to the source as well. Application code can be generic over it.
///
/// ```
/// use cache_core::{Result, WriteCache};
///
/// async fn rename(names: &impl WriteCache<u64, Value = String>, id: u64) -> Result<()> {
///     if let Some(name) = names.get(&id).await? {
///         names.put(&id, name.to_uppercase()).await?;
///     }
///     Ok(())
/// }
/// ```
pub trait WriteCache<K: CacheKey>: ReadCache<K> {
    /// Writes a value: to the source, or to the journal of what will be in the source; and to the cache.
    ///
    /// # Errors
    ///
    /// See [`WriteThrough::put`], [`WriteBehind::put`].
    fn put(&self, key: &K, value: Self::Value) -> impl Future<Output = Result<()>> + Send;

    /// Removes a key, in the same way.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn remove(&self, key: &K) -> impl Future<Output = Result<()>> + Send;
}
