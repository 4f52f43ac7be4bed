//! What the tests of the workspace share: a source of truth and a store under a test's control, and one
//! face for all strategies.

mod caches;
pub mod crash;
mod history;
mod plain;
pub mod processes;
pub mod redis;
mod sink;
mod source;
mod stacks;
mod stalls;
mod stores;

pub use caches::{FromSource, Strategy, TestCache, Writing, cache, minute, unhurried};
pub use history::{History, Wrongs};
pub use plain::PlainStore;
pub use sink::{Attempt, Sink, SinkError, SinkFault};
pub use source::{Source, SourceDown};
pub use stacks::{Stack, Topology};
pub use stalls::Stalls;
pub use stores::{Kind, cache_on};
