//! What a tagged store asks of the marks, and of its hints.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use smol_str::SmolStr;

use super::generations::Generations;
use super::{Marked, Marks, Revision, Stamp, Tagged};
use crate::{CacheStore, Claim, Entry, Lease, Result};

impl<S, M, V> Tagged<S, M, V>
where
    S: CacheStore<Value = Marked<V>>,
    M: Marks,
    V: Clone + Send + Sync + 'static,
{
    /// What is stored for a value; `None` if one of its tags has been invalidated after `since`.
    pub(super) async fn marked(
        &self,
        key: &str,
        value: Option<V>,
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Option<Marked<V>>>> {
        let tags = self.tags_of(key, value.as_ref())?;
        if tags.is_empty() {
            return Ok(Some(value.map(|value| Marked::new(Some(value), Vec::new()))));
        }
        let tags: Vec<&str> = tags.iter().map(SmolStr::as_str).collect();
        let stamps = self.marks.stamp(&tags, since, life).await?;
        Ok(stamps.map(|stamps| Some(Marked::new(value, stamps))))
    }

    /// The tags that the key had when it was last seen, and their generations, if they are not known without asking.
    pub(super) async fn hinted(&self, hint: Option<&Arc<[Stamp]>>) -> Result<Generations> {
        let Some(stamps) = hint.filter(|stamps| self.marks.holds_now(stamps).is_pending()) else {
            return Ok(Generations::default());
        };
        self.generations(stamps.iter().map(Stamp::tag)).await
    }

    pub(super) async fn generations<'a>(
        &self,
        tags: impl Iterator<Item = &'a str>,
    ) -> Result<Generations> {
        let mut tags: Vec<&str> = tags.collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.is_empty() {
            return Ok(Generations::default());
        }
        let generations = self.marks.generations(&tags).await?;
        let tags = tags.into_iter().map(SmolStr::new);
        Ok(Generations(tags.zip(generations).collect()))
    }

    /// Whether the entry stands, if that can be told already.
    pub(super) fn stands(&self, entry: &Entry<Marked<V>>, known: &Generations) -> Poll<bool> {
        let stamps = entry.value().map_or(&[][..], Marked::stamps);
        if stamps.is_empty() {
            return Poll::Ready(true);
        }
        match self.marks.holds_now(stamps) {
            Poll::Pending => known.hold(stamps),
            told @ Poll::Ready(_) => told,
        }
    }

    /// Remembers which marks to ask for with this key, if they have to be asked for.
    pub(super) fn remember(
        &self,
        key: &str,
        entry: &Entry<Marked<V>>,
        hint: Option<&Arc<[Stamp]>>,
    ) {
        let Some(stamps) = entry.value().and_then(Marked::shared_stamps) else {
            return;
        };
        let same =
            |hint: &&Arc<[Stamp]>| hint.iter().map(Stamp::tag).eq(stamps.iter().map(Stamp::tag));
        if hint.filter(same).is_none() && self.marks.holds_now(stamps).is_pending() {
            self.hints.remember(key, stamps);
        }
    }

    /// Whether an entry that has just been read is valid.
    pub(super) async fn is_valid(
        &self,
        key: &str,
        entry: &Entry<Marked<V>>,
        hint: Option<&Arc<[Stamp]>>,
        known: &Generations,
    ) -> Result<bool> {
        let stands = self.stands(entry, known);
        self.remember(key, entry, hint);
        match stands {
            Poll::Ready(stands) => Ok(stands),
            Poll::Pending => {
                let stamps = entry.value().map_or(&[][..], Marked::stamps);
                let known = self.generations(stamps.iter().map(Stamp::tag)).await?;
                Ok(known.hold_all(stamps))
            }
        }
    }

    pub(super) async fn granted(
        &self,
        key: &str,
        lease: Lease,
        epoch: Result<u64>,
    ) -> Result<Claim<V>> {
        match epoch {
            Ok(epoch) => Ok(Claim::Granted(lease.noted_at(key, epoch))),
            Err(error) => {
                // A lease that can't be given back ends by itself.
                let _ = self.inner.release(lease).await;
                Err(error)
            }
        }
    }
}

/// What makes of a marked value what `look` makes of the value, if its stamps hold. It knows nothing of the store, so that all of
/// them with the same marks share one look-up in memory.
#[inline(always)]
pub(super) fn looking<'a, V, M, T>(
    marks: &'a M,
    look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>> + 'a,
) -> impl FnOnce(Option<Marked<V>>) -> Poll<Option<Option<T>>> + 'a
where
    V: Clone,
    M: Marks,
    T: 'a,
{
    move |marked| match stands_now(marks, marked.as_ref()) {
        Poll::Ready(true) => look(marked.and_then(Marked::into_shared_value)),
        Poll::Ready(false) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }
}

#[inline(always)]
fn stands_now<V>(marks: &impl Marks, marked: Option<&Marked<V>>) -> Poll<bool> {
    match marked {
        Some(marked) => match marks.revision() {
            Some(revision) if marked.has_held_at(revision) => Poll::Ready(true),
            _ => compare_now(marks, marked),
        },
        None => Poll::Ready(true),
    }
}

// Out of line: a hit since whose last one nothing has changed has no room for it.
#[inline(never)]
fn compare_now<V>(marks: &impl Marks, marked: &Marked<V>) -> Poll<bool> {
    // Before the stamps are looked at: what changes meanwhile has them looked at again.
    let revision = marks.revision().map(Revision::current);
    let stamps = marked.stamps();
    let holds = if stamps.is_empty() { Poll::Ready(true) } else { marks.holds_now(stamps) };
    if let (Poll::Ready(true), Some(revision)) = (holds, revision) {
        marked.held_at(revision);
    }
    holds
}
