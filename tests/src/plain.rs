use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{CacheStore, Clock, Entry, Moment, Result, SetOptions};
use tokio::sync::watch;

/// A store with the three required methods and prefix removal, whose writes can be held back before they take
/// effect: what the strategies do where the store fences nothing.
#[derive(Clone, Debug)]
pub struct PlainStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: Mutex<Entries>,
    clock: Clock,
    held: watch::Sender<bool>,
    writing: watch::Sender<usize>,
}

impl PlainStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            entries: Mutex::default(),
            clock,
            held: watch::Sender::new(false),
            writing: watch::Sender::new(0),
        }))
    }

    /// What is stored right now, of whatever age.
    #[must_use]
    pub fn value_now(&self, key: &str) -> Option<u64> {
        self.entries().get(key).and_then(|(value, ..)| *value)
    }

    /// From now on, writes wait.
    pub fn hold(&self) {
        self.0.held.send_replace(true);
    }

    /// Lets the waiting writes go on, and those to come.
    pub fn release(&self) {
        self.0.held.send_replace(false);
    }

    /// Waits until so many writes wait.
    pub async fn writing(&self, writes: usize) {
        let _ = self.0.writing.subscribe().wait_for(|writing| *writing == writes).await;
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Entries = HashMap<String, (Option<u64>, SetOptions, Moment)>;

impl CacheStore for PlainStore {
    type Value = u64;

    async fn get(&self, key: &str) -> Result<Option<Entry<u64>>> {
        let now = self.0.clock.now();
        let entries = self.entries();
        let entry = entries.get(key);
        Ok(entry.and_then(|(value, options, at)| Entry::aged(*value, options, now.since(*at))))
    }

    async fn set(&self, key: &str, value: Option<u64>, options: SetOptions) -> Result<()> {
        options.check()?;
        self.0.writing.send_modify(|writing| *writing += 1);
        let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        self.0.writing.send_modify(|writing| *writing -= 1);
        let written = (value, options, self.0.clock.now());
        self.entries().insert(key.to_owned(), written);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.entries().remove(key);
        Ok(())
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.entries().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }
}
