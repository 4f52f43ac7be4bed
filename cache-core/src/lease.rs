use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::{Entry, Version};

/// The right to load a key, granted by a store; it fences the fill that ends the load.
///
/// A store keeps the lease in the slot of the value itself, so that whatever removes or replaces the
/// value takes the lease away as well. See [`CacheStore::claim`](crate::CacheStore::claim).
///
/// ```
/// use cache_core::{CacheStore, Claim, ClaimOptions, Fill, SetOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = MemoryStore::new(100);
/// let claim = store.claim("answer", ClaimOptions::new(Duration::from_secs(10))).await?;
/// let Claim::Granted(lease) = claim else { panic!("nobody else loads it") };
/// assert_eq!(lease.key(), "answer");
///
/// store.remove("answer").await?; // takes the lease away
/// assert_eq!(store.fill(lease, Some(42), SetOptions::forever()).await?, Fill::Refused);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a lease that is neither filled nor released keeps others waiting until it ends"]
pub struct Lease {
    key: SmolStr,
    token: u64,
    /// What wrappers on its way up have noted, the outermost first.
    notes: Option<Arc<Note>>,
}

/// What a wrapper needs to know again when the lease comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The key as the wrapper spells it.
    pub(crate) key: SmolStr,
    /// Whether the fill may replace what others have copied.
    pub(crate) replaces: bool,
    /// The [epoch](crate::Marks::epoch) at which it was asked for; zero if nobody asked for that.
    pub(crate) epoch: u64,
    below: Option<Arc<Self>>,
}

impl Lease {
    /// A lease on `key`, told from all other leases on it by `token`.
    pub fn new(key: &str, token: u64) -> Self {
        Self { key: key.into(), token, notes: None }
    }

    /// Adds a note, for the wrapper that hands it up.
    pub(crate) fn noted(self, key: &str, replaces: bool) -> Self {
        self.with_note(key, replaces, 0)
    }

    /// As [`noted`](Self::noted), with the epoch.
    pub(crate) fn noted_at(self, key: &str, epoch: u64) -> Self {
        self.with_note(key, false, epoch)
    }

    fn with_note(mut self, key: &str, replaces: bool, epoch: u64) -> Self {
        let below = self.notes.take();
        self.notes = Some(Arc::new(Note { key: key.into(), replaces, epoch, below }));
        self
    }

    /// The latest note, which is not on the lease any more.
    pub(crate) fn take_note(&mut self) -> Option<Note> {
        let note = Arc::unwrap_or_clone(self.notes.take()?);
        self.notes.clone_from(&note.below);
        Some(note)
    }

    /// The key as the store that granted the lease spells it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What tells this lease from the others on its key.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }
}

/// How a key is to be claimed.
///
/// ```
/// use cache_core::{ClaimOptions, Version};
/// use std::time::Duration;
///
/// let cold = ClaimOptions::new(Duration::from_secs(10));
/// assert_eq!(cold.seen(), None);
/// let refresh = cold.refreshing(Version::new(7));
/// assert_eq!(refresh.seen(), Some(Version::new(7)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClaimOptions {
    life: Duration,
    seen: Option<Version>,
    writing: bool,
}

impl ClaimOptions {
    /// Claims a key that has no usable entry, for at most `life`: after that the key is free again,
    /// and the fill is refused.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self { life, seen: None, writing: false }
    }

    /// Claims a key also if it has an entry, provided that it is still the one with this version.
    #[must_use]
    pub fn refreshing(mut self, seen: Version) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Says that the fill brings a new value, or a new end of life, and not what the source has had all along: whoever has a
    /// copy of what was there before is to hear of it, even if the store itself has nothing any more.
    ///
    /// ```
    /// use cache_core::ClaimOptions;
    /// use std::time::Duration;
    ///
    /// let write = ClaimOptions::new(Duration::from_secs(10)).writing();
    /// assert!(write.is_writing());
    /// ```
    #[must_use]
    pub fn writing(mut self) -> Self {
        self.writing = true;
        self
    }

    /// How long the lease lasts.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// The version of the entry that is to be replaced.
    #[must_use]
    pub fn seen(&self) -> Option<Version> {
        self.seen
    }

    /// Whether the fill brings a new value, or a new end of life.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writing
    }
}

/// The answer to a claim.
///
/// ```
/// use cache_core::{CacheStore, Claim, ClaimOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = MemoryStore::<u32>::new(100);
/// let options = ClaimOptions::new(Duration::from_secs(10));
/// let first = store.claim("answer", options).await?;
/// assert!(matches!(first, Claim::Granted(_)));
/// let second = store.claim("answer", options).await?;
/// assert!(matches!(second, Claim::Held { .. }));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a granted lease has to be filled or released"]
pub enum Claim<V> {
    /// The key is the caller's to load.
    Granted(Lease),
    /// Somebody else is loading the key. Ask again after about this long.
    Held {
        /// How long to wait before the next claim.
        retry_in: Duration,
    },
    /// There is an entry, other than the one that was seen.
    Found(Entry<V>),
}

/// The answer to a fill.
///
/// ```
/// use cache_core::{CacheStore, CacheStoreExt, Claim, ClaimOptions, Fill, SetOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = MemoryStore::new(100);
/// let claim = store.claim("answer", ClaimOptions::new(Duration::from_secs(10))).await?;
/// let Claim::Granted(lease) = claim else { panic!("nobody else loads it") };
/// assert_eq!(store.fill(lease, Some(42), SetOptions::forever()).await?, Fill::Stored);
/// assert_eq!(store.value("answer").await?, Some(42));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fill {
    /// The value is stored.
    Stored,
    /// The lease was lost: the key has been removed, written or claimed anew since. Nothing was stored.
    Refused,
}
