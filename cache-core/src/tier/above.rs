//! Near tiers in front of a store that keeps copies itself: tiers over tiers, or over marks that are copied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Gate, NearTier, OnlyReads, Side};
use crate::Result;

/// Those who may have copied what is copied here, and so have to forget it afterwards.
#[derive(Debug, Default)]
pub(crate) struct Above(Mutex<Vec<Attached>>);

#[derive(Clone, Debug)]
struct Attached {
    near: NearTier,
    /// What it was told last, of both.
    closed: bool,
    only_reads: bool,
}

impl Above {
    pub(crate) fn attach(&self, near: NearTier, gate: &Gate, reads: &OnlyReads) {
        self.lock().push(Attached { near, closed: false, only_reads: false });
        self.tell(gate);
        self.tell_reads(reads);
    }

    /// Lets them answer only while `gate` is open. To be called whenever it may have changed.
    pub(crate) fn tell(&self, gate: &Gate) {
        let tell = |side: &dyn Side, closed: bool| side.below(!closed);
        self.tell_each(|| !gate.is_open(), |attached| &mut attached.closed, tell);
    }

    /// Has them copy what is read alone while `reads` is set. To be called whenever it may have changed.
    pub(crate) fn tell_reads(&self, reads: &OnlyReads) {
        let tell = |side: &dyn Side, only: bool| side.reads_below(only);
        self.tell_each(|| reads.is_set(), |attached| &mut attached.only_reads, tell);
    }

    fn tell_each(
        &self,
        how_it_is: impl Fn() -> bool,
        told: impl Fn(&mut Attached) -> &mut bool,
        tell: impl Fn(&dyn Side, bool),
    ) {
        let mut sides: Vec<Arc<dyn Side>> = Vec::new();
        let mut attached = self.lock();
        attached.retain(|attached| attached.near.is_alive());
        // Looked at under the lock, so that whoever is the last to tell tells how it is.
        let is = how_it_is();
        for attached in attached.iter_mut() {
            if *told(attached) != is
                && let Some(side) = attached.near.side.upgrade()
            {
                *told(attached) = is;
                tell(&*side, is);
                sides.push(side);
            }
        }
        // Before the handles are dropped: one of them may be the last.
        drop(attached);
    }

    /// To be called after it has been forgotten here: what they read then is not it.
    pub(crate) async fn forget(&self, change: &Change) -> Result<()> {
        let mut forgotten = Ok(());
        for attached in self.all() {
            if let Some(change) = attached.near.spelled(change) {
                forgotten = forgotten.and(attached.near.forget(&change).await);
            }
        }
        forgotten
    }

    /// As [`forget`](Self::forget), of what this process has changed itself.
    pub(crate) async fn forget_own(&self, change: &Change) -> Result<()> {
        let mut forgotten = Ok(());
        for Attached { near, .. } in self.all() {
            if let (Some(change), Some(side)) = (near.spelled(change), near.side.upgrade()) {
                let gone = side.forget(&change).await;
                if gone.is_err() {
                    side.close();
                }
                forgotten = forgotten.and(gone);
            }
        }
        forgotten
    }

    /// As [`forget`](Self::forget), of everything.
    pub(crate) async fn forget_all(&self) -> Result<()> {
        let mut forgotten = Ok(());
        for attached in self.all() {
            if let Some(side) = attached.near.side.upgrade() {
                forgotten = forgotten.and(side.forget_all().await);
            }
        }
        forgotten
    }

    fn all(&self) -> Vec<Attached> {
        self.lock().clone()
    }

    // Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
