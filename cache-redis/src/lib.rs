//! The Redis store for cache-core.

mod bare;
mod builder;
mod bulk;
mod error;
mod gather;
mod link;
mod ops;
mod prefix;
mod scripts;
mod settings;
mod slot;
mod store;

pub use builder::RedisBuilder;
pub use store::RedisStore;
