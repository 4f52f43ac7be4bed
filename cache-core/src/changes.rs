//! Invalidation by what happens at the source: a transaction that commits, a message that arrives.

use std::fmt;
use std::future::Future;
use std::pin::pin;

use futures_util::{Stream, StreamExt};
use smol_str::SmolStr;
use tokio::runtime::Handle;

use crate::strategy::inner::sealed::Inner as _;
use crate::{
    CacheAside, CacheStore, Change, Key, Observer, ReadThrough, Result, StaleWhileRevalidate,
};

/// What can be told of changes: every reading strategy, so of a writing one what it dereferences to. Keys are as
/// [`CacheKey`](crate::CacheKey) spells them; tags are those of the entries of a [`Tagged`](crate::Tagged) store.
///
/// ```
/// use cache_core::{CacheAside, CacheStoreExt, Change, Invalidate, ReadOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let options = ReadOptions::ttl(Duration::from_secs(60));
/// let users = CacheAside::new(MemoryStore::new(100), options)?;
/// users.put(&7, Some("Ada")).await?;
/// users.apply(&Change::key("7")).await?;
/// assert_eq!(users.store().value("7").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait Invalidate: Clone + Send + Sync + 'static {
    /// Removes what has changed, and keeps loads of it that are under way from being kept.
    ///
    /// # Errors
    ///
    /// Those of the store's removal; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for tags if the store has none.
    fn apply(&self, change: &Change) -> impl Future<Output = Result<()>> + Send;

    /// A guard for a transaction that changes this. Nothing happens until it
    /// [commits](InvalidateOnCommit::commit).
    fn invalidate_on_commit(&self, change: Change) -> InvalidateOnCommit<Self> {
        InvalidateOnCommit { cache: self.clone(), changes: vec![change], committing: false }
    }
}

macro_rules! invalidate {
    ($strategy:ident $(, $loader:ident)?) => {
        impl<S: CacheStore, $($loader: Send + Sync + 'static,)? O: Observer> Invalidate
            for $strategy<S, $($loader,)? O>
        {
            async fn apply(&self, change: &Change) -> Result<()> {
                match change {
                    Change::Keys(keys) => {
                        let keys: Vec<_> = keys.iter().map(|key| Key::borrowed(key)).collect();
                        self.invalidate_many(&keys).await
                    }
                    Change::Prefix(prefix) => self.invalidate_prefix(prefix).await,
                    Change::Tags(tags) => {
                        let tags: Vec<_> = tags.iter().map(SmolStr::as_str).collect();
                        self.engine().0.invalidate_tags(&tags).await
                    }
                    Change::Clear => self.clear().await,
                }
            }
        }
    };
}

invalidate!(CacheAside);
invalidate!(ReadThrough, L);
invalidate!(StaleWhileRevalidate, L);

/// Keys, or tags, that a transaction of the source changes. They are invalidated when it commits, and not when it is rolled
/// back or the guard is dropped.
///
/// Before the commit is too early: a reader would load the old value once more and keep it.
///
/// If the process dies after the commit and before the invalidation, nobody invalidates: the old value lives as long as
/// it may. Where that is too long, write the keys into a table in the same transaction, and [`feed`] them from there.
///
/// ```
/// use cache_core::{CacheAside, CacheStoreExt, Change, Invalidate, ReadOptions};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # struct Transaction;
/// # impl Transaction { async fn commit(self) -> io::Result<u64> { Ok(1) } }
/// # let transaction = Transaction;
/// # let users = CacheAside::new(MemoryStore::new(9), ReadOptions::ttl(Duration::from_secs(60)))?;
/// # users.put(&7, Some("Ada")).await?;
/// let pending = users.invalidate_on_commit(Change::key("7"));
/// // UPDATE users SET ... WHERE id = 7
/// let done = pending.commit(transaction.commit()).await.expect("it commits");
/// done.invalidated?; // if this is an error, the source has changed and the cache may not know
/// assert_eq!(done.value, 1); // what the commit returned
/// assert_eq!(users.store().value("7").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "nothing is invalidated unless the transaction is committed through it"]
pub struct InvalidateOnCommit<I: Invalidate> {
    cache: I,
    changes: Vec<Change>,
    /// Whether the commit has begun and not ended.
    committing: bool,
}

/// A commit that was made, and the invalidation after it.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the commit returned.
    pub value: T,
    /// Whether the keys have been invalidated. The store's own ways of making up for it go on after an error.
    pub invalidated: Result<()>,
}

