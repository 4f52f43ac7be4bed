//! Until when a process may begin to make writes of a partition.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// A moment by the clock of this process, or none, which others look at without waiting.
pub(super) struct Until {
    origin: Instant,
    /// Nanoseconds since the origin; 0 is none.
    nanos: AtomicU64,
}

impl Until {
    /// None.
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), nanos: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, until: Instant) {
        self.nanos.store(self.since_origin(until), Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.nanos.store(0, Ordering::Release);
    }

    /// Whether it is still to come.
    pub(super) fn is_ahead(&self) -> bool {
        self.since_origin(Instant::now()) < self.nanos.load(Ordering::Acquire)
    }

    fn since_origin(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_moment_is_ahead_until_it_has_come_or_been_cleared() {
        let until = Until::new();
        assert!(!until.is_ahead());
        until.set(Instant::now() + Duration::from_secs(3_600));
        assert!(until.is_ahead());
        until.set(Instant::now());
        assert!(!until.is_ahead());
        until.set(Instant::now() + Duration::from_secs(3_600));
        until.clear();
        assert!(!until.is_ahead());
    }
}
