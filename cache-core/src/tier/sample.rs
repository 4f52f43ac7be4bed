//! A near hit now and then is compared with the far store, so that the share of stale ones is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Counters, Inner};
use crate::{CacheStore, Entry, Version};

/// How long the far store may take for a comparison.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Zero is never.
    pub(super) one_in: u32,
    /// One comparison at a time is enough.
    busy: AtomicBool,
}

impl Sampler {
    pub(super) fn one_in(hits: u32) -> Self {
        Self { one_in: hits, busy: AtomicBool::new(false) }
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.one_in != 0
    }

    /// Takes this hit as a sample, if it is its turn.
    #[cold]
    #[inline(never)]
    pub(super) fn maybe<N, F, T>(&self, tiers: &Arc<Inner<N, F>>, key: &str, copy: &Entry<T>)
    where
        N: CacheStore,
        F: CacheStore<Value = N::Value>,
    {
        let version = copy.version();
        let chosen = version != Version::UNKNOWN && fastrand::u32(..self.one_in) == 0;
        if !chosen || self.busy.swap(true, Relaxed) {
            return;
        }
        // Made here, as a task may end before it has begun.
        let sampling = Free(Arc::clone(tiers));
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let key = SmolStr::new(key);
        // What is left of a copy may have been told by the coarse time.
        let ends = tiers.gate.clock().coarse().plus(copy.usable_for());
        runtime.spawn(async move {
            let Free(tiers) = &sampling;
            let Ok(Ok(found)) = timeout(LIMIT, tiers.far.get(&key)).await else {
                return;
            };
            let (stale, gone) = match found {
                Some(entry) => (entry.version() != version, false),
                // The original lives as long as its copy, so before that ends it has not ended by itself.
                None if tiers.gate.now() < ends => (false, true),
                None => return,
            };
            Counters::add(&tiers.counters.sampled, 1);
            Counters::add(&tiers.counters.sampled_stale, usize::from(stale));
            Counters::add(&tiers.counters.sampled_gone, usize::from(gone));
        });
    }
}

/// Has the next sample taken, when it is dropped.
struct Free<N, F>(Arc<Inner<N, F>>);

impl<N, F> Drop for Free<N, F> {
    fn drop(&mut self) {
        self.0.sampler.busy.store(false, Relaxed);
    }
}
