//! demo of the cache workspace.
