//! The bytes under a key: a header and the payload. The table is in the crate's documentation.

use std::time::Duration;

use bytes::{Buf, Bytes};
use cache_core::{Entry, LoadTime, SetOptions, Version};

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
            .with_load_time(load_time)
            .with_version(Version::new(long(16))),
    )
}

/// The sum of the header's other words, each with a weight of its own, modulo the largest prime below
/// 2^32: cheap in Lua, and no change within one word goes unseen.
fn checksum(word: impl Fn(usize) -> u32) -> u32 {
    let sum: u64 = (0..14)
        .map(|i| u64::from(word(4 * i)) * (i as u64 + 1) * 7919)
        .sum();
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

impl Fixed {
    /// With a version of its own.
    pub(crate) fn new(value: Option<&Bytes>, options: &SetOptions) -> Self {
        let micros = options
            .load_time()
            .duration()
            .map_or(0, |time| time.as_micros());
        Self {
            flags: if value.is_some() {
                ENTRY
            } else {
                ENTRY | NEGATIVE
            },
            load_time: u32::try_from(micros).unwrap_or(u32::MAX),
            length: value.map_or(0, |value| u32::try_from(value.len()).unwrap_or(u32::MAX)),
            version: fastrand::u64(1..),
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
        Self {
            fresh: life(options.fresh_for()),
            usable: life(options.usable_for()),
        }
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
        Self {
            micros: u64::try_from(micros).map_or(LONGEST, |micros| micros.min(LONGEST)),
        }
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
mod tests {
    use super::*;
    use std::path::Path;

    const SECOND: u64 = 1_000_000;
    const NOW: u64 = 1_800_000_000 * SECOND;

    /// Slots as every version has to read them at [`NOW`]. The files are what version 0.1 writes.
    fn golden(name: &str) -> Bytes {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1");
        let hex = std::fs::read_to_string(path.join(name)).expect("a golden file");
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes = digits.chunks(2).map(|byte| {
            let byte = std::str::from_utf8(byte).expect("ASCII");
            u8::from_str_radix(byte, 16).expect("two digits")
        });
        bytes.collect()
    }

    fn entry(name: &str, now: u64) -> Entry<Bytes> {
        match read(golden(name), now) {
            Slot::Entry(entry) => entry,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Gives the header a right sum, so that what else is wrong with it shows.
    fn resealed(mut bytes: Vec<u8>) -> Bytes {
        let words = bytes.clone();
        let word = |at: usize| u32::from_be_bytes(words[at..at + 4].try_into().expect("four"));
        bytes[56..60].copy_from_slice(&checksum(word).to_be_bytes());
        bytes.into()
    }

    #[test]
    fn a_slot_of_format_1_is_read_as_it_was_written() {
        let value = entry("value.hex", NOW);
        assert_eq!(value.value(), Some(&Bytes::from_static(b"payload")));
        assert_eq!(value.fresh_for(), Duration::from_secs(60));
        assert_eq!(value.usable_for(), Duration::from_secs(90));
        assert_eq!(value.load_time(), Duration::from_micros(1234).into());
        assert_eq!(value.version(), Version::new(0x0102_0304_0506_0708));

        let refreshed = entry("refreshed.hex", NOW);
        assert_eq!(refreshed, value, "a lease does not change the entry");

        let negative = entry("negative.hex", NOW);
        assert!(negative.is_negative());
        assert_eq!(negative.usable_for(), Duration::MAX);
        assert_eq!(negative.load_time(), LoadTime::UNKNOWN);

        assert_eq!(read(golden("lease.hex"), NOW), Slot::Empty);
    }

    #[test]
    fn an_entry_ends_by_the_servers_time_and_no_other() {
        assert!(entry("value.hex", NOW + 60 * SECOND - 1).is_fresh());
        let stale = entry("value.hex", NOW + 60 * SECOND);
        assert!(!stale.is_fresh());
        assert_eq!(stale.usable_for(), Duration::from_secs(30));
        assert_eq!(read(golden("value.hex"), NOW + 90 * SECOND), Slot::Empty);
        assert!(entry("negative.hex", u64::MAX - 1).is_fresh());
    }

    #[test]
    fn no_change_of_a_byte_of_the_header_goes_unseen() {
        let good = golden("refreshed.hex");
        for at in 0..HEADER {
            for flip in 1..=255 {
                let mut bytes = good.to_vec();
                bytes[at] ^= flip;
                assert_eq!(
                    read(bytes.into(), NOW),
                    Slot::Foreign,
                    "byte {at}, {flip:x}"
                );
            }
        }
        for length in 0..good.len() {
            assert_eq!(
                read(good.slice(..length), NOW),
                Slot::Foreign,
                "cut at {length}"
            );
        }
    }

    #[test]
    fn a_newer_format_and_unknown_flags_are_foreign() {
        for (at, byte) in [(3, 2), (7, 0), (7, 2), (7, 6), (7, 9), (4, 1), (12, 1)] {
            let mut bytes = golden("value.hex").to_vec();
            bytes[at] = byte;
            assert_eq!(
                read(resealed(bytes), NOW),
                Slot::Foreign,
                "byte {at} is {byte}"
            );
        }
    }

    #[test]
    fn lifetimes_are_rounded_up_and_clamped() {
        let life = |life| {
            Ends::of(&SetOptions::ttl(life))
                .usable
                .map(|life| (life.micros, life.millis()))
        };
        assert_eq!(life(Duration::from_nanos(1)), Some((1000, 1)));
        assert_eq!(life(Duration::new(1, 1)), Some((1_000_001, 1001)));
        assert_eq!(
            life(Duration::from_secs(u64::MAX)),
            Some((LONGEST, LONGEST / 1000))
        );
        assert_eq!(life(Duration::MAX), None);
        assert_eq!(lease_life(Duration::ZERO).millis(), 1);
        assert_eq!(lease_life(Duration::MAX).micros, LONGEST);
        assert!(NOW + LONGEST < 1 << 53, "numbers in Lua hold no more");
    }
}
