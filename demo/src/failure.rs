//! The one error of the program.

use std::fmt;

use cache_core::BoxError;

/// The result of everything here that can fail.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What went wrong, in one line.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: BoxError,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, why: impl Into<BoxError>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for Failure {}

impl From<cache_core::Error> for Failure {
    fn from(error: cache_core::Error) -> Self {
        Self::new("the cache", error)
    }
}
