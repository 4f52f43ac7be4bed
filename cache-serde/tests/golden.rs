//! Stored bytes of every released format: they are read for ever, and written as they were.
//!
//! `golden/<codec>-v<format version>.bin` holds the frame of `value()` at the time of that
//! version. A file is never changed. When the format gets a new version, `value()` stays, the new
//! frame is written to a new file (the failing test prints its bytes), which is then what is
//! written, and the old files are added to what is read.
#![cfg(all(
    feature = "json",
    feature = "postcard",
    feature = "bincode",
    feature = "lz4"
))]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use cache_core::Codec;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use common::{Kind, Meters, Rich};
use rstest::rstest;

fn value() -> Rich {
    let inner = Rich {
        flag: true,
        tiny: -1,
        big: i128::MIN,
        id: u64::MAX,
        ratio: 2.638_344_616_030_823e-256,
        small_ratio: 0.1,
        letter: 'ß',
        name: "héllo \"world\" \u{1f980}".repeat(4),
        maybe: Some(7),
        list: vec![0, -1, 1, 127, 128, -129, 1 << 20, i64::MIN],
        map: BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 65_535)]),
        pair: (200, String::new()),
        array: [1, 250, 251],
        kind: Kind::Unit,
        kinds: vec![
            Kind::Newtype(1 << 31),
            Kind::Tuple(-2, Some("x".to_owned())),
            Kind::Struct {
                x: -0.0,
                y: vec![0, 1, 255],
            },
        ],
        shared: "shared".into(),
        boxed: None,
        address: IpAddr::from([127, 0, 0, 1]),
        several: NonZeroU32::MAX,
        took: Duration::from_nanos(1_500_000_001),
        nothing: (),
        newtype: Meters(1e21),
    };
    Rich {
        boxed: Some(Box::new(inner.clone())),
        maybe: None,
        ..inner
    }
}

#[rstest]
#[case::json(Json::new(), include_bytes!("golden/json-v1.bin"))]
#[case::json_schema_7(Json::new().schema(7), include_bytes!("golden/json-schema-7-v1.bin"))]
#[case::postcard(Postcard::new(), include_bytes!("golden/postcard-v1.bin"))]
#[case::postcard_schema_7(Postcard::new().schema(7), include_bytes!("golden/postcard-schema-7-v1.bin"))]
#[case::bincode(Bincode::new(), include_bytes!("golden/bincode-v1.bin"))]
fn stored_bytes_are_read_and_written_as_they_were(
    #[case] codec: impl Codec<Rich>,
    #[case] golden: &'static [u8],
) {
    let written = codec.encode(&value()).expect("encoded");
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(written == golden, "the bytes are now {hex}");
    assert_eq!(
        codec.decode(&Bytes::from_static(golden)).expect("decoded"),
        value()
    );
}

// A newer lz4_flex may find another block that expands to the same payload.
#[test]
fn stored_compressed_bytes_are_read() {
    let golden = Bytes::from_static(include_bytes!("golden/json-lz4-v1.bin"));
    assert_eq!(golden[6], 1);
    assert_eq!(
        Codec::<Rich>::decode(&Json::new(), &golden).expect("decoded"),
        value()
    );
    let codec = Compressed::new(Json::new());
    assert_eq!(
        Codec::<Rich>::decode(&codec, &golden).expect("decoded"),
        value()
    );
}
