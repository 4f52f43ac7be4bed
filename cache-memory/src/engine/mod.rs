//! The seam between the store and the maps below it.

#[cfg(feature = "moka")]
mod moka;
#[cfg(feature = "quick-cache")]
mod quick;

use std::sync::Arc;

use cache_core::Result;
use smol_str::SmolStr;

#[cfg(feature = "moka")]
pub use self::moka::EvictionPolicy;
#[cfg(feature = "moka")]
pub(crate) use self::moka::Moka;
#[cfg(feature = "quick-cache")]
pub(crate) use self::quick::Quick;
use crate::eviction::Evictions;
use crate::slot::Slot;

/// A concurrent map with a bounded capacity. It knows nothing of lifetimes, leases and users.
///
/// A mutation is visible to every `get` that begins after it has returned. The store never makes
/// two mutations of one key at a time.
pub trait Engine<V>: Sized + Send + Sync + 'static {
    /// What can be chosen with this engine only.
    type Options: Default;

    /// Whether reads can evict too.
    const READS_EVICT: bool;

    fn open(
        bounds: &Bounds,
        options: Self::Options,
        evictions: Option<&Arc<Evictions<V>>>,
    ) -> Result<Self>;

    /// What a hit is made of. It is compiled once for each `Caller`, which is any type that only that has, so that it is
    /// inlined there: a function with several callers is not, and that costs a hit a seventh.
    fn get<Caller>(&self, key: &str) -> Option<Slot<V>>;

    /// The same, for those who need no such haste.
    fn get_apart(&self, key: &str) -> Option<Slot<V>>;

    /// As `get`; where the engine can tell, it does not count as a use of the entry.
    fn peek(&self, key: &str) -> Option<Slot<V>>;

    /// Puts the slot in place of what was there, if it fits; if not, what was there is gone too.
    fn insert(&self, key: SmolStr, slot: Slot<V>) -> Displaced<V>;

    fn remove(&self, key: &str) -> Option<Slot<V>>;

    /// The keys of the slots that `wanted` picks. It runs inside the engine's locks.
    fn keys(&self, wanted: &dyn Fn(&str, &Slot<V>) -> bool) -> Vec<SmolStr>;

    fn len(&self) -> u64;

    fn weight(&self) -> u64;

    /// Does the work that the engine has put off.
    fn settle(&self);
}

/// How much a store may hold.
pub struct Bounds {
    pub(crate) capacity: u64,
    /// Whether the capacity is a weight, rather than a number of entries.
    #[cfg_attr(not(feature = "quick-cache"), expect(dead_code, reason = "moka need not know"))]
    pub(crate) weighted: bool,
}

/// What an insertion pushed out, for its caller to drop outside the locks: what was there before,
/// what had to make room, or the very slot that was to be inserted.
pub struct Displaced<V> {
    // One is the rule, and is not worth an allocation.
    first: Option<(SmolStr, Slot<V>)>,
    more: Vec<(SmolStr, Slot<V>)>,
}

impl<V> Default for Displaced<V> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}

impl<V> Displaced<V> {
    fn push(&mut self, key: SmolStr, slot: Slot<V>) {
        if self.first.is_none() {
            self.first = Some((key, slot));
        } else {
            self.more.push((key, slot));
        }
    }

    pub(crate) fn into_slots(self) -> impl Iterator<Item = (SmolStr, Slot<V>)> {
        self.first.into_iter().chain(self.more)
    }
}
