//! What is counted about two tiers.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Why the near tier was emptied.
///
/// ```
/// use cache_core::Resync;
///
/// assert_eq!(Resync::Hole.to_string(), "messages are missing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resync {
    /// What carries the changes was connected, or connected again.
    Connected,
    /// The numbers of a publisher's messages have a hole.
    Hole,
    /// A publisher was not heard of for too long: its last messages may be missing.
    Silent,
    /// A publisher was heard of for the first time, and not from its first message on.
    Newcomer,
    /// Messages came faster than they were taken.
    Lag,
    /// A message of a kind, or a version, that this one does not know.
    Unknown,
    /// The far store was emptied by somebody else.
    Flushed,
}

impl Resync {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Connected,
        Self::Hole,
        Self::Silent,
        Self::Newcomer,
        Self::Lag,
        Self::Unknown,
        Self::Flushed,
    ];
}

impl std::fmt::Display for Resync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Hole => "messages are missing",
            Self::Silent => "a publisher is silent",
            Self::Newcomer => "a publisher was not known",
            Self::Lag => "messages came too fast",
            Self::Unknown => "a message was not understood",
            Self::Flushed => "the far store was emptied",
        })
    }
}

/// What two tiers and their coherence have done since they were made, and how they are.
///
/// Hits of the near tier are not in here: a counter for each would cost a part of what a hit does. The
/// [`Stats`](crate::Stats) of a strategy count the hits of both tiers together.
///
/// ```
/// use cache_core::Tiered;
/// use cache_memory::MemoryStore;
///
/// let store = Tiered::new(MemoryStore::<u32>::new(100), MemoryStore::new(10_000));
/// let tiers = store.snapshot();
/// assert!(tiers.trusted);
/// assert_eq!((tiers.far_reads, tiers.refused_copies), (0, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierSnapshot {
    /// Whether the near tier answers at this moment.
    pub trusted: bool,
    /// What keeps the near tier coherent, in words, and why it fails if it does; empty if nothing does.
    pub kept_by: String,
    /// Keys that were asked of the far store.
    pub far_reads: u64,
    /// Near copies that were made.
    pub copies: u64,
    /// Near copies that were not made, because something had touched the key meanwhile.
    pub refused_copies: u64,
    /// Near copies that were dropped because a later read of the far store brought another value, or none.
    pub dropped_copies: u64,
    /// Keys, prefixes and tags that were dropped from the near tier for others' changes.
    pub dropped_by_others: u64,
    /// How often the near tier was emptied, for each reason in the order of [`Resync::ALL`].
    pub resyncs: [u64; Resync::ALL.len()],
    /// How many messages were missing in all holes.
    pub missing: u64,
    /// Messages that were not of this library's making.
    pub undecodable: u64,
    /// Messages with changes that were sent.
    pub published: u64,
    /// Attempts to send that failed. They are made again.
    pub publish_failures: u64,
    /// Changes that wait to be sent, and removals from the far store that have failed until now.
    pub pending: u64,
    /// How often there were so many of them that they became one of everything: see
    /// [`max_pending`](crate::Broadcast::max_pending).
    pub overflows: u64,
    /// Removals from the far store that failed and are not tried again: it has refused them, or there were too many, and it
    /// is one that can't be cleared.
    pub given_up: u64,
    /// How many other publishers are known.
    pub peers: u64,
    /// How long the last message of this process's own took until it came back.
    pub lag: Duration,
    /// Near hits that were compared with the far store, by [`sample_one_in`](crate::TieredBuilder::sample_one_in).
    pub sampled: u64,
    /// How many of them the far store had in another version when it was asked: they were replaced.
    pub sampled_stale: u64,
    /// How many of them the far store had no more when it was asked, though they had not come to their end: they were
    /// removed, or the far store has evicted them. Nobody can tell which, unless the far store evicts nothing.
    pub sampled_gone: u64,
}

impl TierSnapshot {
    /// How often the near tier was emptied for this reason.
    #[must_use]
    pub fn resyncs(&self, reason: Resync) -> u64 {
        self.resyncs[reason as usize]
    }

    /// The share of sampled near hits that the far store did not have any more as they were: in another version, or
    /// not at all; `None` if none has been sampled.
    ///
    /// What the far store has evicted is in it, and what changed between the hit and the comparison. So it is not less than the
    /// true share; without [`sampled_gone`](Self::sampled_gone), which evictions are a part of, it is that of the replaced ones.
    #[must_use]
    pub fn stale_rate(&self) -> Option<f64> {
        let stale = self.sampled_stale + self.sampled_gone;
        (self.sampled > 0).then(|| stale as f64 / self.sampled as f64)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) far_reads: AtomicU64,
    pub(crate) copies: AtomicU64,
    pub(crate) refused_copies: AtomicU64,
    pub(crate) dropped_copies: AtomicU64,
    pub(crate) dropped_by_others: AtomicU64,
    resyncs: [AtomicU64; Resync::ALL.len()],
    pub(crate) missing: AtomicU64,
    pub(crate) undecodable: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) publish_failures: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) overflows: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) peers: AtomicU64,
    pub(crate) lag_nanos: AtomicU64,
    pub(crate) sampled: AtomicU64,
    pub(crate) sampled_stale: AtomicU64,
    pub(crate) sampled_gone: AtomicU64,
    pub(crate) kept_by: Mutex<String>,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Relaxed);
    }

    pub(crate) fn resynced(&self, reason: Resync) {
        self.resyncs[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn kept_by(&self, what: &str) {
        what.clone_into(&mut self.kept_by.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn snapshot(&self, trusted: bool) -> TierSnapshot {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        TierSnapshot {
            trusted,
            kept_by: self.kept_by.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            far_reads: of(&self.far_reads),
            copies: of(&self.copies),
            refused_copies: of(&self.refused_copies),
            dropped_copies: of(&self.dropped_copies),
            dropped_by_others: of(&self.dropped_by_others),
            resyncs: self.resyncs.each_ref().map(of),
            missing: of(&self.missing),
            undecodable: of(&self.undecodable),
            published: of(&self.published),
            publish_failures: of(&self.publish_failures),
            pending: of(&self.pending),
            overflows: of(&self.overflows),
            given_up: of(&self.given_up),
            peers: of(&self.peers),
            lag: Duration::from_nanos(of(&self.lag_nanos)),
            sampled: of(&self.sampled),
            sampled_stale: of(&self.sampled_stale),
            sampled_gone: of(&self.sampled_gone),
        }
    }
}
