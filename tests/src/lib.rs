//! What the tests of the workspace share: a source of truth and a store under a test's control, and one
//! face for all strategies.

mod caches;
mod plain;
pub mod redis;
mod source;
mod stores;

pub use caches::{FromSource, Strategy, TestCache, cache, minute};
pub use plain::PlainStore;
pub use source::{Source, SourceDown};
pub use stores::{Kind, cache_on};
