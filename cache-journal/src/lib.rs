//! The on-disk journal for write-behind caches of [`cache_core`]: a write is acknowledged when it is on the disk, and
//! survives `kill -9`.
//!
//! ```
//! use cache_core::{BehindOptions, ReadOptions, ReadThrough, Write, WriteBatch, WriteBehind};
//! use cache_journal::DiskJournal;
//! use cache_memory::MemoryStore;
//! use cache_serde::Json;
//! use std::{io, time::Duration};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("orders.journal");
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let load = |id: u64| async move { Ok::<_, io::Error>(Some(format!("order {id}"))) };
//! let orders = ReadThrough::new(MemoryStore::new(10_000), load, ReadOptions::ttl(Duration::from_secs(60)))?;
//! let write = WriteBatch(|writes: Vec<Write<u64, String>>| async move {
//!     drop(writes); // begin; upsert or delete each; commit
//!     Ok::<_, io::Error>(())
//! });
//! let journal = DiskJournal::open(&path, Json::new()).await?;
//! let orders = WriteBehind::new(orders, write, journal, BehindOptions::default())?;
//! orders.put(&7, "two of them".to_owned()).await?; // on the disk, and soon in the source
//! # let _ = orders.shutdown(Duration::from_secs(60)).await?;
//! # Ok::<(), cache_core::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised
//!
//! - An acknowledged write survives the end of the process, `kill -9` included, and a crash of the operating system or
//!   of the machine as far as the disk and the file system keep their word about `fsync`. (That of the process is tested,
//!   by killing one at random moments. A loss of power is not.)
//! - It is made **at least once**: what was written to the source just before a crash may be written again.
//! - Of each key the **last acknowledged write** is what ends up in the source, and an older one is never made after a newer one
//!   by this process. Those in between may be skipped.
//! - A `put` that fails because the disk is full, or fails otherwise, was not acknowledged, and nothing that was is lost.
//!   Later ones work again when there is room: the file is then opened anew, checked, and brought back to what was
//!   acknowledged. Only a crash *between* the two leaves it open whether what has failed is in the file.
//!   If it was `fsync` that failed, all of the file is written again first, by the next journal if need be: systems forget what
//!   they could not write, and show it all the same, so what comes after would be built on what is not on the disk.
//! - The file is bounded by [`Bounds`](cache_core::Bounds), since of each key it has one write: a few times the bytes that
//!   wait. It does not become shorter.
//!
//! # What is not
//!
//! - Exactly once. [`Write::seq`](cache_core::Write::seq) grows with every write of a key, over restarts too, and in
//!   a new file begins above those of an old one as long as the machine's clock is not set back: with it a source can tell a
//!   repetition.
//! - Order across keys, or against those who write to the source directly.
//! - That a write survives the loss of the disk, or is seen by other processes before it is in the source. The journal of
//!   `cache-redis` is shared.
//! - That a write which was *not* acknowledged is not made.
//!
//! # The file
//!
//! It belongs to one journal at a time; a second is refused, also while the disk fails the first. That is what the file beside
//! it is for, whose name ends in `.lock`: it stays there, and is not to be removed while a journal is open. The journal is
//! checked as a whole when it is opened, without writing to it:
//!
//! | it is | then |
//! |---|---|
//! | not there | a new one appears, whole, or not at all; while it is made, its name ends in `.unfinished` |
//! | as a crash left it | what was acknowledged is there |
//! | damaged, empty, or no journal | [`ErrorKind::Journal`](cache_core::ErrorKind::Journal); it is not touched |
//! | of a newer version | the same; use the newer program |
//! | with a write that the codec can't read | [`ErrorKind::Codec`](cache_core::ErrorKind::Codec), with its key; it is not touched |
//!
//! **The way out** of the last three: move the file away, so that the service starts with a new one, and look at leisure with
//! [`salvage`] for what can be read of it. Before a deploy that changes the type of the values, let the old version
//! [shut down](cache_core::WriteBehind::shutdown) until nothing is left.
//!
//! After a crash, damage to exactly what was written last can't be told from a write that was cut off, and counts as one.
//!
//! # What it costs
//!
//! One thread, which does all input and output: no `fsync` happens on a thread of the runtime. Writes that come while it is
//! busy go together into the next commit, which is one `fsync`; so 64 writers at once had 0.85 of the writes per second
//! that the engine below ([redb](https://docs.rs/redb)) does alone with 64 in a commit, and 1.09 of a file to which as
//! much is appended with `fsync`, on two busy cores of a virtual machine:
//!
//! ```text
//! cargo run --release -p cache-journal --example group_commit
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod builder;
mod disk;
mod log;
mod salvage;
#[cfg(test)]
mod tests;
mod worker;

pub use builder::DiskBuilder;
pub use disk::DiskJournal;
pub use salvage::{Salvaged, salvage};
