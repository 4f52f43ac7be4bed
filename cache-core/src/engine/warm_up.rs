//! Loading ahead of the traffic.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};

use super::lead::Led;
use super::many::{Launched, Wish, unique};
use super::{Ask, Due, Engine, Seen, load_error};
use crate::flight::Landing;
use crate::{
    BatchLoader, BoxError, CacheKey, CacheStore, Key, Loader, Observer, Outcome, ReadHints, Result,
};

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
    /// Keys that were fresh already, that somebody else was loading, or that had come before in the same question.
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

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Loaded => self.loaded += 1,
            Outcome::Failed => self.failed += 1,
            _ => self.skipped += 1,
        }
    }
}

/// The outcomes of keys that are done together.
type Outcomes = Vec<Outcome>;

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Loads those of `keys` that are not fresh, so many at a time, each in a task of its own.
    pub(crate) async fn warm_up<K, L>(
        self: &Arc<Self>,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        loader: &Arc<L>,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Send + Sync + 'static,
        L: Loader<K, Value = S::Value>,
    {
        let warm = keys.map(|key| async move {
            let loader = Arc::clone(loader);
            let spelled = key.key().to_smol();
            let load = || async move { loader.load(key).await.map_err(load_error) };
            let apart = |ask| self.load_apart(spelled.clone(), ask, load);
            vec![self.warm(&Key::borrowed(&spelled), apart).await]
        });
        told(warm.buffer_unordered(at_a_time.max(1)), progress).await
    }

    /// As [`warm_up`](Self::warm_up), with loads that are polled in place.
    pub(crate) async fn warm_up_in_place<K, F, Fut, E>(
        self: &Arc<Self>,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        load: F,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Send + Sync,
        F: Fn(K) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        let load = &load;
        let warm = keys.map(|key| async move {
            let spelled = key.key().to_smol();
            let load = || async { load(key).await.map_err(load_error) };
            let in_place = |ask| self.load_in_place(spelled.clone(), ask, load);
            vec![self.warm(&Key::borrowed(&spelled), in_place).await]
        });
        told(warm.buffer_unordered(at_a_time.max(1)), progress).await
    }

    /// Loads those of `keys` that are not fresh, so many with one question, in a task of its own.
    pub(crate) async fn warm_up_many<K, L>(
        self: &Arc<Self>,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        loader: &Arc<L>,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        let warm = chunks(keys, at_a_time.max(1)).then(|keys| async move {
            self.warm_many(&keys, |led| self.launch_apart(led, loader)).await
        });
        told(warm, progress).await
    }

    /// As [`warm_up_many`](Self::warm_up_many), with questions that are polled in place.
    pub(crate) async fn warm_up_many_in_place<K, F, Fut, E>(
        self: &Arc<Self>,
        keys: impl Stream<Item = K> + Send,
        at_a_time: usize,
        load: F,
        progress: impl FnMut(WarmUp) + Send,
    ) -> WarmUp
    where
        K: CacheKey + Clone + Send + Sync,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send,
        E: Into<BoxError>,
    {
        let load = &load;
        let warm = chunks(keys, at_a_time.max(1)).then(|keys| async move {
            self.warm_many(&keys, |led| self.launch_in_place(led, load)).await
        });
        told(warm, progress).await
    }

    /// Loads a key unless it is fresh. It is nobody's request, so none is counted.
    async fn warm<Fut>(
        self: &Arc<Self>,
        key: &Key<'_>,
        load: impl FnOnce(Ask) -> Fut + Send,
    ) -> Outcome
    where
        Fut: Future<Output = Landing<S::Value>> + Send,
    {
        let Wish { hints, due } = Wish::fresh();
        match self.seen(key, self.found(key).await, hints, due) {
            Seen::Answer(answer) | Seen::Refresh { current: answer, .. } => answer.outcome,
            Seen::Ask { ask, .. } => load(ask).await.outcome,
        }
    }

    /// As [`warm`](Self::warm), with one question for all that are free.
    async fn warm_many<'a, K>(
        self: &'a Arc<Self>,
        keys: &[K],
        launch: impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync,
    ) -> Outcomes
    where
        K: CacheKey + Clone + Send + Sync,
    {
        let (unique, places) = unique(keys);
        let landings = self.landings(&unique, Wish::fresh(), launch, None).await;
        let mut outcomes: Outcomes = landings.iter().map(|landing| landing.outcome).collect();
        outcomes.resize(places.len(), Outcome::Hit);
        outcomes
    }
}

impl Wish {
    /// An entry that is fresh, and needs nothing else.
    fn fresh() -> Self {
        let hints = ReadHints::new().max_staleness(Duration::ZERO);
        Self { hints, due: Some(Due::Nothing) }
    }
}

/// So many keys together, and what is left at the end. `StreamExt::chunks` would make room for all of them before the
/// first has come, and a caller may ask for more than there is memory.
fn chunks<K: Send>(
    keys: impl Stream<Item = K> + Send,
    at_a_time: usize,
) -> impl Stream<Item = Vec<K>> + Send {
    stream::unfold(Box::pin(keys.fuse()), move |mut keys| async move {
        let chunk: Vec<K> = keys.by_ref().take(at_a_time).collect().await;
        (!chunk.is_empty()).then_some((chunk, keys))
    })
}

/// Counts what is done, and tells how far it is.
async fn told(
    done: impl Stream<Item = Outcomes>,
    mut progress: impl FnMut(WarmUp) + Send,
) -> WarmUp {
    let mut so_far = WarmUp::default();
    pin!(done)
        .for_each(|outcomes| {
            outcomes.into_iter().for_each(|outcome| so_far.count(outcome));
            progress(so_far);
            ready(())
        })
        .await;
    so_far
}
