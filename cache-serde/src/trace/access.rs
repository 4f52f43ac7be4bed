use serde::Deserializer;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::deserializer::Trace;
use super::{Recorder, Stop, step};

/// The elements of a sequence, tuple, struct or map.
pub(super) struct Parts<'r> {
    recorder: &'r mut Recorder,
    path: u64,
    len: usize,
    given: usize,
    /// Whether the parts are all of one type, and the first stands for all.
    same: bool,
}

impl<'r> Parts<'r> {
    pub(super) fn same(recorder: &'r mut Recorder, path: u64, len: usize) -> Self {
        Self {
            recorder,
            path,
            len,
            given: 0,
            same: true,
        }
    }

    pub(super) fn different(recorder: &'r mut Recorder, path: u64, len: usize) -> Self {
        Self {
            recorder,
            path,
            len,
            given: 0,
            same: false,
        }
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        if self.given == self.len {
            return Ok(None);
        }
        let index = if self.same { 0 } else { self.given };
        self.given += 1;
        self.recorder.value(step(self.path, index), seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.given)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        if self.given == self.len {
            return Ok(None);
        }
        self.given += 1;
        self.recorder.value(step(self.path, 0), seed).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.recorder.value(step(self.path, 1), seed)
    }
}

/// One variant of an enum.
pub(super) struct Variant<'r> {
    pub(super) recorder: &'r mut Recorder,
    pub(super) path: u64,
    pub(super) index: usize,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let index: U32Deserializer<Stop> = (self.index as u32).into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.recorder.ask(self.path, "unit")
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        self.recorder.ask(self.path, "newtype")?;
        self.recorder.value(step(self.path, 0), seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        Trace {
            recorder: self.recorder,
            path: self.path,
        }
        .deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Self { recorder, path, .. } = self;
        recorder.ask(path, "struct")?;
        recorder.ask_names(path, fields)?;
        visitor.visit_seq(Parts::different(recorder, path, fields.len()))
    }
}
