use std::time::Duration;

/// How much a journal holds at most. Dead letters are not counted.
///
/// ```
/// use cache_core::Bounds;
///
/// let bounds = Bounds { writes: 1_000, ..Bounds::default() };
/// assert_eq!(bounds.bytes, usize::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Writes that wait or are being made.
    pub writes: usize,
    /// Their bytes, as the journal counts them.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 100,000 writes, of whatever size.
    fn default() -> Self {
        Self { writes: 100_000, bytes: usize::MAX }
    }
}

/// When writes are due: as soon as there are so many, or so many bytes of them, or one is so old. No batch has more.
///
/// ```
/// use cache_core::Due;
/// use std::time::Duration;
///
/// let due = Due { writes: 100, bytes: 1 << 20, age: Duration::from_millis(50) };
/// assert!(due.writes > 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// So many writes.
    pub writes: usize,
    /// So many bytes, as the journal counts them.
    pub bytes: usize,
    /// A write that has waited for so long.
    pub age: Duration,
}

/// How much is waiting.
///
/// ```
/// use cache_core::{Backlog, Bounds, Depth};
///
/// assert_eq!(Backlog::<u64, u64>::new(Bounds::default()).depth(), Depth::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Writes that wait.
    pub waiting: usize,
    /// Writes that are being made.
    pub in_flight: usize,
    /// The bytes of both, as the journal counts them.
    pub bytes: usize,
    /// For how long the oldest of them has been waiting.
    pub oldest: Option<Duration>,
}

impl Depth {
    /// All writes that are not in the source.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.waiting + self.in_flight
    }
}
