//! Reserved for the Redis store of [`cache_core`]. There is nothing in it yet.
