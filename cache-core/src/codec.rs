use std::sync::Arc;

use bytes::Bytes;

use crate::Result;

/// Turns values into bytes and back.
///
/// `decode(encode(v))` is `v`; whatever else `decode` is given is an error, never a panic and never
/// a wrong value: a codec has to recognise bytes that it did not write, and to bound what it
/// allocates for them. [`Encoded`](crate::Encoded) turns the error into a miss.
///
/// The crate `cache-serde` has codecs for JSON, bincode and postcard.
///
/// ```
/// use bytes::Bytes;
/// use cache_core::{Codec, Error, ErrorKind, Result};
///
/// struct Utf8;
///
/// impl Codec<String> for Utf8 {
///     fn encode(&self, value: &String) -> Result<Bytes> {
///         Ok(Bytes::copy_from_slice(value.as_bytes()))
///     }
///
///     fn decode(&self, bytes: &Bytes) -> Result<String> {
///         String::from_utf8(bytes.to_vec()).map_err(|e| Error::with_cause(ErrorKind::Codec, e))
///     }
/// }
/// assert!(Utf8.decode(&Bytes::from_static(b"\xff")).is_err());
/// ```
pub trait Codec<V>: Send + Sync + 'static {
    /// The bytes of a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) if the value can't be spelled in this format,
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if its bytes are over the codec's limit.
    fn encode(&self, value: &V) -> Result<Bytes>;

    /// The value of these bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) for bytes that are not a `V` of this format,
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if they are over the codec's limit.
    fn decode(&self, bytes: &Bytes) -> Result<V>;
}

impl<V, C: Codec<V>> Codec<V> for Arc<C> {
    fn encode(&self, value: &V) -> Result<Bytes> {
        C::encode(self, value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        C::decode(self, bytes)
    }
}
