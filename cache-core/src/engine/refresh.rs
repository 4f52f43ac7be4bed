//! Replacing an entry that is still there: in the background, or in place of one read.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use smol_str::SmolStr;

use super::background::Pause;
use super::fence::{Claimed, RETRIES, land_unloaded};
use super::lead::Led;
use super::many::Stale;
use super::read::runtime;
use super::{Ask, Engine, excused};
use crate::flight::{Landing, Lead, Seat, Takes};
use crate::options::slid;
use crate::waits::Node;
use crate::{
    CacheKey, CacheStore, ClaimOptions, Event, Observer, ReadHints, Result, StaleReason, Version,
};

/// What comes of claiming a key that has an entry.
pub(super) enum Refresh<V> {
    /// To be loaded, under a lease.
    Load(Ask),
    /// Somebody else has loaded it.
    Done(Landing<V>),
    /// Not now: somebody else is loading it, or the store fails.
    Not,
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Refreshes a key in the background, unless somebody does so already, it has just failed, or there is too
    /// much going on.
    pub(super) fn refresh<F, Fut>(self: &Arc<Self>, key: &SmolStr, seen: Version, load: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>>> + Send + 'static,
    {
        let Some(lead) = self.lead_refresh(key) else {
            return;
        };
        let engine = Arc::clone(self);
        self.spawn_refresh(async move {
            if let Refresh::Load(ask) = engine.claim_refresh(&lead, seen).await {
                engine.load_and_land(&lead, ask, load).await;
            }
        });
    }

    /// As [`refresh`](Self::refresh), with one question to the source.
    pub(super) fn refresh_many<K, F, Fut>(self: &Arc<Self>, stale: Vec<Stale<K>>, load: F)
    where
        K: CacheKey + Send + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(K, S::Value)>>> + Send + 'static,
    {
        let leads = stale.into_iter().filter_map(|stale| {
            self.lead_refresh(&stale.spelled).map(|lead| (lead, stale.key, stale.seen))
        });
        let leads: Vec<_> = leads.collect();
        if leads.is_empty() {
            return;
        }
        let engine = Arc::clone(self);
        self.spawn_refresh(async move {
            let claims = leads.into_iter().map(|(lead, key, seen)| {
                let engine = &engine;
                async move {
                    let Refresh::Load(ask) = engine.claim_refresh(&lead, seen).await else {
                        return None;
                    };
                    Some(Led { lead, ask, key })
                }
            });
            let led = join_all(claims).await.into_iter().flatten().collect();
            engine.load_many(led, &load).await;
        });
    }

    /// Gives a sliding entry its time again, in the background: claims it, looks whether it is still there, and fills it
    /// again. Nobody gets what this flight has: it was read before the claim.
    pub(super) fn touch(self: &Arc<Self>, key: &str, seen: Version) {
        let Some(idle) = self.options.freshness.sliding else {
            return;
        };
        let Some(lead) = self.lead_refresh(&key.into()) else {
            return;
        };
        let engine = Arc::clone(self);
        self.spawn_refresh(async move {
            let options = ClaimOptions::new(engine.options.lease_life()).writing();
            let Refresh::Load(_) = engine.claim_refresh_as(&lead, seen, options).await else {
                return;
            };
            let Some(lease) = lead.lease() else {
                return;
            };
            // The claim is granted also if the entry has gone since it was seen. From here on its removal takes the lease.
            let found = engine.within_limit(engine.store.get(lead.key())).await;
            match found {
                Ok(Some(entry)) if entry.version() == seen && !entry.is_negative() => {
                    let options = slid(idle, entry.usable_for()).with_load_time(entry.load_time());
                    engine.fill(&lead, lease, entry.into_value(), options).await;
                }
                _ => {
                    engine.release(lease).await;
                }
            }
            lead.used_lease();
        });
    }

    /// The lead of a refresh, unless there is one, or it has to pause. Whoever waits for the flight takes the lead if the refresh
    /// does not land it.
    fn lead_refresh(&self, key: &SmolStr) -> Option<Lead<S::Value>> {
        if self.background.paused(key).is_some() || runtime().is_err() {
            return None;
        }
        match self.flights.join(key, Takes::Fenced) {
            Seat::Lead(lead) => Some(lead),
            Seat::Follow(_) => None,
        }
    }

    fn spawn_refresh(self: &Arc<Self>, refresh: impl Future<Output = ()> + Send + 'static) {
        let place = self.background.refresh(self.options.freshness.most_refreshes);
        let (Some(place), Ok(runtime)) = (place, runtime()) else {
            return self.notify(&Event::RefreshSkipped);
        };
        let ended = Ended(Arc::clone(self));
        self.notify(&Event::RefreshBegan);
        runtime.spawn(async move {
            place.run(refresh).await;
            drop(ended);
        });
    }

    /// Refreshes a key by the caller's own load, unless somebody else does. In the meantime the others have
    /// `current`.
    pub(super) async fn refresh_in_place<F, Fut>(
        &self,
        key: SmolStr,
        current: Landing<S::Value>,
        seen: Version,
        hints: ReadHints,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>>> + Send,
    {
        if self.background.paused(&key).is_some() || runtime().is_err() {
            return current;
        }
        let Seat::Lead(lead) = self.flights.join(&key, Takes::Fenced) else {
            return current;
        };
        // As every load in place: what it needs may need the load that it is part of.
        let _waiting = Node::wait_for(lead.node());
        let landing = match self.claim_refresh(&lead, seen).await {
            Refresh::Load(ask) => self.load_and_land(&lead, ask, load).await,
            Refresh::Done(landing) => landing,
            Refresh::Not => return current,
        };
        if excused(&landing) {
            return self.instead(&key, hints, StaleReason::LoadFailed).await.unwrap_or(landing);
        }
        landing
    }

    /// Claims a key that has an entry, without waiting for anybody.
    pub(super) async fn claim_refresh(
        &self,
        lead: &Lead<S::Value>,
        seen: Version,
    ) -> Refresh<S::Value> {
        self.claim_refresh_as(lead, seen, ClaimOptions::new(self.options.lease_life())).await
    }

    async fn claim_refresh_as(
        &self,
        lead: &Lead<S::Value>,
        seen: Version,
        options: ClaimOptions,
    ) -> Refresh<S::Value> {
        let mut ask = Ask::Claim { seen: Some(seen) };
        let (why, pause) = match self.claim_once_as(lead, &mut ask, options).await {
            Claimed::Free if lead.lease().is_some() => return Refresh::Load(ask),
            Claimed::Answered(landing) if landing.result.is_ok() => {
                return Refresh::Done(land_unloaded(lead, landing));
            }
            Claimed::Held { retry_in } => (Pause::Busy, retry_in.clamp(RETRIES.0, RETRIES.1)),
            // The store fails.
            _ => (Pause::Busy, self.options.freshness.retry_after),
        };
        self.background.pause(lead.key(), why, pause);
        Refresh::Not
    }
}

/// Tells the observer that a refresh has ended, however it did.
struct Ended<S: CacheStore, O: Observer>(Arc<Engine<S, O>>);

impl<S: CacheStore, O: Observer> Drop for Ended<S, O> {
    fn drop(&mut self) {
        self.0.notify(&Event::RefreshEnded);
    }
}
