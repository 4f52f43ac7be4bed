use cache_core::BoxError;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::Framed;
use crate::limits::{Overflow, Sink};
use crate::payload::Payload;

/// [postcard](https://postcard.jamesmunns.com/wire-format) in a [frame](Framed#the-frame): compact
/// bytes, with a specified and frozen format.
///
/// It is positional: the type's [`Fingerprint`](crate::Fingerprint) in the frame makes entries of
/// another shape of the type unreadable, rather than wrong. See the [table](crate#which-codec) for
/// what it can't do.
///
/// ```
/// use cache_core::Codec;
/// use cache_serde::Postcard;
///
/// let bytes = Postcard::new().encode(&(7_u32, "seven".to_owned()))?;
/// let value: (u32, String) = Postcard::new().decode(&bytes)?;
/// assert_eq!(value, (7, "seven".into()));
/// assert!(Codec::<(String, u32)>::decode(&Postcard::new(), &bytes).is_err());
/// # Ok::<(), cache_core::Error>(())
/// ```
pub type Postcard = Framed<PostcardPayload>;

#[derive(Clone, Debug, Default)]
pub struct PostcardPayload;

impl Payload for PostcardPayload {
    const ID: u8 = 2;
    const NAME: &'static str = "Postcard";
    const POSITIONAL: bool = true;

    fn write<V: Serialize>(value: &V, sink: &mut Sink) -> Result<(), BoxError> {
        Ok(postcard::serialize_with_flavor(value, Borrowed(sink))?)
    }

    fn read<'de, S: DeserializeSeed<'de>>(
        seed: S,
        payload: &'de [u8],
    ) -> Result<S::Value, BoxError> {
        let mut deserializer = postcard::Deserializer::from_bytes(payload);
        let value = seed.deserialize(&mut deserializer)?;
        match deserializer.finalize()? {
            [] => Ok(value),
            rest => Err(format!("{} bytes after the value", rest.len()).into()),
        }
    }
}

struct Borrowed<'a>(&'a mut Sink);

impl Flavor for Borrowed<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0
            .extend(data)
            .map_err(|Overflow| postcard::Error::SerializeBufferFull)
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
