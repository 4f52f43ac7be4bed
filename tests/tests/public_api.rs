//! What the types promise: futures that are small and `Send`, traits that compose.

use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::{
    Batch, BatchLoader, BehindOptions, Bounds, CacheAside, CacheStore, CacheStoreExt,
    DynCacheStore, MemoryJournal, Observer, ReadCache, ReadManyCache, ReadOptions, ReadThrough,
    Result, SharedStore, StaleWhileRevalidate, Write, WriteBatch, WriteBehind, WriteOptions,
    WriteThrough,
};
use cache_memory::{MemoryStore, MokaStore};
use futures_util::stream;

fn options<V>() -> ReadOptions<V> {
    ReadOptions::ttl(Duration::from_secs(60))
}

async fn large_load(_: u64) -> std::io::Result<Option<u64>> {
    let room = [7_u8; 4096];
    tokio::task::yield_now().await;
    Ok(Some(room.len() as u64))
}

#[test]
fn the_future_of_a_read_is_small_whatever_the_load_needs() {
    assert!(size_of_val(&large_load(7)) > 4096);

    let through = ReadThrough::new(MemoryStore::<u64>::new(10), large_load, options()).unwrap();
    assert!(size_of_val(&through.get(&7)) <= 64, "{}", size_of_val(&through.get(&7)));

    let aside = CacheAside::new(MokaStore::<u64>::new(10), options()).unwrap();
    let read = aside.get_or_load(&7, || large_load(7));
    assert!(size_of_val(&read) <= 64, "{}", size_of_val(&read));

    let erased =
        ReadThrough::new(MemoryStore::<u64>::new(10).shared(), large_load, options()).unwrap();
    assert!(size_of_val(&erased.get(&7)) <= 64);
    let invalidation = size_of_val(&erased.invalidate(&7));
    assert!(invalidation <= 512, "{invalidation}");
}

#[tokio::test]
async fn a_chain_of_reads_fits_on_a_small_stack() {
    fn depth(
        cache: CacheAside<MemoryStore<u64>>,
        n: u64,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<u64>>> + Send>> {
        Box::pin(async move {
            if n == 0 {
                return Ok(Some(0));
            }
            cache.clone().get_or_load(&n, || depth(cache, n - 1)).await
        })
    }
    let cache = CacheAside::new(MemoryStore::new(1000), options()).unwrap();
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(depth(cache, 50))
    });
    assert_eq!(thread.unwrap().join().expect("no overflow").unwrap(), Some(0));
}

/// Compiles only if everything is `Send` for a store, a loader and an observer of any type.
#[allow(dead_code, reason = "it is compiled, not called")]
async fn code_that_is_generic_over_everything_can_be_spawned<S, L, O>(
    through: ReadThrough<S, L, O>,
    aside: CacheAside<S, O>,
) where
    S: CacheStore<Value = u64>,
    L: BatchLoader<u64, Value = u64>,
    O: Observer,
{
    tokio::spawn(async move {
        through.get(&7).await?;
        through.warm_up_many(stream::iter([7]), 2, |_| {}).await;
        through.invalidate(&7).await?;
        aside.get_or_load(&7, || async { Ok::<_, std::io::Error>(None) }).await?;
        aside.get_or_load_many(&[7], |_| async { Ok::<_, std::io::Error>(vec![]) }).await;
        let load = |id: u64| async move { Ok::<_, std::io::Error>(Some(id)) };
        aside.warm_up(stream::iter([7]), 2, load, |_| {}).await;
        let load = |_| async { Ok::<_, std::io::Error>(vec![]) };
        aside.warm_up_many(stream::iter([7]), 2, load, |_| {}).await;
        through.warm_up(stream::iter([7]), 2, |_| {}).await;
        aside.store().put("key", 7, Duration::from_secs(1)).await?;
        aside.clear().await
    });
}

#[tokio::test]
async fn application_code_is_generic_over_the_strategy() {
    async fn double(cache: &impl ReadCache<u64, Value = u64>, id: u64) -> Result<Option<u64>> {
        cache.invalidate(&id).await?;
        Ok(cache.get(&id).await?.map(|value| value * 2))
    }
    let load = |id: u64| async move { Ok::<_, std::io::Error>(Some(id)) };
    let on_memory = ReadThrough::new(MemoryStore::new(10), load, options()).unwrap();
    let on_any = ReadThrough::new(MokaStore::new(10).shared(), load, options()).unwrap();
    assert_eq!(double(&on_memory, 21).await.unwrap(), Some(42));
    assert_eq!(double(&on_any, 21).await.unwrap(), Some(42));
}

