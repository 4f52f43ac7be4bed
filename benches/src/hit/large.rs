//! Values so large that a copy would show.

use std::hint::black_box;
use std::sync::Arc;

use cache_memory::MemoryStore;

use super::{Ask, filled_with, options};
use crate::keys::spell;

/// The values take so many bytes together. Where that is too little for all keys, they share values.
const BYTES: usize = 100_000_000;

/// The engine below.
pub(super) fn raw_quick(keys: usize, bytes: usize) -> Ask {
    let cache = quick_cache::sync::Cache::<String, Arc<[u8]>>::new(keys * 2);
    entries(keys, bytes).for_each(|(key, value)| cache.insert(key, value));
    Box::new(move |order| {
        order.strings.iter().filter(|key| black_box(cache.get(key.as_str())).is_some()).count()
    })
}

/// A strategy on the store.
pub(super) fn through(keys: usize, bytes: usize) -> Ask {
    let store = filled_with(MemoryStore::new(keys * 2), entries(keys, bytes));
    super::through(store, options())
}

fn entries(keys: usize, bytes: usize) -> impl Iterator<Item = (String, Arc<[u8]>)> {
    let values: Vec<Arc<[u8]>> =
        (0..keys.min(BYTES / bytes)).map(|_| vec![7; bytes].into()).collect();
    (0..keys).map(move |key| (spell(key as u64), Arc::clone(&values[key % values.len()])))
}
