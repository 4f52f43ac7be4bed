//! How writes and dead letters are laid out. Numbers are big-endian.
//!
//! A body is: 1 if there is a value, 0 for a removal; length of the encoded key, 4 bytes; the key; the value. A letter is:
//! tries, 4 bytes; the spelled key and the cause, each after its length in 4 bytes; the body.

use std::sync::Arc;

use bytes::Bytes;
use cache_core::{CacheKey, Codec, DeadLetter, Error, ErrorKind, Result, Seq, Write};

/// The codecs of keys and values.
pub(super) struct Bodies<K, V> {
    keys: Box<dyn Codec<K>>,
    values: Box<dyn Codec<V>>,
}

impl<K: 'static, V: 'static> Bodies<K, V> {
    pub(super) fn new(codec: impl Codec<K> + Codec<V>) -> Self {
        let codec = Arc::new(codec);
        Self { keys: Box::new(Arc::clone(&codec)), values: Box::new(codec) }
    }

    pub(super) fn encode(&self, key: &K, value: Option<&V>) -> Result<Vec<u8>> {
        let key = self.keys.encode(key)?;
        let value = value.map(|value| self.values.encode(value)).transpose()?;
        let mut body = vec![u8::from(value.is_some())];
        put(&mut body, &key);
        body.extend(value.unwrap_or_default());
        Ok(body)
    }

    pub(super) fn decode(&self, spelled: &str, body: &[u8]) -> Result<(K, Option<V>)> {
        let parts = body.split_first().and_then(|(&has, rest)| Some((has == 1, split(rest)?)));
        let Some((has_value, (key, value))) = parts else {
            return Err(unreadable(spelled, "it is malformed"));
        };
        let key = self.keys.decode(&Bytes::copy_from_slice(key));
        let value = has_value.then(|| self.values.decode(&Bytes::copy_from_slice(value)));
        let value = value.transpose().map_err(|error| unreadable(spelled, error))?;
        Ok((key.map_err(|error| unreadable(spelled, error))?, value))
    }

    /// The dead letter with this number.
    pub(super) fn letter(&self, seq: u64, letter: &[u8]) -> DeadLetter<K, V>
    where
        K: CacheKey,
    {
        let seq = Seq::new(seq);
        let Some((tries, spelled, cause, body)) = parts(letter) else {
            let why = Error::with_cause(ErrorKind::Journal, "the dead letter is malformed");
            return DeadLetter::unreadable("", seq, 0, "nobody knows", &why);
        };
        match self.decode(spelled, body) {
            Ok((key, value)) => DeadLetter::new(Write::new(key, value).numbered(seq), tries, cause),
            Err(why) => DeadLetter::unreadable(spelled, seq, tries, cause, &why),
        }
    }
}

pub(super) fn letter(tries: u32, spelled: &str, cause: &str, body: &[u8]) -> Vec<u8> {
    let mut letter = tries.to_be_bytes().to_vec();
    put(&mut letter, spelled.as_bytes());
    put(&mut letter, cause.as_bytes());
    letter.extend(body);
    letter
}

/// Tries, spelled key, cause and body of a letter.
pub(super) fn parts(letter: &[u8]) -> Option<(u32, &str, &str, &[u8])> {
    let (tries, rest) = letter.split_first_chunk()?;
    let (key, rest) = split(rest)?;
    let (cause, body) = split(rest)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some((u32::from_be_bytes(*tries), text(key)?, text(cause)?, body))
}

/// Number and body of what `last` holds.
pub(super) fn last(last: &[u8]) -> Option<(u64, &[u8])> {
    let colon = last.iter().position(|&byte| byte == b':')?;
    let seq = std::str::from_utf8(&last[..colon]).ok()?.parse().ok()?;
    Some((seq, &last[colon + 1..]))
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(part);
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

pub(super) fn unreadable(spelled: &str, why: impl std::fmt::Display) -> Error {
    let why = format!(
        "the write of the key {spelled:?} can't be read, and was perhaps written with another codec or another \
         version of the type: {why}"
    );
    Error::with_cause(ErrorKind::Codec, why)
}
