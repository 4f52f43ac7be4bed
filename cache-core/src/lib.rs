//! The core of a pluggable cache layer for async Rust: a **strategy** says who loads and when, a
//! **store** holds the entries, and you choose both by their types.
//!
//! A strategy is what an application calls. [`ReadThrough`] has its own loader, so readers only say the
//! key; [`StaleWhileRevalidate`] is one whose readers do not wait for a refresh; with [`CacheAside`] each read brings its load
//! along. All stand on one engine and take the same
//! [`ReadOptions`]: however many callers miss a key at once, one loads; a failing, panicking or
//! hanging load is an error for all who wait and is over at its time limit; and when the store fails,
//! reads go on without it.
//!
//! A store is anything that implements [`CacheStore`], of which three methods are required. It holds
//! values as they are: `cache-memory` has two that decode nothing on a hit. A store of bytes becomes a
//! store of values with a [`Codec`], of which `cache-serde` has three, by [`Encoded`].
//!
//! What has been invalidated does not come back: a value whose key is invalidated while it is being loaded
//! goes to those who were waiting for it, and is not kept. The flight does that within a process, and
//! the store's [`Lease`] across the caches that share the store.
//!
//! ```
//! use cache_core::{ReadOptions, ReadThrough};
//! use cache_memory::MemoryStore;
//! use std::{io, time::Duration};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // The way to the source: a query, a call. `None` is that it has nothing under this key.
//! let load = |id: u64| async move {
//!     Ok::<_, io::Error>((id < 100).then(|| format!("product {id}")))
//! };
//! let options = ReadOptions::ttl(Duration::from_secs(60))
//!     .jitter(0.1) // what was loaded together does not expire together
//!     .negative_ttl(Duration::from_secs(5)); // that there is nothing is remembered, too
//! let products = ReadThrough::new(MemoryStore::new(10_000), load, options)?;
//!
//! assert_eq!(products.get(&7).await?.as_deref(), Some("product 7")); // loaded
//! assert_eq!(products.get(&7).await?.as_deref(), Some("product 7")); // from the store
//! assert_eq!(products.get(&700).await?, None);
//! products.invalidate(&7).await?; // after the source has changed
//! # Ok::<(), cache_core::Error>(()) }).unwrap();
//! ```
//!
//! | what you want | where it is |
//! |---|---|
//! | read through a cache | [`ReadThrough`], [`CacheAside`]; generic code over them: [`ReadCache`], [`ReadManyCache`] |
//! | serve stale values while they are refreshed, or when the load fails | [`StaleWhileRevalidate`], [`ReadOptions::stale_for`], [`ReadOptions::stale_if_error`], [`ReadOptions::soft_timeout`] |
//! | refresh before the end | [`ReadOptions::early_refresh`] |
//! | know how fresh a value is, or say how fresh it has to be | [`ReadThrough::get_detailed`], [`Reading`], [`ReadHints`] |
//! | load ahead of the traffic | [`ReadThrough::warm_up`], [`ReadThrough::warm_up_many`], [`CacheAside::warm_up`] |
//! | write through the cache, or behind it | [`WriteThrough`], [`WriteBehind`]; generic code over them: [`WriteCache`] |
//! | take the values to the source | [`Writer`] (closures are writers), [`BatchWriter`], [`WriteBatch`], [`OneByOne`] |
//! | keep writes until they are in the source | [`MemoryJournal`]; a journal of your own: [`Journal`], [`Backlog`] |
//! | bring the values | [`Loader`] (closures are loaders), [`BatchLoader`], [`Batch`] |
//! | lifetimes, jitter, negative caching, time limits, what a failing store does | [`ReadOptions`] |
//! | keys of your own | [`CacheKey`], [`Key::join`] |
//! | tell errors apart, get the loader's own back | [`Error::kind`], [`Error::cause`] |
//! | count and time | [`Stats`], [`Snapshot`]; an observer of your own: [`Observer`], [`Event`] |
//! | use a store directly | [`CacheStoreExt`], [`SetOptions`], [`Entry`] |
//! | share a store between kinds of values | [`Namespaced`] |
//! | invalidate by tag | [`Tagged`], [`MemoryMarks`], [`NearMarks`], [`TagStore`]; [`Marks`] of your own |
//! | values in a store of bytes | [`Encoded`], [`Codec`] |
//! | put memory in front of a shared store | [`Tiered`], kept coherent by [`Broadcast`] over a [`Bus`] |
//! | invalidate what a transaction or a message changes | [`Invalidate`], [`InvalidateOnCommit`], [`feed`] |
//! | choose the store at run time | [`SharedStore`] |
//! | write a store | [`CacheStore`], [`Entry::aged`], [`Capabilities`], [`Lease`] |
//! | test what expires | [`Clock::manual`] |
//! | test a store, or what happens when one fails | `cache_core::testing` (feature `testing`) |
//!
//! Loads need a tokio runtime with its time enabled; a hit in memory needs none.
//!
//! # Features
//!
//! `testing`: the conformance kit for stores, and stores that fail, wait or record on demand.

mod adapters;
mod backoff;
mod bus;
mod changes;
mod clock;
mod codec;
mod dyn_store;
mod engine;
mod entry;
mod error;
mod flight;
mod journal;
mod key;
mod lease;
mod loader;
mod observe;
mod options;
mod reading;
mod store;
mod strategy;
mod tags;
#[cfg(feature = "testing")]
pub mod testing;
mod tier;
mod unique;
mod waits;
mod writer;

pub use adapters::{Encoded, Namespaced};
pub use bus::{Broadcast, Bus, Delivery, LocalBus, LocalSubscription, Subscription};
pub use changes::{Committed, Fed, Invalidate, InvalidateOnCommit, feed};
pub use clock::{Clock, ManualClock, Moment};
pub use codec::Codec;
pub use dyn_store::{DynCacheStore, SharedStore};
pub use engine::WarmUp;
pub use entry::{Entry, LoadTime, SetOptions, Version};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use journal::{Backlog, Bounds, DeadLetter, Depth, Due, Journal, MemoryJournal, Seq, Taken};
pub use key::{CacheKey, Key};
pub use lease::{Claim, ClaimOptions, Fill, Lease};
pub use loader::{Batch, BatchLoader, Loader};
pub use observe::{Event, Latencies, Observer, Outcome, Silent, Snapshot, Stats};
pub use options::ReadOptions;
pub use reading::{Freshness, ReadHints, Reading, StaleReason};
pub use store::{CacheStore, CacheStoreExt, Capabilities};
pub use strategy::{
    BehindOptions, CacheAside, Leftover, Overflow, ReadCache, ReadManyCache, ReadStrategy,
    ReadThrough, StaleWhileRevalidate, WriteBehind, WriteBehindStats, WriteCache, WriteOptions,
    WriteThrough,
};
pub use tags::{
    Marked, Marks, MemoryMarks, NearMarks, Revision, Stamp, TagStore, Tagged, TaggedCodec,
};
pub use tier::{
    Announce, Change, Coherence, Keeper, NearTier, Resync, TierSnapshot, Tiered, TieredBuilder,
};
pub use writer::{BatchWriter, Failure, OneByOne, Write, WriteBatch, Writer};

/// Runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
