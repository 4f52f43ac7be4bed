//! What becomes of a store whose callers go away.
//!
//! Every future is polled once and dropped. What it had sent to a server may still be done there.

use std::future::Future;

use futures_util::FutureExt;

use super::{Comparable, KEY, Kept, Subject, ensure, granted};
use crate::{Claim, ClaimOptions, Fill, SetOptions};

pub(super) async fn a_dropped_read_changes_nothing<S: Comparable>(s: Subject<S>) -> Kept {
    s.put(KEY, 1).await?;
    for _ in 0..100 {
        dropped(s.store().get(KEY)).await;
        dropped(s.store().get_many(&["another", KEY])).await;
        dropped(s.store().claim(KEY, s.claiming())).await;
    }
    s.holds(KEY, 1).await?;
    s.misses("another").await
}

pub(super) async fn a_dropped_write_is_done_or_not_done<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 1..20 {
        s.put(KEY, 0).await?;
        s.put("another", 0).await?;
        let short = SetOptions::ttl(s.long() / 2);
        dropped(s.store().set(KEY, Some(s.sample(number)), short.clone())).await;
        let entries = vec![("another", Some(s.sample(number)), short)];
        dropped(s.store().set_many(entries)).await;

        for key in [KEY, "another"] {
            let entry = s.entry(key).await?;
            let half = s.long() / 2;
            let old = entry.value() == Some(&s.sample(0)) && entry.usable_for() > half;
            let new = entry.value() == Some(&s.sample(number)) && entry.usable_for() <= half;
            ensure!(old || new, "the write left {entry:?}");
        }
    }
    s.works().await
}

pub(super) async fn a_dropped_removal_is_done_or_not_done<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 1..20 {
        let keys = ["a", "b", "c", "d"];
        for key in keys {
            s.put(key, number).await?;
        }
        dropped(s.store().remove("a")).await;
        dropped(s.store().remove_many(&["b"])).await;
        dropped(s.store().remove_prefix("c")).await;
        for key in keys {
            if let Some(entry) = s.store().get(key).await? {
                ensure!(entry.value() == Some(&s.sample(number)), "the removal left {entry:?}");
            }
        }
        s.holds("d", number).await?;
        dropped(s.store().clear()).await;
    }
    s.works().await
}

/// Nobody has the lease that was perhaps granted, so it ends at its end, and not later.
pub(super) async fn a_dropped_claim_ends_by_itself<S: Comparable>(s: Subject<S>) -> Kept {
    let options = ClaimOptions::new(s.units(2));
    dropped(s.store().claim(KEY, options)).await;
    s.settle().await;
    s.pass(s.units(2) + s.tolerance()).await;
    let lease = granted(s.store().claim(KEY, s.claiming()).await?)?;
    dropped(s.store().release(lease)).await;
    s.works().await
}

pub(super) async fn a_dropped_fill_is_done_or_not_done<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 1..20 {
        let lease = s.lease(KEY).await?;
        dropped(s.store().fill(lease.clone(), Some(s.sample(number)), s.lasting())).await;
        s.settle().await;
        match s.store().claim(KEY, s.claiming()).await? {
            Claim::Found(entry) => {
                ensure!(entry.value() == Some(&s.sample(number)), "the fill left {entry:?}");
            }
            Claim::Granted(_) => {}
            Claim::Held { .. } => {
                let fill = s.store().fill(lease, Some(s.sample(0)), s.lasting()).await?;
                ensure!(fill == Fill::Stored, "the lease is neither over nor good");
            }
        }
        s.store().remove(KEY).await?;
    }
    s.works().await
}

/// Polls a future once, and drops it.
async fn dropped<T>(future: impl Future<Output = T> + Send) {
    let _ = future.now_or_never();
    // Lets the store's own tasks have their turn.
    tokio::task::yield_now().await;
}

impl<S: Comparable> Subject<S> {
    /// Makes sure that the store still does everything.
    async fn works(&self) -> Kept {
        self.settle().await;
        self.put("works", 1).await?;
        self.holds("works", 1).await?;
        self.store().remove("works").await?;
        self.misses("works").await?;
        let lease = self.lease("works").await?;
        let fill = self.store().fill(lease, Some(self.sample(2)), self.lasting()).await?;
        ensure!(fill == Fill::Stored, "a fill is {fill:?} after others were dropped");
        self.holds("works", 2).await?;
        Ok(())
    }
}
