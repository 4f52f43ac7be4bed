//! What goes over the bus, byte by byte. Numbers are big-endian.
//!
//! | offset | bytes | |
//! |---:|---:|---|
//! | 0 | 2 | `c5 42` |
//! | 2 | 1 | version, 1 |
//! | 3 | 1 | kind |
//! | 4 | 8 | publisher, random |
//! | 12 | 8 | number: of a change, its own; of a heartbeat, that of the last change |
//! | 20 | | body |
//!
//! | kind | | body |
//! |---:|---|---|
//! | 0 | heartbeat | number of the beat (8), milliseconds to the next (4) |
//! | 1 | keys | for each: length (4), UTF-8 |
//! | 2 | prefix | UTF-8 |
//! | 3 | everything | |
//! | 4 | the publisher ends, and has said all | |
//! | 5 | tags | as keys |
//! | other | a change that this version does not know: it may be about anything | |
//!
//! A reader of another version knows only that something may have changed.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smol_str::SmolStr;

use crate::Change;

const MAGIC: u16 = 0xc542;
const VERSION: u8 = 1;
const HEADER: usize = 20;

/// Of more keys, or tags, in one message than anybody sends, nothing is read: an empty one takes four bytes there, and
/// many times that here.
const MOST: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) publisher: u64,
    pub(super) number: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Heartbeat { beat: u64, every: Duration },
    Change(Change),
    End,
    Unknown,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are somebody else's, or damaged. If they were a message, its number is missing.
    Foreign,
    /// They are of another version of this library.
    OtherVersion,
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u16(MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_u8(match &self.body {
            Body::Heartbeat { .. } => 0,
            Body::Change(Change::Keys(_)) => 1,
            Body::Change(Change::Prefix(_)) => 2,
            Body::Change(Change::Clear) => 3,
            Body::End => 4,
            Body::Change(Change::Tags(_)) => 5,
            Body::Unknown => u8::MAX,
        });
        bytes.put_u64(self.publisher);
        bytes.put_u64(self.number);
        match &self.body {
            Body::Heartbeat { beat, every } => {
                bytes.put_u64(*beat);
                bytes.put_u32(u32::try_from(every.as_millis()).unwrap_or(u32::MAX));
            }
            Body::Change(Change::Keys(names) | Change::Tags(names)) => {
                for name in names {
                    bytes.put_u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
                    bytes.put_slice(name.as_bytes());
                }
            }
            Body::Change(Change::Prefix(prefix)) => bytes.put_slice(prefix.as_bytes()),
            Body::Change(Change::Clear) | Body::End | Body::Unknown => {}
        }
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        if rest.len() < 3 || rest.get_u16() != MAGIC {
            return Err(Unreadable::Foreign);
        }
        if rest.get_u8() != VERSION {
            return Err(Unreadable::OtherVersion);
        }
        if bytes.len() < HEADER {
            return Err(Unreadable::Foreign);
        }
        let kind = rest.get_u8();
        let (publisher, number) = (rest.get_u64(), rest.get_u64());
        let body = body(kind, rest).ok_or(Unreadable::Foreign)?;
        Ok(Self { publisher, number, body })
    }
}

fn body(kind: u8, mut rest: &[u8]) -> Option<Body> {
    Some(match kind {
        0 if rest.len() == 12 => {
            let beat = rest.get_u64();
            Body::Heartbeat { beat, every: Duration::from_millis(rest.get_u32().into()) }
        }
        1 => Body::Change(Change::Keys(names(rest)?)),
        2 => Body::Change(Change::Prefix(SmolStr::new(std::str::from_utf8(rest).ok()?))),
        3 if rest.is_empty() => Body::Change(Change::Clear),
        4 if rest.is_empty() => Body::End,
        5 => Body::Change(Change::Tags(names(rest)?)),
        0 | 3 | 4 => return None,
        _ => Body::Unknown,
    })
}

fn names(mut rest: &[u8]) -> Option<Vec<SmolStr>> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let length = rest.try_get_u32().ok()?;
        let (name, later) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if names.len() == MOST {
            return None;
        }
        names.push(SmolStr::new(std::str::from_utf8(name).ok()?));
        rest = later;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: Body) -> Message {
        Message { publisher: 0x0123_4567_89ab_cdef, number: 7, body }
    }

    fn all() -> Vec<Message> {
        vec![
            message(Body::Heartbeat { beat: 3, every: Duration::from_millis(250) }),
            message(Body::Change(Change::keys(["user:7", "", "ä"]))),
            message(Body::Change(Change::Keys(Vec::new()))),
            message(Body::Change(Change::tags(["org:7", "ä"]))),
            message(Body::Change(Change::Prefix("user:".into()))),
            message(Body::Change(Change::Clear)),
            message(Body::End),
            message(Body::Unknown),
        ]
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        for message in all() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let bytes = message(Body::Change(Change::keys(["ab", "c"]))).encode();
        let expected = b"\xc5\x42\x01\x01\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\x07\0\0\0\x02ab\0\0\0\x01c";
        assert_eq!(&bytes[..], expected);
        let bytes = message(Body::Change(Change::tag("ab"))).encode();
        let expected =
            b"\xc5\x42\x01\x05\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\x07\0\0\0\x02ab";
        assert_eq!(&bytes[..], expected);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error() {
        let mut random = fastrand::Rng::with_seed(7);
        for message in all() {
            let good = message.encode();
            for length in 0..good.len() {
                let _ = Message::decode(&good[..length]);
            }
            for _ in 0..2_000 {
                let mut bad = good.to_vec();
                let at = random.usize(..bad.len());
                bad[at] = random.u8(..);
                let _ = Message::decode(&bad);
            }
        }
        for _ in 0..10_000 {
            let bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            let _ = Message::decode(&bytes);
        }
    }

    #[test]
    fn a_length_that_is_not_there_allocates_nothing() {
        let mut bytes = message(Body::Change(Change::Keys(Vec::new()))).encode().to_vec();
        bytes.extend(u32::MAX.to_be_bytes());
        assert_eq!(Message::decode(&bytes), Err(Unreadable::Foreign));
    }

    #[test]
    fn more_names_than_anybody_sends_are_not_read() {
        let many = |count| message(Body::Change(Change::Keys(vec![SmolStr::default(); count])));
        assert!(Message::decode(&many(MOST).encode()).is_ok());
        assert_eq!(Message::decode(&many(MOST + 1).encode()), Err(Unreadable::Foreign));
        assert_eq!(Message::decode(&many(1 << 20).encode()), Err(Unreadable::Foreign));
    }

    #[test]
    fn another_version_is_told_from_other_peoples_bytes() {
        let mut bytes = message(Body::End).encode().to_vec();
        bytes[2] = 2;
        assert_eq!(Message::decode(&bytes), Err(Unreadable::OtherVersion));
        assert_eq!(Message::decode(b"hello"), Err(Unreadable::Foreign));
    }
}
