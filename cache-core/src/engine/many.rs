//! The way of many keys through the cache.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;

use super::lead::Led;
use super::read::{runtime, shared};
use super::{Ask, Engine, Missing, hit, load_error};
use crate::flight::{Follow, Followed, Seat};
use crate::{
    BatchLoader, BoxError, CacheKey, CacheStore, Error, ErrorKind, Key, Observer, Outcome, Result,
};

type Answer<V> = (Result<Option<V>>, Outcome);
type Launched<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

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
        let launch = |led| -> Launched<'_> {
            Box::pin(async move {
                let load = |keys| async { load(keys).await.map_err(load_error) };
                self.lead_many(led, load).await;
                Ok(())
            })
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
        let launch = |led| -> Launched<'_> {
            let (engine, loader) = (Arc::clone(self), Arc::clone(loader));
            let spawned = runtime().map(|runtime| {
                runtime.spawn(async move {
                    let load = |keys| async { loader.load_many(keys).await.map_err(load_error) };
                    engine.lead_many(led, load).await;
                });
            });
            Box::pin(async move { spawned })
        };
        self.many(keys, launch).await
    }

    /// Asks the store for all keys at once, has the misses that nobody loads yet `launch`ed together, and
    /// waits for all others.
    async fn many<'a, K>(
        &'a self,
        keys: &[K],
        launch: impl Fn(Vec<Led<K, S::Value>>) -> Launched<'a>,
    ) -> Vec<Result<Option<S::Value>>>
    where
        K: CacheKey + Clone,
    {
        let mut missing = Missing {
            engine: self,
            began: None,
            count: keys.len(),
        };
        // A key may occur twice; it is asked for once.
        let mut positions = HashMap::with_capacity(keys.len());
        let mut unique: Vec<(&K, Key<'_>)> = Vec::with_capacity(keys.len());
        let places: Vec<usize> = keys
            .iter()
            .map(|key| {
                let spelled = key.key();
                *positions.entry(spelled.clone()).or_insert_with(|| {
                    unique.push((key, spelled));
                    unique.len() - 1
                })
            })
            .collect();

        let spelled: Vec<&str> = unique.iter().map(|(_, spelled)| &**spelled).collect();
        let mut found = self.store.get_many(&spelled).await.into_iter();
        let mut answers: Vec<Option<Answer<S::Value>>> = Vec::with_capacity(unique.len());
        let (mut led, mut followed) = (Vec::new(), Vec::new());
        for (at, (key, spelled)) in unique.iter().enumerate() {
            let found = found.next().unwrap_or(Ok(None));
            answers.push(match (found, at) {
                (Ok(Some(entry)), _) if entry.is_fresh() => {
                    let outcome = hit(&entry);
                    Some((Ok(entry.into_value()), outcome))
                }
                (found, at) => match self.ask(&found) {
                    Err(error) => Some((Err(error), Outcome::Failed)),
                    Ok(ask) => {
                        match self.flights.join(&spelled.to_smol()) {
                            Seat::Lead(lead) => led.push((
                                at,
                                Led {
                                    lead,
                                    ask,
                                    key: (*key).clone(),
                                },
                            )),
                            Seat::Follow(follow) => followed.push((at, ask, follow)),
                        }
                        None
                    }
                },
            });
        }

        // Each round answers every key that is still open or hands this caller its lead, which happens
        // only when the caller that led it has gone away.
        while !led.is_empty() || !followed.is_empty() {
            let (mine, leads): (Vec<_>, Vec<_>) = led
                .drain(..)
                .map(|(at, led)| ((at, led.ask, led.lead.follow(), true), led))
                .unzip();
            let others = followed
                .drain(..)
                .map(|(at, ask, follow)| (at, ask, follow, false));
            let waiting: Vec<_> = mine.into_iter().chain(others).collect();
            if !leads.is_empty()
                && let Err(error) = launch(leads).await
            {
                for (at, ..) in waiting.iter().filter(|(.., mine)| *mine) {
                    answers[*at] = Some((Err(error.clone()), Outcome::Failed));
                }
            }
            let open = waiting
                .into_iter()
                .filter(|(at, ..)| answers[*at].is_none());
            let waited = join_all(open.map(|place| self.answer(place))).await;
            for (at, ask, answer) in waited {
                match answer {
                    Ok(answer) => answers[at] = Some(answer),
                    Err(lead) => led.push((
                        at,
                        Led {
                            lead,
                            ask,
                            key: unique[at].0.clone(),
                        },
                    )),
                }
            }
        }

        let mut answers: Vec<Answer<S::Value>> = answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| (Ok(None), Outcome::Missed)))
            .collect();
        let results = places.into_iter().map(|at| {
            let (result, outcome) = &mut answers[at];
            missing.ended(*outcome);
            result.clone()
        });
        results.collect()
    }

    /// Waits for one key of many: its answer, or its lead.
    async fn answer(
        &self,
        (at, ask, follow, mine): (usize, Ask, Follow<S::Value>, bool),
    ) -> (
        usize,
        Ask,
        Result<Answer<S::Value>, crate::flight::Lead<S::Value>>,
    ) {
        let limit = if mine {
            self.flight_limit()
        } else {
            self.options.waits_for()
        };
        let answer = match self.follow(&follow, limit).await {
            Ok(Followed::Landed(landing)) if mine => Ok((landing.result, landing.outcome)),
            Ok(Followed::Landed(landing)) => Ok(shared(landing)),
            Ok(Followed::Lead(lead)) if mine => {
                drop(lead);
                let error = Error::with_cause(ErrorKind::LoaderPanicked, "the load's task is gone");
                Ok((Err(error), Outcome::Failed))
            }
            Ok(Followed::Lead(lead)) => Err(lead),
            Err(error) => Ok((Err(error), Outcome::Failed)),
        };
        (at, ask, answer)
    }
}
