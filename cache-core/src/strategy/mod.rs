//! Who loads, who writes, and when.

mod cache_aside;
mod read_through;

use std::future::Future;

use crate::{CacheKey, Result};

pub use cache_aside::CacheAside;
pub use read_through::ReadThrough;

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

    /// Removes the entry under `key`, and keeps loads of it that are under way from being kept.
    ///
    /// # Errors
    ///
    /// Those of the store's removal: see [`ReadThrough::invalidate`].
    fn invalidate(&self, key: &K) -> impl Future<Output = Result<()>> + Send;
}
