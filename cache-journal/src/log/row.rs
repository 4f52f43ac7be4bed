//! How writes and dead letters are laid out. Numbers are big-endian.
//!
//! | table | key | value |
//! |---|---|---|
//! | `pending` | the key as it is spelled | number, 8 bytes; body |
//! | `dead` | the number | tries, 4 bytes; the spelled key and the cause, each after its length in 4 bytes; body |
//! | `meta` | `version`, `last` | the version of all this, 1; the highest number so far |
//!
//! A body is: 1 if there is a value, 0 for a removal; length of the encoded key, 4 bytes; the key; the value.

/// Writes the body of a write.
pub(crate) fn body(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::with_capacity(5 + key.len() + value.map_or(0, <[u8]>::len));
    body.push(u8::from(value.is_some()));
    body.extend(u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(key);
    body.extend(value.unwrap_or_default());
    body
}

/// The encoded key and value in a body.
pub(crate) fn parts(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (&has_value, rest) = body.split_first()?;
    let (key, value) = split(rest)?;
    match has_value {
        0 if value.is_empty() => Some((key, None)),
        1 => Some((key, Some(value))),
        _ => None,
    }
}

pub(crate) fn row(seq: u64, body: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes(), body].concat()
}

/// The number and the body of a row.
pub(crate) fn read_row(row: &[u8]) -> Option<(u64, &[u8])> {
    let (seq, body) = row.split_first_chunk()?;
    Some((u64::from_be_bytes(*seq), body))
}

/// A dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letter<'a> {
    pub(crate) tries: u32,
    /// The key as it is spelled.
    pub(crate) key: &'a str,
    pub(crate) cause: &'a str,
    pub(crate) body: &'a [u8],
}

pub(crate) fn letter(letter: Letter<'_>) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = letter.tries.to_be_bytes().to_vec();
    for text in [letter.key, letter.cause] {
        bytes.extend(length(text));
        bytes.extend(text.as_bytes());
    }
    bytes.extend(letter.body);
    bytes
}

pub(crate) fn read_letter(letter: &[u8]) -> Option<Letter<'_>> {
    let (tries, rest) = letter.split_first_chunk()?;
    let (key, rest) = split(rest)?;
    let (cause, body) = split(rest)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(Letter { tries: u32::from_be_bytes(*tries), key: text(key)?, cause: text(cause)?, body })
}

/// What comes after its length, and the rest.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [None, Some(&b""[..]), Some(b"value")] {
            let body = body(b"key", value);
            assert_eq!(parts(&body), Some((&b"key"[..], value)));
            assert_eq!(read_row(&row(7, &body)), Some((7, &body[..])));
            let parked = Letter { tries: 3, key: "k", cause: "why", body: &body };
            assert_eq!(read_letter(&letter(parked)), Some(parked));
        }
    }

    #[test]
    fn no_bytes_make_reading_panic() {
        let body = body(b"key", Some(b"value"));
        let whole = letter(Letter { tries: 3, key: "k", cause: "why", body: &body });
        for end in 0..whole.len() {
            for at in 0..end {
                let mut bytes = whole[..end].to_vec();
                bytes[at] = !bytes[at];
                let _ = (parts(&bytes), read_row(&bytes), read_letter(&bytes));
            }
        }
    }
}
