use std::time::Duration;

use crate::backoff::Backoff;
use crate::{Due, Error, ErrorKind, Result};

/// How many batches can be counted, on every platform.
const MOST_PARALLEL: usize = 1 << 20;

/// How a [`WriteBehind`](crate::WriteBehind) writes.
///
/// | option | default | |
/// |---|---|---|
/// | [`batch`](Self::batch) | 100 writes | how many writes make a batch, at most |
/// | [`batch_bytes`](Self::batch_bytes) | none | how many bytes make a batch, at most |
/// | [`delay`](Self::delay) | 50 ms | how long a write waits for its batch to become full |
/// | [`parallel`](Self::parallel) | 4 | how many batches are written at a time, of different keys |
/// | [`write_timeout`](Self::write_timeout) | 10 s | after which a batch is given up, and tried again |
/// | [`backoff`](Self::backoff) | 100 ms to 30 s | how long to wait after failures |
/// | [`tries`](Self::tries) | 5 | how often a write is tried alone while the source takes others |
/// | [`park_after`](Self::park_after) | 1 h | how long it is tried alone while there are no others |
/// | [`overflow`](Self::overflow) | block for 5 s | what a `put` does when the journal is full |
///
/// ```
/// use cache_core::{BehindOptions, Overflow};
/// use std::time::Duration;
///
/// let options = BehindOptions::default()
///     .batch(500)
///     .delay(Duration::from_millis(10))
///     .overflow(Overflow::Reject);
/// assert!(options.check().is_ok());
/// assert!(options.parallel(0).check().unwrap_err().to_string().contains("parallel"));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BehindOptions {
    pub(super) due: Due,
    pub(super) parallel: usize,
    pub(super) write_timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) tries: u32,
    pub(super) park_after: Duration,
    pub(super) overflow: Overflow,
}

/// What a `put` does when the journal is full.
///
/// ```
/// use cache_core::Overflow;
/// use std::time::Duration;
///
/// assert_ne!(Overflow::Reject, Overflow::Block(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It waits for room, at most so long; then it fails with [`ErrorKind::Full`].
    Block(Duration),
    /// It fails at once with [`ErrorKind::Full`].
    Reject,
}

impl Default for BehindOptions {
    fn default() -> Self {
        Self {
            due: Due { writes: 100, bytes: usize::MAX, age: Duration::from_millis(50) },
            parallel: 4,
            write_timeout: Duration::from_secs(10),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            tries: 5,
            park_after: Duration::from_secs(3600),
            overflow: Overflow::Block(Duration::from_secs(5)),
        }
    }
}

impl BehindOptions {
    /// Writes as soon as there are so many writes, and never more than these in one go.
    pub fn batch(mut self, writes: usize) -> Self {
        self.due.writes = writes;
        self
    }

    /// Writes as soon as there are so many bytes, as the journal counts them, and never more than these in one go (but for
    /// a single write that has more).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.due.bytes = bytes;
        self
    }

    /// Lets a write wait for no longer than this for its batch to become full. In that time, further writes of its key
    /// take its place.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.due.age = delay;
        self
    }

    /// Writes so many batches at a time, a million at most. They never have a key in common.
    pub fn parallel(mut self, batches: usize) -> Self {
        self.parallel = batches;
        self
    }

    /// Gives up a batch after this long. It is tried again, so it may be written twice. The source should have a
    /// shorter limit of its own: what it commits later than this may overtake the repetition.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// After `n` failures in a row, waits for any time up to `first * 2^(n-1)`, at most `last`.
    pub fn backoff(mut self, first: Duration, last: Duration) -> Self {
        self.backoff = Backoff::new(first, last);
        self
    }

    /// Makes a dead letter of a write that has failed so often alone, if the source has taken others since it first failed. Of
    /// one whose failure is [permanent](crate::Failure::Permanent), at once.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Makes a dead letter of a write that has been failing for so long, even if there were no others by which to tell
    /// that the source works. [`Duration::MAX`] is never.
    pub fn park_after(mut self, age: Duration) -> Self {
        self.park_after = age;
        self
    }

    /// What a `put` does when the journal is full.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option.
    pub fn check(&self) -> Result<()> {
        for (name, zero) in [
            ("batch", self.due.writes == 0),
            ("batch_bytes", self.due.bytes == 0),
            ("parallel", self.parallel == 0),
            ("write_timeout", self.write_timeout.is_zero()),
            ("backoff", self.backoff.first.is_zero() || self.backoff.last.is_zero()),
            ("tries", self.tries == 0),
            ("park_after", self.park_after.is_zero()),
        ] {
            if zero {
                let cause = format!("{name}: must not be zero");
                return Err(Error::with_cause(ErrorKind::InvalidOption, cause));
            }
        }
        if self.parallel > MOST_PARALLEL {
            let cause = format!("parallel: must not be more than {MOST_PARALLEL}");
            return Err(Error::with_cause(ErrorKind::InvalidOption, cause));
        }
        Ok(())
    }
}
