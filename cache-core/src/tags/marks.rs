use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Revision, Stamp};
use crate::{NearTier, Result};

/// Keeps the marks of tags: for each tag a generation, which an invalidation of the tag replaces.
///
/// A handle to it belongs to every [`Tagged`](crate::Tagged) store whose entries share tags; clone it.
/// Who has such a handle can invalidate tags by it, also without a cache.
///
/// # Why nothing invalidated comes back
///
/// An entry carries the generation that each of its tags had when it was made, and is valid only while
/// they all still have it. An invalidation is one step, however many entries it is about.
///
/// All invalidations are counted by one number, the *epoch*, which only grows. The epoch is asked for before
/// a load begins, and what was loaded gets no stamp if one of its tags has been invalidated
/// at a later epoch. So a load that an invalidation overtakes is not kept, whatever process it
/// runs in.
///
/// A mark that is lost (evicted, deleted by a foreigner, flushed) makes all entries of its tag invalid: a new
/// one never has a generation that an invalid entry has been stamped with. Whether a tag without a mark has been invalidated
/// since an epoch is known for the newest invalidations only; for older epochs the answer is that it has.
///
/// # Implementing it
///
/// [`stamp`](Self::stamp), [`invalidate`](Self::invalidate) and [`invalidate_all`](Self::invalidate_all) have to be atomic.
pub trait Marks: Send + Sync + 'static {
    /// The epoch: a number that every invalidation of any tag makes larger. Never zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind) if whoever keeps the marks does not answer in time.
    fn epoch(&self) -> impl Future<Output = Result<u64>> + Send;

    /// The stamps, in their order, for an entry with these tags that lives for `life`; `None` if one of
    /// the tags has been invalidated after the epoch `since`, or nobody knows.
    ///
    /// The marks live longer than the entry. Without `since` the entry is as new as the stamps.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Self::epoch).
    fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> impl Future<Output = Result<Option<Vec<Stamp>>>> + Send;

    /// The generations of these tags, in their order; `None` for a tag without a mark.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Self::epoch).
    fn generations(&self, tags: &[&str]) -> impl Future<Output = Result<Vec<Option<u64>>>> + Send;

    /// Whether all stamps are those of their tags, from one who can tell without waiting.
    #[inline]
    fn holds_now(&self, stamps: &[Stamp]) -> Poll<bool> {
        let _ = stamps;
        Poll::Pending
    }

    /// What tells whether a mark has changed, from one who can tell without waiting, while he can: a hit whose stamps
    /// have held since the last change does not compare them.
    ///
    /// A mark has changed when [`holds_now`](Self::holds_now) may tell anything else than that they hold.
    #[inline]
    fn revision(&self) -> Option<&Revision> {
        None
    }

    /// Invalidates all entries that have one of these tags, and all loads of such that are under way.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Self::epoch): then it may have happened or not.
    ///
    /// # Cancellation
    ///
    /// As an error.
    fn invalidate(&self, tags: &[&str]) -> impl Future<Output = Result<()>> + Send;

    /// Invalidates all entries that have any tag, and all loads of such that are under way: for who has
    /// more invalidations to make up for than he remembers.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As an error.
    fn invalidate_all(&self) -> impl Future<Output = Result<()>> + Send;

    /// As [`CacheStore::attach_near`](crate::CacheStore::attach_near): of marks that are copies of others.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

#[deny(clippy::missing_trait_methods)]
impl<M: Marks> Marks for Arc<M> {
    async fn epoch(&self) -> Result<u64> {
        M::epoch(self).await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        M::stamp(self, tags, since, life).await
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        M::generations(self, tags).await
    }

    #[inline]
    fn holds_now(&self, stamps: &[Stamp]) -> Poll<bool> {
        M::holds_now(self, stamps)
    }

    #[inline]
    fn revision(&self) -> Option<&Revision> {
        M::revision(self)
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        M::invalidate(self, tags).await
    }

    async fn invalidate_all(&self) -> Result<()> {
        M::invalidate_all(self).await
    }

    fn attach_near(&self, near: NearTier) {
        M::attach_near(self, near);
    }
}
