//! In-process stores for [`cache_core`] that hold values as they are: a hit decodes nothing and
//! allocates nothing.
//!
//! ```
//! # #[cfg(feature = "quick-cache")] {
//! use cache_core::{CacheStore, CacheStoreExt, SetOptions};
//! use cache_memory::MemoryStore;
//! use std::{sync::Arc, time::Duration};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let pages = MemoryStore::<Arc<str>>::new(10_000);
//! pages.put("/", Arc::from("welcome"), Duration::from_secs(60)).await?;
//! assert_eq!(pages.value("/").await?.as_deref(), Some("welcome"));
//!
//! // That there is no such page can be remembered too.
//! pages.set("/x", None, SetOptions::ttl(Duration::from_secs(5))).await?;
//! assert!(pages.get("/x").await?.expect("a negative entry").is_negative());
//! # Ok::<_, cache_core::Error>(()) }).unwrap();
//! # }
//! ```
//!
//! A value is cloned on every hit: put what is costly to clone into an `Arc`. Everybody then
//! shares the one value, so keep what is inside immutable.
//!
//! # Which engine?
//!
#![cfg_attr(
    all(feature = "quick-cache", feature = "moka"),
    doc = "| | [`MemoryStore`] | [`MokaStore`] |"
)]
#![cfg_attr(
    not(all(feature = "quick-cache", feature = "moka")),
    doc = "| | `MemoryStore` | `MokaStore` |"
)]
//! |---|---|---|
//! | engine | `quick_cache` 0.7 | moka 0.12 |
//! | feature | `quick-cache`, on by default | `moka`, off by default |
//! | eviction | S3-FIFO | `TinyLfu` or `Lru` |
//! | idle expiry | no | yes |
//! | `len`, `weight` | exact | late; exact after `purge_expired` |
//! | bound | never exceeded (rounded up to whole shards) | exceeded until the engine's next maintenance |
//! | too heavy | over 97 % of a shard | over the capacity |
//! | instructions of a `get`, which reads the exact time (raw engine) | 256 (164) | 907 (1057) |
//! | time of a hit (raw engine) | 57 ns (61) | 254 ns (285) |
//! | heap bytes an entry, beside the value (raw engine) | 112 (101) | 280 (277) |
//! | reads from many cores | lock their shard for reading | go through one log, and sometimes do maintenance |
//!
//! Take `MemoryStore`, unless you need idle expiry or have measured that LRU keeps more of your
//! traffic. Hit rates in percent, at 1,000 entries:
//!
//! | made-up traffic | `MemoryStore` | `MokaStore`, `TinyLfu` | `MokaStore`, `Lru` |
//! |---|---:|---:|---:|
//! | Zipf 0.99 over 100,000 keys | 59.1 | 53.1 | 49.0 |
//! | the same, with a scan of one-time keys now and then | 49.3 | 43.0 | 39.7 |
//! | mostly the newest keys, which move on | 78.4 | 74.1 | 80.3 |
//! | a loop over 1,250 keys | 60.8 | 72.6 | 0.0 |
//!
//! LRU wins where what is new is what is wanted, and has nothing to set against a scan or a loop.
//! Real traffic can be further apart than this: on the public trace orm-busy, at 1,000 entries, LRU
//! hit 78.8 %, `quick_cache` 75.1 % and moka's `TinyLfu` 55 to 67 %, depending on how often it does its
//! maintenance; on corda, at 512, LRU hit 33.3 %, and the others 1.6 and 3 to 19 %. On web12 at 1,000
//! it was 64.7, 67.7 and 62 to 67 %, and on gli 11.2, 48.9 and 39 to 47 %.
//!
//! The figures in the tables were measured in one run on two cores of an x86-64 virtual machine
//! with Rust 1.95: keys of 21 bytes, values in an `Arc`, 10,000 keys drawn with Zipf 0.99.
//! Compare them with each other rather than with those of other machines; the program is
//! `examples/engine_cost.rs`:
//!
//! ```text
//! cargo run --release -p cache-memory --all-features --example engine_cost
//! ```
//!
//! # Leases
//!
//! Both stores grant [leases](cache_core::Lease), one per key at a time. They are kept beside the
//! engine, so a lease takes no room from entries and is never evicted. Whatever changes a key takes
//! its lease away in the same step, and the fill of a lost lease is refused.
//!
//! # Features
//!
//! `quick-cache` (default) for `MemoryStore` and `moka` for `MokaStore`. Without either the crate is
//! empty.

#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod builder;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod engine;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod eviction;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod hash;
#[cfg(any(feature = "quick-cache", feature = "moka"))]
mod inner;
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

/// The store for most uses: the cheapest hit, and good at keeping what is used.
///
/// It makes room by S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
/// SOSP 2023), as `quick_cache` implements it: what has been asked for again stays.
///
/// ```
/// use cache_core::{CacheStore, CacheStoreExt, Clock, SetOptions};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (clock, hands) = Clock::manual();
/// let users = MemoryStore::builder().capacity(1_000).clock(clock).build()?;
/// users.put("user:7", "Ada".to_owned(), Duration::from_secs(60)).await?;
/// hands.advance(Duration::from_secs(59));
/// assert_eq!(users.value("user:7").await?.as_deref(), Some("Ada"));
/// hands.advance(Duration::from_secs(1));
/// assert_eq!(users.value("user:7").await?, None);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[cfg(feature = "quick-cache")]
pub type MemoryStore<V> = Store<V, engine::Quick<V>>;

/// The store with a choice of [`EvictionPolicy`] and with idle expiry.
///
/// Its engine, moka, works in arrears: it makes room, counts and drops idle entries some
/// operations later, inside whichever operation that is. [`purge_expired`](Store::purge_expired)
/// makes it catch up.
///
/// ```
/// use cache_core::CacheStoreExt;
/// use cache_memory::{EvictionPolicy, MokaStore};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sessions = MokaStore::builder()
///     .capacity(50_000)
///     .policy(EvictionPolicy::Lru)
///     .idle(Duration::from_secs(30 * 60))
///     .build()?;
/// sessions.put("session:9f", 7_u64, Duration::from_secs(24 * 60 * 60)).await?;
/// assert_eq!(sessions.value("session:9f").await?, Some(7));
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[cfg(feature = "moka")]
pub type MokaStore<V> = Store<V, engine::Moka<V>>;

/// Runs the example of the README.
#[cfg(all(doctest, feature = "quick-cache"))]
#[doc = include_str!("../README.md")]
struct Readme;
