use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::Revision;

/// A value with the stamps of its tags, as the store below a [`Tagged`](crate::Tagged) holds it.
///
/// A negative entry that has tags is one of these without a value, since the source may get a value
/// that belongs to the tag.
///
/// ```
/// use cache_core::{Marked, Stamp};
///
/// let marked = Marked::new(Some("blue"), vec![Stamp::new("colours", 7)]);
/// assert_eq!(marked.value(), Some(&"blue"));
/// assert_eq!(marked.stamps()[0].tag(), "colours");
/// ```
#[must_use]
// One pointer: a hit clones and moves it, and what it needs of it is looked at where it lies.
pub struct Marked<V>(Arc<Parts<V>>);

/// No revision.
const NEVER: u64 = u64::MAX;

struct Parts<V> {
    value: Option<V>,
    // Shared with the hints.
    stamps: Option<Arc<[Stamp]>>,
    /// The last revision of marks at which the stamps were found to hold.
    held_at: AtomicU64,
}

impl<V> Marked<V> {
    /// A value with the stamps of its tags.
    pub fn new(value: Option<V>, stamps: Vec<Stamp>) -> Self {
        let stamps = (!stamps.is_empty()).then(|| stamps.into());
        Self(Arc::new(Parts { value, stamps, held_at: AtomicU64::new(NEVER) }))
    }

    /// The value; `None` if the source has none.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&V> {
        self.0.value.as_ref()
    }

    /// The stamps of its tags.
    #[must_use]
    #[inline]
    pub fn stamps(&self) -> &[Stamp] {
        self.0.stamps.as_deref().unwrap_or_default()
    }

    pub(super) fn shared_stamps(&self) -> Option<&Arc<[Stamp]>> {
        self.0.stamps.as_ref()
    }

    /// Whether the stamps have been found to hold, and no mark has changed since.
    #[inline(always)]
    pub(super) fn has_held_at(&self, revision: &Revision) -> bool {
        // The number alone: whoever reads here the current one, which no mark has left, need not see anything else.
        self.0.held_at.load(Ordering::Relaxed) == revision.current()
    }

    /// Remembers that the stamps were found to hold after this was the current revision, if there was one.
    pub(super) fn held_at(&self, revision: u64) {
        if revision != 0 {
            self.0.held_at.store(revision, Ordering::Relaxed);
        }
    }
}

impl<V: Clone> Marked<V> {
    /// The value of what a store in memory has, too.
    #[inline(always)]
    pub(super) fn into_shared_value(self) -> Option<V> {
        self.0.value.clone()
    }

    #[inline(always)]
    pub(super) fn into_value(self) -> Option<V> {
        match Arc::strong_count(&self.0) {
            1 => self.into_only_value(),
            // A store in memory has it, too.
            _ => self.0.value.clone(),
        }
    }

    /// The value of what has just been decoded, which nobody else has.
    #[inline(never)]
    fn into_only_value(self) -> Option<V> {
        match Arc::try_unwrap(self.0) {
            Ok(parts) => parts.value,
            Err(shared) => shared.value.clone(),
        }
    }
}

impl<V> Clone for Marked<V> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: PartialEq> PartialEq for Marked<V> {
    fn eq(&self, other: &Self) -> bool {
        (self.value(), self.stamps()) == (other.value(), other.stamps())
    }
}

impl<V: Eq> Eq for Marked<V> {}

impl<V: fmt::Debug> fmt::Debug for Marked<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marked")
            .field("value", &self.value())
            .field("stamps", &self.stamps())
            .finish()
    }
}

/// The generation of a tag at which an entry was made. The entry is valid for as long as the tag's mark
/// has this generation.
///
/// ```
/// use cache_core::Stamp;
///
/// let stamp = Stamp::new("org:7", 42);
/// assert_eq!((stamp.tag(), stamp.generation()), ("org:7", 42));
/// ```
pub struct Stamp {
    tag: SmolStr,
    generation: u64,
    /// Where the tag's generation stands in this process, so that a hit needs no look-up.
    cell: OnceLock<Arc<Cell>>,
}

impl Stamp {
    /// The stamp of `tag` at `generation`.
    #[must_use]
    pub fn new(tag: &str, generation: u64) -> Self {
        Self { tag: tag.into(), generation, cell: OnceLock::new() }
    }

    pub(super) fn at(tag: SmolStr, cell: Arc<Cell>) -> Self {
        Self { tag, generation: cell.get(), cell: OnceLock::from(cell) }
    }

    /// The same stamp for another entry.
    pub(super) fn again(&self) -> Self {
        Self { tag: self.tag.clone(), generation: self.generation, cell: self.cell.clone() }
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The generation.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    pub(super) fn cell(&self) -> &OnceLock<Arc<Cell>> {
        &self.cell
    }
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        (&self.tag, self.generation) == (&other.tag, other.generation)
    }
}

impl Eq for Stamp {}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.tag, self.generation)
    }
}

/// The generation of a tag, where this process keeps it.
#[derive(Debug)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn new(generation: u64) -> Self {
        Self(AtomicU64::new(generation))
    }

    // Acquire and release: who reads what a source was changed to sees the mark that came with it.
    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, generation: u64) {
        self.0.store(generation, Ordering::Release);
    }
}
