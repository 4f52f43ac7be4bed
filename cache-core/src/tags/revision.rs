use std::sync::atomic::{AtomicU64, Ordering};

/// Tells whether marks have changed: stamps that have held at a revision hold for as long as that is the current one.
///
/// So a hit compares one number, however many tags its entry has, and its stamps only after something has changed. No two
/// revisions of a process are the same, of whatever marks, so an entry in memory may be read through several of them.
///
/// ```
/// use cache_core::Revision;
///
/// let (one, other) = (Revision::new(), Revision::new());
/// assert_ne!(one.current(), other.current());
/// let before = one.current();
/// one.advance();
/// assert_ne!(one.current(), before);
/// ```
#[derive(Debug)]
pub struct Revision(AtomicU64);

impl Revision {
    /// A first revision.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(next()))
    }

    /// The current revision; zero while there is none. To be taken before stamps are compared.
    #[must_use]
    #[inline]
    pub fn current(&self) -> u64 {
        // Who sees a revision sees the changes that led to it.
        self.0.load(Ordering::Acquire)
    }

    /// Begins another revision. To be called after marks have changed, and before anybody is told that they have.
    pub fn advance(&self) {
        // If two do so at once, either's number is good: no entry has held at it yet.
        self.0.store(next(), Ordering::Release);
    }

    /// Ends the current revision, and begins none until the next [`advance`](Self::advance): it can't be told any more whether
    /// marks have changed.
    pub fn end(&self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self::new()
    }
}

fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
