//! What a hit costs: a strategy on a store, against the engine below with the same keys and values.

mod bars;
mod budget;
mod candidates;
mod figures;
mod large;
mod workers;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cache_core::{CacheStore, Observer, ReadOptions, ReadThrough, SetOptions};

pub use bars::{bars, bars_of_peers};
pub use budget::check;
pub use candidates::OWN;
pub use figures::{Counted, counted, is_own, measure};
pub use workers::workers;

use crate::keys::{Order, Value, spell, value};

/// Asks for all keys of an order, one after the other, and says how many were there.
pub type Ask = Box<dyn Fn(&Order) -> usize + Send + Sync>;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: &'static str,
    /// The candidate that it is compared with.
    pub to: &'static str,
    /// Makes it, with so many keys in it.
    pub make: fn(usize) -> Ask,
}

impl Candidate {
    /// A candidate.
    #[must_use]
    pub const fn new(name: &'static str, to: &'static str, make: fn(usize) -> Ask) -> Self {
        Self { name, to, make }
    }
}

/// So many keys are in the cache, unless something else is said.
pub const KEYS: usize = 10_000;

/// The result of a future that does not wait.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a hit in memory does not wait"),
    }
}

/// The options that all of them have.
#[must_use]
pub fn options<V>() -> ReadOptions<V> {
    ReadOptions::ttl(Duration::from_secs(3600))
}

/// The store with so many entries.
pub fn filled<S: CacheStore<Value = Arc<Value>>>(store: S, keys: usize) -> S {
    filled_with(store, (0..keys as u64).map(|key| (spell(key), value())))
}

fn filled_with<S: CacheStore>(store: S, entries: impl Iterator<Item = (String, S::Value)>) -> S {
    for (key, value) in entries {
        let set = store.set(&key, Some(value), SetOptions::ttl(Duration::from_secs(3600)));
        now(set).expect("memory takes it");
    }
    store
}

/// A strategy on a store, asked for strings.
pub fn through<S, O>(store: S, options: ReadOptions<S::Value, O>) -> Ask
where
    S: CacheStore,
    O: Observer,
{
    let load = |_: String| async { Ok::<_, std::io::Error>(None) };
    let cache = ReadThrough::new(store, load, options).expect("valid options");
    Box::new(move |order| {
        now(async {
            let mut found = 0;
            for key in &order.strings {
                found += usize::from(std::hint::black_box(cache.get(key).await)?.is_some());
            }
            Ok::<_, cache_core::Error>(found)
        })
        .expect("memory answers")
    })
}
