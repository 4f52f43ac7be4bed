//! Waits until all is made, and knows how much is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_core::{CacheKey, Result};
use futures_util::future::try_join_all;
use redis::Value;
use tokio::time::{sleep, timeout};

use super::scripts::ask;
use super::{Partition, Shared, unsigned};
use crate::error::unexpected;

/// How often the log is asked whether all is done.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// Of partitions that are not known to be empty, one write is left at least.
struct Doubtful<'a> {
    partitions: &'a [Partition],
    are_empty: bool,
}

impl Drop for Doubtful<'_> {
    fn drop(&mut self) {
        let nothing = || self.partitions.iter().all(|one| one.writes.load(Ordering::Relaxed) == 0);
        if !self.are_empty && nothing() {
            self.partitions[0].writes.fetch_max(1, Ordering::Relaxed);
        }
    }
}

impl<K, V> Shared<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits until all that was there when this began is made, whoever makes it.
    pub(super) async fn drain(&self) -> Result<()> {
        let mut doubtful = Doubtful { partitions: &self.partitions, are_empty: false };
        // All at once, so that also of those behind one that takes long it is known how much there is.
        try_join_all(self.partitions.iter().map(|one| self.emptied(one))).await?;
        doubtful.are_empty = true;
        for partition in &self.partitions {
            self.count(partition).await?;
        }
        Ok(())
    }

    /// Waits until the log of a partition has nothing that was there when this began. Who gives that up knows about how
    /// much there is.
    async fn emptied(&self, partition: &Partition) -> Result<()> {
        let command = |name: &str, from: &str, to: &str| {
            let mut command = redis::cmd(name);
            command.arg(partition.keys.log.as_str()).arg(from).arg(to).arg("COUNT").arg(1);
            command
        };
        let last = ask(&self.inner, &partition.keys.log, || command("XREVRANGE", "+", "-")).await?;
        let Some(last) = first_id(&last) else { return Ok(()) };
        loop {
            let first = ask(&self.inner, &partition.keys.log, || command("XRANGE", "-", &last));
            if first_id(&first.await?).is_none() {
                return Ok(());
            }
            self.count(partition).await?;
            // It was not empty, whatever has been counted by others, before an append or since.
            partition.writes.fetch_max(1, Ordering::Relaxed);
            // What is in the backlog, and what comes into it meanwhile, is due at once.
            let _ = timeout(POLL, self.backlog.drained()).await;
            sleep(POLL).await;
        }
    }

    /// Looks how much there is.
    pub(super) async fn count(&self, partition: &Partition) -> Result<()> {
        for (key, count) in
            [(&partition.keys.last, &partition.writes), (&partition.keys.dead, &partition.dead)]
        {
            let mut command = redis::cmd("HLEN");
            command.arg(key.as_str());
            match ask(&self.inner, key, || command.clone()).await? {
                Value::Int(length) => count.store(unsigned(length), Ordering::Relaxed),
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }
}

/// The id of the first entry in an answer.
fn first_id(entries: &Value) -> Option<String> {
    let Value::Array(entries) = entries else { return None };
    let Some(Value::Array(entry)) = entries.first() else { return None };
    match entry.first() {
        Some(Value::BulkString(id)) => Some(String::from_utf8_lossy(id).into_owned()),
        _ => None,
    }
}
