use std::sync::Arc;

use cache_core::{Clock, Observer, ReadOptions};
use cache_memory::{MemoryStore, MokaStore};

use crate::{PlainStore, Source, Strategy, TestCache, cache};

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One that has the required methods only, and fences nothing.
    Plain,
    /// [`MemoryStore`].
    Memory,
    /// [`MokaStore`].
    Moka,
    /// A [`MemoryStore`] of capacity 0.
    NoRoom,
}

/// A cache of what `source` has, on a store of this kind.
///
/// # Panics
///
/// If the options are invalid.
pub fn cache_on<O: Observer>(
    kind: Kind,
    strategy: Strategy,
    options: ReadOptions<u64, O>,
    source: &Arc<Source>,
) -> Arc<dyn TestCache> {
    match kind {
        Kind::Plain => cache(strategy, PlainStore::new(Clock::system()), options, source),
        Kind::Memory => cache(strategy, MemoryStore::new(10_000), options, source),
        Kind::Moka => cache(strategy, MokaStore::new(10_000), options, source),
        Kind::NoRoom => cache(strategy, MemoryStore::new(0), options, source),
    }
}
