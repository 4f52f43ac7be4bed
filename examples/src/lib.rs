//! examples of the cache workspace.
