//! What changes a fingerprint, and what does not.
#![allow(dead_code, reason = "types are looked at, and never made")]

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_serde::Fingerprint;
use rstest::rstest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn of<V: DeserializeOwned>() -> u64 {
    Fingerprint::of::<V>().number()
}

macro_rules! types {
    ($($name:ident { $($body:tt)* })*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "not every type needs all")]
            use super::*;
            $($body)*
            pub(super) fn fingerprint() -> Fingerprint { Fingerprint::of::<T>() }
        }
    )*};
}

types! {
    base { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _Y(u8), _Z { _q: i64 } } }
    swapped { #[derive(Deserialize)] pub(crate) struct T { _b: u32, _a: u32, _c: Option<String>, _d: base::Inner } }
    added { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: base::Inner, _e: () } }
    removed { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String> } }
    renamed { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _z: u32, _c: Option<String>, _d: base::Inner } }
    retyped { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: i32, _c: Option<String>, _d: base::Inner } }
    wider { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u64, _c: Option<String>, _d: base::Inner } }
    required { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: String, _d: base::Inner } }
    in_option { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<u64>, _d: base::Inner } }
    variant_renamed { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _W(u8), _Z { _q: i64 } } }
    variant_added { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _Y(u8), _Z { _q: i64 }, _V } }
    variants_swapped { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _Y(u8), _X, _Z { _q: i64 } } }
    in_variant { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _Y(u16), _Z { _q: i64 } } }
    in_last_variant { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _Y(u8), _Z { _q: u64 } } }
    variant_field_renamed { #[derive(Deserialize)] pub(crate) struct T { _a: u32, _b: u32, _c: Option<String>, _d: Inner }
           #[derive(Deserialize)] pub(crate) enum Inner { _X, _Y(u8), _Z { _r: i64 } } }
    same { #[derive(Deserialize)] pub(crate) struct OtherName { _a: u32, _b: Newtype, _c: Arc<Option<Box<str>>>, _d: Box<base::Inner> }
           #[derive(Deserialize)] pub(crate) struct Newtype(u32);
           pub(crate) type T = Arc<OtherName>; }
}

#[test]
fn every_change_of_shape_changes_it() {
    let all = [
        base::fingerprint(),
        swapped::fingerprint(),
        added::fingerprint(),
        removed::fingerprint(),
        renamed::fingerprint(),
        retyped::fingerprint(),
        wider::fingerprint(),
        required::fingerprint(),
        in_option::fingerprint(),
        variant_renamed::fingerprint(),
        variant_added::fingerprint(),
        variants_swapped::fingerprint(),
        in_variant::fingerprint(),
        in_last_variant::fingerprint(),
        variant_field_renamed::fingerprint(),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(one.is_complete(), "{index}");
        for (other_index, other) in all.iter().enumerate().skip(index + 1) {
            assert_ne!(one.number(), other.number(), "{index} and {other_index}");
        }
    }
}

#[test]
fn names_of_types_and_pointers_make_no_difference() {
    assert_eq!(base::fingerprint(), same::fingerprint());
}

