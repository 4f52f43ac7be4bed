//! The operations on many keys of a tagged store.

use std::task::Poll;

use futures_util::future::join;
use smol_str::SmolStr;

use super::store::unmarked;
use super::{Marked, Marks, Stamp, Tagged};
use crate::{CacheStore, Entry, Error, ErrorKind, Result, SetOptions};

type Found<V> = Result<Option<Entry<Marked<V>>>>;

impl<S, M, V> Tagged<S, M, V>
where
    S: CacheStore<Value = Marked<V>>,
    M: Marks,
    V: Clone + Send + Sync + 'static,
{
    pub(super) async fn read_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<V>>>> {
        let hints: Vec<_> = keys.iter().map(|key| self.hints.get(key)).collect();
        let asked = hints.iter().flatten();
        let asked = asked.filter(|stamps| self.marks.holds_now(stamps).is_pending());
        let asked: Vec<&str> = asked.flat_map(|stamps| stamps.iter()).map(Stamp::tag).collect();
        let hinted = self.generations(asked.into_iter());
        let (entries, known) = join(self.inner.get_many(keys), hinted).await;
        let known = known.unwrap_or_default();
        let mut stands = Vec::with_capacity(keys.len());
        let mut open = Vec::new();
        for ((key, hint), entry) in keys.iter().zip(&hints).zip(&entries) {
            let Ok(Some(entry)) = entry else {
                stands.push(Poll::Ready(false));
                continue;
            };
            self.remember(key, entry, hint.as_ref());
            let told = self.stands(entry, &known);
            if told.is_pending() {
                open.extend(entry.value().map_or(&[][..], Marked::stamps));
            }
            stands.push(told);
        }
        // All that could not be told go together.
        let known = self.generations(open.into_iter().map(Stamp::tag)).await;
        let judge = |(entry, stands): (Found<V>, _)| {
            let Some(entry) = entry? else {
                return Ok(None);
            };
            let valid = match stands {
                Poll::Ready(stands) => stands,
                Poll::Pending => {
                    let known = known.as_ref().map_err(Error::clone)?;
                    known.hold_all(entry.value().map_or(&[][..], Marked::stamps))
                }
            };
            Ok(valid.then(|| unmarked(entry)))
        };
        entries.into_iter().zip(stands).map(judge).collect()
    }

    pub(super) async fn write_many(
        &self,
        entries: Vec<(&str, Option<V>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let tags: Vec<_> = entries
            .iter()
            .map(|(key, value, options)| {
                options.check()?;
                self.tags_of(key, value.as_ref())
            })
            .collect();
        let mut all: Vec<&str> = tags.iter().flatten().flatten().map(SmolStr::as_str).collect();
        all.sort_unstable();
        all.dedup();
        let longest = entries.iter().map(|(.., options)| options.usable_for()).max();
        let stamps = match all.is_empty() {
            true => Ok(Some(Vec::new())),
            false => self.marks.stamp(&all, None, longest.unwrap_or_default()).await,
        };
        let mut results = Vec::with_capacity(entries.len());
        let mut marked = Vec::with_capacity(entries.len());
        for ((key, value, options), tags) in entries.into_iter().zip(&tags) {
            let one = || {
                let tags = tags.as_ref().map_err(Error::clone)?;
                if tags.is_empty() {
                    return Ok(value.map(|value| Marked::new(Some(value), Vec::new())));
                }
                let stamps = stamps.as_ref().map_err(Error::clone)?.as_ref();
                let stamp = |tag: &SmolStr| {
                    let place = all.binary_search(&tag.as_str()).ok()?;
                    stamps?.get(place).map(Stamp::again)
                };
                let own: Option<Vec<Stamp>> = tags.iter().map(stamp).collect();
                let own = own.ok_or_else(|| Error::new(ErrorKind::Store))?;
                Ok(Some(Marked::new(value, own)))
            };
            results.push(one().map(|value| marked.push((key, value, options))));
        }
        let mut stored = self.inner.set_many(marked).await.into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = stored.next().unwrap_or_else(|| Err(Error::new(ErrorKind::Store)));
        }
        results
    }
}
