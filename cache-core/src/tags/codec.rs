use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Marked, Stamp};
use crate::{Codec, Error, ErrorKind, Result};

const MAGIC: [u8; 4] = [0x8d, b'C', b'T', 1];
const VALUE: u8 = 1;

/// Writes the stamps of an entry before what another codec makes of its value, for a
/// [`Tagged`](crate::Tagged) store on a store of bytes.
///
/// | bytes | |
/// |---:|---|
/// | 4 | `8d 43 54 01`: magic and format version |
/// | 1 | 1 if there is a value, 0 if the entry is negative |
/// | 1 | the number of stamps |
/// | | each stamp: 8 bytes generation, big-endian; 1 byte length of the tag; the tag in UTF-8 |
/// | | what the other codec wrote |
///
/// Anything else can't be decoded, so it is a miss.
///
/// # Order
///
/// Around a codec that compresses.
///
/// ```
/// use bytes::Bytes;
/// use cache_core::{Codec, Marked, Result, Stamp, TaggedCodec};
///
/// struct Text; // or `Json` of cache-serde
///
/// impl Codec<String> for Text {
///     fn encode(&self, text: &String) -> Result<Bytes> {
///         Ok(text.clone().into())
///     }
///
///     fn decode(&self, bytes: &Bytes) -> Result<String> {
///         Ok(String::from_utf8_lossy(bytes).into_owned())
///     }
/// }
///
/// let codec = TaggedCodec::new(Text);
/// let marked = Marked::new(Some("blue".to_owned()), vec![Stamp::new("colours", 7)]);
/// let bytes = codec.encode(&marked)?;
/// assert_eq!(codec.decode(&bytes)?, marked);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TaggedCodec<C>(C);

impl<C> TaggedCodec<C> {
    /// Stamps before what `codec` writes.
    pub fn new(codec: C) -> Self {
        Self(codec)
    }

    /// The codec of the values.
    pub fn inner(&self) -> &C {
        &self.0
    }
}

impl<C: Codec<V>, V> Codec<Marked<V>> for TaggedCodec<C> {
    fn encode(&self, marked: &Marked<V>) -> Result<Bytes> {
        let payload = marked.value().map(|value| self.0.encode(value)).transpose()?;
        let payload = payload.unwrap_or_default();
        let stamps = marked.stamps();
        let room: usize = stamps.iter().map(|stamp| 9 + stamp.tag().len()).sum();
        let mut bytes = BytesMut::with_capacity(6 + room + payload.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u8(if marked.value().is_some() { VALUE } else { 0 });
        bytes.put_u8(short(stamps.len())?);
        for stamp in stamps {
            bytes.put_u64(stamp.generation());
            bytes.put_u8(short(stamp.tag().len())?);
            bytes.put_slice(stamp.tag().as_bytes());
        }
        bytes.put_slice(&payload);
        Ok(bytes.freeze())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Marked<V>> {
        let mut rest = bytes.clone();
        if take(&mut rest, 4)? != MAGIC[..] {
            return Err(undecodable("no stamps, or of another format"));
        }
        let (has_value, count) = (number(&mut rest)?, number(&mut rest)?);
        let mut stamps = Vec::with_capacity(count.into());
        for _ in 0..count {
            let generation = take(&mut rest, 8)?.get_u64();
            let length = number(&mut rest)?;
            let tag = take(&mut rest, length.into())?;
            let tag = std::str::from_utf8(&tag).map_err(|_| undecodable("a tag is not UTF-8"))?;
            stamps.push(Stamp::new(tag, generation));
        }
        let value = match has_value {
            VALUE => Some(self.0.decode(&rest)?),
            0 if rest.is_empty() => None,
            _ => return Err(undecodable("neither a value nor none")),
        };
        Ok(Marked::new(value, stamps))
    }
}

fn take(rest: &mut Bytes, count: usize) -> Result<Bytes> {
    if rest.len() < count {
        return Err(undecodable("cut off"));
    }
    Ok(rest.split_to(count))
}

fn number(rest: &mut Bytes) -> Result<u8> {
    Ok(take(rest, 1)?.get_u8())
}

fn short(length: usize) -> Result<u8> {
    u8::try_from(length)
        .map_err(|_| Error::with_cause(ErrorKind::TooLarge, "tags: too many, or too long"))
}

fn undecodable(why: &'static str) -> Error {
    Error::with_cause(ErrorKind::Codec, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Codec<Bytes> for Plain {
        fn encode(&self, value: &Bytes) -> Result<Bytes> {
            Ok(value.clone())
        }

        fn decode(&self, bytes: &Bytes) -> Result<Bytes> {
            Ok(bytes.clone())
        }
    }

    fn example() -> Marked<Bytes> {
        Marked::new(Some("blue".into()), vec![Stamp::new("a", 1), Stamp::new("ü", 1 << 50)])
    }

    #[test]
    fn stored_stamps_are_written_and_read_as_they_were() {
        let golden = b"\x8dCT\x01\x01\x02\0\0\0\0\0\0\0\x01\x01a\0\x04\0\0\0\0\0\0\x02\xc3\xbcblue";
        let codec = TaggedCodec::new(Plain);
        assert_eq!(codec.encode(&example()).expect("short").as_ref(), golden);
        assert_eq!(codec.decode(&Bytes::from_static(golden)).expect("golden"), example());
        let negative = Marked::new(None, vec![Stamp::new("a", 1)]);
        let bytes = codec.encode(&negative).expect("short");
        assert_eq!(codec.decode(&bytes).expect("negative"), negative);
    }

    #[test]
    fn hostile_stamps_are_an_error_and_never_a_panic() {
        let codec = TaggedCodec::new(Plain);
        let bytes = codec.encode(&example()).expect("short");
        let header = bytes.len() - "blue".len();
        for end in 0..header {
            assert!(codec.decode(&bytes.slice(..end)).is_err(), "{end} bytes");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = bytes.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            // Whatever it is, it ends.
            let _ = codec.decode(&bytes.into());
        }
    }
}
