//! In-process stores for cache-core: quick_cache and moka, holding values typed.
