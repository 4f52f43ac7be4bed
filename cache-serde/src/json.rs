use bytes::Bytes;
use cache_core::{BoxError, Codec, Result};
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::Framed;
use crate::limits::{Limits, Sink};
use crate::payload::Payload;

/// JSON in a [frame](Framed#the-frame), by `serde_json`.
///
/// JSON is self-describing: an entry from before a field was added is read if the field is
/// `#[serde(default)]`, and from before a field was removed in any case. So nothing but
/// [`schema`](Framed::schema) tells old entries from new ones; raise it when a field changes its
/// meaning.
///
/// Finite floats come back as they were, bit for bit. Infinite ones and NaN are written as `null`,
/// which is not a float when it is read. [`max_depth`](Framed::max_depth) is at most 127
/// levels, since `serde_json` reads no more.
///
/// ```
/// use cache_core::Codec;
/// use cache_serde::Json;
///
/// let bytes = Json::new().encode(&vec!["a".to_owned(), "b".to_owned()])?;
/// assert_eq!(&bytes[20..], br#"["a","b"]"#);
/// let names: Vec<String> = Json::new().decode(&bytes)?;
/// assert_eq!(names, ["a", "b"]);
/// # Ok::<(), cache_core::Error>(())
/// ```
pub type Json = Framed<JsonPayload>;

impl Json {
    /// JSON without a frame, which programs in other languages read and write.
    #[must_use]
    pub fn bare() -> BareJson {
        BareJson::default()
    }
}

/// JSON without a frame: the bytes of an entry are the text, no more.
///
/// The same keys can then be read and written by a program in another language. What is lost:
///
/// - the checksum: a flipped bit may be another value,
/// - the schema number: entries of an older meaning are read as if they were new ones,
/// - the codec id: bytes of another origin are an error only if they are not JSON, or not a `V`,
/// - compression: [`Compressed`](crate::Compressed) does not take it.
///
/// The limits are those of [`Json`].
///
/// ```
/// use bytes::Bytes;
/// use cache_core::Codec;
/// use cache_serde::Json;
///
/// let codec = Json::bare();
/// assert_eq!(codec.encode(&[1, 2])?, "[1,2]");
/// let value: [u8; 2] = codec.decode(&Bytes::from_static(b" [1, 2]\n"))?;
/// assert_eq!(value, [1, 2]);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct BareJson {
    limits: Limits,
}

impl BareJson {
    /// The most bytes of an entry; 16 MiB unless it is set. See [`Framed::max_bytes`].
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.limits.max_bytes = max_bytes;
        self
    }

    /// The most levels of nesting, 127 unless it is set to less. See [`Framed::max_depth`].
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.limits.max_depth = max_depth;
        self
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for BareJson {
    fn encode(&self, value: &V) -> Result<Bytes> {
        self.limits
            .write::<JsonPayload, V>(value, 0)
            .map(Bytes::from)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        self.limits.check(bytes)?;
        self.limits.read::<JsonPayload, V>(bytes)
    }
}

#[derive(Clone, Debug, Default)]
pub struct JsonPayload;

impl Payload for JsonPayload {
    const ID: u8 = 1;
    const NAME: &'static str = "Json";
    const POSITIONAL: bool = false;
    const MAX_DEPTH: usize = 127;

    fn write<V: Serialize>(value: &V, sink: &mut Sink) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(sink, value)?)
    }

    fn read<'de, S: DeserializeSeed<'de>>(
        seed: S,
        payload: &'de [u8],
    ) -> Result<S::Value, BoxError> {
        let mut deserializer = serde_json::Deserializer::from_slice(payload);
        let value = seed.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}
