//! tests of the cache workspace.
