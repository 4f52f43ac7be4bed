//! Leading a load: claim, load, keep, land.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep, timeout};

use super::{Ask, Engine, finish_or, hit};
use crate::flight::{Landing, Lead};
use crate::waits::Node;
use crate::{
    CacheKey, CacheStore, Claim, ClaimOptions, Error, ErrorKind, Event, Fill, Observer, Outcome,
    Result, SetOptions,
};

/// A key that is to be loaded, with the duty to do it.
pub(super) struct Led<K, V> {
    pub(super) lead: Lead<V>,
    pub(super) ask: Ask,
    pub(super) key: K,
}

/// What a loader returned, and how it is to be stored, if it is.
type Loaded<V> = (Option<V>, Option<SetOptions>);

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Leads the load of one key to its end.
    pub(super) async fn lead<F, Fut>(
        &self,
        lead: Lead<S::Value>,
        ask: Ask,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<S::Value>>>,
    {
        // A cache within the loader of another waits for its own load like everybody else.
        let _waiting = Node::wait_for(lead.node());
        if let Some(landing) = self.claim(&lead, ask).await {
            lead.land(landing.clone());
            return landing;
        }
        let began = Instant::now();
        let loaded = self.load(lead.node(), async {
            let value = load().await?;
            let lifetime = self.options.lifetime(value.as_ref());
            Ok((value, lifetime))
        });
        let loaded = loaded.await;
        self.land(&lead, loaded, began).await
    }

    /// Leads the loads of many keys, with one question to the source for all that are free.
    pub(super) async fn lead_many<K, F, Fut>(&self, led: Vec<Led<K, S::Value>>, load: F)
    where
        K: CacheKey,
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<(K, S::Value)>>>,
    {
        let claims = led.into_iter().map(|led| async move {
            let claimed = self.claim_once(&led.lead, led.ask).await;
            (led, claimed)
        });
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for (led, claimed) in join_all(claims).await {
            match claimed {
                Claimed::Free => free.push(led),
                Claimed::Landed(landing) => led.lead.land(landing),
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

    async fn load_many<K, F, Fut>(&self, led: Vec<Led<K, S::Value>>, load: F)
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
        let _waiting: Vec<_> = led
            .iter()
            .map(|led| led.lead.node().link(&question))
            .collect();

        let (leads, keys): (Vec<_>, Vec<_>) =
            led.into_iter().map(|led| (led.lead, led.key)).unzip();
        let began = Instant::now();
        let loaded = self.load(&question, async {
            let mut answers = answers(load(keys).await?);
            let loaded = leads.iter().map(|lead| {
                let value = answers.remove(lead.key());
                let lifetime = self.options.lifetime(value.as_ref());
                (value, lifetime)
            });
            Ok(loaded.collect::<Vec<_>>())
        });
        let mut loaded = loaded.await.map(Vec::into_iter);
        join_all(leads.iter().map(|lead| {
            let loaded = match &mut loaded {
                Ok(loaded) => Ok(loaded.next().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            self.land(lead, loaded, began)
        }))
        .await;
    }

    /// Claims the key, waiting for a limited time while somebody else holds it. What is returned is an
    /// answer that makes a load unnecessary.
    async fn claim(&self, lead: &Lead<S::Value>, ask: Ask) -> Option<Landing<S::Value>> {
        let deadline = Instant::now() + self.options.waits_for();
        let mut waited = false;
        loop {
            let retry_in = match self.claim_once(lead, ask).await {
                Claimed::Free => return None,
                Claimed::Landed(landing) => {
                    let outcome = if waited {
                        Outcome::Coalesced
                    } else {
                        landing.outcome
                    };
                    return Some(Landing { outcome, ..landing });
                }
                Claimed::Held { retry_in } => retry_in,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            waited = true;
            sleep(retry_in.mul_f64(0.5 + fastrand::f64()).min(left)).await;
        }
    }

    async fn claim_once(&self, lead: &Lead<S::Value>, ask: Ask) -> Claimed<S::Value> {
        let Ask::Claim { mut seen } = ask else {
            return Claimed::Free;
        };
        if lead.has_lease() {
            return Claimed::Free;
        }
        loop {
            let options = ClaimOptions::new(self.options.lease_life());
            let options = seen.map_or(options, |seen| options.refreshing(seen));
            match self.store.claim(lead.key(), options).await {
                Ok(Claim::Granted(lease)) => {
                    lead.hold(lease);
                    return Claimed::Free;
                }
                Ok(Claim::Held { retry_in }) => return Claimed::Held { retry_in },
                Ok(Claim::Found(entry)) if entry.is_fresh() => {
                    return Claimed::Landed(hit(entry));
                }
                // Stale, and another one than was seen: it is this one that is to be replaced. A store
                // that refuses the version it has just told is not to keep us here.
                Ok(Claim::Found(entry)) if seen != Some(entry.version()) => {
                    seen = Some(entry.version());
                }
                Ok(Claim::Found(_)) => return Claimed::Free,
                Err(error) => {
                    self.store_failed(&error);
                    return if self.options.fails_closed {
                        Claimed::Landed(Landing::failed(error))
                    } else {
                        Claimed::Free
                    };
                }
            }
        }
    }

    /// Runs the user's code: within its time, as `node` in the graph of waits, its panic an error.
    async fn load<T>(&self, node: &Arc<Node>, load: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let load = AssertUnwindSafe(timeout(self.options.load_timeout, load)).catch_unwind();
        let loaded = match Arc::clone(node).scope(load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(Error::new(ErrorKind::LoadTimeout)),
            Err(panic) => Err(Error::with_cause(
                ErrorKind::LoaderPanicked,
                message(&*panic),
            )),
        };
        let (took, error) = (began.elapsed(), loaded.as_ref().err());
        self.notify(&Event::Load { took, error });
        loaded
    }

    /// Keeps what has been loaded, if it is to be kept, and gives it to everybody.
    async fn land(
        &self,
        lead: &Lead<S::Value>,
        loaded: Result<Loaded<S::Value>>,
        began: Instant,
    ) -> Landing<S::Value> {
        let (result, lifetime) = match loaded {
            Ok((value, lifetime)) => (Ok(value), lifetime),
            Err(error) => (Err(error), None),
        };
        let outcome = if result.is_ok() {
            Outcome::Loaded
        } else {
            Outcome::Failed
        };
        let landing = Landing { result, outcome };
        let kept = lifetime.map(|lifetime| {
            let value = landing.result.as_ref().ok().cloned().flatten();
            (value, lifetime.with_load_time(began.elapsed().into()))
        });
        // A store in memory has it before the callers do. Nobody waits for one behind a network.
        finish_or(self.keep(lead, kept), || lead.land(landing.clone())).await;
        landing
    }

    async fn keep(&self, lead: &Lead<S::Value>, loaded: Option<(Option<S::Value>, SetOptions)>) {
        let Some(lease) = lead.take_lease() else {
            return;
        };
        let Some((value, options)) = loaded else {
            return self.release(lease).await;
        };
        if !lead.begin_fill() {
            self.notify(&Event::FillRefused);
            return self.release(lease).await;
        }
        match self.store.fill(lease, value, options).await {
            Ok(Fill::Stored) if lead.is_revoked() && !self.store.capabilities().fenced => {
                // The invalidation has given up waiting for this fill.
                self.notify(&Event::FillRefused);
                if let Err(error) = self.store.remove(lead.key()).await {
                    self.store_failed(&error);
                }
            }
            Ok(Fill::Stored) => {}
            Ok(Fill::Refused) => self.notify(&Event::FillRefused),
            Err(error) => self.store_failed(&error),
        }
    }
}

enum Claimed<V> {
    /// To be loaded; the lease, if there is one, is with the flight.
    Free,
    /// Answered.
    Landed(Landing<V>),
    Held {
        retry_in: std::time::Duration,
    },
}

/// The answers of a batch loader by the spelling of their keys, so that neither their order nor
/// answers nobody asked for matter.
fn answers<K: CacheKey, V>(answers: Vec<(K, V)>) -> HashMap<SmolStr, V> {
    answers
        .into_iter()
        .map(|(key, value)| (key.key().to_smol(), value))
        .collect()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
