//! The way of many keys through the cache.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::future::{join, join_all};
use smol_str::SmolStr;

use super::freshness::Due;
use super::lead::Led;
use super::read::{gone, runtime};
use super::{Ask, Engine, Missing, Seen, load_error};
use crate::flight::{Follow, Followed, Landing, Seat};
use crate::{
    BatchLoader, BoxError, CacheKey, CacheStore, Entry, Key, Observer, ReadHints, Result, Version,
};

pub(super) type Launched<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// As [`get_or_load`](Self::get_or_load), for many keys at once.
    pub(crate) async fn get_or_load_many<K, F, Fut, E>(
        self: &Arc<Self>,
        keys: &[K],
        load: F,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send,
        E: Into<BoxError>,
    {
        self.many(keys, |led| self.launch_in_place(led, &load), None).await
    }

    /// Leads loads as part of what their caller waits for.
    pub(super) fn launch_in_place<'a, K, F, Fut, E>(
        self: &'a Arc<Self>,
        led: Vec<Led<K, S::Value>>,
        load: &'a F,
    ) -> Result<Launched<'a>>
    where
        K: CacheKey + Clone + Send + Sync + 'a,
        F: Fn(Vec<K>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<(K, S::Value)>, E>> + Send + 'a,
        E: Into<BoxError>,
    {
        runtime()?;
        let load = |keys| async { load(keys).await.map_err(load_error) };
        Ok(Box::pin(self.lead_many(led, load)))
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
        let refresh = |due| {
            let loader = Arc::clone(loader);
            self.refresh_many(due, move |keys| {
                let loader = Arc::clone(&loader);
                async move { loader.load_many(keys).await.map_err(load_error) }
            });
        };
        self.many(keys, |led| self.launch_apart(led, loader), Some(&refresh)).await
    }

    /// Leads loads in a task of their own, which no caller can cancel.
    pub(super) fn launch_apart<'a, K, L>(
        self: &Arc<Self>,
        led: Vec<Led<K, S::Value>>,
        loader: &Arc<L>,
    ) -> Result<Launched<'a>>
    where
        K: CacheKey + Clone + Send + Sync + 'static,
        L: BatchLoader<K, Value = S::Value>,
    {
        let (engine, loader) = (Arc::clone(self), Arc::clone(loader));
        let (runtime, place) = (runtime()?, self.background.load());
        runtime.spawn(place.run(async move {
            let load = |keys| async { loader.load_many(keys).await.map_err(load_error) };
            engine.lead_many(led, load).await;
        }));
        Ok(Box::pin(ready(())))
    }

    /// A request for each of the keys.
    async fn many<'a, K>(
        self: &'a Arc<Self>,
        keys: &[K],
        launch: impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync,
        refresh: Option<&(dyn Fn(Vec<Stale<K>>) + Sync)>,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone + Send + Sync,
    {
        let mut missing = Missing { engine: self, began: None, count: keys.len() };
        let (unique, places) = unique(keys);
        let landings = self.landings(&unique, Wish::default(), launch, refresh).await;
        let answers = places.into_iter().map(|at| landings[at].clone());
        answers.map(|answer| missing.ended(answer).result).collect()
    }

    /// Asks the store for all keys at once, has the misses that nobody loads yet `launch`ed together, and
    /// waits for all others meanwhile.
    ///
    /// What is answered and is to be refreshed goes to `refresh`. Without one it is loaded together with the misses.
    pub(super) async fn landings<'a, K>(
        self: &'a Arc<Self>,
        unique: &[(&K, Key<'_>)],
        Wish { hints, due }: Wish,
        launch: impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync,
        refresh: Option<&(dyn Fn(Vec<Stale<K>>) + Sync)>,
    ) -> Vec<Landing<S::Value>>
    where
        K: CacheKey + Clone + Send + Sync,
    {
        // A load in place can't go on while its caller returns.
        let apart = refresh.is_some() && runtime().is_ok();
        let soft = self.options.freshness.soft_timeout.filter(|_| apart);
        let spelled: Vec<&str> = unique.iter().map(|(_, spelled)| &**spelled).collect();
        let mut found = self.found_many(&spelled).await.into_iter();

        let mut answers: Vec<Option<Landing<S::Value>>> = Vec::with_capacity(unique.len());
        let (mut led, mut open, mut stale) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (key, spelled)) in unique.iter().enumerate() {
            let found = found.next().unwrap_or(Ok(None));
            let (ask, reserve, current) = match self.seen(spelled, found, hints, due) {
                Seen::Answer(answer) => {
                    answers.push(Some(answer));
                    continue;
                }
                Seen::Refresh { current, seen } if refresh.is_some() => {
                    stale.push(Stale { key: (*key).clone(), spelled: spelled.to_smol(), seen });
                    answers.push(Some(current));
                    continue;
                }
                Seen::Refresh { current, seen } => {
                    (Ask::Claim { seen: Some(seen) }, true, Some(current))
                }
                Seen::Ask { ask, reserve } => (ask, reserve, None),
            };
            let seat = self.flights.join(&spelled.to_smol(), ask.takes());
            let answer = match (seat, current) {
                // Somebody else refreshes it.
                (Seat::Follow(_), Some(current)) => Some(current),
                (Seat::Follow(follow), None) => {
                    open.push(Open { at, ask, reserve, follow, mine: false });
                    None
                }
                (Seat::Lead(_), Some(current)) if self.background.paused(spelled).is_some() => {
                    Some(current)
                }
                (Seat::Lead(lead), _) => {
                    open.push(Open { at, ask, reserve, follow: lead.follow(), mine: true });
                    led.push(Led { lead, ask, key: (*key).clone() });
                    None
                }
            };
            answers.push(answer);
        }
        if let (Some(refresh), false) = (refresh, stale.is_empty()) {
            refresh(stale);
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
        let waits = open.into_iter().map(|open| {
            let (at, reserve) = (open.at, open.reserve);
            let wait = self.wait(open, unique, &launch);
            let key = &unique[at].1;
            async move {
                let wait = pin!(wait);
                let landing = match reserve {
                    true => self.with_reserve(key, hints, soft, wait).await,
                    false => wait.await,
                };
                (at, landing)
            }
        });
        let (landings, ()) = join(join_all(waits), launched).await;
        for (at, landing) in landings {
            answers[at] = Some(landing);
        }
        // Each of them is one or the other: answered, or waited for.
        answers.into_iter().flatten().collect()
    }

    async fn found_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        let found = self.look_many(keys).await;
        found.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect())
    }

    /// Waits for the answer to an open key, and leads its load if the one who did has gone away.
    async fn wait<'a, K>(
        self: &'a Arc<Self>,
        mut open: Open<S::Value>,
        keys: &[(&K, Key<'_>)],
        launch: &(impl Fn(Vec<Led<K, S::Value>>) -> Result<Launched<'a>> + Sync),
    ) -> Landing<S::Value>
    where
        K: CacheKey + Clone + Send + Sync,
    {
        let (key, spelled) = &keys[open.at];
        loop {
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
        }
    }
}

/// What is wished of an entry. `due` is what a fresh one needs, where that is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) hints: ReadHints,
    pub(super) due: Option<Due>,
}

/// A key of many that is answered, and is to be refreshed.
pub(super) struct Stale<K> {
    pub(super) key: K,
    pub(super) spelled: SmolStr,
    pub(super) seen: Version,
}

/// A key of many that somebody is loading.
struct Open<V> {
    at: usize,
    ask: Ask,
    /// Whether there is something to be returned if the load fails.
    reserve: bool,
    follow: Follow<V>,
    /// Whether this call has brought the load about.
    mine: bool,
}

/// The keys without repetition, with their spellings, and which of them each key is.
pub(super) fn unique<K: CacheKey>(keys: &[K]) -> (Vec<(&K, Key<'_>)>, Vec<usize>) {
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
