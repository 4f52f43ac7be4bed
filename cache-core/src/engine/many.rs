//! The way of many keys through the cache.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::lead::Led;
use super::read::{gone, runtime};
use super::{Ask, Engine, Missing, Seen, load_error};
use crate::flight::{Follow, Followed, Landing, Seat};
use crate::{BatchLoader, BoxError, CacheKey, CacheStore, Entry, Key, Observer, Result};

type Launched<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// As [`get_or_load`](Self::get_or_load), for many keys at once.
    pub(crate) async fn get_or_load_many<K, F, Fut, E>(
        &self,
        keys: &[K],
        load: F,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send,
        E: Into<BoxError>,
    {
        let load = &load;
        let launch = |led| -> Result<Launched<'_>> {
            runtime()?;
            let load = |keys| async { load(keys).await.map_err(load_error) };
            Ok(Box::pin(self.lead_many(led, load)))
        };
        self.many(keys, launch).await
    }

    /// As [`get_through`](Self::get_through), for many keys at once.
    pub(crate) async fn get_through_many<K, L>(
        self: &Arc<Self>,
        keys: &[K],
        loader: &Arc<L>,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        let launch = |led| -> Result<Launched<'_>> {
            let (engine, loader) = (Arc::clone(self), Arc::clone(loader));
            runtime()?.spawn(async move {
                let load = |keys| async { loader.load_many(keys).await.map_err(load_error) };
                engine.lead_many(led, load).await;
            });
            Ok(Box::pin(ready(())))
        };
        self.many(keys, launch).await
    }

    /// Asks the store for all keys at once, has the misses that nobody loads yet `launch`ed together, and
    /// waits for all others meanwhile.
    async fn many<'a, K>(
        &'a self,
        keys: &[K],
        launch: impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync,
    {
        let mut missing = Missing { engine: self, began: None, count: keys.len() };
        let (unique, places) = unique(keys);
        let spelled: Vec<&str> = unique.iter().map(|(_, spelled)| &**spelled).collect();
        let mut found = self.found_many(&spelled).await.into_iter();

        let mut answers: Vec<Option<Landing<S::Value>>> = Vec::with_capacity(unique.len());
        let (mut led, mut open) = (Vec::new(), Vec::new());
        for (at, (key, spelled)) in unique.iter().enumerate() {
            answers.push(match self.seen(found.next().unwrap_or(Ok(None))) {
                Seen::Answer(answer) => Some(answer),
                Seen::Ask(ask) => {
                    match self.flights.join(&spelled.to_smol(), false) {
                        Seat::Follow(follow) => open.push(Open { at, ask, follow, mine: false }),
                        Seat::Lead(lead) => {
                            open.push(Open { at, ask, follow: lead.follow(), mine: true });
                            led.push(Led { lead, ask, key: (*key).clone() });
                        }
                    }
                    None
                }
            });
        }
        let launched: Launched<'a> = match led.is_empty() {
            true => Box::pin(ready(())),
            false => match launch(led) {
                Ok(launched) => launched,
                Err(error) => {
                    for Open { at, .. } in open.extract_if(.., |open| open.mine) {
                        answers[at] = Some(Landing::failed(error.clone()));
                    }
                    Box::pin(ready(()))
                }
            },
        };
        let waits = open.into_iter().map(|open| self.wait(open, &unique, &launch));
        let (landings, ()) = join(join_all(waits), launched).await;
        for (at, landing) in landings {
            answers[at] = Some(landing);
        }
        let answers = places.into_iter().map(|at| answers[at].clone());
        answers.flatten().map(|answer| missing.ended(answer)).collect()
    }

    async fn found_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        let found = self.within_limit(async { Ok(self.store.get_many(keys).await) });
        found.await.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect())
    }

    /// Waits for the answer to an open key, and leads its load if the one who did has gone away.
    async fn wait<'a, K>(
        &'a self,
        mut open: Open<S::Value>,
        keys: &[(&K, Key<'_>)],
        launch: &(impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync),
    ) -> (usize, Landing<S::Value>)
    where
        K: CacheKey + Clone + Send + Sync,
    {
        let (key, spelled) = &keys[open.at];
        let landing = loop {
            let limit = if open.mine { self.flight_limit() } else { self.options.waits_for() };
            let lead = match self.follow(&open.follow, limit).await {
                Ok(Followed::Landed(landing)) if open.mine => break landing,
                Ok(Followed::Landed(landing)) => break landing.shared(),
                Ok(Followed::Lead(lead)) if open.mine => break gone(&lead),
                Ok(Followed::Lead(lead)) => lead,
                Ok(Followed::Again) => match self.join_again(&spelled.to_smol()).await {
                    Ok((Seat::Lead(lead), ask)) => {
                        open.ask = ask;
                        lead
                    }
                    Ok((Seat::Follow(follow), ask)) => {
                        open = Open { ask, follow, mine: false, ..open };
                        continue;
                    }
                    Err(landing) => break landing,
                },
                Err(error) => break Landing::failed(error),
            };
            open = Open { follow: lead.follow(), mine: true, ..open };
            match launch(vec![Led { lead, ask: open.ask, key: (*key).clone() }]) {
                Ok(launched) => launched.await,
                Err(error) => break Landing::failed(error),
            }
        };
        (open.at, landing)
    }
}

/// A key of many that somebody is loading.
struct Open<V> {
    at: usize,
    ask: Ask,
    follow: Follow<V>,
    /// Whether this call has brought the load about.
    mine: bool,
}

/// The keys without repetition, with their spellings, and which of them each key is.
fn unique<K: CacheKey>(keys: &[K]) -> (Vec<(&K, Key<'_>)>, Vec<usize>) {
    let mut positions = HashMap::with_capacity(keys.len());
    let mut unique = Vec::with_capacity(keys.len());
    let place = |key| {
        let spelled = K::key(key);
        *positions.entry(spelled.clone()).or_insert_with(|| {
            unique.push((key, spelled));
            unique.len() - 1
        })
    };
    let places = keys.iter().map(place).collect();
    (unique, places)
}
