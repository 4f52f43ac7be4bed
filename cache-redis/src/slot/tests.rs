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
    assert_eq!(value.version(), Version::new(0x0506_0708));

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
    assert_eq!(stale.staleness(), Duration::ZERO);
    let staler = entry("value.hex", NOW + 70 * SECOND);
    assert_eq!(staler.staleness(), Duration::from_secs(10));
    assert_eq!(staler.usable_for(), Duration::from_secs(20));
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
            assert_eq!(read(bytes.into(), NOW), Slot::Foreign, "byte {at}, {flip:x}");
        }
    }
    for length in 0..good.len() {
        assert_eq!(read(good.slice(..length), NOW), Slot::Foreign, "cut at {length}");
    }
}

#[test]
fn a_newer_format_and_unknown_flags_are_foreign() {
    for (at, byte) in [(3, 2), (7, 0), (7, 2), (7, 6), (7, 9), (4, 1), (12, 1)] {
        let mut bytes = golden("value.hex").to_vec();
        bytes[at] = byte;
        assert_eq!(read(resealed(bytes), NOW), Slot::Foreign, "byte {at} is {byte}");
    }
}

#[test]
fn lifetimes_are_rounded_up_and_clamped() {
    let life =
        |life| Ends::of(&SetOptions::ttl(life)).usable.map(|life| (life.micros, life.millis()));
    assert_eq!(life(Duration::from_nanos(1)), Some((1000, 1)));
    assert_eq!(life(Duration::new(1, 1)), Some((1_000_001, 1001)));
    assert_eq!(life(Duration::from_secs(u64::MAX)), Some((LONGEST, LONGEST / 1000)));
    assert_eq!(life(Duration::MAX), None);
    assert_eq!(lease_life(Duration::ZERO).millis(), 1);
    assert_eq!(lease_life(Duration::MAX).micros, LONGEST);
    const { assert!(NOW + LONGEST < 1 << 53, "numbers in Lua hold no more") };
}
