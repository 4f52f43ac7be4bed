//! The way of one key through the cache.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Ask, Engine, Missing, hit, load_error};
use crate::flight::{Followed, Landing, Lead, Seat};
use crate::{
    BoxError, CacheKey, CacheStore, Entry, Error, ErrorKind, Key, Loader, Observer, Outcome, Result,
};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What the store has, and nothing more.
    pub(crate) async fn get(&self, key: &Key<'_>) -> Result<Option<S::Value>> {
        let began = self.began();
        match self.store.get(&key.key()).await {
            Ok(Some(entry)) if entry.is_fresh() => {
                self.ended(hit(&entry), began);
                Ok(entry.into_value())
            }
            found => {
                let asked = self.ask(&found);
                self.ended(
                    if asked.is_ok() {
                        Outcome::Missed
                    } else {
                        Outcome::Failed
                    },
                    began,
                );
                asked.map(|_| None)
            }
        }
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
        Fut: Future<Output = (Result<Option<S::Value>>, Outcome)> + Send,
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
        let (result, outcome) = match found {
            Ok(Some(entry)) if entry.is_fresh() => {
                let outcome = hit(&entry);
                (Ok(entry.into_value()), outcome)
            }
            found => match self.ask(&found) {
                Ok(ask) => load(ask).await,
                Err(error) => (Err(error), Outcome::Failed),
            },
        };
        missing.ended(outcome);
        result
    }

    async fn load_in_place<F, Fut>(
        &self,
        key: SmolStr,
        ask: Ask,
        load: F,
    ) -> (Result<Option<S::Value>>, Outcome)
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>>> + Send,
    {
        let lead = match self.flights.join(&key) {
            Seat::Lead(lead) => lead,
            Seat::Follow(follow) => match self.follow(&follow, self.options.waits_for()).await {
                Ok(Followed::Landed(landing)) => return shared(landing),
                Ok(Followed::Lead(lead)) => lead,
                Err(error) => return (Err(error), Outcome::Failed),
            },
        };
        let landing = self.lead(lead, ask, load).await;
        (landing.result, landing.outcome)
    }

    async fn load_apart<K, L>(
        self: &Arc<Self>,
        key: SmolStr,
        ask: Ask,
        owned: K,
        loader: &Arc<L>,
    ) -> (Result<Option<S::Value>>, Outcome)
    where
        K: Send + 'static,
        O: Observer,
        L: Loader<K, Value = S::Value>,
    {
        let lead = match self.flights.join(&key) {
            Seat::Lead(lead) => lead,
            Seat::Follow(follow) => match self.follow(&follow, self.options.waits_for()).await {
                Ok(Followed::Landed(landing)) => return shared(landing),
                Ok(Followed::Lead(lead)) => lead,
                Err(error) => return (Err(error), Outcome::Failed),
            },
        };
        let follow = lead.follow();
        let result = match self.spawn_lead(lead, ask, owned, loader) {
            Ok(()) => self.follow(&follow, self.flight_limit()).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Followed::Landed(landing)) => (landing.result, landing.outcome),
            // The task ended without landing: its runtime shuts down, or the store panicked.
            Ok(Followed::Lead(lead)) => {
                let error = Error::with_cause(ErrorKind::LoaderPanicked, "the load's task is gone");
                lead.land(Landing {
                    result: Err(error.clone()),
                    outcome: Outcome::Failed,
                });
                (Err(error), Outcome::Failed)
            }
            Err(error) => (Err(error), Outcome::Failed),
        }
    }

    fn spawn_lead<K, L>(
        self: &Arc<Self>,
        lead: Lead<S::Value>,
        ask: Ask,
        key: K,
        loader: &Arc<L>,
    ) -> Result<()>
    where
        K: Send + 'static,
        O: Observer,
        L: Loader<K, Value = S::Value>,
    {
        let (engine, loader) = (Arc::clone(self), Arc::clone(loader));
        runtime()?.spawn(async move {
            let load = || async { loader.load(key).await.map_err(load_error) };
            engine.lead(lead, ask, load).await;
        });
        Ok(())
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
                    this.engine.ended(hit(&entry), began);
                    return Poll::Ready(Ok(entry.into_value()));
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

/// What a landing is for those who did not begin the flight.
pub(super) fn shared<V>(landing: Landing<V>) -> (Result<Option<V>>, Outcome) {
    let outcome = if landing.result.is_ok() {
        Outcome::Coalesced
    } else {
        Outcome::Failed
    };
    (landing.result, outcome)
}