#[test]
fn kinds_are_told_apart() {
    let all = [
        of::<u8>(),
        of::<u16>(),
        of::<i128>(),
        of::<f32>(),
        of::<f64>(),
        of::<bool>(),
        of::<char>(),
        of::<String>(),
        of::<()>(),
        of::<Option<u8>>(),
        of::<Option<Option<u8>>>(),
        of::<Vec<u8>>(),
        of::<Vec<u16>>(),
        of::<Vec<Vec<u8>>>(),
        of::<[u8; 2]>(),
        of::<[u8; 3]>(),
        of::<(u8, u16)>(),
        of::<(u16, u8)>(),
        of::<BTreeMap<u8, u16>>(),
        of::<BTreeMap<u16, u8>>(),
        of::<Result<u8, u16>>(),
        of::<Result<u16, u8>>(),
        of::<Duration>(),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
    assert_eq!(of::<BTreeMap<u8, u16>>(), of::<HashMap<u8, u16>>());
}

#[test]
fn a_field_named_like_a_kind_is_not_taken_for_it() {
    #[derive(Deserialize)]
    struct A {
        #[serde(rename = "u32")]
        _a: u64,
    }
    #[derive(Deserialize)]
    struct B {
        #[serde(rename = "u64")]
        _a: u32,
    }
    assert_ne!(of::<A>(), of::<B>());
}

/// Accepts a year and a day, and not the day zero.
#[derive(Deserialize)]
#[serde(try_from = "(i32, u16)")]
struct Date;

impl TryFrom<(i32, u16)> for Date {
    type Error = &'static str;

    fn try_from((_, day): (i32, u16)) -> Result<Self, Self::Error> {
        if day == 0 {
            Err("no such day")
        } else {
            Ok(Self)
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Picky;

impl TryFrom<String> for Picky {
    type Error = &'static str;

    fn try_from(_: String) -> Result<Self, Self::Error> {
        Err("none is good enough")
    }
}

#[rstest]
#[case::not_zero(Fingerprint::of::<(NonZeroU32, u8)>(), Fingerprint::of::<(NonZeroU32, u16)>())]
#[case::date(Fingerprint::of::<(Date, u8)>(), Fingerprint::of::<(Date, u16)>())]
#[case::dates(Fingerprint::of::<(Vec<Date>, u8)>(), Fingerprint::of::<(Vec<Date>, u16)>())]
#[case::address(Fingerprint::of::<(IpAddr, u8)>(), Fingerprint::of::<(IpAddr, u16)>())]
#[case::time(Fingerprint::of::<(SystemTime, u8)>(), Fingerprint::of::<(SystemTime, u16)>())]
fn what_is_behind_a_choosy_type_is_seen(#[case] one: Fingerprint, #[case] other: Fingerprint) {
    assert!(one.is_complete() && other.is_complete());
    assert_ne!(one, other);
}

#[test]
fn a_type_that_accepts_nothing_is_reported_and_the_names_around_it_still_count() {
    #[derive(Deserialize)]
    struct One {
        _picky: Picky,
        _a: u32,
        _b: u32,
    }
    #[derive(Deserialize)]
    struct Other {
        _picky: Picky,
        _b: u32,
        _a: u32,
    }
    let one = Fingerprint::of::<One>();
    assert!(!one.is_complete());
    assert_eq!(one, Fingerprint::of::<One>());
    assert_ne!(one, Fingerprint::of::<Other>());
    // Where there is a way around it, what is behind is seen.
    assert_ne!(of::<(Option<Picky>, u8)>(), of::<(Option<Picky>, u16)>());
    assert_ne!(of::<(Vec<Picky>, u8)>(), of::<(Vec<Picky>, u16)>());
}

#[derive(Deserialize)]
struct List {
    _value: i32,
    _next: Option<Box<Self>>,
}

#[derive(Deserialize)]
enum Expression {
    _Not(Box<Self>),
    _And(Box<Self>, Box<Self>),
    _Or(Vec<Self>),
    _Call {
        _name: String,
        _arguments: BTreeMap<String, Self>,
    },
    _Literal(i64),
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Unnamed {
    _children: Vec<Self>,
}

#[derive(Deserialize)]
struct Endless(Box<Self>);

#[test]
fn recursive_types_come_to_an_end() {
    assert!(Fingerprint::of::<List>().is_complete());
    assert!(Fingerprint::of::<Expression>().is_complete());
    assert!(Fingerprint::of::<Unnamed>().is_complete());
    let _ = Fingerprint::of::<Endless>();
    assert_ne!(of::<(List, u8)>(), of::<(List, u16)>());
    assert_ne!(of::<(Expression, u8)>(), of::<(Expression, u16)>());
    assert_ne!(of::<(Unnamed, u8)>(), of::<(Unnamed, u16)>());
}

type Wide<T> = (T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T);

#[test]
fn large_types_come_to_an_end() {
    assert!(Fingerprint::of::<Wide<Wide<Option<u8>>>>().is_complete());
    assert!(!Fingerprint::of::<Wide<Box<Wide<Box<Wide<Box<Wide<u8>>>>>>>>().is_complete());
}

#[test]
fn formats_that_describe_themselves_are_needed_for_any() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        _Number(u32),
    }
    assert!(!Fingerprint::of::<Any>().is_complete());
}

#[test]
fn it_is_the_same_everywhere_and_for_ever() {
    // These are in frames that have been stored: they must not change.
    assert_eq!(base::fingerprint().number(), 5_172_907_588_033_484_459);
    assert_eq!(
        of::<(IpAddr, NonZeroU32, Vec<Option<f64>>)>(),
        11_566_228_088_932_949_684
    );
    assert_eq!(of::<Expression>(), 16_464_668_625_512_656_459);
}
