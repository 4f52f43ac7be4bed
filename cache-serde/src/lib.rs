//! Codecs for cache-core: JSON, postcard and bincode, framed, versioned, checked and compressed.
