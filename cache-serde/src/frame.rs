//! The frame around a payload. Its table is in the documentation of [`Framed`](crate::Framed).

use std::borrow::Cow;

use cache_core::{Error, ErrorKind, Result};

use crate::limits::malformed;

/// The bytes before the payload.
pub(crate) const HEADER: usize = 20;

// The second byte can't follow the first one in UTF-8: no text begins like this.
const MAGIC: [u8; 4] = *b"\xcache";
const VERSION: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 16..20;

/// The payload is compressed: the length that it had, then an LZ4 block.
const COMPRESSED: u16 = 1;
/// The bytes of that length.
const EXPANDED_LEN: usize = 4;
/// An LZ4 block can't grow by more than this.
#[cfg(feature = "lz4")]
const LZ4_MOST: usize = 255;

/// What a frame says about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) codec: u8,
    pub(crate) fingerprint: u64,
}

/// Writes the header of `frame`, whose payload is complete.
pub(crate) fn seal(frame: &mut [u8], head: Head) {
    seal_flagged(frame, head, 0);
}

/// The same frame with the payload compressed; `None` if that is not smaller.
#[cfg(feature = "lz4")]
pub(crate) fn compress(frame: &[u8], head: Head) -> Option<Vec<u8>> {
    use lz4_flex::block::{compress_into, get_maximum_output_size};

    let payload = &frame[HEADER..];
    let expanded = u32::try_from(payload.len()).ok()?;
    let start = HEADER + EXPANDED_LEN;
    let mut smaller = vec![0; start + get_maximum_output_size(payload.len())];
    let len = start + compress_into(payload, &mut smaller[start..]).ok()?;
    if len >= frame.len() {
        return None;
    }
    smaller.truncate(len);
    smaller.shrink_to_fit();
    smaller[HEADER..start].copy_from_slice(&expanded.to_le_bytes());
    seal_flagged(&mut smaller, head, COMPRESSED);
    Some(smaller)
}

fn seal_flagged(frame: &mut [u8], head: Head, flags: u16) {
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = VERSION;
    frame[5] = head.codec;
    frame[6..8].copy_from_slice(&flags.to_le_bytes());
    frame[8..16].copy_from_slice(&head.fingerprint.to_le_bytes());
    let checksum = checksum(frame);
    frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The payload of a frame that says `expected`, of at most `max` bytes.
pub(crate) fn open(frame: &[u8], expected: Head, max: usize) -> Result<Cow<'_, [u8]>> {
    let (header, payload) = frame
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| malformed("shorter than a header"))?;
    let [m0, m1, m2, m3, version, codec, f0, f1, rest @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(malformed("not a frame of this library"));
    }
    if version != VERSION {
        return Err(malformed(format!(
            "format version {version}, of which nothing is known here"
        )));
    }
    let [p0, p1, p2, p3, p4, p5, p6, p7, c0, c1, c2, c3] = rest;
    if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(frame) {
        return Err(malformed("the checksum does not match"));
    }
    if codec != expected.codec {
        return Err(malformed(format!(
            "written by codec {codec}, not by {}",
            expected.codec
        )));
    }
    if u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]) != expected.fingerprint {
        return Err(malformed("written with another schema"));
    }
    match u16::from_le_bytes([f0, f1]) {
        0 => Ok(Cow::Borrowed(payload)),
        COMPRESSED => expand(payload, max).map(Cow::Owned),
        flags => Err(malformed(format!(
            "flags {flags:#x}, of which nothing is known here"
        ))),
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CHECKSUM.start]);
    hasher.update(&frame[CHECKSUM.end..]);
    hasher.finalize()
}

fn expand(payload: &[u8], max: usize) -> Result<Vec<u8>> {
    let (expanded, block) = payload
        .split_first_chunk::<EXPANDED_LEN>()
        .ok_or_else(|| malformed("shorter than the length of its payload"))?;
    let expanded = usize::try_from(u32::from_le_bytes(*expanded)).unwrap_or(usize::MAX);
    if expanded > max {
        return Err(Error::with_cause(
            ErrorKind::TooLarge,
            format!("{expanded} bytes when it is expanded, of at most {max}"),
        ));
    }
    expand_block(block, expanded)
}

#[cfg(feature = "lz4")]
fn expand_block(block: &[u8], expanded: usize) -> Result<Vec<u8>> {
    if expanded / LZ4_MOST > block.len() {
        return Err(malformed("it can't expand to the length that it says"));
    }
    let mut payload = vec![0; expanded];
    match lz4_flex::block::decompress_into(block, &mut payload) {
        Ok(len) if len == expanded => Ok(payload),
        Ok(len) => Err(malformed(format!(
            "expands to {len} bytes, not to {expanded}"
        ))),
        Err(error) => Err(malformed(error)),
    }
}

#[cfg(not(feature = "lz4"))]
fn expand_block(_block: &[u8], _expanded: usize) -> Result<Vec<u8>> {
    Err(malformed("compressed, and the feature `lz4` is off"))
}
