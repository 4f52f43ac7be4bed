//! What a slow disk does to a journal.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use cache_core::{BehindOptions, ReadOptions, ReadThrough, Write, WriteBatch, WriteBehind};
use cache_memory::MemoryStore;

use super::{directory, open};
use crate::log::tests::Faults;

/// It is acknowledged, so it is in the source when the shutdown is over and says that nothing is left.
#[tokio::test]
async fn what_is_being_committed_when_a_cache_is_shut_down_is_written_as_well() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    let (reached, held) = Faults::of(&path).hold_a_sync();
    let nothing = |_: u64| async { Ok::<_, io::Error>(None::<Vec<u8>>) };
    let reads = ReadOptions::ttl(Duration::from_secs(60));
    let reads = ReadThrough::new(MemoryStore::new(100), nothing, reads).unwrap();
    let source = Arc::new(Mutex::new(Vec::new()));
    let write = {
        let source = Arc::clone(&source);
        WriteBatch(move |writes: Vec<Write<u64, Vec<u8>>>| {
            source.lock().unwrap().extend(writes.into_iter().map(|write| (write.key, write.value)));
            async { Ok::<_, io::Error>(()) }
        })
    };
    let cache = WriteBehind::new(reads, write, journal, BehindOptions::default()).unwrap();

    let mut put = pin!(cache.put(&7, vec![7]));
    let mut shutdown = pin!(cache.shutdown(Duration::from_secs(20)));
    tokio::select! {
        biased;
        _ = &mut put => panic!("it is not on the disk"),
        reached = reached => reached.expect("a sync"),
    }
    for _ in 0..100 {
        let now = poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx))).await;
        assert!(now.is_pending(), "it is over before the write is acknowledged");
        tokio::task::yield_now().await; // so that others may find that there is nothing to do
    }
    cache.put(&8, vec![8]).await.expect_err("it is shut down");
    drop(held);
    let began = Instant::now();
    let (put, left) = tokio::join!(put, shutdown);
    put.expect("it was admitted");
    assert!(left.expect("shut down").is_empty());
    assert_eq!(*source.lock().unwrap(), [(7, Some(vec![7]))]);
    assert!(began.elapsed() < Duration::from_secs(10), "nobody was there to write it");
}
