//! What has been made and could not be said to be done. While the process has the partition, nobody else makes it, and
//! nobody takes it out of the log, so it says so again.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache_core::{CacheKey, Result};

use super::{Partition, Settled, Shared, TOGETHER};

/// The writes of a partition that this is to be said of.
#[derive(Default)]
pub(super) struct Unsaid(Mutex<Vec<Settled>>);

impl Unsaid {
    /// They are others' to make now.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Settled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes that are being said to be done. If that fails, or is given up, they are to be said again.
pub(super) struct Saying<'a> {
    partition: &'a Partition,
    /// The lease under which they were made.
    token: u64,
    writes: Vec<Settled>,
}

impl<'a> Saying<'a> {
    pub(super) fn new(partition: &'a Partition, writes: Vec<Settled>) -> Self {
        Self { partition, token: partition.token.load(Ordering::Acquire), writes }
    }
}

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        let mut unsaid = self.partition.unsaid.lock();
        // Looked at under the lock: what is added after the end of the lease is cleared, or not added.
        if self.token != 0 && self.token == self.partition.token.load(Ordering::Acquire) {
            unsaid.append(&mut self.writes);
        }
    }
}

impl<K, V> Shared<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Says that writes of one partition are in the source.
    pub(super) async fn say(&self, mut saying: Saying<'_>) -> Result<()> {
        self.settle(saying.partition, &saying.writes).await?;
        saying.writes.clear();
        Ok(())
    }

    /// Says some of what could not be said; whether there is more that may be said now.
    pub(super) async fn say_again(&self, partition: &Partition) -> bool {
        let writes = {
            let mut unsaid = partition.unsaid.lock();
            let rest = unsaid.len().saturating_sub(TOGETHER);
            unsaid.split_off(rest)
        };
        if writes.is_empty() || self.say(Saying::new(partition, writes)).await.is_err() {
            return false;
        }
        !partition.unsaid.lock().is_empty()
    }
}
