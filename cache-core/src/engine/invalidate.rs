//! How keys leave: the flights are revoked, and then the entries removed. See [`Flights`].

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Engine;
use crate::flight::Flight;
use crate::{CacheStore, Key, Observer, Result};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    pub(crate) async fn invalidate(&self, key: &Key<'_>) -> Result<()> {
        self.landed(self.flights.revoke(key)).await;
        self.store.remove(key).await
    }

    pub(crate) async fn invalidate_many(&self, keys: &[Key<'_>]) -> Result<()> {
        self.landed(keys.iter().filter_map(|key| self.flights.revoke(key)))
            .await;
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        self.store.remove_many(&keys).await
    }

    pub(crate) async fn invalidate_prefix(&self, prefix: &str) -> Result<()> {
        self.landed(self.flights.revoke_prefix(prefix)).await;
        self.store.remove_prefix(prefix).await
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        self.landed(self.flights.revoke_prefix("")).await;
        self.store.clear().await
    }

    /// Replaces what is cached, as if it had just been loaded.
    pub(crate) async fn put(&self, key: &Key<'_>, value: Option<S::Value>) -> Result<()> {
        self.landed(self.flights.revoke(key)).await;
        match self.options.lifetime(value.as_ref()) {
            Some(options) => self.store.set(key, value, options).await,
            None => self.store.remove(key).await,
        }
    }

    /// Waits for the fills that were already going on, so that the removal comes after them. Where the
    /// store fences, it does not matter which comes first.
    async fn landed(&self, filling: impl IntoIterator<Item = Arc<Flight<S::Value>>> + Send) {
        let filling: Vec<_> = filling.into_iter().collect();
        if filling.is_empty() || self.store.capabilities().fenced {
            return;
        }
        let filled = join_all(filling.iter().map(|flight| flight.filled()));
        // If a fill takes longer than that, its leader removes the entry again by itself.
        let _ = timeout(self.options.waits_for(), filled).await;
    }
}
