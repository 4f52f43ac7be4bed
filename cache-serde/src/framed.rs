use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use bytes::Bytes;
use cache_core::{Codec, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fingerprint;
use crate::frame::{self, Head};
use crate::limits::Limits;
use crate::payload::Payload;

/// A codec that puts a frame around its payload: [`Json`](crate::Json),
/// [`Postcard`](crate::Postcard) or [`Bincode`](crate::Bincode).
///
/// A codec serves values of any number of types. It remembers the fingerprint of the first; of
/// others it is looked up in a map of the process, under a lock. So give each store its own codec.
///
/// # The frame
///
/// Numbers are little-endian. This is version 1.
///
/// | bytes | what | |
/// |---|---|---|
/// | 0..4 | magic | `CA 63 68 65`: no UTF-8 text begins like this |
/// | 4 | format version | `01` |
/// | 5 | codec id | `01` JSON, `02` postcard, `03` bincode |
/// | 6..8 | flags | bit 0: the payload is compressed. The others are zero |
/// | 8..16 | schema | JSON: the user's [`schema`](Self::schema) number. postcard and bincode: the type's [`Fingerprint`](crate::Fingerprint), mixed with that number |
/// | 16..20 | checksum | CRC-32 (IEEE) of bytes 0..16 and of all bytes from 20 on |
/// | 20.. | payload | to the end. Compressed: its expanded length (4 bytes), then an LZ4 block |
///
/// Bytes that differ from this in anything are [`ErrorKind::Codec`], which
/// [`Encoded`](cache_core::Encoded) makes a miss. So is every frame of a newer version, and every
/// frame that was cut or had a bit flipped.
///
/// Lifetimes, versions of entries, leases and negative entries are not here: they belong to the
/// store, which keeps them beside the frame.
///
/// [`ErrorKind::Codec`]: cache_core::ErrorKind::Codec
///
/// # Limits
///
/// | limit | |
/// |---|---|
/// | [`max_bytes`](Self::max_bytes) | an entry, and the same when it is expanded |
/// | [`max_depth`](Self::max_depth) | nesting, when it is written and when it is read |
/// | memory | the elements of all sequences and maps of a value that is read may take 16 bytes of memory for each byte of `max_bytes`; an element without a size, like `()`, counts as 256. What containers add of their own comes on top |
///
/// ```
/// # #[cfg(feature = "json")] {
/// use cache_core::{Codec, ErrorKind};
/// use cache_serde::Json;
///
/// let codec = Json::new().schema(2).max_bytes(1 << 10);
/// let error = codec.encode(&"long".repeat(1000)).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::TooLarge);
///
/// let old = Json::new().schema(1).encode(&1_u64)?;
/// assert!(Codec::<u64>::decode(&codec, &old).is_err());
/// # }
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Framed<P> {
    limits: Limits,
    schema: u32,
    /// The fingerprint of the first type. Almost always there is no second one.
    first: OnceLock<(TypeId, u64)>,
    payload: PhantomData<fn() -> P>,
}

impl<P> Framed<P> {
    /// The codec with schema number 0 and the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            schema: 0,
            first: OnceLock::new(),
            payload: PhantomData,
        }
    }

    /// The number of this meaning of the values; entries with another number are not read.
    ///
    /// Raise it when the same shape gets another meaning: cents instead of euros, say.
    #[must_use]
    pub fn schema(mut self, number: u32) -> Self {
        self.schema = number;
        self.first = OnceLock::new();
        self
    }

    /// The most bytes of an entry, header included; 16 MiB unless it is set.
    ///
    /// A value with more, compressed or not, is [`ErrorKind::TooLarge`] when it is encoded. An
    /// entry with more is the same when it is decoded, before anything is allocated.
    ///
    /// [`ErrorKind::TooLarge`]: cache_core::ErrorKind::TooLarge
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.limits.max_bytes = max_bytes;
        self
    }

    /// The most levels of nesting, when a value is written and when it is read; 128 unless it is
    /// set. JSON has at most 127.
    ///
    /// Every sequence, tuple, map, struct, newtype, enum and `Some` is a level; a tuple or struct
    /// variant is two. Each level takes stack, so that an unlimited depth would let one poisoned
    /// entry end the process.
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.limits.max_depth = max_depth;
        self
    }
}

impl<P: Payload> Framed<P> {
    /// The value's frame, not compressed.
    pub(crate) fn frame<V>(&self, value: &V) -> Result<Vec<u8>>
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        let mut frame = self.limits.write::<P, V>(value, frame::HEADER)?;
        frame::seal(&mut frame, self.head::<V>());
        Ok(frame)
    }

    /// What the frames of this type say.
    pub(crate) fn head<V: DeserializeOwned + 'static>(&self) -> Head {
        if !P::POSITIONAL {
            return Head {
                codec: P::ID,
                fingerprint: u64::from(self.schema),
            };
        }
        let mixed = || fingerprint::of::<V>(self.schema);
        let (first, fingerprint) = *self.first.get_or_init(|| (TypeId::of::<V>(), mixed()));
        let fingerprint = if first == TypeId::of::<V>() {
            fingerprint
        } else {
            mixed()
        };
        Head {
            codec: P::ID,
            fingerprint,
        }
    }
}

impl<V, P> Codec<V> for Framed<P>
where
    V: Serialize + DeserializeOwned + 'static,
    P: Payload,
{
    fn encode(&self, value: &V) -> Result<Bytes> {
        self.frame(value).map(Bytes::from)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        self.limits.check(bytes)?;
        let max_payload = self.limits.max_bytes.saturating_sub(frame::HEADER);
        let payload = frame::open(bytes, self.head::<V>(), max_payload)?;
        self.limits.read::<P, V>(&payload)
    }
}

impl<P> Default for Framed<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Payload> fmt::Debug for Framed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(P::NAME)
            .field("schema", &self.schema)
            .field("max_bytes", &self.limits.max_bytes)
            .field("max_depth", &self.limits.max_depth)
            .finish()
    }
}
