//! The engines below, and what is built on them.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cache_core::{
    CacheAside, CacheKey, CacheStore, CacheStoreExt, Coherence, Keeper, MemoryMarks, NearMarks,
    NearTier, ReadThrough, Result, Stats, Tiered,
};
use cache_memory::{MemoryStore, MokaStore};

use super::{Ask, Candidate, filled, filled_with, large, now, options, through};
use crate::keys::{Value, spell, value};

type Quick<K, V> = quick_cache::sync::Cache<K, V>;
type Moka<K, V> = moka::sync::Cache<K, V>;

const QUICK: &str = "raw quick_cache";
const MOKA: &str = "raw moka";
const QUICK_INTEGER: &str = "raw quick_cache, integer keys";
const QUICK_SMALL: &str = "raw quick_cache, u64 values";
const QUICK_LARGE: &str = "raw quick_cache, 10 kB values";
const QUICK_HUGE: &str = "raw quick_cache, 1 MB values";

/// The library's own, and the engines below.
pub const OWN: &[Candidate] = &[
    Candidate::new(QUICK, QUICK, raw_quick),
    Candidate::new("MemoryStore, get_now", QUICK, |keys| store(memory(keys))),
    Candidate::new("CacheAside<MemoryStore>", QUICK, |keys| aside(memory(keys))),
    Candidate::new("ReadThrough<MemoryStore>", QUICK, |keys| through(memory(keys), options())),
    Candidate::new("ReadThrough<MemoryStore>, Stats", QUICK, |keys| {
        through(memory(keys), options().observer(Arc::new(Stats::default())))
    }),
    Candidate::new("ReadThrough<SharedStore>", QUICK, |keys| {
        through(memory(keys).shared(), options())
    }),
    Candidate::new("ReadThrough<Namespaced<MemoryStore>>", QUICK, |keys| {
        through(filled(MemoryStore::new(keys * 2).namespaced("users"), keys), options())
    }),
    Candidate::new("Tagged<MemoryStore>, get_now", "MemoryStore, get_now", |keys| {
        store(tagged(keys))
    }),
    Candidate::new("ReadThrough<Tagged<MemoryStore>>", "ReadThrough<MemoryStore>", |keys| {
        through(tagged(keys), options())
    }),
    Candidate::new("Tiered<MemoryStore, _>, get_now", "MemoryStore, get_now", |keys| {
        store(filled(tiers(keys), keys))
    }),
    Candidate::new("ReadThrough<Tiered>", "ReadThrough<MemoryStore>", |keys| {
        through(filled(tiers(keys), keys), options())
    }),
    Candidate::new("Tagged<Tiered, NearMarks>, get_now", "MemoryStore, get_now", |keys| {
        store(near_tagged(keys))
    }),
    Candidate::new("ReadThrough<Tagged<Tiered, NearMarks>>", "ReadThrough<MemoryStore>", |keys| {
        through(near_tagged(keys), options())
    }),
    Candidate::new(QUICK_SMALL, QUICK_SMALL, raw_quick_small),
    Candidate::new("ReadThrough<MemoryStore>, u64 values", QUICK_SMALL, small),
    Candidate::new(QUICK_INTEGER, QUICK_INTEGER, raw_quick_integer),
    Candidate::new("ReadThrough<MemoryStore>, integer keys", QUICK_INTEGER, integer),
    Candidate::new(QUICK_LARGE, QUICK_LARGE, |keys| large::raw_quick(keys, 10_000)),
    Candidate::new("ReadThrough<MemoryStore>, 10 kB values", QUICK_LARGE, |keys| {
        large::through(keys, 10_000)
    }),
    Candidate::new(QUICK_HUGE, QUICK_HUGE, |keys| large::raw_quick(keys, 1_000_000)),
    Candidate::new("ReadThrough<MemoryStore>, 1 MB values", QUICK_HUGE, |keys| {
        large::through(keys, 1_000_000)
    }),
    Candidate::new(MOKA, MOKA, raw_moka),
    Candidate::new("MokaStore, get_now", MOKA, |keys| store(moka(keys))),
    Candidate::new("ReadThrough<MokaStore>", MOKA, |keys| through(moka(keys), options())),
];

fn raw_quick(keys: usize) -> Ask {
    let cache = Quick::<String, Arc<Value>>::new(keys * 2);
    (0..keys as u64).for_each(|key| cache.insert(spell(key), value()));
    Box::new(move |order| {
        order.strings.iter().filter(|key| black_box(cache.get(key.as_str())).is_some()).count()
    })
}

