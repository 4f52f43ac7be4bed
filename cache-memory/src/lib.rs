//! In-process stores for cache-core: quick_cache and moka, holding values typed.

#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod builder;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod engine;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod eviction;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod hash;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod leases;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod slot;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod store;

#[cfg(feature = "moka")]
pub use engine::EvictionPolicy;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
pub use {builder::Builder, eviction::EvictionCause, store::Store};

/// The store for most uses.
#[cfg(feature = "quick-cache")]
pub type MemoryStore<V> = Store<V, engine::Quick<V>>;

/// The store with more choices.
#[cfg(feature = "moka")]
pub type MokaStore<V> = Store<V, engine::Moka<V>>;
