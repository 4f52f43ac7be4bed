use super::Seq;
use crate::{CacheKey, Error, Write};

/// A write that the source has not taken, and that is not tried any more.
///
/// ```
/// use cache_core::{DeadLetter, Seq, Write};
///
/// let letter = DeadLetter::new(Write::new(7_u64, Some("…")), 5, "violates a constraint");
/// assert_eq!((letter.key.as_str(), letter.seq, letter.tries), ("7", Seq::NONE, 5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter<K, V> {
    /// How the key is spelled; empty if not even that can be read.
    pub key: String,
    /// The number of the write.
    pub seq: Seq,
    /// The write, unless it [can't be read](Self::unreadable).
    pub write: Option<Write<K, V>>,
    /// How often it was tried.
    pub tries: u32,
    /// What the source said at last; and why the write can't be read, if so.
    pub cause: String,
}

impl<K, V> DeadLetter<K, V> {
    /// The dead letter of a write.
    #[must_use]
    pub fn new(write: Write<K, V>, tries: u32, cause: impl Into<String>) -> Self
    where
        K: CacheKey,
    {
        let key = write.key.key().to_string();
        Self { key, seq: write.seq, write: Some(write), tries, cause: cause.into() }
    }

    /// One whose write can't be decoded, and was perhaps written with another codec or another version of the type. It can
    /// be discarded, but not replayed.
    ///
    /// ```
    /// use cache_core::{DeadLetter, Error, ErrorKind, Seq};
    ///
    /// let why = Error::with_cause(ErrorKind::Codec, "of another version");
    /// let letter = DeadLetter::<u64, String>::unreadable("7", Seq::new(3), 5, "violates a constraint", &why);
    /// assert!(letter.write.is_none() && letter.cause.contains("of another version"));
    /// ```
    #[must_use]
    pub fn unreadable(
        key: impl Into<String>,
        seq: Seq,
        tries: u32,
        cause: &str,
        why: &Error,
    ) -> Self {
        Self { key: key.into(), seq, write: None, tries, cause: format!("{cause}; {why}") }
    }
}
