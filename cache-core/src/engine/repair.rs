//! Removing the entries that are doubted.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use smol_str::SmolStr;
use tokio::time::sleep;

use super::Engine;
use crate::backoff::Backoff;
use crate::{CacheStore, Key, Observer};

/// How soon, and how late, a removal that failed is tried again.
const REPAIRS: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// So many removals are under way together, and after so many failures there is a pause: a store that hangs is asked
/// for little, however much is doubted.
const TOGETHER: usize = 16;

/// Removes doubted entries. If its runtime ends before it has, the next doubt begins another one.
pub(super) struct Repair<S: CacheStore, O: Observer> {
    engine: Arc<Engine<S, O>>,
    ended: bool,
}

impl<S: CacheStore, O: Observer> Repair<S, O> {
    pub(super) fn new(engine: &Arc<Engine<S, O>>) -> Self {
        Self { engine: Arc::clone(engine), ended: false }
    }

    /// Goes on until none is left.
    pub(super) async fn run(mut self) {
        let mut in_vain = 0;
        loop {
            sleep(REPAIRS.after(in_vain)).await;
            // As long as some can be removed, the others of these do not wait for those that can't.
            in_vain = if self.round().await { 0 } else { in_vain.saturating_add(1) };
            if self.engine.beside.doubts.end_repair() {
                self.ended = true;
                return;
            }
        }
    }

    /// Tries those that have waited longest, until too many have failed; whether any could be removed.
    async fn round(&self) -> bool {
        let (removed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (removed, failed) = (&removed, &failed);
        stream::iter(self.engine.beside.doubts.to_repair())
            .take_while(|_| ready(failed.load(Ordering::Relaxed) < TOGETHER))
            .for_each_concurrent(TOGETHER, |key| async move {
                let done = if self.remove(&key).await { removed } else { failed };
                done.fetch_add(1, Ordering::Relaxed);
            })
            .await;
        removed.load(Ordering::Relaxed) != 0
    }

    async fn remove(&self, key: &SmolStr) -> bool {
        let engine = &self.engine;
        let moment = engine.moment();
        match engine.invalidate(&Key::borrowed(key)).await {
            Ok(()) => {
                engine.trust(key, moment);
                true
            }
            Err(error) => {
                engine.store_failed(&error);
                engine.beside.doubts.put_back(key);
                false
            }
        }
    }
}

impl<S: CacheStore, O: Observer> Drop for Repair<S, O> {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.beside.doubts.abandon_repair();
        }
    }
}
