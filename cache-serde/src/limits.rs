use std::io;

use bytes::Bytes;
use cache_core::{BoxError, Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounded::{Bounds, MEMORY_PER_BYTE, Spent};
use crate::payload::Payload;

/// What a value may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_bytes: usize,
    pub(crate) max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 16 << 20,
            max_depth: 128,
        }
    }
}

impl Limits {
    /// `header` bytes of zero, and then the payload.
    pub(crate) fn write<P: Payload, V: Serialize>(
        &self,
        value: &V,
        header: usize,
    ) -> Result<Vec<u8>> {
        let mut sink = Sink {
            bytes: vec![0; header],
            max: self.max_bytes,
            overflow: false,
        };
        // Most values are small, and take one allocation.
        sink.bytes.reserve(256 - header);
        let spent = Spent::default();
        let bounds = Bounds::new(&spent, self.max_depth.min(P::MAX_DEPTH), 0);
        let written = P::write(&bounds.shallow(value), &mut sink);
        if sink.overflow || sink.bytes.len() > self.max_bytes {
            return Err(Error::with_cause(
                ErrorKind::TooLarge,
                format!("the value takes more than {} bytes", self.max_bytes),
            ));
        }
        written.map_err(|error| cause(&spent, error))?;
        Ok(sink.bytes)
    }

    /// Refuses stored bytes that are too many, before anything is done with them.
    pub(crate) fn check(&self, stored: &Bytes) -> Result<()> {
        if stored.len() > self.max_bytes {
            return Err(Error::with_cause(
                ErrorKind::TooLarge,
                format!("{} bytes, of at most {}", stored.len(), self.max_bytes),
            ));
        }
        Ok(())
    }

    pub(crate) fn read<P: Payload, V: DeserializeOwned>(&self, payload: &[u8]) -> Result<V> {
        let spent = Spent::memory(self.max_bytes.saturating_mul(MEMORY_PER_BYTE));
        let bounds = Bounds::new(&spent, self.max_depth.min(P::MAX_DEPTH), payload.len());
        P::read(bounds.seed(), payload).map_err(|error| cause(&spent, error))
    }
}

fn cause(spent: &Spent, error: BoxError) -> Error {
    spent.exceeded().map_or_else(|| malformed(error), malformed)
}

/// The error of bytes, or of a value, that a codec can do nothing with.
pub(crate) fn malformed(cause: impl Into<BoxError>) -> Error {
    Error::with_cause(ErrorKind::Codec, cause)
}

/// Where a payload is written, up to a limit.
pub struct Sink {
    bytes: Vec<u8>,
    max: usize,
    overflow: bool,
}

/// More was written than the limit allows.
#[derive(Debug)]
pub struct Overflow;

impl Sink {
    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// If they are too many; the whole value is then refused.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        if bytes.len() > self.max.saturating_sub(self.bytes.len()) {
            self.overflow = true;
            return Err(Overflow);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl io::Write for Sink {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend(bytes)
            .map_err(|Overflow| io::ErrorKind::WriteZero.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
