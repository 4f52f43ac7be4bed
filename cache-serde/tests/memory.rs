//! What hostile bytes make a codec allocate. Alone in its process, which has a counting allocator.
#![cfg(all(
    feature = "json",
    feature = "postcard",
    feature = "bincode",
    feature = "lz4"
))]

use std::collections::BTreeMap;

use bytes::Bytes;
use cache_core::Codec;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use peak_alloc::PeakAlloc;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MAX_BYTES: usize = 1 << 16;

/// 16 for each byte, and as much again (and half of it) while a list grows.
const MOST: usize = MAX_BYTES * 16 * 3;

/// The most bytes that decoding takes, above what was there.
fn peak<V, C: Codec<V>>(codec: &C, bytes: &Bytes) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    drop(codec.decode(bytes));
    MEMORY.peak_usage().saturating_sub(before)
}

fn seal(frame: &[u8], payload: &[u8], compressed: bool) -> Bytes {
    let mut frame = [&frame[..20], payload].concat();
    frame[6] = u8::from(compressed);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..16]);
    hasher.update(payload);
    frame[16..20].copy_from_slice(&hasher.finalize().to_le_bytes());
    frame.into()
}

/// The most that a payload of `length`s, and then of ones and zeros, takes.
fn bombs<V: Serialize + DeserializeOwned + Default + 'static>(most: usize) {
    fn bomb<V: Default, C: Codec<V>>(codec: &C, length: &[u8], most: usize) {
        let like = codec.encode(&V::default()).expect("encoded");
        for rest in [
            vec![],
            vec![0; 100],
            vec![1; 40_000],
            vec![0; MAX_BYTES - 100],
        ] {
            let payload = [length, &rest].concat();
            let peak = peak::<V, C>(codec, &seal(&like, &payload, false));
            // Nothing is reserved for elements that can't be there.
            let most = if rest.is_empty() { 1 << 14 } else { most };
            assert!(peak <= most, "{}: {peak} bytes", std::any::type_name::<V>());
        }
    }
    for length in [60_000, 1 << 40, u64::MAX] {
        let codec = Postcard::new().max_bytes(MAX_BYTES);
        bomb::<V, _>(
            &codec,
            &postcard::to_stdvec(&length).expect("encoded"),
            most,
        );
        let codec = Bincode::new().max_bytes(MAX_BYTES);
        let length = bincode::serde::encode_to_vec(length, bincode::config::standard());
        bomb::<V, _>(&codec, &length.expect("encoded"), most);
    }
}

fn zip_bomb() {
    let codec = Compressed::new(Json::new().max_bytes(MAX_BYTES));
    let like = codec.encode(&String::new()).expect("encoded");
    let block = lz4_flex::block::compress(&vec![b'a'; 10 << 20]);
    for length in [0, 1 << 10, MAX_BYTES as u32, 10 << 20, u32::MAX] {
        let payload = [&length.to_le_bytes(), block.as_slice()].concat();
        let peak = peak::<String, _>(&codec, &seal(&like, &payload, true));
        assert!(peak <= 2 * MAX_BYTES, "{peak} bytes");
    }
    // A short block can't expand to what it says, so nothing is allocated for it.
    let payload = [&60_000_u32.to_le_bytes(), &block[..10]].concat();
    let peak = peak::<String, _>(&codec, &seal(&like, &payload, true));
    assert!(peak < 1 << 10, "{peak} bytes");
}

fn too_large() {
    let codec = Json::new().max_bytes(MAX_BYTES);
    let huge = Json::new().encode(&"a".repeat(MAX_BYTES)).expect("encoded");
    let peak = peak::<String, _>(&codec, &huge);
    assert!(peak < 1 << 10, "{peak} bytes");

    let value = vec!["a".repeat(1 << 10); 1 << 10];
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    codec.encode(&value).expect_err("refused");
    let peak = MEMORY.peak_usage() - before;
    assert!(peak <= 3 * MAX_BYTES, "{peak} bytes");
}

// One test, since the allocator counts for the whole process.
#[test]
fn hostile_bytes_take_no_more_memory_than_the_limit() {
    bombs::<Vec<u8>>(MOST);
    bombs::<Vec<u64>>(MOST);
    bombs::<String>(MOST);
    bombs::<Vec<String>>(MOST);
    bombs::<Vec<()>>(MOST);
    // One byte each, and 264 in memory.
    bombs::<Vec<Option<[u64; 32]>>>(MOST);
    bombs::<Vec<Vec<Vec<Option<[u64; 32]>>>>>(MOST);
    bombs::<BTreeMap<u64, Option<[u64; 32]>>>(MOST * 2);
    zip_bomb();
    too_large();
}
