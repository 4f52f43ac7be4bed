//! Core of a pluggable cache layer for async Rust.

mod adapters;
mod clock;
mod codec;
mod dyn_store;
mod entry;
mod error;
mod key;
mod lease;
mod loader;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use adapters::{Encoded, Namespaced};
pub use clock::{Clock, ManualClock, Moment};
pub use codec::Codec;
pub use dyn_store::{DynCacheStore, SharedStore};
pub use entry::{Entry, SetOptions, Version};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::{CacheKey, Key};
pub use lease::{Claim, ClaimOptions, Fill, Lease};
pub use loader::{Batch, BatchLoader, Loader};
pub use store::{CacheStore, CacheStoreExt, Capabilities};
