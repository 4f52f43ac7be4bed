//! Wrappers with a script, for the tests of what stands on a store. Clones share the script, so a
//! clone kept by the test directs the store that was handed over.

mod failing;
mod recording;
mod slow;

pub use failing::FailingStore;
pub use recording::{Call, RecordingStore};
pub use slow::{Gate, SlowStore};

/// An operation of [`CacheStore`](crate::CacheStore).
///
/// ```
/// use cache_core::testing::{FailingStore, ModelStore, Operation};
/// use cache_core::{CacheStoreExt, Clock, ErrorKind};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = FailingStore::new(ModelStore::<u32>::new(Clock::system()));
/// store.fail(Operation::Get, ErrorKind::Unavailable);
/// assert!(store.value("answer").await.is_err());
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method with this name")]
pub enum Operation {
    Get,
    Set,
    Remove,
    GetMany,
    SetMany,
    RemoveMany,
    RemovePrefix,
    RemoveTagged,
    Clear,
    Claim,
    Fill,
    Release,
}

impl Operation {
    /// All of them.
    ///
    /// ```
    /// use cache_core::testing::Operation;
    ///
    /// assert!(Operation::ALL.contains(&Operation::Claim));
    /// ```
    pub const ALL: [Self; 12] = [
        Self::Get,
        Self::Set,
        Self::Remove,
        Self::GetMany,
        Self::SetMany,
        Self::RemoveMany,
        Self::RemovePrefix,
        Self::RemoveTagged,
        Self::Clear,
        Self::Claim,
        Self::Fill,
        Self::Release,
    ];
}

#[cfg(test)]
mod tests;
