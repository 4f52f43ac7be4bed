//! The way of one key through the cache.

use std::future::Future;
use std::sync::Arc;

use smol_str::SmolStr;
use tokio::runtime::Handle;

use super::{Ask, Engine, Missing, hit, load_error};
use crate::flight::{Followed, Landing, Lead, Seat};
use crate::{BoxError, CacheStore, Error, ErrorKind, Key, Loader, Observer, Outcome, Result};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What the store has, and nothing more.
    pub(crate) async fn get(&self, key: &Key<'_>) -> Result<Option<S::Value>> {
        let began = self.began();
        match self.store.get(key).await {
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
    pub(crate) async fn get_or_load<F, Fut, E>(
        &self,
        key: &Key<'_>,
        load: F,
    ) -> Result<Option<S::Value>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        let began = self.began();
        match self.store.get(key).await {
            Ok(Some(entry)) if entry.is_fresh() => {
                self.ended(hit(&entry), began);
                Ok(entry.into_value())
            }
            found => {
                let ask = self.ask(&found);
                let load = move || async move { load().await.map_err(load_error) };
                // Boxed, so that a hit does not carry the room that a miss needs.
                Box::pin(async move {
                    let mut missing = Missing {
                        engine: self,
                        began,
                        count: 1,
                    };
                    let (result, outcome) = match ask {
                        Ok(ask) => self.load_in_place(key.to_smol(), ask, load).await,
                        Err(error) => (Err(error), Outcome::Failed),
                    };
                    missing.ended(outcome);
                    result
                })
                .await
            }
        }
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that belongs to the cache: the load runs in
    /// a task of its own, which no caller can cancel.
    #[inline]
    pub(crate) async fn get_through<K, L>(
        self: &Arc<Self>,
        key: &Key<'_>,
        owned: impl FnOnce() -> K + Send,
        loader: &Arc<L>,
    ) -> Result<Option<S::Value>>
    where
        K: Send + 'static,
        O: Observer,
        L: Loader<K, Value = S::Value>,
    {
        let began = self.began();
        match self.store.get(key).await {
            Ok(Some(entry)) if entry.is_fresh() => {
                self.ended(hit(&entry), began);
                Ok(entry.into_value())
            }
            found => {
                let ask = self.ask(&found);
                Box::pin(async move {
                    let mut missing = Missing {
                        engine: self,
                        began,
                        count: 1,
                    };
                    let (result, outcome) = match ask {
                        Ok(ask) => self.load_apart(key.to_smol(), ask, owned(), loader).await,
                        Err(error) => (Err(error), Outcome::Failed),
                    };
                    missing.ended(outcome);
                    result
                })
                .await
            }
        }
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
