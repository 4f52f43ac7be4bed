//! Bytes that were made to do harm.
#![cfg(all(
    feature = "json",
    feature = "postcard",
    feature = "bincode",
    feature = "lz4"
))]

mod common;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use cache_core::{Codec, ErrorKind};
use cache_serde::{Bincode, Compressed, Json, Postcard};
use common::{Kind, Rich, Tree, for_every_codec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The frame that `codec` makes, with another payload.
fn framed<V, C: Codec<V>>(codec: &C, like: &V, payload: &[u8], compressed: bool) -> Bytes {
    let like = codec.encode(like).expect("encoded");
    let mut frame = [&like[..20], payload].concat();
    frame[6] = u8::from(compressed);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..16]);
    hasher.update(payload);
    frame[16..20].copy_from_slice(&hasher.finalize().to_le_bytes());
    frame.into()
}

/// A stack overflow ends the process, so a bomb that goes off can't be missed.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(run)
        .expect("a thread");
    thread.join().expect("no panic");
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Nested(Option<Box<Self>>);

#[test]
fn a_nesting_bomb_is_an_error() {
    on_a_small_stack(|| {
        let levels = 200_000;
        let tree = Tree::default();
        let json = "{\"children\":[".repeat(levels);
        let bombs: [(Box<dyn Codec<Tree>>, Vec<u8>); 3] = [
            (Box::new(Json::new()), json.clone().into_bytes()),
            (Box::new(Postcard::new()), vec![1; levels]),
            (Box::new(Bincode::new()), vec![1; levels]),
        ];
        for (codec, payload) in bombs {
            let frame = codec.encode(&tree).expect("encoded");
            let like = Fixed(frame);
            let error = codec
                .decode(&framed(&like, &tree, &payload, false))
                .expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Codec);
            let message = error.to_string();
            assert!(
                message.contains("deep") || message.contains("recursion"),
                "{message}"
            );
        }
        Codec::<Tree>::decode(&Json::bare(), &json.into()).expect_err("refused");
        let value = "[".repeat(levels).into();
        Codec::<serde_json::Value>::decode(&Json::bare(), &value).expect_err("refused");
    });
}

/// Encodes everything as one frame.
struct Fixed(Bytes);

impl<V> Codec<V> for Fixed {
    fn encode(&self, _: &V) -> cache_core::Result<Bytes> {
        Ok(self.0.clone())
    }

    fn decode(&self, _: &Bytes) -> cache_core::Result<V> {
        Err(cache_core::Error::new(ErrorKind::Codec))
    }
}

#[test]
fn nesting_without_structs_is_counted_too() {
    on_a_small_stack(|| {
        let codec = Postcard::new();
        let bomb = framed(&codec, &Nested::default(), &[1; 1 << 20], false);
        Codec::<Nested>::decode(&codec, &bomb).expect_err("refused");
        // In JSON, every level of this type is the same byte again.
        let error = Codec::<Nested>::decode(&Json::bare(), &"1".into()).expect_err("refused");
        assert!(error.to_string().contains("deep"), "{error}");
    });
}

#[test]
fn what_is_too_deep_to_be_read_is_not_written() {
    on_a_small_stack(|| {
        fn check<C: Codec<Tree>>(codec: C) {
            // A tree takes two levels: the struct and the list.
            let bytes = codec.encode(&Tree::deep(63)).expect("encoded");
            assert_eq!(codec.decode(&bytes).expect("decoded"), Tree::deep(63));
            for levels in [65, 100, 5_000] {
                let error = codec.encode(&Tree::deep(levels)).expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::Codec);
                assert!(error.to_string().contains("deep"), "{error}");
            }
        }
        for_every_codec!(check);
        check(Json::bare());
    });
}

#[test]
fn writing_and_reading_count_the_same_levels() {
    fn check<V, C>(codecs: impl Fn(usize) -> C, value: &V)
    where
        C: Codec<V>,
    {
        let bytes = codecs(128).encode(value).expect("encoded");
        for depth in 0..16 {
            let written = codecs(depth).encode(value).is_ok();
            assert_eq!(
                written,
                codecs(depth).decode(&bytes).is_ok(),
                "depth {depth}"
            );
        }
    }
    fn checks<V: Serialize + serde::de::DeserializeOwned + 'static>(value: &V) {
        check(|depth| Postcard::new().max_depth(depth), value);
        check(|depth| Bincode::new().max_depth(depth), value);
    }
    checks(&Tree::deep(4));
    checks(&Kind::Unit);
    checks(&Kind::Newtype(1));
    checks(&Kind::Tuple(1, Some(String::new())));
    checks(&vec![Kind::Struct { x: 1.0, y: vec![1] }]);
    checks(&BTreeMap::from([((1, Some(Some(2))), [3])]));
    checks(&Nested(Some(Box::default())));
    checks(&((), 1, std::time::Duration::ZERO, Ok::<_, ()>("".to_owned())));
    check(|depth| Json::new().max_depth(depth), &Tree::deep(4));
    check(
        |depth| Json::new().max_depth(depth),
        &vec![Kind::Struct { x: 1.0, y: vec![1] }],
    );
}

