use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::{BoxError, Seq};

/// One write on its way to the source.
///
/// ```
/// use cache_core::{Seq, Write};
///
/// let write = Write::new(7_u64, Some("Ada"));
/// assert_eq!((write.key, write.value, write.seq), (7, Some("Ada"), Seq::NONE));
/// assert!(Write::<u64, &str>::new(7, None).is_removal());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Write<K, V> {
    /// The key.
    pub key: K,
    /// What is to be under it; `None` removes it.
    pub value: Option<V>,
    /// The place of this write in the order of writes to its key, for a source that wants to tell a
    /// repetition, or an older write, from news: `UPDATE … WHERE seq < ?`. [`Seq::NONE`] from a cache that
    /// does not number its writes.
    pub seq: Seq,
}

impl<K, V> Write<K, V> {
    /// A write without a number.
    #[must_use]
    pub fn new(key: K, value: Option<V>) -> Self {
        Self { key, value, seq: Seq::NONE }
    }

    /// The same write with this number.
    #[must_use]
    pub fn numbered(mut self, seq: Seq) -> Self {
        self.seq = seq;
        self
    }

    /// Whether it removes the key.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.value.is_none()
    }
}

/// What a failed write has left in the source, as far as its writer can tell.
///
/// ```
/// use cache_core::{Failure, Write, Writer};
///
/// #[derive(Debug)]
/// enum DbError {
///     Refused,
///     ConnectionLost,
/// }
/// # impl std::fmt::Display for DbError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
/// # }
/// # impl std::error::Error for DbError {}
/// struct Db;
///
/// impl Writer<u64, String> for Db {
///     type Error = DbError;
///
///     async fn write(&self, _: Write<u64, String>) -> Result<(), DbError> {
///         Err(DbError::ConnectionLost)
///     }
///
///     fn failure(&self, error: &DbError) -> Failure {
///         match error {
///             DbError::Refused => Failure::Permanent,
///             DbError::ConnectionLost => Failure::Unknown, // before the commit, or after it?
///         }
///     }
/// }
/// assert_eq!(Db.failure(&DbError::Refused), Failure::Permanent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing has been written, and trying again may help.
    NotWritten,
    /// Nothing has been written, and trying again will not help: a constraint is violated, say.
    Permanent,
    /// It may have been written: the connection was lost before the answer came, say.
    Unknown,
}

/// The way of one write to the source of truth. Removing a key is a write, too.
///
/// Closures are writers; so is everything behind an `Arc`. Of a closure's error nobody knows what it has left in the source: a
/// type that implements this trait can [tell](Self::failure).
///
/// A write may be made more than once: after a failure, after a crash. So it has to set the value under the key
/// rather than add to it; [`Write::seq`] helps where that is not enough.
///
/// ```
/// use cache_core::{Write, Writer};
/// use std::{collections::HashMap, convert::Infallible, sync::Mutex};
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<u64, String>>);
///
/// impl Writer<u64, String> for Table {
///     type Error = Infallible;
///
///     async fn write(&self, write: Write<u64, String>) -> Result<(), Infallible> {
///         let mut rows = self.0.lock().unwrap();
///         match write.value {
///             Some(value) => rows.insert(write.key, value),
///             None => rows.remove(&write.key),
///         };
///         Ok(())
///     }
/// }
///
/// let _closure = |write: Write<u64, String>| async move {
///     println!("{} is {:?} now", write.key, write.value);
///     Ok::<_, std::io::Error>(())
/// };
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not write values of type `{V}` under keys of type `{K}`",
    note = "a writer is `Fn(Write<K, V>) -> impl Future<Output = Result<(), E>>`, or a type that implements `Writer<K, V>`"
)]
pub trait Writer<K, V>: Send + Sync + 'static {
    /// What can go wrong.
    type Error: Into<BoxError> + Send;

    /// Changes the source. When it returns `Ok`, whoever reads the source sees the write.
    ///
    /// # Cancellation
    ///
    /// The future is dropped when the write takes longer than its limit. Nobody knows then whether it was made.
    fn write(&self, write: Write<K, V>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What this error has left in the source. By default nobody knows: it may be the answer to a commit that was lost. Who
    /// can tell that nothing was written spares the cache an entry.
    fn failure(&self, error: &Self::Error) -> Failure {
        let _ = error;
        Failure::Unknown
    }
}

