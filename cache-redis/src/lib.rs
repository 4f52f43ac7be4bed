//! The Redis store for cache-core.