/// Length prefixes of 2^40 and 2^64 - 1.
fn lengths() -> [(Vec<u8>, Vec<u8>); 2] {
    let postcard = |length: u64| postcard::to_stdvec(&length).expect("encoded");
    let bincode = |length: u64| {
        bincode::serde::encode_to_vec(length, bincode::config::standard()).expect("encoded")
    };
    [1 << 40, u64::MAX].map(|length| (postcard(length), bincode(length)))
}

#[test]
fn a_length_bomb_is_an_error() {
    fn check<V: Serialize + serde::de::DeserializeOwned + Default + std::fmt::Debug + 'static>() {
        for (in_postcard, in_bincode) in lengths() {
            let codec = Postcard::new();
            let bomb = framed(&codec, &V::default(), &in_postcard, false);
            Codec::<V>::decode(&codec, &bomb).expect_err("refused");
            let codec = Bincode::new();
            let bomb = framed(&codec, &V::default(), &in_bincode, false);
            Codec::<V>::decode(&codec, &bomb).expect_err("refused");
        }
    }
    check::<Vec<u8>>();
    check::<Vec<u64>>();
    check::<Vec<[u64; 32]>>();
    check::<String>();
    check::<BTreeMap<u64, String>>();
    check::<HashSet<u32>>();
    // These take no bytes at all, so that only counting them helps.
    check::<Vec<()>>();
    check::<Vec<Vec<()>>>();
    check::<BTreeMap<(), ()>>();
    check::<HashSet<()>>();
}

#[test]
fn a_list_of_nothings_is_read_up_to_the_limit() {
    let codec = Postcard::new().max_bytes(1 << 10);
    let some = codec.encode(&vec![(); 60]).expect("encoded");
    assert_eq!(
        Codec::<Vec<()>>::decode(&codec, &some)
            .expect("decoded")
            .len(),
        60
    );
    let many = codec.encode(&vec![(); 70]).expect("encoded");
    Codec::<Vec<()>>::decode(&codec, &many).expect_err("refused");
}

#[test]
fn a_zip_bomb_is_an_error() {
    let codec = Compressed::new(Json::new().max_bytes(1 << 16));
    let like = String::new();
    let kind = |payload: &[u8]| {
        let bomb = framed(&codec, &like, payload, true);
        Codec::<String>::decode(&codec, &bomb)
            .expect_err("refused")
            .kind()
    };
    let block = |len: usize| lz4_flex::block::compress(&vec![b'a'; len]);
    let with_length = |len: u32, block: &[u8]| [&len.to_le_bytes(), block].concat();
    // It says how large it is, and that is too large.
    assert_eq!(
        kind(&with_length(1 << 20, &block(1 << 20))),
        ErrorKind::TooLarge
    );
    assert_eq!(kind(&with_length(u32::MAX, &[])), ErrorKind::TooLarge);
    // It says less than there is, or more.
    assert_eq!(kind(&with_length(100, &block(1 << 20))), ErrorKind::Codec);
    assert_eq!(kind(&with_length(60_000, &block(10_000))), ErrorKind::Codec);
    assert_eq!(kind(&with_length(60_000, &block(10))), ErrorKind::Codec);
    assert_eq!(kind(&with_length(0, &[])), ErrorKind::Codec);
    assert_eq!(kind(&[1, 2, 3]), ErrorKind::Codec);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_payload_is_a_value_or_an_error(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        compressed: bool,
    ) {
        fn check<C>(codec: C, payload: &[u8], compressed: bool)
        where
            C: Codec<Option<Rich>> + Codec<Vec<Kind>> + Codec<Tree>,
        {
            let _ = Codec::<Option<Rich>>::decode(&codec, &framed(&codec, &None::<Rich>, payload, compressed));
            let _ = Codec::<Vec<Kind>>::decode(&codec, &framed(&codec, &Vec::<Kind>::new(), payload, compressed));
            let _ = Codec::<Tree>::decode(&codec, &framed(&codec, &Tree::default(), payload, compressed));
        }
        for_every_codec!(check, &payload, compressed);
        let payload = Bytes::from(payload);
        let _ = Codec::<Option<Rich>>::decode(&Json::bare(), &payload);
        let _ = Codec::<Option<Rich>>::decode(&Json::new(), &payload);
    }

    #[test]
    fn a_damaged_payload_is_a_value_or_an_error(
        value in common::rich(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        fn check<C: Codec<Rich>>(codec: C, value: &Rich, at: prop::sample::Index, byte: u8) {
            let mut payload = codec.encode(value).expect("encoded")[20..].to_vec();
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = codec.decode(&framed(&codec, value, &payload, false));
        }
        for_every_codec!(check, &value, at, byte);
    }
}