#[tokio::test]
async fn application_code_is_generic_over_strategies_that_ask_once_for_many_keys() {
    async fn sum(cache: &impl ReadManyCache<u64, Value = u64>, ids: &[u64]) -> Result<u64> {
        let found: Result<Vec<Option<u64>>> = cache.get_many(ids).await.into_iter().collect();
        Ok(found?.into_iter().flatten().sum())
    }
    let questions = Arc::new(Mutex::new(Vec::new()));
    let load = || {
        let questions = Arc::clone(&questions);
        Batch(move |ids: Vec<u64>| {
            questions.lock().unwrap().push(ids.clone());
            ready(Ok::<_, std::io::Error>(ids.into_iter().map(|id| (id, id * 10)).collect()))
        })
    };
    // Nothing comes to the source while the test runs.
    let write = || WriteBatch(|_: Vec<Write<u64, u64>>| pending::<std::io::Result<()>>());
    let stale = || options().stale_for(Duration::from_secs(60));
    let journal = || MemoryJournal::new(Bounds::default());

    let through = || ReadThrough::new(MemoryStore::new(10), load(), options()).unwrap();
    let swr = || StaleWhileRevalidate::new(MemoryStore::new(10), load(), stale()).unwrap();
    let ids = [1, 2, 1];
    assert_eq!(sum(&through(), &ids).await.unwrap(), 40);
    assert_eq!(sum(&swr(), &ids).await.unwrap(), 40);
    let written = WriteThrough::new(through(), write(), WriteOptions::default()).unwrap();
    assert_eq!(sum(&written, &ids).await.unwrap(), 40);
    assert_eq!(questions.lock().unwrap().drain(..).collect::<Vec<_>>(), [[1, 2]; 3]);

    let behind = WriteBehind::new(through(), write(), journal(), BehindOptions::default()).unwrap();
    let staler = WriteBehind::new(swr(), write(), journal(), BehindOptions::default()).unwrap();
    behind.put(&1, 7).await.unwrap();
    staler.put(&1, 7).await.unwrap();
    // As after an eviction: only the journal has it.
    behind.clear().await.unwrap();
    staler.clear().await.unwrap();
    assert_eq!(sum(&behind, &ids).await.unwrap(), 34);
    assert_eq!(sum(&staler, &ids).await.unwrap(), 34);
    assert_eq!(questions.lock().unwrap().drain(..).collect::<Vec<_>>(), [[2]; 2]);
}

#[test]
fn stores_can_be_dyn() {
    let _: Arc<dyn DynCacheStore<u64>> = Arc::new(MemoryStore::<u64>::new(10));
    let _: [SharedStore<u64>; 2] = [MemoryStore::new(10).shared(), MokaStore::new(10).shared()];
}

/// A loader keeps what it needs itself; nothing of the caller's is borrowed by a load that outlives it.
#[tokio::test]
async fn a_load_outlives_everything_of_its_caller() {
    let (begun, proceed) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let load = {
        let (begun, proceed) = (Arc::clone(&begun), Arc::clone(&proceed));
        move |id: String| {
            let (begun, proceed) = (Arc::clone(&begun), Arc::clone(&proceed));
            async move {
                begun.notify_one();
                proceed.notified().await;
                Ok::<_, std::io::Error>(Some(id.len()))
            }
        }
    };
    let store = MemoryStore::<usize>::new(10);
    let cache = ReadThrough::new(store.clone(), load, options()).unwrap();
    let caller = tokio::spawn(async move {
        let key = "borrowed".to_owned();
        cache.get(key.as_str()).await
    });
    begun.notified().await;
    caller.abort();
    let _ = caller.await;
    proceed.notify_one();
    while store.get("borrowed").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ten_thousand_caches_leave_no_task_behind() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for id in 0..10_000_u64 {
        let load = |id: u64| async move { Ok::<_, std::io::Error>(Some(id)) };
        let cache = ReadThrough::new(MemoryStore::new(10), load, options()).unwrap();
        cache.get(&id).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
}
