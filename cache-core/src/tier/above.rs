//! Near tiers in front of a store that keeps copies itself: tiers over tiers, or over marks that are copied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Gate, NearTier, Side};
use crate::Result;

/// Those who may have copied what is copied here, and so have to forget it afterwards.
#[derive(Debug, Default)]
pub(crate) struct Above(Mutex<Vec<Attached>>);

#[derive(Clone, Debug)]
struct Attached {
    near: NearTier,
    /// What it was told last.
    closed: bool,
}

impl Above {
    pub(crate) fn attach(&self, near: NearTier, gate: &Gate) {
        self.lock().push(Attached { near, closed: false });
        self.tell(gate);
    }

    /// Lets them answer only while `gate` is open. To be called whenever it may have changed.
    pub(crate) fn tell(&self, gate: &Gate) {
        let mut told: Vec<Arc<dyn Side>> = Vec::new();
        let mut attached = self.lock();
        attached.retain(|attached| attached.near.is_alive());
        // Looked at under the lock, so that whoever is the last to tell tells how it is.
        let closed = !gate.is_open();
        for attached in attached.iter_mut().filter(|attached| attached.closed != closed) {
            if let Some(side) = attached.near.side.upgrade() {
                attached.closed = closed;
                side.below(!closed);
                told.push(side);
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
