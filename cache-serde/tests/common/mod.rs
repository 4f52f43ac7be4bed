#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "every test takes what it needs"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use cache_core::Codec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Runs a check on every codec.
macro_rules! for_every_codec {
    ($check:ident $(, $argument:expr)*) => {{
        $check(cache_serde::Json::new() $(, $argument)*);
        $check(cache_serde::Postcard::new() $(, $argument)*);
        $check(cache_serde::Bincode::new() $(, $argument)*);
    }};
}
pub(crate) use for_every_codec;

/// A bit of everything that every codec can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rich {
    pub(crate) flag: bool,
    pub(crate) tiny: i8,
    pub(crate) big: i128,
    pub(crate) id: u64,
    pub(crate) ratio: f64,
    pub(crate) small_ratio: f32,
    pub(crate) letter: char,
    pub(crate) name: String,
    pub(crate) maybe: Option<u32>,
    pub(crate) list: Vec<i64>,
    pub(crate) map: BTreeMap<String, u16>,
    pub(crate) pair: (u8, String),
    pub(crate) array: [u16; 3],
    pub(crate) kind: Kind,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) shared: Arc<str>,
    pub(crate) boxed: Option<Box<Self>>,
    pub(crate) address: IpAddr,
    pub(crate) several: NonZeroU32,
    pub(crate) took: Duration,
    pub(crate) nothing: (),
    pub(crate) newtype: Meters,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Unit,
    Newtype(u32),
    Tuple(i16, Option<String>),
    Struct { x: f64, y: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meters(pub(crate) f64);

/// A type that may be within itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) children: Vec<Self>,
}

impl Tree {
    /// A tree with one child on each of `levels` levels.
    pub(crate) fn deep(levels: usize) -> Self {
        (1..levels).fold(Self::default(), |tree, _| Self {
            children: vec![tree],
        })
    }
}

impl Drop for Tree {
    // The derived drop of a deep tree would take the stack that the tests count.
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.children);
        while let Some(mut tree) = rest.pop() {
            rest.append(&mut tree.children);
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        any::<u32>().prop_map(Kind::Newtype),
        any::<(i16, Option<String>)>().prop_map(|(n, text)| Kind::Tuple(n, text)),
        (finite(), any::<Vec<u8>>()).prop_map(|(x, y)| Kind::Struct { x, y }),
    ]
}

pub(crate) fn finite() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |float| float.is_finite())
}

pub(crate) fn rich() -> impl Strategy<Value = Rich> {
    let leaf = || {
        (
            (
                any::<(bool, i8, i128, u64)>(),
                finite(),
                -1e30_f32..1e30,
                any::<(char, String)>(),
            ),
            any::<(
                Option<u32>,
                Vec<i64>,
                BTreeMap<String, u16>,
                (u8, String),
                [u16; 3],
            )>(),
            (kind(), prop::collection::vec(kind(), 0..4), any::<String>()),
            (any::<IpAddr>(), 1..u32::MAX, any::<u64>(), finite()),
        )
            .prop_map(|(a, b, c, d)| Rich {
                flag: a.0.0,
                tiny: a.0.1,
                big: a.0.2,
                id: a.0.3,
                ratio: a.1,
                small_ratio: a.2,
                letter: a.3.0,
                name: a.3.1,
                maybe: b.0,
                list: b.1,
                map: b.2,
                pair: b.3,
                array: b.4,
                kind: c.0,
                kinds: c.1,
                shared: c.2.into(),
                boxed: None,
                address: d.0,
                several: NonZeroU32::new(d.1).unwrap_or(NonZeroU32::MIN),
                took: Duration::from_nanos(d.2),
                nothing: (),
                newtype: Meters(d.3),
            })
    };
    (leaf(), prop::option::of(leaf())).prop_map(|(outer, inner)| Rich {
        boxed: inner.map(Box::new),
        ..outer
    })
}

pub(crate) fn round_trip<V, C>(codec: &C, value: &V)
where
    V: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    C: Codec<V>,
{
    let bytes = codec.encode(value).expect("encoded");
    assert_eq!(&codec.decode(&bytes).expect("decoded"), value);
}
