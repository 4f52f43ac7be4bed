//! The engines below, and what is built on them.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cache_core::{
    CacheAside, CacheKey, CacheStore, CacheStoreExt, Marked, MemoryMarks, ReadThrough, Stats,
    Tagged, Tiered,
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
        store(tagged(MemoryStore::new(keys * 2), keys))
    }),
    Candidate::new("ReadThrough<Tagged<MemoryStore>>", "ReadThrough<MemoryStore>", |keys| {
        through(tagged(MemoryStore::new(keys * 2), keys), options())
    }),
    Candidate::new("Tagged<Tiered<MemoryStore, _>>, get_now", "MemoryStore, get_now", |keys| {
        store(tagged(tiers(keys), keys))
    }),
    Candidate::new("Tiered<MemoryStore>, get_now", "MemoryStore, get_now", |keys| {
        store(tiered(keys))
    }),
    Candidate::new("ReadThrough<Tiered>", "ReadThrough<MemoryStore>", |keys| {
        through(tiered(keys), options())
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

/// All of it is near.
fn tiered(keys: usize) -> impl CacheStore<Value = Arc<Value>> {
    filled(tiers(keys), keys)
}

/// Whose near copies do not end before they are measured.
fn tiers<V: Clone + Send + Sync + 'static>(keys: usize) -> Tiered<MemoryStore<V>, MemoryStore<V>> {
    let tiers = Tiered::builder(MemoryStore::new(keys * 2), MemoryStore::new(keys * 2));
    tiers.near_ttl(Duration::MAX).build().expect("valid options")
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

/// With one tag for each hundred keys.
fn tagged<S>(inner: S, keys: usize) -> Tagged<S, MemoryMarks, Arc<Value>>
where
    S: CacheStore<Value = Marked<Arc<Value>>>,
{
    let tags = |key: &str, _: Option<&Arc<Value>>| key.get(..key.len() - 2).map(str::to_owned);
    filled(inner.tagged(MemoryMarks::new(), tags), keys)
}

fn store<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    Box::new(move |order| {
        let found = |key: &&String| matches!(black_box(store.get_now(key)), Poll::Ready(Some(_)));
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
