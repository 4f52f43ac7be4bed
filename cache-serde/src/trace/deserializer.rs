use serde::Deserializer;
use serde::de::Visitor;

use super::access::{Parts, Variant};
use super::{Choice, Recorder, Stop, step};

/// Strings that types like to accept.
pub(super) const STRINGS: [&str; 16] = [
    "",
    "a",
    "0",
    "1",
    "00000000-0000-0000-0000-000000000001",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "1970-01-01T00:00:00",
    "00:00:00",
    "127.0.0.1",
    "127.0.0.1:80",
    "a@b.cd",
    "http://a.b/",
    "1.0.0",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "EUR",
];

/// Lengths of sequences, maps and byte strings, likewise.
const LENGTHS: [usize; 9] = [1, 0, 2, 3, 4, 8, 16, 32, 64];

/// A deserializer that answers what it is asked for, and records it.
pub(super) struct Trace<'r> {
    pub(super) recorder: &'r mut Recorder,
    pub(super) path: u64,
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.recorder.ask(self.path, stringify!($type))?;
            // The values stay below a hundred or two.
            visitor.$visit(self.recorder.value as u8 as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = Stop;

    numbers! {
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_f32 visit_f32 f32
        deserialize_f64 visit_f64 f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "bool")?;
        visitor.visit_bool(self.recorder.value % 2 == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "char")?;
        visitor.visit_char(char::from(b'a' + (self.recorder.value % 26) as u8))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "str")?;
        visitor.visit_str(STRINGS[self.recorder.value % STRINGS.len()])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "bytes")?;
        visitor.visit_bytes(&[0; 64][..LENGTHS[self.recorder.value % LENGTHS.len()]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.ask(path, "option")?;
        recorder.choose(path, Choice::First, 2, |recorder, answer| match answer {
            0 => visitor.visit_some(Trace {
                recorder,
                path: step(path, 0),
            }),
            _ => visitor.visit_none(),
        })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "unit")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    // A newtype has the bytes of what is in it, so it leaves no record.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.enter_newtype(name)?;
        let result = visitor.visit_newtype_struct(Trace { recorder, path });
        recorder.leave();
        result
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.ask(path, "seq")?;
        recorder.choose(path, Choice::First, LENGTHS.len(), |recorder, answer| {
            visitor.visit_seq(Parts::same(recorder, path, LENGTHS[answer]))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.ask(path, "tuple")?;
        recorder.ask(step(path, len), "end")?;
        visitor.visit_seq(Parts::different(recorder, path, len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.ask(path, "map")?;
        recorder.choose(path, Choice::First, LENGTHS.len(), |recorder, answer| {
            visitor.visit_map(Parts::same(recorder, path, LENGTHS[answer]))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.enter(path, "struct", name, fields)?;
        let result = visitor.visit_seq(Parts::different(recorder, path, fields.len()));
        recorder.leave();
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Self { recorder, path } = self;
        recorder.enter(path, "enum", name, variants)?;
        let result = recorder.choose(path, Choice::All, variants.len(), |recorder, index| {
            visitor.visit_enum(Variant {
                recorder,
                path: step(path, index),
                index,
            })
        });
        recorder.leave();
        result
    }

    // Positional formats can't answer these either.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.recorder.ask(self.path, "any")?;
        Err(Stop::Rejected)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
