use std::sync::Arc;

use bytes::Bytes;
use cache_core::{
    CacheStoreExt, Clock, Codec, Encoded, Marked, MemoryMarks, Observer, ReadOptions, Tiered,
};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::{Bincode, Compressed, Json, Postcard};

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
    /// A [`MemoryStore`] behind a [`SharedStore`](cache_core::SharedStore).
    Erased,
    /// A [`MemoryStore`] in an [`Arc`].
    InAnArc,
    /// A namespace of a [`MemoryStore`].
    Namespaced,
    /// A [`MemoryStore`] of bytes, with [`Json`].
    Json,
    /// A [`MemoryStore`] of bytes, with [`Json::bare`].
    BareJson,
    /// A [`MemoryStore`] of bytes, with [`Postcard`].
    Postcard,
    /// A [`MemoryStore`] of bytes, with [`Bincode`].
    Bincode,
    /// A [`MokaStore`] of bytes, erased and in a namespace, with [`Compressed`] [`Json`].
    Deep,
    /// A [`MemoryStore`] over another.
    Tiered,
    /// A [`MemoryStore`] with tags.
    Tagged,
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
        Kind::Memory => cache(strategy, memory(), options, source),
        Kind::Moka => cache(strategy, MokaStore::new(10_000), options, source),
        Kind::NoRoom => cache(strategy, MemoryStore::new(0), options, source),
        Kind::Erased => cache(strategy, memory().shared(), options, source),
        Kind::InAnArc => cache(strategy, Arc::new(memory()), options, source),
        Kind::Namespaced => cache(strategy, memory().namespaced("shop"), options, source),
        Kind::Json => cache(strategy, encoded(Json::new()), options, source),
        Kind::BareJson => cache(strategy, encoded(Json::bare()), options, source),
        Kind::Postcard => cache(strategy, encoded(Postcard::new()), options, source),
        Kind::Bincode => cache(strategy, encoded(Bincode::new()), options, source),
        Kind::Deep => {
            let bytes = MokaStore::<Bytes>::new(10_000).shared().namespaced("shop");
            let store = bytes.encoded(Compressed::new(Json::new()).threshold(0)).shared();
            cache(strategy, store, options, source)
        }
        Kind::Tiered => cache(strategy, Tiered::new(memory(), memory()), options, source),
        Kind::Tagged => {
            let store = MemoryStore::<Marked<u64>>::new(10_000);
            let store = store.tagged(MemoryMarks::new(), |key: &str, _: Option<&u64>| {
                [key.split(':').next().map_or_else(String::new, str::to_owned)]
            });
            cache(strategy, store, options, source)
        }
    }
}

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(10_000)
}

fn encoded<C: Codec<u64>>(codec: C) -> Encoded<MemoryStore<Bytes>, C, u64> {
    MemoryStore::new(10_000).encoded(codec)
}
