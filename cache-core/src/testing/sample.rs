use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A type with values for tests.
///
/// ```
/// use cache_core::testing::Sample;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Price(u32);
///
/// impl Sample for Price {
///     fn sample(number: u32) -> Self {
///         Self(number)
///     }
/// }
/// assert_ne!(Price::sample(1), Price::sample(2));
/// ```
pub trait Sample: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// A value; different ones for different numbers. The lowest are the oddest of the type: empty,
    /// zero, or what a careless store takes for a mark of its own.
    fn sample(number: u32) -> Self;
}

impl Sample for String {
    fn sample(number: u32) -> Self {
        const ODD: [&str; 8] = ["", "null", "*", "0", "-1", "\0", "{}", " ü\r\n\u{1f980}"];
        ODD.get(number as usize).map_or_else(|| format!("sample {number}"), ToString::to_string)
    }
}

impl Sample for Vec<u8> {
    fn sample(number: u32) -> Self {
        const ODD: [&[u8]; 6] = [b"", b"\0", b"\xff\xff\xff\xff", b"null", b"*", &[0x80; 300]];
        ODD.get(number as usize)
            .map_or_else(|| format!("sample {number}").into_bytes(), |odd| odd.to_vec())
    }
}

impl Sample for Bytes {
    fn sample(number: u32) -> Self {
        Vec::sample(number).into()
    }
}

impl Sample for Arc<str> {
    fn sample(number: u32) -> Self {
        String::sample(number).into()
    }
}

impl Sample for u32 {
    fn sample(number: u32) -> Self {
        number
    }
}

impl Sample for u64 {
    fn sample(number: u32) -> Self {
        number.into()
    }
}

impl<T: Sample> Sample for Arc<T> {
    fn sample(number: u32) -> Self {
        Self::new(T::sample(number))
    }
}
