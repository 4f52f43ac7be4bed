//! A store of your own, which keeps every promise of the conformance kit.
//!
//! `cargo run -p cache-examples --example own_store` uses it, and
//! `cargo test -p cache-examples --example own_store` runs the kit on it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{CacheStore, Clock, Entry, Moment, ReadOptions, ReadThrough, Result, SetOptions};

/// A map that never forgets before the end of a lifetime.
struct MapStore<V> {
    clock: Clock,
    entries: Mutex<Entries<V>>,
}

type Entries<V> = HashMap<String, (Option<V>, SetOptions, Moment)>;

impl<V: Clone + Send + Sync + 'static> CacheStore for MapStore<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        let now = self.clock.now();
        Ok(self
            .entries()
            .get(key)
            .and_then(|(value, options, at)| Entry::aged(value.clone(), options, now.since(*at))))
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        options.check()?;
        let written = (value, options, self.clock.now());
        self.entries().insert(key.to_owned(), written);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.entries().remove(key);
        Ok(())
    }
}

impl<V> MapStore<V> {
    fn new(clock: Clock) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries<V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let load = |name: String| async move { Ok::<_, std::io::Error>(Some(name.len())) };
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let lengths = ReadThrough::new(MapStore::new(Clock::system()), load, options)?;

    println!("cache: {:?}", lengths.get("cache").await?);
    println!("entries: {}", lengths.store().entries().len());
    lengths.invalidate("cache").await?;
    println!("after the invalidation: {}", lengths.store().entries().len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::testing::Subject;

    // One test for each promise: `conformance::set_replaces_the_value`, ...
    cache_core::store_conformance!(conformance, {
        let (clock, hands) = Clock::manual();
        Subject::new(MapStore::<String>::new(clock)).manual_clock(hands)
    });
}