impl<K, V, E, F, Fut> Writer<K, V> for F
where
    F: Fn(Write<K, V>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError> + Send,
{
    type Error = E;

    fn write(&self, write: Write<K, V>) -> impl Future<Output = Result<(), E>> + Send {
        self(write)
    }
}

impl<K: Send, V: Send, W: Writer<K, V>> Writer<K, V> for Arc<W> {
    type Error = W::Error;

    fn write(&self, write: Write<K, V>) -> impl Future<Output = Result<(), W::Error>> + Send {
        W::write(self, write)
    }

    fn failure(&self, error: &W::Error) -> Failure {
        W::failure(self, error)
    }
}

/// The way of many writes to the source of truth in one go: one transaction, one request.
///
/// A type that can do it for one and for many implements both traits; a closure over many becomes both by
/// [`WriteBatch`], and a writer of single writes by [`OneByOne`].
///
/// ```
/// use cache_core::{BatchWriter, Write, WriteBatch, Writer};
///
/// let writer = WriteBatch(|writes: Vec<Write<u64, String>>| async move {
///     // begin; upsert or delete each; commit
///     drop(writes);
///     Ok::<_, std::io::Error>(())
/// });
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// writer.write(Write::new(7, None)).await?;
/// writer.write_many(vec![Write::new(7, None), Write::new(8, Some("Ada".to_owned()))]).await?;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub trait BatchWriter<K, V>: Writer<K, V> {
    /// Changes the source. No key occurs twice, so the order does not matter. Best all or nothing; after an
    /// error any of the writes may have been made, and each may be made again.
    ///
    /// # Cancellation
    ///
    /// As [`Writer::write`].
    fn write_many(
        &self,
        writes: Vec<Write<K, V>>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl<K: Send, V: Send, W: BatchWriter<K, V>> BatchWriter<K, V> for Arc<W> {
    fn write_many(
        &self,
        writes: Vec<Write<K, V>>,
    ) -> impl Future<Output = Result<(), W::Error>> + Send {
        W::write_many(self, writes)
    }
}

/// A writer made of one closure over many writes. See [`BatchWriter`].
///
/// ```
/// use cache_core::{Write, WriteBatch, Writer};
///
/// let writer = WriteBatch(|writes: Vec<Write<u64, u64>>| async move {
///     assert_eq!(writes.len(), 1);
///     Ok::<_, std::io::Error>(())
/// });
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// writer.write(Write::new(7, Some(49))).await.unwrap();
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WriteBatch<F>(pub F);

impl<K, V, E, F, Fut> Writer<K, V> for WriteBatch<F>
where
    F: Fn(Vec<Write<K, V>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError> + Send,
{
    type Error = E;

    fn write(&self, write: Write<K, V>) -> impl Future<Output = Result<(), E>> + Send {
        (self.0)(vec![write])
    }
}

impl<K, V, E, F, Fut> BatchWriter<K, V> for WriteBatch<F>
where
    F: Fn(Vec<Write<K, V>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError> + Send,
{
    fn write_many(&self, writes: Vec<Write<K, V>>) -> impl Future<Output = Result<(), E>> + Send {
        (self.0)(writes)
    }
}

/// A writer of single writes where one of many is wanted: it makes them one after the other, and stops at the
/// first error.
///
/// ```
/// use cache_core::{BatchWriter, OneByOne, Write};
///
/// let writer = OneByOne(|write: Write<u64, u64>| async move {
///     println!("{write:?}");
///     Ok::<_, std::io::Error>(())
/// });
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// writer.write_many(vec![Write::new(7, Some(49)), Write::new(8, None)]).await.unwrap();
/// # });
/// ```
#[derive(Clone, Copy)]
pub struct OneByOne<W>(pub W);

impl<K: Send, V: Send, W: Writer<K, V>> Writer<K, V> for OneByOne<W> {
    type Error = W::Error;

    fn write(&self, write: Write<K, V>) -> impl Future<Output = Result<(), W::Error>> + Send {
        self.0.write(write)
    }

    fn failure(&self, error: &W::Error) -> Failure {
        self.0.failure(error)
    }
}

impl<K: Send, V: Send, W: Writer<K, V>> BatchWriter<K, V> for OneByOne<W> {
    async fn write_many(&self, writes: Vec<Write<K, V>>) -> Result<(), W::Error> {
        for write in writes {
            self.0.write(write).await?;
        }
        Ok(())
    }
}

impl<W> fmt::Debug for OneByOne<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneByOne").finish_non_exhaustive()
    }
}
