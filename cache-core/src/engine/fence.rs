//! What stands between a load and the store: the claim before it, and the fill after it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::time::{Instant, sleep};

use super::background::Pause;
use super::{Ask, Engine, hit, poll_once};
use crate::flight::{Landing, Lead, Settled};
use crate::{
    CacheStore, Claim, ClaimOptions, Event, Fill, Freshness, Lease, Observer, Outcome, Result,
    SetOptions,
};

/// How soon, and how late, a held key is asked for again, whatever its store says.
pub(super) const RETRIES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// What comes of asking for the right to load.
pub(super) enum Claimed<V> {
    /// To be loaded; the lease, if there is one, is with the flight.
    Free,
    /// Not to be loaded.
    Answered(Landing<V>),
    /// Somebody else is loading.
    Held { retry_in: Duration },
}

/// What becomes of the key when its load is over.
enum End<V> {
    /// It gets what has been loaded.
    Fill(Option<V>, SetOptions),
    /// It stays as it is.
    Release,
    /// It has an entry that is not true any more, and the new answer is not to be kept.
    Remove,
}

/// What a loader returned, and how it is to be stored, if it is.
pub(super) type Loaded<V> = (Option<V>, Option<SetOptions>);

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Claims the key, waiting for a limited time while somebody else holds it. What is returned is an
    /// answer that makes a load unnecessary.
    pub(super) async fn claim(
        &self,
        lead: &Lead<S::Value>,
        ask: &mut Ask,
    ) -> Option<Landing<S::Value>> {
        let began = Instant::now();
        let mut waited = false;
        loop {
            let retry_in = match self.claim_once(lead, ask).await {
                Claimed::Free => return None,
                Claimed::Answered(landing) if waited => return Some(landing.shared()),
                Claimed::Answered(landing) => return Some(landing),
                Claimed::Held { retry_in } => retry_in.clamp(RETRIES.0, RETRIES.1),
            };
            let left = self.options.waits_for().saturating_sub(began.elapsed());
            if left.is_zero() {
                // What is loaded now is read after everybody who has joined so far.
                lead.ask();
                return None;
            }
            waited = true;
            sleep(retry_in.mul_f64(0.5 + fastrand::f64()).min(left)).await;
        }
    }

    pub(super) async fn claim_once(
        &self,
        lead: &Lead<S::Value>,
        ask: &mut Ask,
    ) -> Claimed<S::Value> {
        self.claim_once_as(lead, ask, ClaimOptions::new(self.options.lease_life())).await
    }

    pub(super) async fn claim_once_as(
        &self,
        lead: &Lead<S::Value>,
        ask: &mut Ask,
        options: ClaimOptions,
    ) -> Claimed<S::Value> {
        let Ask::Claim { seen } = ask else {
            return Claimed::Free;
        };
        if lead.lease().is_some() {
            return Claimed::Free;
        }
        // An entry may change while it is asked for, but not for ever.
        for _ in 0..3 {
            lead.ask();
            let options = seen.map_or(options, |seen| options.refreshing(seen));
            match self.claim_trusted(lead.key(), options).await {
                Ok(Claim::Granted(lease)) => {
                    lead.hold(lease);
                    return Claimed::Free;
                }
                Ok(Claim::Held { retry_in }) => return Claimed::Held { retry_in },
                Ok(Claim::Found(entry)) if entry.is_fresh() => {
                    return Claimed::Answered(hit(entry));
                }
                // Stale, and another one than was seen: it is this one that is to be replaced.
                Ok(Claim::Found(entry)) => *seen = Some(entry.version()),
                Err(error) => {
                    self.store_failed(&error);
                    return if self.options.fails_closed {
                        Claimed::Answered(Landing::failed(error))
                    } else {
                        Claimed::Free
                    };
                }
            }
        }
        Claimed::Free
    }

    /// Keeps what has been loaded, if it is to be kept, and gives it to everybody.
    pub(super) async fn land(
        &self,
        lead: &Lead<S::Value>,
        ask: Ask,
        loaded: Result<Loaded<S::Value>>,
        began: Instant,
    ) -> Landing<S::Value> {
        let freshness = match lead.lease() {
            Some(_) => Freshness::Fresh,
            None => Freshness::Degraded,
        };
        let (landing, lifetime) = match loaded {
            Ok((value, lifetime)) => {
                (Landing { result: Ok(value), outcome: Outcome::Loaded, freshness }, lifetime)
            }
            Err(error) => (Landing::failed(error), None),
        };
        let end = match (&landing.result, lifetime) {
            (Err(_), _) => End::Release,
            (Ok(_), None) if ask.seen().is_some() => End::Remove,
            (Ok(_), None) => End::Release,
            (Ok(value), Some(lifetime)) => {
                End::Fill(value.clone(), lifetime.with_load_time(began.elapsed().into()))
            }
        };
        self.note_result(lead.key(), ask, landing.result.is_err());
        // A store in memory has it before the callers do. Behind a network, who came before the load
        // need not wait for it.
        let mut keep = pin!(self.keep(lead, ask, end));
        let settled = match poll_once(keep.as_mut()).await {
            // An error is nothing that could be invalidated.
            _ if landing.result.is_err() => Poll::Ready(Settled::Good),
            settled => settled,
        };
        match settled {
            Poll::Ready(settled) => lead.land(landing.clone(), settled),
            Poll::Pending => {
                lead.land(landing.clone(), Settled::Open);
                lead.settle(keep.await);
            }
        }
        landing
    }

    /// Ends the lease.
    async fn keep(&self, lead: &Lead<S::Value>, ask: Ask, end: End<S::Value>) -> Settled {
        lead.ask_verdict();
        let held = match (lead.lease(), end) {
            (Some(lease), End::Fill(value, options)) => {
                self.fill(lead, lease, value, options).await
            }
            (Some(lease), End::Release) => self.release(lease).await,
            (Some(lease), End::Remove) => {
                let held = self.release(lease).await;
                // What has been written meanwhile is not what is to go.
                if held && !lead.is_revoked() {
                    self.remove(lead.key()).await;
                }
                held
            }
            (None, _) if matches!(ask, Ask::Nothing) => return Settled::Blind,
            // Somebody held the key for too long, or the store failed when it was asked for it.
            (None, _) => false,
        };
        lead.used_lease();
        if held { Settled::Good } else { Settled::Lost }
    }

    /// A key whose load has just failed is not refreshed for a while.
    fn note_result(&self, key: &SmolStr, ask: Ask, failed: bool) {
        let freshness = &self.options.freshness;
        if freshness.refreshes() && ask.seen().is_some() {
            match failed {
                true => self.background.pause(key, Pause::Failed, freshness.retry_after),
                false => self.background.resume(key),
            }
        }
    }

    async fn remove(&self, key: &str) {
        if let Err(error) = self.within_limit(self.store.remove(key)).await {
            self.store_failed(&error);
        }
    }

    /// Stores what has been loaded; `false` if it has been invalidated meanwhile, or nobody knows.
    pub(super) async fn fill(
        &self,
        lead: &Lead<S::Value>,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> bool {
        if !lead.begin_fill() {
            self.notify(&Event::FillRefused);
            self.release(lease).await;
            return false;
        }
        let filled = self.within_limit(self.store.fill(lease, value, options)).await;
        if let Err(error) = &filled {
            self.store_failed(error);
        }
        if matches!(filled, Ok(Fill::Refused)) {
            self.notify(&Event::FillRefused);
        } else if lead.is_revoked() && !self.store.capabilities().fenced {
            // The invalidation may have given up waiting for this fill, so there is a removal after it.
            self.notify(&Event::FillRefused);
            self.remove(lead.key()).await;
            return false;
        }
        matches!(filled, Ok(Fill::Stored))
    }
}

/// Lands what the claim has brought.
pub(super) fn land_unloaded<V: Clone>(lead: &Lead<V>, landing: Landing<V>) -> Landing<V> {
    // It is in the store, so who joined late is to look there.
    let settled = if landing.result.is_ok() { Settled::Lost } else { Settled::Good };
    lead.land(landing.clone(), settled);
    landing
}
