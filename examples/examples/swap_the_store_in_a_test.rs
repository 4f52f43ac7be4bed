//! An application that does not know where its cache is, and its tests without a server.
//!
//! `cargo run -p cache-examples --example swap_the_store_in_a_test`, and the same with `cargo test`.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheStore, CacheStoreExt, Loader, ReadCache, ReadOptions, ReadThrough, Result};
use cache_memory::MemoryStore;
use cache_serde::Postcard;

/// What stands for your database.
#[derive(Default)]
struct Database {
    prices: Mutex<HashMap<u64, u32>>,
    queries: AtomicU32,
}

impl Database {
    fn set(&self, id: u64, price: u32) {
        let mut prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        prices.insert(id, price);
    }
}

/// The loader.
struct Prices(Arc<Database>);

impl Loader<u64> for Prices {
    type Value = u32;
    type Error = io::Error;

    async fn load(&self, id: u64) -> io::Result<Option<u32>> {
        self.0.queries.fetch_add(1, Ordering::Relaxed);
        let prices = self.0.prices.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(prices.get(&id).copied())
    }
}

/// The application: it says what it reads, and not how that is cached.
struct Shop<C> {
    prices: C,
    database: Arc<Database>,
}

impl<C: ReadCache<u64, Value = u32>> Shop<C> {
    async fn total(&self, basket: &[u64]) -> Result<u32> {
        let mut total = 0;
        for id in basket {
            total += self.prices.get(id).await?.unwrap_or(0);
        }
        Ok(total)
    }

    async fn change(&self, id: u64, price: u32) -> Result<()> {
        self.database.set(id, price);
        self.prices.invalidate(&id).await
    }
}

/// The shop with its prices in whatever store: the one place where the choice is made.
fn shop(store: impl CacheStore<Value = u32>) -> Result<Shop<impl ReadCache<u64, Value = u32>>> {
    let database = Arc::new(Database::default());
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let prices = ReadThrough::new(store, Prices(Arc::clone(&database)), options)?;
    Ok(Shop { prices, database })
}

#[tokio::main]
async fn main() -> Result<()> {
    // A store of bytes, as a server's is. What holds them here is the memory.
    let bytes = MemoryStore::<Bytes>::new(10_000);
    let shop = shop(bytes.namespaced("prices").encoded(Postcard::new()))?;

    shop.change(1, 30).await?;
    shop.change(2, 12).await?;
    println!("total: {}", shop.total(&[1, 2, 1]).await?);
    shop.change(1, 25).await?;
    println!("after a change of price: {}", shop.total(&[1, 2, 1]).await?);
    let queries = shop.database.queries.load(Ordering::Relaxed);
    println!("{queries} queries for six prices");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::testing::FailingStore;
    use cache_core::{Clock, ErrorKind};

    #[tokio::test]
    async fn a_changed_price_counts_at_once() {
        let shop = shop(MemoryStore::new(100)).expect("valid options");
        shop.change(1, 30).await.expect("changed");
        assert_eq!(shop.total(&[1, 1]).await.expect("a total"), 60);
        shop.change(1, 25).await.expect("changed");
        assert_eq!(shop.total(&[1, 1]).await.expect("a total"), 50);
    }

    #[tokio::test]
    async fn a_price_is_read_again_after_a_minute() {
        let (clock, hands) = Clock::manual();
        let store = MemoryStore::builder().capacity(100).clock(clock);
        let shop = shop(store.build().expect("a store")).expect("valid options");
        shop.database.set(1, 30);
        assert_eq!(shop.total(&[1]).await.expect("a total"), 30);

        shop.database.set(1, 25); // by somebody who does not invalidate
        hands.advance(Duration::from_secs(59));
        assert_eq!(shop.total(&[1]).await.expect("a total"), 30);
        hands.advance(Duration::from_secs(1));
        assert_eq!(shop.total(&[1]).await.expect("a total"), 25);
    }

    #[tokio::test]
    async fn the_shop_sells_while_its_cache_is_down() {
        let store = FailingStore::new(MemoryStore::new(100));
        store.fail_all(ErrorKind::Unavailable);
        let shop = shop(store).expect("valid options");
        shop.database.set(1, 30);
        assert_eq!(shop.total(&[1, 1]).await.expect("a total"), 60);
    }
}