impl<I: Invalidate> InvalidateOnCommit<I> {
    /// The transaction changes this as well.
    pub fn also(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Commits, and then invalidates.
    ///
    /// # Errors
    ///
    /// That of the commit. The keys are invalidated then, too: a commit whose answer was lost may have been made.
    ///
    /// # Cancellation
    ///
    /// If the commit had begun, the keys are invalidated in the background, provided that there is a tokio runtime.
    pub async fn commit<T, E>(
        mut self,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<Committed<T>, E> {
        self.committing = true;
        let committed = commit.await;
        let invalidated = apply_all(&self.cache, &self.changes).await;
        self.committing = false;
        committed.map(|value| Committed { value, invalidated })
    }

    /// Invalidates after a commit that was made elsewhere.
    ///
    /// # Errors
    ///
    /// Those of the store's removal.
    ///
    /// # Cancellation
    ///
    /// As [`commit`](Self::commit).
    pub async fn committed(mut self) -> Result<()> {
        self.committing = true;
        let invalidated = apply_all(&self.cache, &self.changes).await;
        self.committing = false;
        invalidated
    }
}

async fn apply_all<I: Invalidate>(cache: &I, changes: &[Change]) -> Result<()> {
    let mut result = Ok(());
    for change in changes {
        result = result.and(cache.apply(change).await);
    }
    result
}

impl<I: Invalidate> Drop for InvalidateOnCommit<I> {
    fn drop(&mut self) {
        if !self.committing {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (cache, changes) = (self.cache.clone(), std::mem::take(&mut self.changes));
            runtime.spawn(async move {
                // Nobody is there to be told.
                let _ = apply_all(&cache, &changes).await;
            });
        }
    }
}

impl<I: Invalidate> fmt::Debug for InvalidateOnCommit<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidateOnCommit").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// How a [`feed`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Changes that were applied.
    pub applied: u64,
    /// Changes that failed.
    pub failed: u64,
}

/// Applies changes of keys or tags that come from elsewhere, from a message consumer or an outbox table, until there are
/// no more. Over tiers with a bus, one process that is fed tells all the others.
///
/// Each has a token of the caller's: an offset, a delivery tag. `done` is called with it and the result, in the order
/// of the stream, so a consumer acknowledges what has been applied and delivers the rest again. Applying a change
/// twice does no harm. Up to `at_once` changes are applied at the same time, and no more are taken from the stream than
/// that.
///
/// # Cancellation
///
/// Changes of which `done` has not been told have been applied or not.
///
/// ```
/// use cache_core::{CacheAside, CacheStoreExt, Change, ReadOptions, feed};
/// use cache_memory::MemoryStore;
/// use futures_util::stream;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let users = CacheAside::new(MemoryStore::new(9), ReadOptions::ttl(Duration::from_secs(60)))?;
/// users.put(&7, Some("Ada")).await?;
///
/// // `Change::tag("org:12")` is for a store whose entries have tags.
/// let messages = stream::iter([(41, Change::key("7")), (42, Change::Prefix("page:".into()))]);
/// let mut acknowledged = None;
/// let fed = feed(&users, messages, 16, |offset, result| {
///     if result.is_ok() {
///         acknowledged = Some(offset);
///     }
/// });
/// assert_eq!(fed.await.applied, 2);
/// assert_eq!(acknowledged, Some(42));
/// assert_eq!(users.store().value("7").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub async fn feed<I: Invalidate, T: Send>(
    cache: &I,
    changes: impl Stream<Item = (T, Change)> + Send,
    at_once: usize,
    mut done: impl FnMut(T, Result<()>) + Send,
) -> Fed {
    let mut fed = Fed::default();
    let applied = changes.map(|(token, change)| async move { (token, cache.apply(&change).await) });
    let mut applied = pin!(applied.buffered(at_once.max(1)));
    while let Some((token, result)) = applied.next().await {
        match &result {
            Ok(()) => fed.applied += 1,
            Err(_) => fed.failed += 1,
        }
        done(token, result);
    }
    fed
}
