use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;

use cache_core::{Error, ErrorKind, Result};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use smol_str::SmolStr;

use super::{Bounds, Displaced, Engine};
use crate::eviction::Evictions;
use crate::hash::{KeyHash, Sought};
use crate::slot::Slot;

/// A weighted store has at most this many shards, since an entry has to fit into one of them.
const MOST_WEIGHTED_SHARDS: usize = 16;

/// What an entry of a weighted store is taken to weigh, unless the user expects otherwise.
const USUAL_WEIGHT: u64 = 1_024;

/// A shard with fewer entries than this evicts too much by chance.
const SMALLEST_SHARD: usize = 32;

pub struct Quick<V>(Cache<SmolStr, Slot<V>, ByWeight, KeyHash, Displacing<V>>);

#[derive(Default)]
pub struct Options {
    pub(crate) expected_entries: Option<usize>,
}

impl<V: Clone + Send + Sync + 'static> Engine<V> for Quick<V> {
    type Options = Options;

    const READS_EVICT: bool = false;

    fn open(bounds: &Bounds, options: Options, _: Option<&Arc<Evictions<V>>>) -> Result<Self> {
        if options.expected_entries == Some(0) {
            let cause = "expected_entries: must not be zero";
            return Err(Error::with_cause(ErrorKind::InvalidOption, cause));
        }
        let entries = options.expected_entries.unwrap_or_else(|| usual_entries(bounds));
        let options = OptionsBuilder::new()
            .weight_capacity(bounds.capacity)
            .estimated_items_capacity(entries)
            .shards(shards(bounds, entries))
            .build()
            .map_err(|e| Error::with_cause(ErrorKind::InvalidOption, e))?;
        let lifecycle = Displacing(PhantomData);
        Ok(Self(Cache::with_options(options, ByWeight, KeyHash::default(), lifecycle)))
    }

    #[inline(always)]
    fn get<Caller>(&self, key: &str) -> Option<Slot<V>> {
        self.0.get(&Sought::<Caller>(key, PhantomData))
    }

    fn get_apart(&self, key: &str) -> Option<Slot<V>> {
        self.0.get(key)
    }

    // Apart from `get`, which has one caller so that it is inlined there.
    fn peek(&self, key: &str) -> Option<Slot<V>> {
        self.0.peek(key)
    }

    fn insert(&self, key: SmolStr, slot: Slot<V>) -> Displaced<V> {
        let mut displaced = Displaced::default();
        self.0.insert_with_lifecycle(key, slot, &mut displaced);
        displaced
    }

    fn remove(&self, key: &str) -> Option<Slot<V>> {
        self.0.remove(key).map(|(_, slot)| slot)
    }

    fn keys(&self, wanted: &dyn Fn(&str, &Slot<V>) -> bool) -> Vec<SmolStr> {
        // Retaining everything visits without cloning a value, and drops none inside a lock.
        let keys = RefCell::new(Vec::new());
        self.0.retain(|key, slot| {
            if wanted(key, slot) {
                keys.borrow_mut().push(key.clone());
            }
            true
        });
        keys.into_inner()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }

    fn settle(&self) {}
}

fn usual_entries(bounds: &Bounds) -> usize {
    let weight = if bounds.weighted { USUAL_WEIGHT } else { 1 };
    usize::try_from(bounds.capacity / weight).unwrap_or(usize::MAX)
}

fn shards(bounds: &Bounds, entries: usize) -> usize {
    let parallel = thread::available_parallelism().map_or(1, usize::from).saturating_mul(4);
    let most = if bounds.weighted { parallel.min(MOST_WEIGHTED_SHARDS) } else { parallel };
    most.min(entries / SMALLEST_SHARD).max(1)
}

#[derive(Clone)]
struct ByWeight;

impl<V> Weighter<SmolStr, Slot<V>> for ByWeight {
    #[inline]
    fn weight(&self, _: &SmolStr, slot: &Slot<V>) -> u64 {
        slot.life.weight.into()
    }
}

/// Keeps what the engine lets go of until its locks are free.
struct Displacing<V>(PhantomData<fn(V)>);

impl<V> Clone for Displacing<V> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<V> Lifecycle<SmolStr, Slot<V>> for Displacing<V> {
    type RequestState = Displaced<V>;

    fn on_evict(&self, displaced: &mut Displaced<V>, key: SmolStr, slot: Slot<V>) {
        displaced.push(key, slot);
    }
}
