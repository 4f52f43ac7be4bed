//! Frames that are not what they should be.
#![cfg(all(
    feature = "json",
    feature = "postcard",
    feature = "bincode",
    feature = "lz4"
))]

mod common;

use bytes::Bytes;
use cache_core::{Codec, ErrorKind};
use cache_serde::{Bincode, Compressed, Json, Postcard};
use common::for_every_codec;
use rstest::rstest;
use serde::{Deserialize, Serialize};

type Value = (u32, String, Vec<u64>);

fn value() -> Value {
    (7, "seven".repeat(20), vec![7, 1 << 40, u64::MAX])
}

#[track_caller]
fn refused<V: std::fmt::Debug, C: Codec<V>>(codec: &C, bytes: impl Into<Bytes>, why: &str) {
    let error = codec.decode(&bytes.into()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

fn every_flip_is_refused<C: Codec<Value>>(codec: C) {
    let frame = codec.encode(&value()).expect("encoded");
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&codec, flipped, "");
    }
}

fn every_cut_is_refused<C: Codec<Value>>(codec: C) {
    let frame = codec.encode(&value()).expect("encoded");
    for len in 0..frame.len() {
        refused(&codec, frame.slice(..len), "");
        refused(&codec, frame.slice(len + 1..), "");
    }
}

#[test]
fn a_frame_with_a_flipped_bit_is_refused() {
    for_every_codec!(every_flip_is_refused);
    every_flip_is_refused(Compressed::new(Json::new()).threshold(0));
}

#[test]
fn a_frame_that_was_cut_is_refused() {
    for_every_codec!(every_cut_is_refused);
    every_cut_is_refused(Compressed::new(Postcard::new()).threshold(0));
}

#[test]
fn bytes_after_the_frame_are_refused() {
    fn check<C: Codec<Value>>(codec: C) {
        let mut frame = codec.encode(&value()).expect("encoded").to_vec();
        frame.push(0);
        refused(&codec, frame, "checksum");
    }
    for_every_codec!(check);
}

/// A frame around a payload of the test's choice.
fn framed(like: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&like[..20], payload].concat();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..16]);
    hasher.update(payload);
    frame[16..20].copy_from_slice(&hasher.finalize().to_le_bytes());
    frame
}

#[test]
fn bytes_after_the_value_are_refused() {
    fn check<C: Codec<Value>>(codec: C) {
        let frame = codec.encode(&value()).expect("encoded");
        codec
            .decode(&framed(&frame, &frame[20..]).into())
            .expect("decoded");
        refused(&codec, framed(&frame, &[&frame[20..], b"0"].concat()), "");
    }
    for_every_codec!(check);
}

#[rstest]
#[case::magic(0, "not a frame")]
#[case::version(4, "format version 2")]
#[case::codec(5, "written by codec")]
#[case::flags(7, "flags")]
#[case::schema(8, "schema")]
fn a_sealed_frame_of_something_else_is_refused(#[case] at: usize, #[case] why: &str) {
    fn check<C: Codec<Value>>(codec: C, at: usize, why: &str) {
        let mut frame = codec.encode(&value()).expect("encoded").to_vec();
        frame[at] += 1;
        let sealed = framed(&frame, &frame[20..]);
        refused(&codec, sealed, why);
    }
    for_every_codec!(check, at, why);
}

#[test]
fn the_frame_of_another_codec_is_refused() {
    let frame = Json::new().encode(&value()).expect("encoded");
    refused::<Value, _>(&Postcard::new(), frame.clone(), "codec 1");
    refused::<Value, _>(&Bincode::new(), frame.clone(), "codec 1");
    refused::<Value, _>(&Json::new(), frame.slice(20..), "not a frame");
    refused::<Value, _>(&Json::bare(), frame, "");
}

#[test]
fn another_schema_number_is_refused() {
    fn check<A: Codec<Value>, B: Codec<Value>>(one: A, two: B) {
        let frame = one.encode(&value()).expect("encoded");
        refused(&two, frame, "schema");
    }
    check(Json::new().schema(1), Json::new().schema(2));
    check(Postcard::new(), Postcard::new().schema(2));
    check(Bincode::new().schema(1), Bincode::new());
    let used = Postcard::new();
    used.encode(&value()).expect("encoded");
    check(used.clone(), used.schema(2));
}

