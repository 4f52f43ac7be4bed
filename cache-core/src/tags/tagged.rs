use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smol_str::SmolStr;

use super::hints::Hints;
use super::{Marked, Marks};
use crate::{CacheStore, Error, ErrorKind, Namespaced, Result};

/// An entry may have this many tags,
const MOST_TAGS: usize = 64;

/// of this many bytes each.
const LONGEST_TAG: usize = 250;

/// A store whose entries have tags, by which they are invalidated together.
///
/// Which tags an entry has is told by a function of its key and value: the organisation that a user belongs
/// to, the products on a page. For a negative entry there is no value. So whoever writes an entry, a load or a `set`, it has its
/// tags, and a value that moves from one tag to another has only the new one.
///
/// [`invalidate_tags`](TagStore::invalidate_tags) takes one step, however many entries there are: see [`Marks`].
/// Entries that have been invalidated take room until they are replaced, expire, or are evicted. Handles to the same marks
/// connect stores of different types of value: `org:7` may be a tag of users and of invoices.
///
/// An entry has at most 64 tags of at most 250 bytes; more are an error, and the entry is not stored.
///
/// # Order
///
/// Outermost, so that the function sees values. Namespaces, codecs and tiers are below, and their values are
/// [`Marked`]; a store of bytes gets its codec by [`TaggedCodec`](crate::TaggedCodec).
///
/// # What it costs
///
/// With [`MemoryMarks`](crate::MemoryMarks), and with [`NearMarks`](crate::NearMarks) that are trusted, one comparison, however many
/// tags an entry has, and the handle to its stamps: a hit of a `MemoryStore` takes about 25 instructions more than the 190 without this store
/// (`cargo run --release -p cache-benches -- hit`). After a mark has changed, whosesoever it is, the next hit of each entry compares
/// its stamps one by one. With marks behind a network nothing in a read: the marks are asked for together with the entry, since
/// the tags of the last 16,384 keys are remembered; a key whose tags have changed costs one more question. A fill and a `set` of
/// an entry with tags ask for its stamps first.
///
/// ```
/// use cache_core::{CacheStoreExt, MemoryMarks, ReadOptions, ReadThrough};
/// use cache_memory::MemoryStore;
/// use std::{io, time::Duration};
///
/// #[derive(Clone)]
/// struct User { org: u32, name: &'static str }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let load = |id: u64| async move { Ok::<_, io::Error>(Some(User { org: 7, name: "Ada" })) };
/// let store = MemoryStore::new(10_000).tagged(MemoryMarks::new(), |_key, user: Option<&User>| {
///     user.map(|user| format!("org:{}", user.org))
/// });
/// let users = ReadThrough::new(store, load, ReadOptions::ttl(Duration::from_secs(60)))?;
///
/// users.get(&1).await?;
/// users.invalidate_tag("org:7").await?; // all its users
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct Tagged<S, M, V> {
    pub(super) inner: S,
    pub(super) marks: M,
    tags: Arc<Tags<V>>,
    pub(super) hints: Arc<Hints>,
}

type Tags<V> = dyn Fn(&str, Option<&V>) -> Vec<SmolStr> + Send + Sync;

/// A store that is known to have tags: a [`Tagged`] one, also within a namespace. Of a [`SharedStore`](crate::SharedStore)
/// that is known at run time only: [`CacheStore::remove_tagged`] says so.
///
/// ```
/// use cache_core::{Result, TagStore};
///
/// async fn organisation_has_moved(store: &impl TagStore, org: u32) -> Result<()> {
///     store.invalidate_tags(&[&format!("org:{org}")]).await
/// }
/// ```
pub trait TagStore: CacheStore {
    /// Invalidates every entry that has one of these tags. After it has returned, no read that begins gets such
    /// an entry, and no load that began before is kept.
    ///
    /// # Errors
    ///
    /// As [`Marks::invalidate`].
    fn invalidate_tags(&self, tags: &[&str]) -> impl Future<Output = Result<()>> + Send {
        self.remove_tagged(tags)
    }
}

impl<S, M, V> Tagged<S, M, V> {
    /// The entries of `inner`, with the tags that `tags` tells of a key, as this store is asked for it, and a value.
    pub fn new<T>(
        inner: S,
        marks: M,
        tags: impl Fn(&str, Option<&V>) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        let tags = move |key: &str, value: Option<&V>| {
            // One more than is allowed is enough to know that there are too many.
            let tags = tags(key, value).into_iter().take(MOST_TAGS + 1);
            tags.map(SmolStr::new).collect()
        };
        Self { inner, marks, tags: Arc::new(tags), hints: Arc::new(Hints::new()) }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The marks.
    pub fn marks(&self) -> &M {
        &self.marks
    }

    /// The tags of an entry, each once.
    pub(super) fn tags_of(&self, key: &str, value: Option<&V>) -> Result<Vec<SmolStr>> {
        let tags = catch_unwind(AssertUnwindSafe(|| (self.tags)(key, value)));
        let Ok(mut tags) = tags else {
            return Err(Error::with_cause(ErrorKind::InvalidOption, "tags: the function panicked"));
        };
        if tags.len() > MOST_TAGS {
            let why = format!("tags: {key:?} has more than {MOST_TAGS}");
            return Err(Error::with_cause(ErrorKind::TooLarge, why));
        }
        if let Some(tag) = tags.iter().find(|tag| tag.is_empty() || tag.len() > LONGEST_TAG) {
            let length = tag.len();
            let why = format!("tags: one of {key:?} has {length} bytes, of 1 to {LONGEST_TAG}");
            return Err(Error::with_cause(ErrorKind::TooLarge, why));
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }
}

impl<S, M, V> TagStore for Tagged<S, M, V>
where
    S: CacheStore<Value = Marked<V>>,
    M: Marks,
    V: Clone + Send + Sync + 'static,
{
}

impl<S: TagStore> TagStore for Arc<S> {}

impl<S: TagStore> TagStore for Namespaced<S> {}

impl<S: Clone, M: Clone, V> Clone for Tagged<S, M, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            marks: self.marks.clone(),
            tags: Arc::clone(&self.tags),
            hints: Arc::clone(&self.hints),
        }
    }
}

impl<S: fmt::Debug, M: fmt::Debug, V> fmt::Debug for Tagged<S, M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged")
            .field("inner", &self.inner)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}
