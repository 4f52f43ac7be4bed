//! The only module that knows the crate `bincode`, so that it can be replaced.

use bincode::config;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use cache_core::BoxError;
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::Framed;
use crate::limits::{Overflow, Sink};
use crate::payload::Payload;

/// bincode in a [frame](Framed#the-frame): compact bytes, the fastest to read and write.
///
/// The payload has the bytes of bincode 2 with `config::standard()`.
///
/// It is positional: the type's [`Fingerprint`](crate::Fingerprint) in the frame makes entries of
/// another shape of the type unreadable, rather than wrong. See the [table](crate#which-codec) for
/// what it can't do.
///
/// # The crate behind it
///
/// The crate `bincode` is no longer maintained: [RUSTSEC-2025-0141] covers all its versions and
/// names no vulnerability. Version 2.0.1 is complete and correct for what is done with it here, and
/// is pinned, because version 3.0.0 is a notice that does not compile. The limits and the depth
/// check are this crate's own. If you have no entries in this format yet, take
/// [`Postcard`](crate::Postcard). Should the crate behind it be replaced, the bytes stay.
///
/// [RUSTSEC-2025-0141]: https://rustsec.org/advisories/RUSTSEC-2025-0141
///
/// ```
/// use cache_core::Codec;
/// use cache_serde::Bincode;
///
/// let bytes = Bincode::new().encode(&(7_u32, "seven".to_owned()))?;
/// let value: (u32, String) = Bincode::new().decode(&bytes)?;
/// assert_eq!(value, (7, "seven".into()));
/// # Ok::<(), cache_core::Error>(())
/// ```
pub type Bincode = Framed<BincodePayload>;

#[derive(Clone, Debug, Default)]
pub struct BincodePayload;

impl Payload for BincodePayload {
    const ID: u8 = 3;
    const NAME: &'static str = "Bincode";
    const POSITIONAL: bool = true;

    fn write<V: Serialize>(value: &V, sink: &mut Sink) -> Result<(), BoxError> {
        Ok(bincode::serde::encode_into_writer(
            value,
            Borrowed(sink),
            config::standard(),
        )?)
    }

    fn read<'de, S: DeserializeSeed<'de>>(
        seed: S,
        payload: &'de [u8],
    ) -> Result<S::Value, BoxError> {
        let (value, read) =
            bincode::serde::seed_decode_from_slice(seed, payload, config::standard())?;
        match payload.len() - read {
            0 => Ok(value),
            rest => Err(format!("{rest} bytes after the value").into()),
        }
    }
}

struct Borrowed<'a>(&'a mut Sink);

impl Writer for Borrowed<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0
            .extend(bytes)
            .map_err(|Overflow| EncodeError::Other("too large"))
    }
}