#[test]
fn swapped_fields_are_not_read_as_each_other() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Account {
        credit: u32,
        debt: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Swapped {
        debt: u32,
        credit: u32,
    }
    let old = Account {
        credit: 100,
        debt: 5,
    };
    let frame = Postcard::new().encode(&old).expect("encoded");
    refused::<Swapped, _>(&Postcard::new(), frame, "schema");
    let frame = Bincode::new().encode(&old).expect("encoded");
    refused::<Swapped, _>(&Bincode::new(), frame, "schema");
    // JSON tells fields by their names.
    let frame = Json::new().encode(&old).expect("encoded");
    let new: Swapped = Json::new().decode(&frame).expect("decoded");
    assert_eq!(
        new,
        Swapped {
            debt: 5,
            credit: 100
        }
    );
}

#[test]
fn another_types_bytes_are_refused() {
    fn check<C: Codec<(u64, u64)> + Codec<Vec<u8>> + Codec<[u64; 2]> + Codec<u8>>(codec: C) {
        let frame = codec.encode(&(1_u64, 2_u64)).expect("encoded");
        refused::<Vec<u8>, _>(&codec, frame.clone(), "schema");
        refused::<u8, _>(&codec, frame.clone(), "schema");
        // The same shape by another name.
        let same: [u64; 2] = codec.decode(&frame).expect("decoded");
        assert_eq!(same, [1, 2]);
    }
    check(Postcard::new());
    check(Bincode::new());
}

#[test]
fn a_value_over_the_limit_is_too_large_both_ways() {
    fn check<C: Codec<Value>>(roomy: C, tight: C) {
        let frame = roomy.encode(&value()).expect("encoded");
        let error = tight.encode(&value()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let error = tight.decode(&frame).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
    fn len<C: Codec<Value>>(codec: C) -> usize {
        codec.encode(&value()).expect("encoded").len()
    }
    check(Json::new(), Json::new().max_bytes(len(Json::new()) - 1));
    check(Json::bare(), Json::bare().max_bytes(len(Json::bare()) - 1));
    check(
        Postcard::new(),
        Postcard::new().max_bytes(len(Postcard::new()) - 1),
    );
    check(
        Bincode::new(),
        Bincode::new().max_bytes(len(Bincode::new()) - 1),
    );
    check(
        Postcard::new().max_bytes(len(Postcard::new())),
        Postcard::new().max_bytes(0),
    );
}

#[test]
fn a_value_that_serde_refuses_is_an_error() {
    let unspellable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = Json::new().encode(&unspellable).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("key"), "{error}");
}

#[test]
fn compression_takes_the_smaller_form_from_the_threshold_on() {
    let codec = Compressed::new(Json::new()).threshold(100);
    let flag = |text: &String| codec.encode(text).expect("encoded")[6];
    assert_eq!(flag(&"a".repeat(90)), 0);
    assert_eq!(flag(&"a".repeat(98)), 1);
    let mut random = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b' ' + ((random >> 33) % 90) as u8)
    })
    .take(300)
    .collect();
    assert_eq!(flag(&noise), 0);
    assert_eq!(
        codec.encode(&noise).expect("encoded"),
        Json::new().encode(&noise).expect("ok")
    );
}

#[test]
fn turning_compression_on_and_off_loses_nothing() {
    let long = "long".repeat(1000);
    let small = Compressed::new(Postcard::new())
        .encode(&long)
        .expect("encoded");
    let large = Postcard::new().encode(&long).expect("encoded");
    assert!(small.len() * 10 < large.len());
    assert_eq!(
        Codec::<String>::decode(&Postcard::new(), &small).expect("decoded"),
        long
    );
    let codec = Compressed::new(Postcard::new());
    assert_eq!(
        Codec::<String>::decode(&codec, &large).expect("decoded"),
        long
    );
}
