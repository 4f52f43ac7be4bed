//! The bytes under a key: a header and the payload. The table is in the crate's documentation.

use std::time::Duration;

use bytes::{Buf, Bytes};
use cache_core::{Entry, LoadTime, SetOptions, Version};

use crate::unique::unique;

/// The length of the header.
pub(crate) const HEADER: usize = 60;

const MAGIC: [u8; 4] = [0x8d, b'C', b'S', 1];
const NEVER: u64 = u64::MAX;

const ENTRY: u32 = 1;
const NEGATIVE: u32 = 2;

/// Longer lifetimes, but for ever, are cut to a hundred years: server times in microseconds have to
/// stay below 2^53, which is what numbers in Lua hold.
const LONGEST: u64 = 100 * 366 * 24 * 3600 * 1_000_000;

/// What the bytes under a key are.
#[derive(Debug, PartialEq)]
pub(crate) enum Slot {
    /// An entry that is still usable.
    Entry(Entry<Bytes>),
    /// A lease on a key without an entry, or an entry that is over.
    Empty,
    /// Something else: foreign, damaged, cut, or of a newer format.
    Foreign,
}

/// Reads the bytes under a key, at this time of the server in microseconds.
pub(crate) fn read(mut bytes: Bytes, now: u64) -> Slot {
    let Some(&header) = bytes.first_chunk::<HEADER>() else {
        return Slot::Foreign;
    };
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let (flags, length) = (word(4), word(12) as usize);
    let legal = matches!(flags, 1 | 3 | 4 | 5 | 7);
    if header[..4] != MAGIC
        || !legal
        || word(56) != checksum(word)
        || bytes.len() - HEADER != length
    {
        return Slot::Foreign;
    }
    let (fresh_until, usable_until) = (long(24), long(32));
    if flags & ENTRY == 0 || usable_until <= now {
        return Slot::Empty;
    }
    // Not `slice`, which would allocate a counter for the two handles.
    bytes.advance(HEADER);
    let value = (flags & NEGATIVE == 0).then_some(bytes);
    let load_time = match word(8) {
        0 => LoadTime::UNKNOWN,
        micros => Duration::from_micros(micros.into()).into(),
    };
    Slot::Entry(
        Entry::new(value, left(fresh_until, now), left(usable_until, now))
            .with_staleness(Duration::from_micros(now.saturating_sub(fresh_until)))
            .with_load_time(load_time)
            .with_version(version(long(16))),
    )
}

/// The sum of the header's other words, each with a weight of its own, modulo the largest prime below
/// 2^32: cheap in Lua, and no change within one word goes unseen.
fn checksum(word: impl Fn(usize) -> u32) -> u32 {
    let sum: u64 = (0..14).map(|i| u64::from(word(4 * i)) * (i as u64 + 1) * 7919).sum();
    (sum % 4_294_967_291) as u32
}

fn left(until: u64, now: u64) -> Duration {
    match until {
        NEVER => Duration::MAX,
        _ => Duration::from_micros(until.saturating_sub(now)),
    }
}

/// The part of an entry's header that does not depend on the time.
pub(crate) struct Fixed {
    flags: u32,
    load_time: u32,
    length: u32,
    version: u64,
}

/// The version of an entry is the second half of what the slot has; the first says when it was written.
fn version(number: u64) -> Version {
    Version::new(number & u64::from(u32::MAX))
}

/// What is kept of a version that was given.
pub(crate) fn kept(given: Version) -> Version {
    version(given.get())
}

/// A version that no other write has, in whatever process.
pub(crate) fn new_version() -> Version {
    Version::new((unique() >> 32).max(1))
}

impl Fixed {
    /// With a version of its own, unless it has been given one.
    pub(crate) fn new(value: Option<&Bytes>, options: &SetOptions) -> Self {
        let micros = options.load_time().duration().map_or(0, |time| time.as_micros());
        Self {
            flags: if value.is_some() { ENTRY } else { ENTRY | NEGATIVE },
            load_time: u32::try_from(micros).unwrap_or(u32::MAX),
            length: value.map_or(0, |value| u32::try_from(value.len()).unwrap_or(u32::MAX)),
            version: match options.version().map(kept) {
                Some(version) if version != Version::UNKNOWN => version.get(),
                _ => new_version().get(),
            },
        }
    }

    pub(crate) fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.flags.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.load_time.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_be_bytes());
        bytes[16..].copy_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// How long an entry lives; `None` is for ever.
pub(crate) struct Ends {
    pub(crate) fresh: Option<Life>,
    pub(crate) usable: Option<Life>,
}

impl Ends {
    pub(crate) fn of(options: &SetOptions) -> Self {
        let life = |life: Duration| (life != Duration::MAX).then(|| Life::of(life));
        Self { fresh: life(options.fresh_for()), usable: life(options.usable_for()) }
    }
}

/// A finite lifetime.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) micros: u64,
}

impl Life {
    fn of(life: Duration) -> Self {
        let micros = life.as_nanos().div_ceil(1000);
        Self { micros: u64::try_from(micros).map_or(LONGEST, |micros| micros.min(LONGEST)) }
    }

    /// For `PX`, which takes whole milliseconds and no zero.
    pub(crate) fn millis(self) -> u64 {
        self.micros.div_ceil(1000).max(1)
    }
}

/// A lease always ends.
pub(crate) fn lease_life(life: Duration) -> Life {
    Life::of(life)
}

#[cfg(test)]
mod tests;
