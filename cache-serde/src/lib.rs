//! Codecs for cache-core: JSON, postcard and bincode, framed, versioned, checked and compressed.

#[cfg(feature = "bincode")]
mod bincode;
mod bounded;
#[cfg(feature = "lz4")]
mod compressed;
mod fingerprint;
mod frame;
mod framed;
#[cfg(feature = "json")]
mod json;
mod limits;
mod payload;
#[cfg(feature = "postcard")]
mod postcard;
mod trace;

#[cfg(feature = "bincode")]
pub use crate::bincode::Bincode;
#[cfg(feature = "postcard")]
pub use crate::postcard::Postcard;
#[cfg(feature = "lz4")]
pub use compressed::Compressed;
pub use fingerprint::Fingerprint;
pub use framed::Framed;
#[cfg(feature = "json")]
pub use json::{BareJson, Json};
