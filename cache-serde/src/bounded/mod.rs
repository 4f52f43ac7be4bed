//! Bounds on what a payload may cost, whichever format it has: formats bound neither the nesting nor
//! the elements that take no bytes.

mod de;
mod ser;

use std::cell::Cell;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserializer, Serialize, Serializer};

/// How many bytes of memory the elements of sequences and maps may take for each byte that an entry
/// may have.
///
/// Small numbers, unit variants and `None`s take a byte in the payload and more in memory.
pub(crate) const MEMORY_PER_BYTE: usize = 16;

/// What an element without a size costs: a length of 2^40 of them must not keep a processor busy.
const SIZELESS: usize = 256;

/// A value that fails to serialize if it is nested deeper than `depth`.
pub(crate) struct Shallow<'a, T: ?Sized> {
    pub(crate) value: &'a T,
    pub(crate) depth: usize,
}

impl<T: Serialize + ?Sized> Serialize for Shallow<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value
            .serialize(ser::Bounded::new(serializer, self.depth))
    }
}

/// Deserializes a value within bounds.
pub(crate) struct Seed<'b, V> {
    bounds: Bounds<'b>,
    value: PhantomData<V>,
}

/// What is left to the rest of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'b> {
    /// Levels of nesting.
    depth: usize,
    /// Bytes of memory, for all levels together.
    memory: &'b Cell<usize>,
    /// The size of the payload: a length prefix that says more is a lie, and nothing is
    /// allocated for it.
    payload: usize,
    /// Whether the payload, rather than the type, says how many elements there are.
    growing: bool,
}

impl<'b> Bounds<'b> {
    pub(crate) fn new(depth: usize, memory: &'b Cell<usize>, payload: usize) -> Self {
        Self {
            depth,
            memory,
            payload,
            growing: true,
        }
    }

    pub(crate) fn seed<V: DeserializeOwned>(self) -> Seed<'b, V> {
        Seed {
            bounds: self,
            value: PhantomData,
        }
    }

    fn deeper<E: serde::de::Error>(mut self) -> Result<Self, E> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom(TOO_DEEP))?;
        Ok(self)
    }

    #[inline]
    fn element<T, E: serde::de::Error>(self) -> Result<(), E> {
        if !self.growing {
            return Ok(());
        }
        let cost = if size_of::<T>() == 0 {
            SIZELESS
        } else {
            size_of::<T>()
        };
        let left = self.memory.get().checked_sub(cost);
        self.memory
            .set(left.ok_or_else(|| E::custom("its elements take too much memory"))?);
        Ok(())
    }
}

impl<'de, V: DeserializeOwned> DeserializeSeed<'de> for Seed<'_, V> {
    type Value = V;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V, D::Error> {
        V::deserialize(de::Bounded::new(deserializer, self.bounds))
    }
}

const TOO_DEEP: &str = "nested too deep";
