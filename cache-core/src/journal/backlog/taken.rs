use tokio::time::Instant;

use crate::Write;

/// A write that has been taken to be made. It is in flight until it is [done](super::Backlog::done) or
/// [to be tried again](super::Backlog::retry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken<K, V> {
    /// The write.
    pub write: Write<K, V>,
    /// What has come of it so far.
    pub(crate) trial: Trial,
}

impl<K, V> Taken<K, V> {
    /// How often it has been tried alone before.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.trial.alone
    }
}

/// What has come of a write so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trial {
    /// How often it has failed, with others or alone.
    pub(crate) failed: u32,
    /// How often it has failed alone.
    pub(crate) alone: u32,
    /// How often it has succeeded, and the cache could not be brought in line.
    pub(crate) stuck: u32,
    /// Whether it may be a dead letter: that was to be made of it, and the answer was an error.
    pub(crate) parked: bool,
    /// The size of the largest batch that it may be in; `None` is any.
    pub(crate) most: Option<usize>,
    /// When it failed alone first, and how many batches had succeeded by then.
    pub(crate) since: Option<(Instant, u64)>,
}
