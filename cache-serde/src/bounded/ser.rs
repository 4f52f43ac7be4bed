//! A serializer that hands everything on to another one, and counts levels: what nests too deep to
//! be read again is not written.
//!
//! The levels are those that the deserializer of this crate counts.

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use super::{Bounds, Exceeded, Shallow};

/// A serializer, or what it makes of a compound value, within bounds.
pub(super) struct Bounded<'b, T> {
    inner: T,
    bounds: Bounds<'b>,
}

impl<'b, T> Bounded<'b, T> {
    #[inline]
    pub(super) fn new(inner: T, bounds: Bounds<'b>) -> Self {
        Self { inner, bounds }
    }
}

impl<'b, S: Serializer> Bounded<'b, S> {
    #[inline]
    fn deeper(&self, levels: usize) -> Result<Bounds<'b>, S::Error> {
        self.bounds.deeper(levels).map_err(Exceeded::writing)
    }

    #[inline]
    fn shallow<'a, T: ?Sized>(&self, value: &'a T) -> Result<Shallow<'a, 'b, T>, S::Error> {
        Ok(self.deeper(1)?.shallow(value))
    }
}

macro_rules! scalars {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($name),*)
        }
    )*};
}

macro_rules! compounds {
    ($($levels:literal $method:ident($($name:ident: $type:ty),*) -> $compound:ident)*) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
            let bounds = self.deeper($levels)?;
            Ok(Bounded::new(self.inner.$method($($name),*)?, bounds))
        }
    )*};
}

impl<'b, S: Serializer> Serializer for Bounded<'b, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Bounded<'b, S::SerializeSeq>;
    type SerializeTuple = Bounded<'b, S::SerializeTuple>;
    type SerializeTupleStruct = Bounded<'b, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Bounded<'b, S::SerializeTupleVariant>;
    type SerializeMap = Bounded<'b, S::SerializeMap>;
    type SerializeStruct = Bounded<'b, S::SerializeStruct>;
    type SerializeStructVariant = Bounded<'b, S::SerializeStructVariant>;

    scalars! {
        serialize_bool(v: bool)
        serialize_i8(v: i8)
        serialize_i16(v: i16)
        serialize_i32(v: i32)
        serialize_i64(v: i64)
        serialize_i128(v: i128)
        serialize_u8(v: u8)
        serialize_u16(v: u16)
        serialize_u32(v: u32)
        serialize_u64(v: u64)
        serialize_u128(v: u128)
        serialize_f32(v: f32)
        serialize_f64(v: f64)
        serialize_char(v: char)
        serialize_str(v: &str)
        serialize_bytes(v: &[u8])
        serialize_none()
        serialize_unit()
        serialize_unit_struct(name: &'static str)
    }

    compounds! {
        1 serialize_seq(len: Option<usize>) -> SerializeSeq
        1 serialize_tuple(len: usize) -> SerializeTuple
        1 serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct
        2 serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant
        1 serialize_map(len: Option<usize>) -> SerializeMap
        1 serialize_struct(name: &'static str, len: usize) -> SerializeStruct
        2 serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.shallow(value)?;
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.shallow(value)?;
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.deeper(1)?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.shallow(value)?;
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    // bincode has no `collect_str` of its own, and postcard's formats everything twice.
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_str(&value.to_string())
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! compound {
    ($trait:ident: $($method:ident($($name:ident: $type:ty),*))*) => {
        impl<C: $trait> $trait for Bounded<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(#[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $type,)*
                value: &T,
            ) -> Result<(), C::Error> {
                self.inner.$method($($name,)* &self.bounds.shallow(value))
            })*

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    };
}

compound!(SerializeSeq: serialize_element());
compound!(SerializeTuple: serialize_element());
compound!(SerializeTupleStruct: serialize_field());
compound!(SerializeTupleVariant: serialize_field());
compound!(SerializeMap: serialize_key() serialize_value());
compound!(SerializeStruct: serialize_field(name: &'static str));
compound!(SerializeStructVariant: serialize_field(name: &'static str));
