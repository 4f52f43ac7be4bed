//! benches of the cache workspace.
