//! Reads, and the near copies of what they find.

use std::sync::Arc;

use futures_util::FutureExt;

use super::tickets::Ticket;
use super::{Counters, Inner, no_answer};
use crate::{CacheStore, Claim, ClaimOptions, Entry, Fill, Moment, Result, SetOptions, Version};

/// How long a read of the far store may take, if what it finds is to be copied.
const FENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What there is before the far store is asked.
pub(super) enum Fence<'a, N: CacheStore> {
    /// A copy after all.
    Found(Entry<N::Value>),
    /// The right to make one.
    Held(Held<'a, N>),
    /// No copy is to be made.
    None,
}

/// A ticket that gives its lease back when it is dropped.
pub(super) struct Held<'a, N: CacheStore> {
    near: &'a N,
    ticket: Ticket<'a>,
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Inner<N, F> {
    pub(super) async fn get(self: &Arc<Self>, key: &str) -> Result<Option<Entry<N::Value>>> {
        let fence = match self.fence(key).await {
            Fence::Found(entry) => return Ok(Some(self.sampled(key, entry))),
            fence => fence,
        };
        Counters::add(&self.counters.far_reads, 1);
        let began = self.gate.now();
        let found = self.far.get(key).await?;
        match &found {
            Some(entry) => self.copy(fence, key, entry, began).await,
            None => self.copy_nothing(fence, key).await,
        }
        Ok(found)
    }

    pub(super) async fn get_many(
        self: &Arc<Self>,
        keys: &[&str],
    ) -> Vec<Result<Option<Entry<N::Value>>>> {
        let mut answers = Vec::with_capacity(keys.len());
        let (mut places, mut fences, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            match self.fence(key).await {
                Fence::Found(entry) => answers.push(Ok(Some(self.sampled(key, entry)))),
                fence => {
                    answers.push(Err(no_answer()));
                    places.push(place);
                    fences.push(fence);
                    missing.push(*key);
                }
            }
        }
        if missing.is_empty() {
            return answers;
        }
        Counters::add(&self.counters.far_reads, missing.len());
        let began = self.gate.now();
        let found = self.far.get_many(&missing).await;
        for (((place, fence), key), found) in places.into_iter().zip(fences).zip(missing).zip(found)
        {
            match &found {
                Ok(Some(entry)) => self.copy(fence, key, entry, began).await,
                Ok(None) => self.copy_nothing(fence, key).await,
                Err(_) => drop(fence),
            }
            answers[place] = found;
        }
        answers
    }

    /// A near hit, which is compared with the far store now and then.
    fn sampled(self: &Arc<Self>, key: &str, entry: Entry<N::Value>) -> Entry<N::Value> {
        if self.sampler.is_on() {
            self.sampler.maybe(self, key, &entry);
        }
        entry
    }

    /// A claim asks the far store once more, so it may find something to copy, too. It is more than a read.
    pub(super) async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<N::Value>> {
        let fence = self.fence_over(key).await;
        let began = self.gate.now();
        let claim = self.far.claim(key, options).await?;
        Ok(match claim {
            Claim::Granted(lease) => {
                if options.is_writing() {
                    // What is to be written again is read from the far store: a copy does not tell when that ends.
                    drop(fence);
                    let _ = self.near.remove(key).await;
                }
                // A write is to be heard of also if the far store has lost the entry: there may be copies of it.
                let replaces = options.is_writing() || options.seen().is_some();
                Claim::Granted(lease.noted(key, replaces))
            }
            Claim::Found(entry) => {
                self.copy(fence, key, &entry, began).await;
                Claim::Found(entry)
            }
            held @ Claim::Held { .. } => held,
        })
    }

    /// The near copy, or a ticket to make one.
    async fn fence(&self, key: &str) -> Fence<'_, N> {
        if !self.gate.is_open() {
            return Fence::None;
        }
        // A near store that fails is done without.
        if let Ok(Some(entry)) = self.near.get(key).await {
            return Fence::Found(entry);
        }
        if !self.copies {
            return Fence::None;
        }
        if let Some(ticket) = self.tickets.join(key) {
            return Fence::Held(Held { near: &self.near, ticket });
        }
        match self.near.claim(key, ClaimOptions::new(FENCE)).await {
            Ok(Claim::Found(entry)) => Fence::Found(entry),
            Ok(Claim::Granted(lease)) => {
                let ticket = self.tickets.issue(key, lease);
                Fence::Held(Held { near: &self.near, ticket })
            }
            // Held by a write, which brings the copy itself.
            Ok(Claim::Held { .. }) | Err(_) => Fence::None,
        }
    }

    /// A ticket to replace whatever is near, nobody else's.
    pub(super) async fn fence_over(&self, key: &str) -> Fence<'_, N> {
        if !self.copies || self.only_reads.is_set() || !self.gate.is_open() {
            return Fence::None;
        }
        let mut options = ClaimOptions::new(FENCE);
        // It may be replaced while it is asked for, but not for ever.
        for _ in 0..3 {
            match self.near.claim(key, options).await {
                Ok(Claim::Granted(lease)) => {
                    let ticket = self.tickets.issue_alone(key, lease);
                    return Fence::Held(Held { near: &self.near, ticket });
                }
                Ok(Claim::Found(entry)) => options = options.refreshing(entry.version()),
                Ok(Claim::Held { .. }) | Err(_) => break,
            }
        }
        Fence::None
    }

    /// Makes a near copy of what a read that began at `began` has found.
    pub(super) async fn copy(
        &self,
        fence: Fence<'_, N>,
        key: &str,
        entry: &Entry<N::Value>,
        began: Moment,
    ) {
        let options = entry.options().with_version(entry.version());
        self.copy_as(fence, key, entry.value(), options, began).await;
    }

    /// Makes a near copy with what is left of this lifetime, which counts from `began`.
    pub(super) async fn copy_as(
        &self,
        fence: Fence<'_, N>,
        key: &str,
        value: Option<&N::Value>,
        options: SetOptions,
        began: Moment,
    ) {
        let version = if self.versioned { options.version() } else { None };
        let version = version.unwrap_or(Version::UNKNOWN);
        if let Some(options) = self.near_options(&options, version, began)
            && let Fence::Held(held) = &fence
            && let Some(lease) = held.ticket.take()
        {
            if matches!(self.near.fill(lease, value.cloned(), options).await, Ok(Fill::Stored)) {
                Counters::add(&self.counters.copies, 1);
                return;
            }
            Counters::add(&self.counters.refused_copies, 1);
        }
        self.keep_nothing_older(key, version).await;
    }

    /// The far store has no entry.
    async fn copy_nothing(&self, fence: Fence<'_, N>, key: &str) {
        // Who has had the ticket for himself knows that nobody has made a copy by it, or will.
        if let Fence::Held(mut held) = fence
            && held.leave()
        {
            return;
        }
        self.keep_nothing_older(key, Version::UNKNOWN).await;
    }

    /// Whoever has been answered by the far store is not to find an older copy afterwards. Which one is older
    /// nobody can tell, so any other one goes, and the ticket of whoever is about to make one.
    async fn keep_nothing_older(&self, key: &str, version: Version) {
        match self.near.get(key).await {
            Ok(Some(copy)) if copy.version() == version && version != Version::UNKNOWN => return,
            Ok(Some(_)) => Counters::add(&self.counters.dropped_copies, 1),
            Ok(None) | Err(_) => {}
        }
        // It has ended by itself, or could not be read either.
        let _ = self.near.remove(key).await;
    }

    /// How a copy is to be stored; `None` if it is not fresh any more. A copy of a stale entry could not tell
    /// since when it is stale.
    fn near_options(
        &self,
        original: &SetOptions,
        version: Version,
        began: Moment,
    ) -> Option<SetOptions> {
        let since = self.gate.since(began);
        let left = |of: std::time::Duration| match of {
            std::time::Duration::MAX => of,
            _ => of.saturating_sub(since),
        };
        let (fresh, usable) = (left(original.fresh_for()), left(original.usable_for()));
        let at_most = usable.min(self.near_ttl);
        (!fresh.is_zero() && !at_most.is_zero()).then(|| {
            SetOptions::ttl(fresh)
                .stale_for(usable.saturating_sub(fresh))
                .at_most(at_most)
                .with_load_time(original.load_time())
                .with_version(version)
        })
    }
}

impl<N: CacheStore> Held<'_, N> {
    /// Leaves, and says whether the ticket was nobody else's and has not been used.
    fn leave(&mut self) -> bool {
        let Some(lease) = self.ticket.leave() else {
            return false;
        };
        // A store in memory does it at once. With another one the lease ends by itself.
        let _ = self.near.release(lease).now_or_never();
        true
    }
}

impl<N: CacheStore> Drop for Held<'_, N> {
    fn drop(&mut self) {
        self.leave();
    }
}
