//! What goes in comes out.
#![cfg(all(
    feature = "json",
    feature = "postcard",
    feature = "bincode",
    feature = "lz4"
))]

mod common;

use std::sync::Arc;

use cache_core::Codec;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use common::{Rich, finite, for_every_codec, rich, round_trip};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_value_comes_back(value in rich()) {
        round_trip(&Json::new(), &value);
        round_trip(&Json::bare(), &value);
        round_trip(&Postcard::new(), &value);
        round_trip(&Bincode::new(), &value);
        round_trip(&Compressed::new(Json::new()).threshold(0), &value);
        round_trip(&Compressed::new(Postcard::new()).threshold(0), &value);
        round_trip(&Compressed::new(Bincode::new()).threshold(0), &value);
    }

    #[test]
    fn finite_floats_come_back_bit_for_bit(value in finite(), small in any::<u32>()) {
        fn check<C: Codec<f64> + Codec<f32>>(codec: C, (value, small): (f64, f32)) {
            let bytes = codec.encode(&value).expect("encoded");
            let back: f64 = codec.decode(&bytes).expect("decoded");
            assert_eq!(back.to_bits(), value.to_bits());
            if small.is_finite() {
                let bytes = codec.encode(&small).expect("encoded");
                let back: f32 = codec.decode(&bytes).expect("decoded");
                assert_eq!(back.to_bits(), small.to_bits());
            }
        }
        for_every_codec!(check, (value, f32::from_bits(small)));
    }
}

#[test]
fn a_float_that_needs_every_digit_comes_back_from_json() {
    for value in [
        2.638_344_616_030_823e-256_f64,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        -0.0,
    ] {
        let bytes = Json::new().encode(&value).expect("encoded");
        let back: f64 = Json::new().decode(&bytes).expect("decoded");
        assert_eq!(back.to_bits(), value.to_bits());
    }
}

#[test]
fn a_shared_value_is_stored_as_the_value() {
    fn check<C: Codec<Arc<Vec<String>>> + Codec<Vec<String>>>(codec: C) {
        let value = vec!["a".to_owned(), "b".to_owned()];
        let bytes = codec.encode(&Arc::new(value.clone())).expect("encoded");
        assert_eq!(bytes, codec.encode(&value).expect("encoded"));
        let plain: Vec<String> = codec.decode(&bytes).expect("decoded");
        assert_eq!(plain, value);
    }
    for_every_codec!(check);
}

#[test]
fn one_codec_serves_several_types() {
    fn check<C: Codec<u8> + Codec<String> + Codec<(u8, u8)>>(codec: C) {
        for _ in 0..2 {
            round_trip::<u8, _>(&codec, &7);
            round_trip::<String, _>(&codec, &"seven".to_owned());
            round_trip::<(u8, u8), _>(&codec, &(7, 7));
        }
    }
    for_every_codec!(check);
}

#[test]
fn json_reads_entries_from_before_a_field_was_added_or_removed() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        id: u32,
        gone: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        id: u32,
        #[serde(default)]
        added: Vec<u32>,
    }
    let bytes = Json::new()
        .encode(&Old { id: 7, gone: 8 })
        .expect("encoded");
    let new: New = Json::new().decode(&bytes).expect("decoded");
    assert_eq!(
        new,
        New {
            id: 7,
            added: vec![]
        }
    );
}

#[test]
fn json_reads_what_another_language_wrote() {
    let python = bytes::Bytes::from_static(br#"{"x": [1, 2.5, null, "\u00e9"], "y": {}}"#);
    let value: serde_json::Value = Json::bare().decode(&python).expect("decoded");
    assert_eq!(value["x"][3], "é");
}

#[test]
fn a_payload_has_the_bytes_of_its_crate() {
    proptest!(ProptestConfig::with_cases(32), |(value in rich())| {
        let frame = Postcard::new().encode(&value).expect("encoded");
        assert_eq!(frame[20..], postcard::to_stdvec(&value).expect("encoded"));
        let frame = Json::new().encode(&value).expect("encoded");
        assert_eq!(frame[20..], serde_json::to_vec(&value).expect("encoded"));
        let frame = Bincode::new().encode(&value).expect("encoded");
        let plain = bincode::serde::encode_to_vec(&value, bincode::config::standard());
        assert_eq!(frame[20..], plain.expect("encoded"));
        assert_eq!(Codec::<Rich>::decode(&Bincode::new(), &frame).expect("decoded"), value);
    });
}
