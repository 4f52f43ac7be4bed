//! How keys leave: the flights are revoked, then the entries removed, then those flights revoked that began meanwhile. See [`Flights`].

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Engine;
use crate::flight::Flight;
use crate::{CacheStore, Key, Observer, Result};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    pub(crate) async fn invalidate(&self, key: &Key<'_>) -> Result<()> {
        self.fenced(|| self.flights.revoke(key), self.within_limit(self.store.remove(key))).await
    }

    pub(crate) async fn invalidate_many(&self, keys: &[Key<'_>]) -> Result<()> {
        let spelled: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let revoke = || spelled.iter().flat_map(|key| self.flights.revoke(key)).collect();
        self.fenced(revoke, self.within_limit(self.store.remove_many(&spelled))).await
    }

    pub(crate) async fn invalidate_prefix(&self, prefix: &str) -> Result<()> {
        self.fenced(|| self.flights.revoke_prefix(prefix), self.store.remove_prefix(prefix)).await
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        self.fenced(|| self.flights.revoke_prefix(""), self.store.clear()).await
    }

    /// The marks fence the loads that are under way, since only they know which loads these are. Whoever
    /// joins one from now on waits for their verdict, and does not get what they refuse.
    pub(crate) async fn invalidate_tags(&self, tags: &[&str]) -> Result<()> {
        self.within_limit(self.store.remove_tagged(tags)).await
    }

    /// Replaces what is cached, as if it had just been loaded.
    pub(crate) async fn put(&self, key: &Key<'_>, value: Option<S::Value>) -> Result<()> {
        let lifetime = self.options.lifetime(value.as_ref());
        let replace = async {
            match lifetime {
                Some(options) => self.store.set(key, value, options).await,
                None => self.store.remove(key).await,
            }
        };
        self.fenced(|| self.flights.revoke(key), self.within_limit(replace)).await
    }

    /// Changes the store so that nothing from before the change is kept or shared after it.
    async fn fenced(
        &self,
        revoke: impl Fn() -> Vec<Arc<Flight<S::Value>>>,
        change: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let filling = revoke();
        // A fill that is going on comes first. Where the store fences, it does not matter.
        if !filling.is_empty() && !self.store.capabilities().fenced {
            let filled = join_all(filling.iter().map(|flight| flight.filled()));
            // If a fill takes longer than that, its leader removes the entry again by itself.
            let _ = Box::pin(timeout(self.options.store_timeout, filled)).await;
        }
        let changed = change.await;
        // A flight that has begun meanwhile may have found what was about to go.
        revoke();
        changed
    }
}
