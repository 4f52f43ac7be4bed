use bytes::Bytes;
use cache_core::{Codec, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;
use crate::{Framed, frame};

/// Compresses the payloads of another codec of this crate, by LZ4.
///
/// There is still one frame: a flag in it says whether its payload is compressed. So entries can
/// be read with and without `Compressed`, as long as the feature `lz4` is on, and turning it on or
/// off loses nothing.
///
/// Payloads below the [`threshold`](Self::threshold) stay as they are, and so do those that LZ4
/// does not make smaller. An entry says how far it expands; that is checked against
/// [`max_bytes`](Framed::max_bytes) before memory is taken for it.
///
/// # Secrets
///
/// The size of what is compressed tells something about its content. Don't compress values in
/// which a secret stands beside text that an attacker chooses, if the attacker may learn the sizes
/// of entries: by trying texts, the secret can be guessed piece by piece.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use cache_core::Codec;
/// use cache_serde::{Compressed, Json};
///
/// let codec = Compressed::new(Json::new());
/// let long = "to be or not to be, ".repeat(100);
/// let bytes = codec.encode(&long)?;
/// assert!(bytes.len() < 200);
/// assert_eq!(Codec::<String>::decode(&codec, &bytes)?, long);
/// assert_eq!(Codec::<String>::decode(&Json::new(), &bytes)?, long);
/// # }
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compressed<C> {
    codec: C,
    threshold: usize,
}

impl<C> Compressed<C> {
    /// `codec`, with its payloads compressed from 1 KiB on.
    #[must_use]
    pub fn new(codec: C) -> Self {
        Self {
            codec,
            threshold: 1024,
        }
    }

    /// The fewest bytes of a payload that are worth the time; 1024 unless it is set.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }
}

impl<V, P> Codec<V> for Compressed<Framed<P>>
where
    V: Serialize + DeserializeOwned + 'static,
    P: Payload,
{
    fn encode(&self, value: &V) -> Result<Bytes> {
        let frame = self.codec.frame(value)?;
        if frame.len() - frame::HEADER < self.threshold {
            return Ok(frame.into());
        }
        let smaller = frame::compress(&frame, self.codec.head::<V>());
        Ok(smaller.unwrap_or(frame).into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        self.codec.decode(bytes)
    }
}
