//! Leading a load: claim, load, land. What stands between a load and the store is in `fence.rs`.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use smol_str::SmolStr;
use tokio::time::{Instant, timeout};

use super::fence::{Claimed, land_unloaded};
use super::{Ask, Engine};
use crate::flight::{Landing, Lead};
use crate::waits::Node;
use crate::{CacheKey, CacheStore, Error, ErrorKind, Event, Observer, Result};

/// A key that is to be loaded, with the duty to do it.
pub(super) struct Led<K, V> {
    pub(super) lead: Lead<V>,
    pub(super) ask: Ask,
    pub(super) key: K,
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Leads the load of one key to its end.
    pub(super) async fn lead<F, Fut>(
        &self,
        lead: Lead<S::Value>,
        mut ask: Ask,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<S::Value>>>,
    {
        // A cache within the loader of another waits for its own load like everybody else.
        let _waiting = Node::wait_for(lead.node());
        if let Some(landing) = self.claim(&lead, &mut ask).await {
            return land_unloaded(&lead, landing);
        }
        self.load_and_land(&lead, ask, load).await
    }

    /// Loads a key that has been claimed, and lands its flight.
    pub(super) async fn load_and_land<F, Fut>(
        &self,
        lead: &Lead<S::Value>,
        ask: Ask,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<S::Value>>>,
    {
        let began = Instant::now();
        let loaded = self.load(lead.node(), async {
            let value = self.load_unless_pending(lead.key(), load).await?;
            let lifetime = self.options.lifetime(value.as_ref());
            Ok((value, lifetime))
        });
        let loaded = loaded.await;
        self.land(lead, ask, loaded, began).await
    }

    /// Leads the loads of many keys, with one question to the source for all that are free.
    pub(super) async fn lead_many<K, F, Fut>(&self, led: Vec<Led<K, S::Value>>, load: F)
    where
        K: CacheKey,
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<(K, S::Value)>>>,
    {
        let claims = led.into_iter().map(|mut led| async move {
            let claimed = self.claim_once(&led.lead, &mut led.ask).await;
            (led, claimed)
        });
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for (led, claimed) in join_all(claims).await {
            match claimed {
                Claimed::Free => free.push(led),
                Claimed::Answered(landing) => drop(land_unloaded(&led.lead, landing)),
                // Somebody else's slow load is not to delay the keys that nobody loads.
                Claimed::Held { .. } => held.push(led),
            }
        }
        let held = held.into_iter().map(|Led { lead, ask, key }| {
            let load = &load;
            self.lead(lead, ask, move || async move {
                let spelled = key.key().to_smol();
                Ok(answers(load(vec![key]).await?).remove(&spelled))
            })
        });
        join(self.load_many(free, &load), join_all(held)).await;
    }

    pub(super) async fn load_many<K, F, Fut>(&self, led: Vec<Led<K, S::Value>>, load: F)
    where
        K: CacheKey,
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<(K, S::Value)>>>,
    {
        if led.is_empty() {
            return;
        }
        // All of these loads wait for the one question.
        let question = Arc::new(Node::default());
        let _waiting = Node::wait_for(&question);
        let links = led.iter().map(|led| led.lead.node().link(&question));
        let _links: Vec<_> = links.collect();

        let (mut leads, mut keys) = (Vec::new(), Vec::new());
        for Led { lead, ask, key } in led {
            leads.push((lead, ask));
            keys.push(key);
        }
        let began = Instant::now();
        let loaded = self.load(&question, async {
            let mut pending = self.pending_of(leads.iter().map(|(lead, _)| lead.key())).await?;
            let mut keys = keys;
            keys.retain(|key| !pending.contains_key(&*key.key()));
            let mut answers = match keys.is_empty() {
                true => HashMap::new(),
                false => answers(load(keys).await?),
            };
            let loaded = leads.iter().map(|(lead, _)| {
                let value = match pending.remove(lead.key()) {
                    Some(written) => written,
                    None => answers.remove(lead.key()),
                };
                let lifetime = self.options.lifetime(value.as_ref());
                (value, lifetime)
            });
            Ok(loaded.collect::<Vec<_>>())
        });
        let mut loaded = loaded.await.map(Vec::into_iter);
        let landings = leads.iter().map(|(lead, ask)| {
            let loaded = match &mut loaded {
                Ok(loaded) => Ok(loaded.next().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            self.land(lead, *ask, loaded, began)
        });
        join_all(landings).await;
    }

    /// Runs the user's code: within its time, as `node` in the graph of waits, its panic an error.
    async fn load<T>(&self, node: &Arc<Node>, load: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let load = AssertUnwindSafe(timeout(self.options.load_timeout, load)).catch_unwind();
        let loaded = match Arc::clone(node).scope(load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(Error::new(ErrorKind::LoadTimeout)),
            Err(panic) => Err(Error::with_cause(ErrorKind::LoaderPanicked, message(&*panic))),
        };
        let (took, error) = (began.elapsed(), loaded.as_ref().err());
        self.notify(&Event::Load { took, error });
        loaded
    }
}

/// The answers of a batch loader by the spelling of their keys, so that neither their order nor
/// answers nobody asked for matter.
fn answers<K: CacheKey, V>(answers: Vec<(K, V)>) -> HashMap<SmolStr, V> {
    answers.into_iter().map(|(key, value)| (key.key().to_smol(), value)).collect()
}

pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
