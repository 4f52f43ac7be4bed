//! Core of a pluggable cache layer for async Rust.

mod adapters;
mod clock;
mod codec;
mod dyn_store;
mod engine;
mod entry;
mod error;
mod flight;
mod key;
mod lease;
mod loader;
mod observe;
mod options;
mod store;
mod strategy;
#[cfg(feature = "testing")]
pub mod testing;
mod waits;

pub use adapters::{Encoded, Namespaced};
pub use clock::{Clock, ManualClock, Moment};
pub use codec::Codec;
pub use dyn_store::{DynCacheStore, SharedStore};
pub use entry::{Entry, LoadTime, SetOptions, Version};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::{CacheKey, Key};
pub use lease::{Claim, ClaimOptions, Fill, Lease};
pub use loader::{Batch, BatchLoader, Loader};
pub use observe::{Event, Latencies, Observer, Outcome, Silent, Snapshot, Stats};
pub use options::ReadOptions;
pub use store::{CacheStore, CacheStoreExt, Capabilities};
pub use strategy::{CacheAside, ReadCache, ReadThrough};
