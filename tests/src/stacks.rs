use std::sync::Arc;

use bytes::Bytes;
use cache_core::{CacheStore, CacheStoreExt, Observer, ReadOptions, Tiered};
use cache_memory::MemoryStore;
use cache_redis::RedisStore;
use cache_serde::{Bincode, Compressed, Json, Postcard};

use crate::redis::{patient, patient_cluster};
use crate::{Source, Strategy, TestCache, cache};

/// Which Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A cluster of three primaries and three replicas.
    Cluster,
}

/// What is on top of a store of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// [`Json`].
    Json,
    /// [`Json::bare`].
    BareJson,
    /// [`Postcard`].
    Postcard,
    /// [`Bincode`].
    Bincode,
    /// [`Compressed`] [`Postcard`].
    Compressed,
    /// [`Json`], behind a [`SharedStore`](cache_core::SharedStore).
    Erased,
    /// [`Json`], in an [`Arc`].
    InAnArc,
    /// [`Json`], in a namespace of a namespace.
    Namespaced,
    /// [`Json`], under a [`MemoryStore`].
    Tiered,
    /// Erased, in a namespace, with [`Compressed`] [`Json`], and erased again.
    Deep,
}

impl Topology {
    /// A store for a service of its own.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn store(self) -> RedisStore {
        match self {
            Self::Single => patient().await.connect().await.expect("a server"),
            Self::Cluster => patient_cluster().await.connect().await.expect("a cluster"),
        }
    }
}

impl Stack {
    /// A cache of what `source` has, on this store of bytes.
    ///
    /// # Panics
    ///
    /// If the options are invalid.
    pub fn cache_on<S, O>(
        self,
        bytes: S,
        strategy: Strategy,
        options: ReadOptions<u64, O>,
        source: &Arc<Source>,
    ) -> Arc<dyn TestCache>
    where
        S: CacheStore<Value = Bytes>,
        O: Observer,
    {
        let json = Json::new();
        match self {
            Self::Json => cache(strategy, bytes.encoded(json), options, source),
            Self::BareJson => cache(strategy, bytes.encoded(Json::bare()), options, source),
            Self::Postcard => cache(strategy, bytes.encoded(Postcard::new()), options, source),
            Self::Bincode => cache(strategy, bytes.encoded(Bincode::new()), options, source),
            Self::Compressed => {
                let codec = Compressed::new(Postcard::new()).threshold(0);
                cache(strategy, bytes.encoded(codec), options, source)
            }
            Self::Erased => cache(strategy, bytes.encoded(json).shared(), options, source),
            Self::InAnArc => cache(strategy, Arc::new(bytes.encoded(json)), options, source),
            Self::Namespaced => {
                let inside = bytes.namespaced("tenant").namespaced("a*b");
                cache(strategy, inside.encoded(json), options, source)
            }
            Self::Tiered => {
                let tiers = Tiered::builder(MemoryStore::new(10_000), bytes.encoded(json));
                cache(strategy, tiers.build().expect("valid options"), options, source)
            }
            Self::Deep => {
                let inside = bytes.shared().namespaced("shop");
                let store = inside.encoded(Compressed::new(json).threshold(0)).shared();
                cache(strategy, store, options, source)
            }
        }
    }
}