fn raw_quick_small(keys: usize) -> Ask {
    let cache = Quick::<String, u64>::new(keys * 2);
    (0..keys as u64).for_each(|key| cache.insert(spell(key), key));
    Box::new(move |order| {
        order.strings.iter().filter(|key| black_box(cache.get(key.as_str())).is_some()).count()
    })
}

fn raw_quick_integer(keys: usize) -> Ask {
    let cache = Quick::<u64, Arc<Value>>::new(keys * 2);
    (0..keys as u64).for_each(|key| cache.insert(key, value()));
    Box::new(move |order| {
        order.integers.iter().filter(|key| black_box(cache.get(*key)).is_some()).count()
    })
}

fn raw_moka(keys: usize) -> Ask {
    let cache = Moka::<String, Arc<Value>>::new(keys as u64 * 2);
    (0..keys as u64).for_each(|key| cache.insert(spell(key), value()));
    cache.run_pending_tasks();
    Box::new(move |order| {
        order.strings.iter().filter(|key| black_box(cache.get(key.as_str())).is_some()).count()
    })
}

fn memory(keys: usize) -> MemoryStore<Arc<Value>> {
    filled(MemoryStore::new(keys * 2), keys)
}

/// Kept coherent, and whose near copies do not end before they are measured.
fn tiers<V: Clone + Send + Sync + 'static>(keys: usize) -> Tiered<MemoryStore<V>, MemoryStore<V>> {
    let tiers = Tiered::builder(MemoryStore::new(keys * 2), MemoryStore::new(keys * 2));
    tiers.near_ttl(Duration::MAX).coherent_by(Trusted).build().expect("valid options")
}

/// Who hears of every change, and is believed it: what a hit sees of a bus, or of tracking.
struct Trusted;

impl Coherence for Trusted {
    fn keep(self, near: NearTier) -> Result<Keeper> {
        near.trust(near.now().expect("it is being made"), Duration::MAX);
        Ok(Keeper::new(Vec::new()))
    }
}

/// All of it is near, and so are the marks.
fn near_tagged(keys: usize) -> impl CacheStore<Value = Arc<Value>> {
    let marks = NearMarks::new(MemoryMarks::new(), Trusted).expect("valid options");
    filled(tiers(keys).tagged(marks, tags), keys)
}

fn moka(keys: usize) -> MokaStore<Arc<Value>> {
    let store = filled(MokaStore::new(keys * 2), keys);
    store.purge_expired();
    store
}

fn small(keys: usize) -> Ask {
    let entries = (0..keys as u64).map(|key| (spell(key), key));
    through(filled_with(MemoryStore::new(keys * 2), entries), options())
}

fn integer(keys: usize) -> Ask {
    let entries = (0..keys as u64).map(|key| (key.key().to_string(), value()));
    let store = filled_with(MemoryStore::new(keys * 2), entries);
    let load = |_: u64| no_load();
    let cache = ReadThrough::new(store, load, options()).expect("valid options");
    Box::new(move |order| {
        now(async {
            let mut found = 0;
            for key in &order.integers {
                found += usize::from(black_box(cache.get(key).await)?.is_some());
            }
            Ok::<_, cache_core::Error>(found)
        })
        .expect("memory answers")
    })
}

fn tagged(keys: usize) -> impl CacheStore<Value = Arc<Value>> {
    filled(MemoryStore::new(keys * 2).tagged(MemoryMarks::new(), tags), keys)
}

/// One for each hundred keys.
fn tags(key: &str, _: Option<&Arc<Value>>) -> Option<String> {
    key.get(..key.len() - 2).map(str::to_owned)
}

fn store<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    Box::new(move |order| {
        // Consumed as a strategy does: the value is taken, and the rest of the entry is left where it lies.
        let found = |key: &&String| match store.get_now(key) {
            Poll::Ready(Some(entry)) => black_box(entry.into_value()).is_some(),
            Poll::Ready(None) | Poll::Pending => false,
        };
        order.strings.iter().filter(found).count()
    })
}

fn aside<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    let cache = CacheAside::new(store, options()).expect("valid options");
    Box::new(move |order| {
        now(async {
            let mut found = 0;
            for key in &order.strings {
                found += usize::from(black_box(cache.get_or_load(key, no_load).await)?.is_some());
            }
            Ok::<_, cache_core::Error>(found)
        })
        .expect("memory answers")
    })
}

async fn no_load() -> io::Result<Option<Arc<Value>>> {
    Ok(None)
}
