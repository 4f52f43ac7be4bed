//! What a hit costs: a strategy on a store, against the engine below with the same keys and values.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, Observer, ReadOptions, ReadThrough, Result, SetOptions,
    Stats,
};
use cache_memory::{MemoryStore, MokaStore};

/// So many keys are in the cache.
pub(crate) const KEYS: usize = 10_000;

/// About 200 bytes, as many cached values are.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    _bytes: [u8; 200],
}

/// Asks for these keys one after the other, and says how many were there.
pub(crate) type Ask = Box<dyn FnMut(&[&str]) -> usize>;

/// One candidate: its name, and the candidate that its cost is a multiple of.
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) to: &'static str,
    pub(crate) make: fn() -> Ask,
}

pub(crate) const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: "raw quick_cache",
        to: "raw quick_cache",
        make: raw_quick,
    },
    Candidate {
        name: "MemoryStore, get_now",
        to: "raw quick_cache",
        make: || store(memory()),
    },
    Candidate {
        name: "CacheAside<MemoryStore>",
        to: "raw quick_cache",
        make: || aside(memory()),
    },
    Candidate {
        name: "ReadThrough<MemoryStore>",
        to: "raw quick_cache",
        make: || through(memory()),
    },
    Candidate {
        name: "ReadThrough<MemoryStore>, Stats",
        to: "raw quick_cache",
        make: || through_with(memory(), options().observer(Arc::new(Stats::default()))),
    },
    Candidate {
        name: "ReadThrough<SharedStore>",
        to: "raw quick_cache",
        make: || through(memory().shared()),
    },
    Candidate {
        name: "raw moka",
        to: "raw moka",
        make: raw_moka,
    },
    Candidate {
        name: "MokaStore, get_now",
        to: "raw moka",
        make: || store(moka()),
    },
    Candidate {
        name: "ReadThrough<MokaStore>",
        to: "raw moka",
        make: || through(moka()),
    },
];

/// 21 bytes each. They live as long as the program, so that candidates can borrow them.
pub(crate) fn keys() -> &'static [&'static str] {
    static ALL: OnceLock<Vec<&'static str>> = OnceLock::new();
    ALL.get_or_init(|| {
        (0..KEYS)
            .map(|n| &*Box::leak(format!("user:profile:{n:08}").into_boxed_str()))
            .collect()
    })
}

fn value() -> Arc<Value> {
    Arc::new(Value { _bytes: [7; 200] })
}

fn options() -> ReadOptions<Arc<Value>> {
    ReadOptions::ttl(Duration::from_secs(3600))
}

fn raw_quick() -> Ask {
    let cache = quick_cache::sync::Cache::<String, Arc<Value>>::new(KEYS * 2);
    for key in keys() {
        cache.insert((*key).to_owned(), value());
    }
    Box::new(move |keys| {
        keys.iter()
            .filter(|key| black_box(cache.get(**key)).is_some())
            .count()
    })
}

fn raw_moka() -> Ask {
    let cache = moka::sync::Cache::<String, Arc<Value>>::new(KEYS as u64 * 2);
    for key in keys() {
        cache.insert((*key).to_owned(), value());
    }
    Box::new(move |keys| {
        keys.iter()
            .filter(|key| black_box(cache.get(**key)).is_some())
            .count()
    })
}

fn memory() -> MemoryStore<Arc<Value>> {
    filled(MemoryStore::new(KEYS * 2))
}

fn moka() -> MokaStore<Arc<Value>> {
    filled(MokaStore::new(KEYS * 2))
}

fn filled<S: CacheStore<Value = Arc<Value>>>(store: S) -> S {
    for key in keys() {
        let options = SetOptions::ttl(Duration::from_secs(3600));
        now(store.set(key, Some(value()), options)).expect("memory takes it");
    }
    store
}

fn store<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    Box::new(move |keys| {
        let found = |key: &&&str| matches!(black_box(store.get_now(key)), Poll::Ready(Some(_)));
        keys.iter().filter(found).count()
    })
}

fn aside<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    let cache = CacheAside::new(store, options()).expect("valid options");
    Box::new(move |keys| {
        now(async {
            let mut found = 0;
            for key in keys.iter().copied() {
                found += usize::from(black_box(cache.get_or_load(key, no_load).await)?.is_some());
            }
            Ok(found)
        })
        .expect("memory answers")
    })
}

async fn no_load() -> std::io::Result<Option<Arc<Value>>> {
    Ok(None)
}

fn through<S: CacheStore<Value = Arc<Value>>>(store: S) -> Ask {
    through_with(store, options())
}

fn through_with<S, O>(store: S, options: ReadOptions<Arc<Value>, O>) -> Ask
where
    S: CacheStore<Value = Arc<Value>>,
    O: Observer,
{
    let cache = ReadThrough::new(store, |_: String| no_load(), options).expect("valid options");
    Box::new(move |keys| {
        now(async {
            let mut found = 0;
            for key in keys.iter().copied() {
                found += usize::from(black_box(cache.get(key).await)?.is_some());
            }
            Ok(found)
        })
        .expect("memory answers")
    })
}

/// The result of a future that does not wait.
fn now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a hit in memory does not wait"),
    }
}
