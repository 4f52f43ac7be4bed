use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use smol_str::{SmolStr, SmolStrBuilder};

/// What a key is spelled as in the store: a borrowed string where the key is one, else a string that
/// is kept inline up to 23 bytes.
///
/// ```
/// use cache_core::{CacheKey, Key};
///
/// assert_eq!(&*7_u64.key(), "7");
/// assert_eq!(&*Key::borrowed("user"), "user");
/// assert_eq!(&*Key::display(1.5), "1.5");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key<'a>(Spelling<'a>);

#[derive(Clone)]
enum Spelling<'a> {
    Borrowed(&'a str),
    Owned(SmolStr),
}

impl<'a> Key<'a> {
    /// A string as it is.
    #[inline]
    #[must_use]
    pub fn borrowed(key: &'a str) -> Self {
        Self(Spelling::Borrowed(key))
    }

    /// What a value displays as. It has to tell the values of its type apart.
    #[must_use]
    pub fn display(value: impl fmt::Display) -> Key<'static> {
        Key(Spelling::Owned(smol_str::format_smolstr!("{value}")))
    }

    /// Several parts in one key, `part:part:part`. Inside a part, `:` becomes `%3A` and `%` becomes
    /// `%25`, so different parts never make the same key.
    ///
    /// ```
    /// use cache_core::Key;
    ///
    /// assert_eq!(&*Key::join(&[&"product", &42]), "product:42");
    /// assert_eq!(&*Key::join(&[&"a:b", &"c"]), "a%3Ab:c");
    /// ```
    #[must_use]
    pub fn join(parts: &[&dyn CacheKey]) -> Key<'static> {
        let mut key = SmolStrBuilder::new();
        if parts.is_empty() {
            // Which no part spells: one empty part is another key.
            key.push('%');
        }
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                key.push(':');
            }
            escape(&part.key(), &mut key);
        }
        Key(Spelling::Owned(key.finish()))
    }

    pub(crate) fn to_smol(&self) -> SmolStr {
        match &self.0 {
            Spelling::Borrowed(key) => SmolStr::new(key),
            Spelling::Owned(key) => key.clone(),
        }
    }
}

/// Appends a part of a key, with its separators escaped.
pub(crate) fn escape(part: &str, key: &mut SmolStrBuilder) {
    let mut rest = part;
    while let Some(at) = rest.find([':', '%']) {
        key.push_str(&rest[..at]);
        key.push_str(if rest.as_bytes()[at] == b':' { "%3A" } else { "%25" });
        rest = &rest[at + 1..];
    }
    key.push_str(rest);
}

impl Deref for Key<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Spelling<'_> {
    #[inline]
    fn as_str(&self) -> &str {
        match self {
            Spelling::Borrowed(key) => key,
            Spelling::Owned(key) => key,
        }
    }
}

// Borrowed or not makes no difference to what a key is.
impl PartialEq for Spelling<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Spelling<'_> {}

impl std::hash::Hash for Spelling<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Spelling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Spells itself as the key of a cache entry.
///
/// **The law**: different keys of one type never spell the same, and a key always spells the same.
/// So no `Debug` of a map, no float, nothing that depends on the process.
///
/// Strings spell themselves, integers in decimal, tuples by [`Key::join`]. Own types need one line:
///
/// ```
/// use cache_core::{CacheKey, Key};
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// impl CacheKey for UserId {
///     fn key(&self) -> Key<'_> {
///         Key::join(&[&"user", &self.0])
///     }
/// }
/// assert_eq!(&*UserId(7).key(), "user:7");
/// assert_eq!(&*("tenant", 3, true).key(), "tenant:3:true");
/// ```
///
/// Keys of *different* types may spell the same (`7` and `"7"`): one cache, or one
/// [namespace](crate::Namespaced), wants one type of key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cache key",
    note = "implement `CacheKey` for it, by `Key::join` for example"
)]
pub trait CacheKey {
    /// The spelling.
    fn key(&self) -> Key<'_>;

    /// The same, from a key that is a string as it is. A read then makes nothing at all.
    #[doc(hidden)]
    #[inline]
    fn as_spelled(&self) -> Option<&str> {
        None
    }
}

impl CacheKey for str {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::borrowed(self)
    }

    #[inline]
    fn as_spelled(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for String {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::borrowed(self)
    }

    #[inline]
    fn as_spelled(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for Cow<'_, str> {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::borrowed(self)
    }

    #[inline]
    fn as_spelled(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for Key<'_> {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::borrowed(self)
    }

    #[inline]
    fn as_spelled(&self) -> Option<&str> {
        Some(self)
    }
}

macro_rules! forwarded {
    ($($pointer:ty),*) => {$(
        impl<K: CacheKey + ?Sized> CacheKey for $pointer {
            #[inline]
            fn key(&self) -> Key<'_> {
                K::key(self)
            }

            #[inline]
            fn as_spelled(&self) -> Option<&str> {
                K::as_spelled(self)
            }
        }
    )*};
}
forwarded!(&K, Box<K>, Arc<K>);

macro_rules! displayed {
    ($($type:ty),*) => {$(
        impl CacheKey for $type {
            fn key(&self) -> Key<'_> {
                Key::display(self)
            }
        }
    )*};
}
displayed!(i128, u128, bool, char);

macro_rules! counted {
    ($($type:ty),*) => {$(
        impl CacheKey for $type {
            #[inline]
            fn key(&self) -> Key<'_> {
                // 20 digits at most, or 19 and a sign: always inline.
                Key(Spelling::Owned(SmolStr::new_inline(itoa::Buffer::new().format(*self))))
            }
        }
    )*};
}
counted!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

macro_rules! joined {
    ($($part:ident)*) => {
        impl<$($part: CacheKey),*> CacheKey for ($($part,)*) {
            fn key(&self) -> Key<'_> {
                #[allow(non_snake_case, reason = "the parts are named after their types")]
                let ($($part,)*) = self;
                Key::join(&[$($part),*])
            }
        }
    };
}
joined!(A B);
joined!(A B C);
joined!(A B C D);
joined!(A B C D E);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_tuples_never_spell_the_same() {
        let awkward = ["", ":", "%", "%3A", "a", "a:b", "b", "%25", "::"];
        let mut seen = std::collections::HashSet::new();
        for a in awkward {
            for b in awkward {
                assert!(seen.insert((a, b).key().to_string()), "{a:?}, {b:?}");
                for c in awkward {
                    assert!(seen.insert((a, b, c).key().to_string()), "{a:?}, {b:?}, {c:?}");
                }
            }
        }
    }

    #[test]
    fn nesting_is_part_of_the_key() {
        assert_ne!((("a", "b"), "c").key(), ("a", ("b", "c")).key());
        assert_ne!((("a", "b"), "c").key(), ("a", "b", "c").key());
    }

    #[test]
    fn integers_spell_in_decimal() {
        assert_eq!(&*i64::MIN.key(), "-9223372036854775808");
        assert_eq!(&*u128::MAX.key(), "340282366920938463463374607431768211455");
        assert_eq!((&*u64::MAX.key(), &*i8::MIN.key()), ("18446744073709551615", "-128"));
        for n in [0, 1, 9, 10, 99, 100, 12_345_678_901_i64] {
            assert_eq!(*n.key(), n.to_string());
            assert_eq!(*(-n).key(), (-n).to_string());
        }
    }
}
