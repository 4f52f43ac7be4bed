//! What an operation leaves behind that did not come to its end.

use cache_core::{ErrorKind, Result};

use crate::inner::Inner;
use crate::link::Pending;

/// What is to be made up for if an operation fails because the server can't be reached, or is dropped before its answer:
/// then nobody knows either whether it was done.
pub(crate) struct Owed<'a, F: FnOnce(&Inner)> {
    inner: &'a Inner,
    keep: Option<F>,
}

impl Inner {
    /// To be made before an operation is sent. `keep` says what makes up for it, by [`keep`](Self::keep).
    pub(crate) fn owing<F: FnOnce(&Self)>(&self, keep: F) -> Owed<'_, F> {
        Owed { inner: self, keep: Some(keep) }
    }

    /// The same for one thing.
    pub(crate) fn owing_one(
        &self,
        pending: impl FnOnce() -> Pending,
    ) -> Owed<'_, impl FnOnce(&Self)> {
        self.owing(|inner| inner.keep(pending()))
    }
}

impl<F: FnOnce(&Inner)> Owed<'_, F> {
    /// Hands the result on. Nothing is owed if the operation was done, or refused.
    pub(crate) fn settle<T>(mut self, result: Result<T>) -> Result<T> {
        if !matches!(&result, Err(error) if error.kind() == ErrorKind::Unavailable) {
            self.keep = None;
        }
        result
    }

    /// It has come to its end, and who asked looks after what is owed.
    pub(crate) fn ended(mut self) {
        self.keep = None;
    }
}

impl<F: FnOnce(&Inner)> Drop for Owed<'_, F> {
    fn drop(&mut self) {
        if let Some(keep) = self.keep.take() {
            keep(self.inner);
        }
    }
}
