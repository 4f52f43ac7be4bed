//! Codecs for [`cache_core`]: JSON, postcard and bincode, in a frame that is versioned, checked,
//! bounded and, if you want, compressed.
//!
//! A codec is needed only where a store holds bytes. [`Encoded`](cache_core::Encoded) puts one on
//! such a store:
//!
//! ```
//! # #[cfg(feature = "json")] mod example {
//! use bytes::Bytes;
//! use cache_core::{CacheStore, CacheStoreExt};
//! use cache_serde::Json;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct User { id: u64, name: String }
//!
//! fn users(bytes: impl CacheStore<Value = Bytes>) -> impl CacheStore<Value = User> {
//!     bytes.encoded(Json::new())
//! }
//! # }
//! ```
//!
//! # Which codec
//!
//! Start with [`Json`]. Take [`Postcard`] when size or time count and all readers are Rust. Take
//! [`Bincode`] if you have it already.
//!
//! | | [`Json`] | [`Postcard`] | [`Bincode`] |
//! |---|---|---|---|
//! | feature | `json` (default) | `postcard` | `bincode` |
//! | bytes of a struct of ten fields | 216 | 102 | 105 |
//! | time to encode it, and to decode it | 1, 1 | 0.6, 0.4 | 0.5, 0.35 |
//! | bytes of a list of 48 of them | 9563 | 4028 | 4255 |
//! | time to encode it, and to decode it | 1, 1 | 0.35, 0.4 | 0.25, 0.4 |
//! | its bytes in [`Compressed`] (feature `lz4`) | 1891 | 1405 | |
//! | its time in [`Compressed`] | 1.4, 1.05 | 0.7, 0.45 | |
//! | says what its fields are | yes | no | no |
//! | reads entries from before a field was added | with `#[serde(default)]` | no: a miss | no: a miss |
//! | reads entries from before a field was removed | yes | no: a miss | no: a miss |
//! | `#[serde(flatten)]`, `untagged`, `tag = ".."` | yes | no | no |
//! | `#[serde(skip_serializing_if)]` | yes | no | no |
//! | `serde_json::Value` and other types that ask what comes next | yes | no | no |
//! | map keys that are not strings or numbers | no | yes | yes |
//! | infinite floats and NaN | no | yes | yes |
//! | other languages | all, with [`Json::bare`] | few | few |
//! | its crate is maintained | yes | yes | [no](Bincode#the-crate-behind-it) |
//!
//! A positional codec finds out only when it decodes that it can't do a type: every read is then a
//! miss. A test that encodes and decodes one value of each type shows it.
//!
//! Sizes are with the frame's 20 bytes, and times are relative to `Json`, which took 0.28 and
//! 0.56 us for the struct and 10.9 and 30.9 us for the list, by
//! `cargo run --release -p cache-serde --all-features --example codec_cost`. Of these, the frame,
//! the fingerprint and the limits together cost 12 to 55 ns for the struct, against the crate of
//! the format alone. Compressing the struct made it no smaller and 0.5 us slower, which is why
//! there is a threshold.
//!
//! # What is promised of stored bytes
//!
//! - Every version of this crate reads what an earlier one of the same format version wrote.
//! - Bytes of something else are an error, which the store above makes a miss: another codec, a
//!   newer format, another [schema](Framed::schema), a type of another [shape](Fingerprint), a
//!   frame that was cut or in which a bit was flipped.
//! - Hostile bytes cost bounded time, memory and stack: see the [limits](Framed#limits). They are
//!   not recognised as hostile: whoever can write to your store can write valid entries.
//!
//! # Features
//!
//! `json` (default), `postcard`, `bincode` and `lz4`; each builds alone.

#[cfg(all(doctest, feature = "json"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "bincode")]
mod bincode;
mod bounded;
#[cfg(feature = "lz4")]
mod compressed;
mod fingerprint;
mod frame;
mod framed;
#[cfg(feature = "json")]
mod json;
mod limits;
mod payload;
#[cfg(feature = "postcard")]
mod postcard;
mod trace;

#[cfg(feature = "bincode")]
pub use crate::bincode::Bincode;
#[cfg(feature = "postcard")]
pub use crate::postcard::Postcard;
#[cfg(feature = "lz4")]
pub use compressed::Compressed;
pub use fingerprint::Fingerprint;
pub use framed::Framed;
#[cfg(feature = "json")]
pub use json::{BareJson, Json};
