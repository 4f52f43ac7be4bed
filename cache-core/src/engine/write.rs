//! Writing through the cache: the source first, and then the store, fenced against everybody else who writes or loads the key.
//!
//! # Why cache and source end up the same
//!
//! A writer takes the key's lease *before* it writes to the source, away from whoever has it; and afterwards it fills under
//! that lease or, if that is refused, removes. So a fill that was stored means that since the claim nobody has claimed or
//! removed. Every other writer of the key has then either made its last step, which follows its own write to the
//! source, before that claim: its write is older than the one that was filled. Or it has not made it yet: its fill will be refused,
//! so it will remove. Whoever is last has written last, or leaves nothing.
//!
//! Flights that have begun before the end of the write may carry what was before it. Nobody who comes later joins them: after
//! the fill, and by the removal, whether it succeeds or not, the flights of the key are revoked. Before the write there is
//! no need: who joins a flight then comes before the write has ended, and the lease is taken away from it in any case.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smol_str::SmolStr;

use super::Engine;
use crate::{
    CacheStore, Claim, ClaimOptions, Error, Event, Failure, Fill, Key, Lease, Observer, Result,
    Version,
};

/// How the fence of a write is put up.
#[derive(Clone, Copy)]
pub(crate) struct Fence {
    /// How long the write may take.
    pub(crate) life: Duration,
    /// Whether the entry goes before the write, and not after it.
    pub(crate) evicts_first: bool,
}

/// A write that failed, and what it has left.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) failure: Failure,
}

/// What a write has come to.
#[derive(Clone)]
enum End<V> {
    Written(Option<V>),
    NotWritten,
    Unknown,
}

/// The right to fill after a write, if it was to be had; and when it began.
struct Hold {
    lease: Option<Lease>,
    began: u64,
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// Writes to the source what is to be under these keys, and then to the store.
    ///
    /// # Cancellation
    ///
    /// The entries are doubted. Run it in a task of its own.
    pub(crate) async fn write_through(
        self: &Arc<Self>,
        writes: Vec<(SmolStr, Option<S::Value>)>,
        fence: Fence,
        write: impl Future<Output = Result<(), Failed>>,
    ) -> Result<()> {
        let keys: Vec<SmolStr> = writes.iter().map(|(key, _)| key.clone()).collect();
        let unfinished = Unfinished::new(self, keys);
        let begins = unfinished.keys().iter().map(|key| self.begin_write(key, fence));
        let holds = join_all(begins).await;
        let written = write.await;
        let ends = writes.into_iter().zip(holds).map(|((key, value), hold)| {
            let end = match &written {
                Ok(()) => End::Written(value),
                Err(Failed { failure: Failure::Unknown, .. }) => End::Unknown,
                Err(_) => End::NotWritten,
            };
            async move { self.end_write(&key, hold, end).await }
        });
        let ended: Result<()> = join_all(ends).await.into_iter().collect();
        unfinished.ended();
        written.map_err(|failed| failed.error).and(ended)
    }

    /// Puts up the fence: from here on nobody fills the key but who holds what is returned.
    async fn begin_write(&self, key: &SmolStr, fence: Fence) -> Hold {
        let began = self.moment();
        let lease = self.take_lease(key, fence).await.unwrap_or_else(|error| {
            self.store_failed(&error);
            None
        });
        Hold { lease, began }
    }

    /// The lease of the key, taken away from whoever has it. Without one the entry is removed after the write.
    async fn take_lease(&self, key: &str, fence: Fence) -> Result<Option<Lease>> {
        let spelled = Key::borrowed(key);
        let remove = || self.invalidate(&spelled);
        if !self.store.capabilities().fenced {
            return if fence.evicts_first { remove().await.map(|()| None) } else { Ok(None) };
        }
        // The store may have evicted what others still have a copy of.
        let cold = ClaimOptions::new(fence.life).writing();
        let mut options = cold;
        // Others may want the same, but not for ever.
        for _ in 0..4 {
            match self.within_limit(self.store.claim(key, options)).await? {
                Claim::Granted(lease) => return Ok(Some(lease)),
                // It is served until the source is written, and stays if that fails.
                Claim::Found(entry)
                    if !fence.evicts_first && entry.version() != Version::UNKNOWN =>
                {
                    options = cold.refreshing(entry.version());
                }
                Claim::Found(_) | Claim::Held { .. } => {
                    remove().await?;
                    options = cold;
                }
            }
        }
        Ok(None)
    }

