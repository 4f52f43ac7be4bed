//! The way of one key through the cache.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Ask, Engine, Missing, Seen, hit, load_error};
use crate::flight::{Followed, Landing, Lead, Seat};
use crate::{
    BoxError, CacheKey, CacheStore, Entry, Error, ErrorKind, Key, Loader, Observer, Outcome, Result,
};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What the store has, and nothing more.
    pub(crate) async fn get(&self, key: &Key<'_>) -> Result<Option<S::Value>> {
        let began = self.began();
        let found = match self.store.get_now(key) {
            Poll::Ready(found) => Ok(found),
            Poll::Pending => self.store.get(key).await,
        };
        let answer = match self.seen(found) {
            Seen::Answer(answer) => answer,
            Seen::Ask(_) => Landing {
                result: Ok(None),
                outcome: Outcome::Missed,
            },
        };
        self.ended(answer.outcome, began);
        answer.result
    }

    /// 1. Ask the store.    2. On a miss, join the flight: one caller loads, the others wait.
    /// 3. The one claims the key, which asks the store again.    4. Load, and keep what was found.
    ///
    /// The load is polled in place, so it may borrow from the caller. If the caller goes away, one of
    /// those who wait takes over, with its own load.
    #[inline]
    pub(crate) fn get_or_load<'a, K, F, Fut, E>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, S, O, K, F, Fut, E>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        let miss = move |began, glimpse| -> Miss<'a, S::Value> {
            Box::pin(async move {
                let load = || async { load().await.map_err(load_error) };
                let spelled = key.key();
                self.missed(&spelled, began, glimpse, |ask| {
                    self.load_in_place(spelled.to_smol(), ask, load)
                })
                .await
            })
        };
        Read {
            engine: self,
            key,
            miss: Some(miss),
            missing: None,
        }
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that belongs to the cache: the load runs in
    /// a task of its own, which no caller can cancel.
    #[inline]
    pub(crate) fn get_through<'a, Q, L>(
        self: &'a Arc<Self>,
        key: &'a Q,
        loader: &'a Arc<L>,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, S, O, Q, L>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        let miss = move |began, glimpse| -> Miss<'a, S::Value> {
            Box::pin(async move {
                let spelled = key.key();
                self.missed(&spelled, began, glimpse, |ask| {
                    self.load_apart(spelled.to_smol(), ask, key.to_owned(), loader)
                })
                .await
            })
        };
        Read {
            engine: self,
            key,
            miss: Some(miss),
            missing: None,
        }
    }

    /// The way of a key that the store could not answer at once.
    async fn missed<Fut>(
        &self,
        key: &Key<'_>,
        began: Option<Instant>,
        glimpse: Poll<Option<Entry<S::Value>>>,
        load: impl FnOnce(Ask) -> Fut + Send,
    ) -> Result<Option<S::Value>>
    where
        Fut: Future<Output = Landing<S::Value>> + Send,
    {
        let mut missing = Missing {
            engine: self,
            began,
            count: 1,
        };
        let found = match glimpse {
            Poll::Ready(found) => Ok(found),
            Poll::Pending => self.store.get(key).await,
        };
        let answer = match self.seen(found) {
            Seen::Answer(answer) => answer,
            Seen::Ask(ask) => load(ask).await,
        };
        missing.ended(answer)
    }

    async fn load_in_place<F, Fut>(&self, key: SmolStr, ask: Ask, load: F) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>>> + Send,
    {
        match self.lead_or_landing(&key).await {
            Ok(lead) => self.lead(lead, ask, load).await,
            Err(landing) => landing,
        }
    }

    async fn load_apart<K, L>(
        self: &Arc<Self>,
        key: SmolStr,
        ask: Ask,
        owned: K,
        loader: &Arc<L>,
    ) -> Landing<S::Value>
    where
        K: Send + 'static,
        L: Loader<K, Value = S::Value>,
    {
        let lead = match self.lead_or_landing(&key).await {
            Ok(lead) => lead,
            Err(landing) => return landing,
        };
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return Landing::failed(error),
        };
        let follow = lead.follow();
        let (engine, loader) = (Arc::clone(self), Arc::clone(loader));
        runtime.spawn(async move {
            let load = || async { loader.load(owned).await.map_err(load_error) };
            engine.lead(lead, ask, load).await;
        });
        match self.follow(&follow, self.flight_limit()).await {
            Ok(Followed::Landed(landing)) => landing,
            Ok(Followed::Lead(lead)) => gone(&lead),
            Err(error) => Landing::failed(error),
        }
    }

    /// The lead of the key's load, or what somebody else's load has landed.
    async fn lead_or_landing(&self, key: &SmolStr) -> Result<Lead<S::Value>, Landing<S::Value>> {
        let follow = match self.flights.join(key) {
            Seat::Lead(lead) => return Ok(lead),
            Seat::Follow(follow) => follow,
        };
        match self.follow(&follow, self.options.waits_for()).await {
            Ok(Followed::Lead(lead)) => Ok(lead),
            Ok(Followed::Landed(landing)) => Err(landing.shared()),
            Err(error) => Err(Landing::failed(error)),
        }
    }
}

/// A read that the store answers at once, or a miss.
///
/// A hit in memory is the bulk of all that a cache does. It has no `async fn` on its way, because each
/// costs as much as a tenth of the look-up; and what a miss needs is boxed, so that a hit carries no
/// room for it.
struct Read<'a, S: CacheStore, O, K: ?Sized, M> {
    engine: &'a Engine<S, O>,
    key: &'a K,
    miss: Option<M>,
    missing: Option<Miss<'a, S::Value>>,
}

type Miss<'a, V> = Pin<Box<dyn Future<Output = Result<Option<V>>> + Send + 'a>>;

// Nothing in it is pinned in place: the miss is in a box of its own.
impl<S: CacheStore, O, K: ?Sized, M> Unpin for Read<'_, S, O, K, M> {}

impl<'a, S, O, K, M> Future for Read<'a, S, O, K, M>
where
    S: CacheStore,
    O: Observer,
    K: CacheKey + ?Sized,
    M: FnOnce(Option<Instant>, Poll<Option<Entry<S::Value>>>) -> Miss<'a, S::Value>,
{
    type Output = Result<Option<S::Value>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.missing.is_none() {
            let began = this.engine.began();
            let glimpse = match this.engine.store.get_now(&this.key.key()) {
                Poll::Ready(Some(entry)) if entry.is_fresh() => {
                    let answer = hit(entry);
                    this.engine.ended(answer.outcome, began);
                    return Poll::Ready(answer.result);
                }
                glimpse => glimpse,
            };
            this.missing = this.miss.take().map(|miss| miss(began, glimpse));
        }
        match &mut this.missing {
            Some(missing) => missing.as_mut().poll(context),
            // Polled again after it was done, which no future has to bear.
            None => Poll::Pending,
        }
    }
}

/// The runtime to spawn loads on.
pub(super) fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|e| Error::with_cause(ErrorKind::NoRuntime, e))
}

/// Lands a flight whose task ended without landing it: its runtime shuts down, or the store panicked.
pub(super) fn gone<V: Clone>(lead: &Lead<V>) -> Landing<V> {
    let error = Error::with_cause(ErrorKind::LoaderPanicked, "the load's task is gone");
    let landing = Landing::failed(error);
    lead.land(landing.clone());
    landing
}
