//! Loading ahead of the traffic.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};

use super::{Due, Engine, Seen, load_error};
use crate::{CacheKey, CacheStore, Key, Loader, Observer, Outcome, ReadHints, Result};

/// What a warm-up has done so far.
///
/// ```
/// use cache_core::WarmUp;
///
/// let progress = WarmUp::default();
/// assert_eq!(progress.keys(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUp {
    /// Keys that were loaded, also those of which the source has nothing.
    pub loaded: u64,
    /// Keys that were fresh already, or that somebody else was loading.
    pub skipped: u64,
    /// Keys whose load failed.
    pub failed: u64,
}

impl WarmUp {
    /// How many keys are done.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.loaded + self.skipped + self.failed
    }
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Loads those of `keys` that are not fresh, so many at a time.
    pub(crate) async fn warm_up<K, L>(
        self: &Arc<Self>,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        loader: &Arc<L>,
        mut progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Send + Sync + 'static,
        L: Loader<K, Value = S::Value>,
    {
        let warm = keys.map(|key| async move {
            let loader = Arc::clone(loader);
            let spelled = key.key().to_smol();
            let load = || async move { loader.load(key).await.map_err(load_error) };
            self.warm(&Key::borrowed(&spelled), load).await
        });
        let mut done = WarmUp::default();
        let mut outcomes = pin!(warm.buffer_unordered(at_a_time.max(1)));
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Outcome::Loaded => done.loaded += 1,
                Outcome::Failed => done.failed += 1,
                _ => done.skipped += 1,
            }
            progress(done);
        }
        done
    }

    /// Loads a key unless it is fresh. It is nobody's request, so none is counted.
    async fn warm<F, Fut>(self: &Arc<Self>, key: &Key<'_>, load: F) -> Outcome
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>>> + Send + 'static,
    {
        let hints = ReadHints::new().max_staleness(Duration::ZERO);
        match self.seen(key, self.found(key).await, hints, Some(Due::Nothing)) {
            Seen::Answer(answer) | Seen::Refresh { current: answer, .. } => answer.outcome,
            Seen::Ask { ask, .. } => self.load_apart(key.to_smol(), ask, load).await.outcome,
        }
    }
}
