use std::fmt;

/// The number of a write in its journal. Of two writes of one key, the later one has the higher number; across
/// keys, numbers say nothing.
///
/// ```
/// use cache_core::Seq;
///
/// assert!(Seq::new(2) > Seq::new(1));
/// assert!(Seq::NONE < Seq::new(1));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The number of a write that has none.
    pub const NONE: Self = Self(0);

    /// The write with this number, from 1.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE { f.write_str("none") } else { write!(f, "#{}", self.0) }
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
