use cache_core::BoxError;
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::limits::Sink;

/// How a value is spelled in a payload: all that the codecs of this crate differ in.
///
/// Nobody else implements it, since the module is private.
pub trait Payload: Clone + Default + Send + Sync + 'static {
    /// The codec id in the frame. Ids are never used again for something else.
    const ID: u8;

    /// The codec's name, for `Debug`.
    const NAME: &'static str;

    /// Whether fields are told apart by their order alone, so that the bytes of one type can be
    /// read as those of another.
    const POSITIONAL: bool;

    /// The deepest nesting that the format's crate reads.
    const MAX_DEPTH: usize = usize::MAX;

    /// Writes the value.
    ///
    /// # Errors
    ///
    /// What the value's `Serialize` or the format does not allow, and everything that is said by
    /// the sink.
    fn write<V: Serialize>(value: &V, sink: &mut Sink) -> Result<(), BoxError>;

    /// Reads a value that takes the whole payload.
    ///
    /// # Errors
    ///
    /// If it does not.
    fn read<'de, S: DeserializeSeed<'de>>(
        seed: S,
        payload: &'de [u8],
    ) -> Result<S::Value, BoxError>;
}
