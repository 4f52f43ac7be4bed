use std::future::Future;
use std::sync::Arc;

use crate::{BoxError, CacheKey};

/// The way to the source of truth, for one key.
///
/// Closures are loaders; so is everything behind an `Arc`. The key is handed over, because the load
/// goes on when the caller that began it goes away.
///
/// `Ok(None)` says that the source has nothing under this key. An error is shared by all callers
/// that wait for the load, and is never cached.
///
/// ```
/// use cache_core::Loader;
/// use std::io;
///
/// /// Reads files below a folder.
/// struct Files(std::path::PathBuf);
///
/// impl Loader<String> for Files {
///     type Value = String;
///     type Error = io::Error;
///
///     async fn load(&self, name: String) -> Result<Option<String>, io::Error> {
///         match tokio::fs::read_to_string(self.0.join(name)).await {
///             Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
///             read => read.map(Some),
///         }
///     }
/// }
///
/// let _closure = |id: u64| async move { Ok::<_, io::Error>(Some(id.to_string())) };
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not load values for keys of type `{K}`",
    note = "a loader is `Fn(K) -> impl Future<Output = Result<Option<V>, E>>`, or a type that implements `Loader<K>`"
)]
pub trait Loader<K>: Send + Sync + 'static {
    /// What is loaded.
    type Value;
    /// What can go wrong.
    type Error: Into<BoxError>;

    /// Asks the source.
    ///
    /// # Cancellation
    ///
    /// The future is dropped when the load takes longer than `load_timeout`.
    fn load(&self, key: K)
    -> impl Future<Output = Result<Option<Self::Value>, Self::Error>> + Send;
}

impl<K, V, E, F, Fut> Loader<K> for F
where
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<V>, E>> + Send,
    E: Into<BoxError>,
{
    type Value = V;
    type Error = E;

    fn load(&self, key: K) -> impl Future<Output = Result<Option<V>, E>> + Send {
        self(key)
    }
}

impl<K: Send, L: Loader<K>> Loader<K> for Arc<L> {
    type Value = L::Value;
    type Error = L::Error;

    fn load(&self, key: K) -> impl Future<Output = Result<Option<L::Value>, L::Error>> + Send {
        L::load(self, key)
    }
}

/// The way to the source of truth for many keys in one question.
///
/// It is asked once for just the keys that the cache misses. A type that can do it for one key and
/// for many implements both traits; a closure becomes both by [`Batch`].
///
/// ```
/// use cache_core::{BatchLoader, Loader};
/// use std::convert::Infallible;
///
/// struct Squares;
///
/// impl Loader<u64> for Squares {
///     type Value = u64;
///     type Error = Infallible;
///
///     async fn load(&self, n: u64) -> Result<Option<u64>, Infallible> {
///         Ok(Some(n * n))
///     }
/// }
///
/// impl BatchLoader<u64> for Squares {
///     async fn load_many(&self, numbers: Vec<u64>) -> Result<Vec<(u64, u64)>, Infallible> {
///         Ok(numbers.into_iter().map(|n| (n, n * n)).collect())
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(Squares.load_many(vec![2, 3]).await.unwrap(), [(2, 4), (3, 9)]);
/// # });
/// ```
pub trait BatchLoader<K>: Loader<K> {
    /// Asks the source. Keys that are not in the answer are not in the source; keys that were not
    /// asked for are ignored; the order does not matter.
    ///
    /// # Cancellation
    ///
    /// As [`Loader::load`].
    fn load_many(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<Vec<(K, Self::Value)>, Self::Error>> + Send;
}

impl<K: Send, L: BatchLoader<K>> BatchLoader<K> for Arc<L> {
    fn load_many(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<Vec<(K, L::Value)>, L::Error>> + Send {
        L::load_many(self, keys)
    }
}

/// A loader made of one closure over many keys: `SELECT … WHERE id IN (…)`.
///
/// ```
/// use cache_core::{Batch, BatchLoader, Loader};
///
/// let squares = Batch(|ids: Vec<u64>| async move {
///     Ok::<_, std::io::Error>(ids.into_iter().map(|id| (id, id * id)).collect())
/// });
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(squares.load(7).await.unwrap(), Some(49));
/// assert_eq!(squares.load_many(vec![2, 3]).await.unwrap(), [(2, 4), (3, 9)]);
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Batch<F>(pub F);

impl<K, V, E, F, Fut> Loader<K> for Batch<F>
where
    K: CacheKey + Clone + Send,
    V: Send,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<(K, V)>, E>> + Send,
    E: Into<BoxError>,
{
    type Value = V;
    type Error = E;

    async fn load(&self, key: K) -> Result<Option<V>, E> {
        let answer = (self.0)(vec![key.clone()]).await?;
        Ok(answer.into_iter().find(|(k, _)| k.key() == key.key()).map(|(_, value)| value))
    }
}

impl<K, V, E, F, Fut> BatchLoader<K> for Batch<F>
where
    K: CacheKey + Clone + Send,
    V: Send,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<(K, V)>, E>> + Send,
    E: Into<BoxError>,
{
    fn load_many(&self, keys: Vec<K>) -> impl Future<Output = Result<Vec<(K, V)>, E>> + Send {
        (self.0)(keys)
    }
}
