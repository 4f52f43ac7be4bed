//! The way of many keys through the cache.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;

use super::lead::Led;
use super::read::{gone, runtime};
use super::{Ask, Engine, Missing, Seen, load_error};
use crate::flight::{Follow, Followed, Landing, Lead, Seat};
use crate::{BatchLoader, BoxError, CacheKey, CacheStore, Key, Observer, Result};

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
        let (unique, places) = unique(keys);
        let spelled: Vec<&str> = unique.iter().map(|(_, spelled)| &**spelled).collect();
        let mut found = self.store.get_many(&spelled).await.into_iter();

        let mut answers: Vec<Option<Landing<S::Value>>> = Vec::with_capacity(unique.len());
        let (mut led, mut open) = (Vec::new(), Vec::new());
        for (at, (key, spelled)) in unique.iter().enumerate() {
            let found = found.next().unwrap_or(Ok(None));
            answers.push(match self.seen(found) {
                Seen::Answer(answer) => Some(answer),
                Seen::Ask(ask) => {
                    match self.flights.join(&spelled.to_smol()) {
                        Seat::Lead(lead) => led.push((
                            at,
                            Led {
                                lead,
                                ask,
                                key: (*key).clone(),
                            },
                        )),
                        Seat::Follow(follow) => open.push(Open {
                            at,
                            ask,
                            follow,
                            mine: false,
                        }),
                    }
                    None
                }
            });
        }
        // Each round answers every open key, or hands this caller its lead, which happens only when
        // the caller that led it has gone away.
        while !led.is_empty() || !open.is_empty() {
            let mut leads = Vec::with_capacity(led.len());
            for (at, led) in led.drain(..) {
                open.push(Open {
                    at,
                    ask: led.ask,
                    follow: led.lead.follow(),
                    mine: true,
                });
                leads.push(led);
            }
            let launched = if leads.is_empty() {
                Ok(())
            } else {
                launch(leads).await
            };
            let waited =
                join_all(open.drain(..).map(|open| self.wait(open, launched.clone()))).await;
            for (at, answer) in waited {
                match answer {
                    Ok(answer) => answers[at] = Some(answer),
                    Err((lead, ask)) => led.push((
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

        let answers = places.into_iter().map(|at| answers[at].clone());
        answers
            .flatten()
            .map(|answer| missing.ended(answer))
            .collect()
    }

    /// Waits for the answer to an open key, or for its lead.
    async fn wait(
        &self,
        Open {
            at,
            ask,
            follow,
            mine,
        }: Open<S::Value>,
        launched: Result<()>,
    ) -> (usize, Result<Landing<S::Value>, (Lead<S::Value>, Ask)>) {
        if mine && let Err(error) = launched {
            return (at, Ok(Landing::failed(error)));
        }
        let limit = if mine {
            self.flight_limit()
        } else {
            self.options.waits_for()
        };
        let answer = match self.follow(&follow, limit).await {
            Ok(Followed::Landed(landing)) if mine => Ok(landing),
            Ok(Followed::Landed(landing)) => Ok(landing.shared()),
            Ok(Followed::Lead(lead)) if mine => Ok(gone(&lead)),
            Ok(Followed::Lead(lead)) => Err((lead, ask)),
            Err(error) => Ok(Landing::failed(error)),
        };
        (at, answer)
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
