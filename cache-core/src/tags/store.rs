//! A tagged store as a store; what it does with many keys is in `many.rs`.

use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join3};
use smol_str::SmolStr;

use super::check::looking;
use super::{Marked, Marks, Tagged};
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Fill, Lease, NearTier, Result, SetOptions,
};

#[deny(clippy::missing_trait_methods)]
impl<S, M, V> CacheStore for Tagged<S, M, V>
where
    S: CacheStore<Value = Marked<V>>,
    M: Marks,
    V: Clone + Send + Sync + 'static,
{
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        let hint = self.hints.get(key);
        // Whatever is invalidated after the one answer but before the other, is so after this read began.
        let (entry, known) = join(self.inner.get(key), self.hinted(hint.as_ref())).await;
        let Some(entry) = entry? else {
            return Ok(None);
        };
        let valid = self.is_valid(key, &entry, hint.as_ref(), &known.unwrap_or_default()).await?;
        Ok(valid.then(|| unmarked(entry)))
    }

    #[inline(always)]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<V>>> {
        self.get_now_as(key, Entry::as_it_is)
    }

    #[inline(always)]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        self.inner.get_now_as(key, looking(&self.marks, look))
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        options.check()?;
        // What is invalidated from now on makes the stamps invalid before they are even stored.
        match self.marked(key, value, None, options.usable_for()).await? {
            Some(marked) => self.inner.set(key, marked, options).await,
            None => self.inner.remove(key).await,
        }
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.inner.remove(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>> {
        self.read_many(keys).await
    }

    async fn set_many(&self, entries: Vec<(&str, Option<V>, SetOptions)>) -> Vec<Result<()>> {
        self.write_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.inner.remove_many(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.inner.remove_prefix(prefix).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.marks.invalidate(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }

    async fn claim(&self, key: &str, mut options: ClaimOptions) -> Result<Claim<V>> {
        // An entry may change while it is asked for, but not for ever.
        for _ in 0..3 {
            let hint = self.hints.get(key);
            let (epoch, claim, known) = join3(
                self.marks.epoch(),
                self.inner.claim(key, options),
                self.hinted(hint.as_ref()),
            )
            .await;
            let entry = match claim? {
                Claim::Granted(lease) => return self.granted(key, lease, epoch).await,
                Claim::Held { retry_in } => return Ok(Claim::Held { retry_in }),
                Claim::Found(entry) => entry,
            };
            let known = known.unwrap_or_default();
            if self.is_valid(key, &entry, hint.as_ref(), &known).await? {
                return Ok(Claim::Found(unmarked(entry)));
            }
            // It has been invalidated, so it may be replaced.
            options = options.refreshing(entry.version());
        }
        Ok(Claim::Held { retry_in: Duration::from_millis(1) })
    }

    async fn fill(&self, mut lease: Lease, value: Option<V>, options: SetOptions) -> Result<Fill> {
        // A lease that was not granted here has no epoch, and vouches for no tag.
        let (key, since) = match lease.take_note() {
            Some(note) => (note.key, note.epoch),
            None => (SmolStr::new(lease.key()), 0),
        };
        if options.check().is_err() {
            return self.inner.fill(lease, None, options).await;
        }
        let marked = self.marked(&key, value, Some(since), options.usable_for()).await;
        match marked {
            Ok(Some(marked)) => self.inner.fill(lease, marked, options).await,
            Ok(None) => {
                // A lease that can't be given back ends by itself.
                let _ = self.inner.release(lease).await;
                Ok(Fill::Refused)
            }
            Err(error) => {
                let _ = self.inner.release(lease).await;
                Err(error)
            }
        }
    }

    async fn release(&self, mut lease: Lease) -> Result<bool> {
        let before = lease.take_note().map_or(0, |note| note.epoch);
        let (held, now) = join(self.inner.release(lease), self.marks.epoch()).await;
        // Which tags the value has had, nobody knows any more.
        Ok(held? && now.is_ok_and(|now| now == before))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { tags: true, ..self.inner.capabilities() }
    }

    // An entry in front of this one may be a copy of one that held by a copy of a mark.
    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near.clone());
        self.marks.attach_near(near);
    }
}

#[inline(always)]
pub(super) fn unmarked<V: Clone>(entry: Entry<Marked<V>>) -> Entry<V> {
    entry.and_then(Marked::into_value)
}
