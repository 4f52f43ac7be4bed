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

/// What a payload is read or written with.
#[derive(Default)]
pub(crate) struct Spent {
    /// Bytes of memory left, for all levels together.
    memory: Cell<usize>,
    exceeded: Cell<Option<&'static str>>,
}

impl Spent {
    pub(crate) fn memory(left: usize) -> Self {
        Self {
            memory: Cell::new(left),
            exceeded: Cell::default(),
        }
    }

    /// The bound that was hit, if one was. Not every format keeps the messages of errors.
    pub(crate) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }
}

/// What is left to the rest of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'b> {
    spent: &'b Spent,
    /// Levels of nesting.
    depth: usize,
    /// The most elements that memory is reserved for: a length prefix that says more than the
    /// payload has bytes is a lie.
    reserve: usize,
    /// Whether the payload, rather than the type, says how many elements there are.
    growing: bool,
}

impl<'b> Bounds<'b> {
    pub(crate) fn new(spent: &'b Spent, depth: usize, reserve: usize) -> Self {
        Self {
            spent,
            depth,
            reserve,
            growing: true,
        }
    }

    pub(crate) fn shallow<V: ?Sized>(self, value: &V) -> Shallow<'_, 'b, V> {
        Shallow {
            value,
            bounds: self,
        }
    }

    pub(crate) fn seed<V: DeserializeOwned>(self) -> Seed<'b, V> {
        Seed {
            bounds: self,
            value: PhantomData,
        }
    }

    #[inline]
    fn deeper(mut self, levels: usize) -> Result<Self, Exceeded> {
        self.depth = self.left(self.depth, levels, "nested too deep")?;
        Ok(self)
    }

    #[inline]
    fn element<T>(self) -> Result<(), Exceeded> {
        if self.growing {
            let cost = if size_of::<T>() == 0 {
                SIZELESS
            } else {
                size_of::<T>()
            };
            let message = "its elements take too much memory";
            self.spent
                .memory
                .set(self.left(self.spent.memory.get(), cost, message)?);
        }
        Ok(())
    }

    #[inline]
    fn left(self, from: usize, cost: usize, message: &'static str) -> Result<usize, Exceeded> {
        from.checked_sub(cost).ok_or_else(|| {
            self.spent.exceeded.set(Some(message));
            Exceeded(message)
        })
    }
}

/// A bound was hit.
struct Exceeded(&'static str);

impl Exceeded {
    fn reading<E: serde::de::Error>(self) -> E {
        E::custom(self.0)
    }

    fn writing<E: serde::ser::Error>(self) -> E {
        E::custom(self.0)
    }
}

/// A value that fails to serialize out of bounds.
pub(crate) struct Shallow<'a, 'b, V: ?Sized> {
    value: &'a V,
    bounds: Bounds<'b>,
}

impl<V: Serialize + ?Sized> Serialize for Shallow<'_, '_, V> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value
            .serialize(ser::Bounded::new(serializer, self.bounds))
    }
}

/// Deserializes a value within bounds.
pub(crate) struct Seed<'b, V> {
    bounds: Bounds<'b>,
    value: PhantomData<V>,
}

impl<'de, V: DeserializeOwned> DeserializeSeed<'de> for Seed<'_, V> {
    type Value = V;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V, D::Error> {
        V::deserialize(de::Bounded::new(deserializer, self.bounds))
    }
}
