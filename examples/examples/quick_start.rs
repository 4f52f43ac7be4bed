//! A table of users behind a cache: `cargo run -p cache-examples --example quick_start`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cache_core::{ReadOptions, ReadThrough, Result, Stats};
use cache_memory::MemoryStore;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What stands for your database.
#[derive(Default)]
struct Database {
    queries: AtomicU32,
}

impl Database {
    async fn user(&self, id: u64) -> std::io::Result<Option<String>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
        Ok((id < 1000).then(|| format!("user {id}")))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let database = Arc::new(Database::default());
    let stats = Arc::new(Stats::default());

    let source = Arc::clone(&database);
    let load = move |id: u64| {
        let source = Arc::clone(&source);
        async move { source.user(id).await }
    };
    let options = ReadOptions::ttl(Duration::from_secs(60))
        .negative_ttl(Duration::from_secs(5))
        .observer(Arc::clone(&stats));
    let users = ReadThrough::new(MemoryStore::new(10_000), load, options)?;

    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let users = users.clone();
        callers.spawn(async move { users.get(&7).await });
    }
    let answers = callers.join_all().await;
    println!("100 callers at once: {:?} for the first", answers[0]);
    println!("a user who does not exist: {:?}", users.get(&5000).await?);
    println!("once more: {:?}", users.get(&5000).await?);

    users.invalidate(&7).await?; // after the database has changed
    println!("after an invalidation: {:?}", users.get(&7).await?);

    let seen = stats.snapshot();
    println!(
        "{} requests, {} queries, {} callers shared one, load times {:?}",
        seen.requests(),
        database.queries.load(Ordering::Relaxed),
        seen.coalesced,
        seen.load_times
    );
    Ok(())
}