    /// Brings the store in line with the source.
    async fn end_write(
        self: &Arc<Self>,
        key: &SmolStr,
        hold: Hold,
        end: End<S::Value>,
    ) -> Result<()> {
        let filled = match (end, hold.lease) {
            (End::NotWritten, lease) => {
                if let Some(lease) = lease {
                    self.release(lease).await;
                }
                return Ok(());
            }
            (End::Written(value), Some(lease)) => self.fill_written(lease, value).await,
            (End::Written(_), None) | (End::Unknown, _) => false,
        };
        if filled {
            // Flights that began during the write may have read what was before it.
            self.flights.revoke(key);
            self.trust(key, hold.began);
            return Ok(());
        }
        self.remove_or_doubt(key).await
    }

    async fn fill_written(&self, lease: Lease, value: Option<S::Value>) -> bool {
        let Some(options) = self.options.lifetime(value.as_ref()) else { return false };
        match self.within_limit(self.store.fill(lease, value, options)).await {
            Ok(Fill::Stored) => true,
            Ok(Fill::Refused) => {
                self.notify(&Event::FillRefused);
                false
            }
            Err(error) => {
                self.store_failed(&error);
                false
            }
        }
    }

    /// Puts a value that readers are to see into the store, or at least takes the older one out of it.
    pub(crate) async fn put_or_doubt(
        self: &Arc<Self>,
        key: &SmolStr,
        value: Option<S::Value>,
    ) -> Result<()> {
        let began = self.moment();
        match self.put(&Key::borrowed(key), value).await {
            Ok(()) => {
                self.trust(key, began);
                Ok(())
            }
            Err(error) => {
                self.store_failed(&error);
                self.remove_or_doubt(key).await
            }
        }
    }

    /// Removes the entry, now or later; until it is gone, it is not read.
    pub(crate) async fn remove_or_doubt(self: &Arc<Self>, key: &SmolStr) -> Result<()> {
        let began = self.moment();
        match self.invalidate(&Key::borrowed(key)).await {
            Ok(()) => {
                self.trust(key, began);
                Ok(())
            }
            Err(error) => {
                self.store_failed(&error);
                self.doubt(key)
            }
        }
    }

    /// Tells the observer of a write.
    pub(crate) fn wrote(&self, writes: usize, took: Duration, error: Option<&Error>) {
        self.notify(&Event::Write { writes, took, error });
    }

    /// Tells the observer of a write that is not tried any more.
    pub(crate) fn parked(&self, error: &Error) {
        self.notify(&Event::Parked { error });
    }

    /// Tells the observer of a journal's error that no caller sees.
    pub(crate) fn journal_failed(&self, error: &Error) {
        self.notify(&Event::JournalFailed { error });
    }
}

/// Writes that have begun. Dropped before they have ended, they leave entries that are not to be trusted.
pub(crate) struct Unfinished<'a, S: CacheStore, O: Observer, K: AsRef<[SmolStr]>> {
    engine: &'a Arc<Engine<S, O>>,
    keys: K,
    ended: bool,
}

impl<'a, S: CacheStore, O: Observer, K: AsRef<[SmolStr]>> Unfinished<'a, S, O, K> {
    pub(crate) fn new(engine: &'a Arc<Engine<S, O>>, keys: K) -> Self {
        engine.remember_runtime();
        Self { engine, keys, ended: false }
    }

    pub(crate) fn keys(&self) -> &[SmolStr] {
        self.keys.as_ref()
    }

    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl<S: CacheStore, O: Observer, K: AsRef<[SmolStr]>> Drop for Unfinished<'_, S, O, K> {
    fn drop(&mut self) {
        for key in self.keys.as_ref().iter().filter(|_| !self.ended) {
            // There is nobody left to tell if there are too many.
            if let Err(error) = self.engine.doubt(key) {
                self.engine.store_failed(&error);
            }
        }
    }
}
