//! Outages, again and again: what callers see, and what is left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheStore, CacheStoreExt, ErrorKind, Stats};
use cache_redis::{RedisBuilder, RedisStore};
use cache_serde::Json;
use cache_tests::redis::{Server, connected, eventually, foreign, patient_at};
use cache_tests::{Source, Strategy, TestCache, cache, minute};
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

/// One test at a time, so that each can count the descriptors of this process.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").expect("a list of descriptors").count()
}

/// So many may be open for a moment for other reasons. It is fewer than there are outages.
const OTHERS: usize = 8;

fn impatient(url: &str) -> RedisBuilder {
    RedisStore::builder("s")
        .url(url)
        .operation_timeout(Duration::from_millis(250))
        .connect_timeout(Duration::from_secs(1))
        .reconnect_pauses(Duration::from_millis(10), Duration::from_millis(100))
}

/// Reads that go on until they are ended, and must not fail.
struct Readers {
    go_on: Arc<AtomicBool>,
    read: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Readers {
    fn of(caches: &[Arc<dyn TestCache>]) -> Self {
        let (go_on, read) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for reader in 0..8 {
            let cache = Arc::clone(&caches[reader % caches.len()]);
            let (go_on, read) = (Arc::clone(&go_on), Arc::clone(&read));
            tasks.spawn(async move {
                while go_on.load(Ordering::SeqCst) {
                    assert_eq!(cache.get("key").await.expect("a value"), Some(1));
                    read.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
        Self { go_on, read, tasks }
    }

    /// Waits until all of them have read once more, or one of them has failed.
    async fn more(&mut self) {
        let before = self.read.load(Ordering::SeqCst);
        eventually("reads go on", async || {
            assert!(self.tasks.try_join_next().is_none(), "a reader has failed; see above");
            self.read.load(Ordering::SeqCst) >= before + 20
        })
        .await;
    }

    async fn end(self) {
        self.go_on.store(false, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

fn both(store: &RedisStore, source: &Arc<Source>, stats: &Arc<Stats>) -> [Arc<dyn TestCache>; 2] {
    [Strategy::Aside, Strategy::Through].map(|strategy| {
        let values = store.clone().encoded::<_, u64>(Json::new());
        cache(strategy, values, minute().observer(Arc::clone(stats)), source)
    })
}

/// Waits until reads are answered by the server again.
async fn hits_again(cache: &Arc<dyn TestCache>, source: &Source) {
    eventually("hits again", async || {
        let before = source.loads();
        cache.get("key").await.expect("a value");
        source.loads() == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_fifty_times_costs_no_error_and_leaves_nothing() {
    let _alone = alone().await;
    let mut server = Server::start().await;
    let store = connected(impatient(&server.url())).await;
    let source = Source::with(&[("key", 1)]);
    let caches = both(&store, &source, &Arc::new(Stats::default()));
    hits_again(&caches[0], &source).await;
    let mut readers = Readers::of(&caches);
    readers.more().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let opened = descriptors();

    for _ in 0..50 {
        server.kill();
        eventually("the end is noticed", async || !store.is_connected()).await;
        readers.more().await;
        server.restart().await;
        store.connected().await;
        readers.more().await;
    }
    hits_again(&caches[0], &source).await;
    hits_again(&caches[1], &source).await;
    eventually("no task is left", async || Handle::current().metrics().num_alive_tasks() <= tasks)
        .await;
    eventually("no descriptor is left", async || descriptors() <= opened + OTHERS).await;
    readers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_each_read_one_time_out_at_most_and_then_none() {
    let _alone = alone().await;
    let server = Server::start().await;
    let store = connected(impatient(&server.url())).await;
    let source = Source::with(&[("key", 1)]);
    let stats = Arc::new(Stats::default());
    let caches = both(&store, &source, &stats);
    let mut other = foreign(&server.url()).await;
    hits_again(&caches[0], &source).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let opened = descriptors();

    for round in 0..20 {
        let _: () =
            redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut other).await.expect("reset");
        let before = stats.snapshot();
        server.stop();
        // One after the other, so that nothing is shared: each waits for the store once, and loads.
        let mut reads = 0;
        while store.is_connected() {
            assert_eq!(caches[reads % 2].get("key").await.expect("loaded"), Some(1));
            reads += 1;
            assert!(reads <= 50, "the connection is given up");
        }
        let now = stats.snapshot();
        assert!(now.store_errors - before.store_errors <= reads as u64, "round {round}");

        // From here on, nothing waits, and nothing is sent.
        for _ in 0..500 {
            let error = store.get("key").now_or_never().expect("an answer at once");
            assert_eq!(error.expect_err("the server hangs").kind(), ErrorKind::Unavailable);
            assert_eq!(caches[0].get("key").await.expect("loaded"), Some(1));
        }
        server.resume();
        store.connected().await;
        hits_again(&caches[0], &source).await;
        hits_again(&caches[1], &source).await;
        let sent: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut other)
            .await
            .expect("statistics");
        let gets = sent.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
        let gets = gets.and_then(|calls| calls.split(',').next()).expect("there were some");
        let gets: usize = gets.parse().expect("a number");
        assert!(gets < 250, "of more than 1000 reads {gets} were sent");
    }
    eventually("no task is left", async || Handle::current().metrics().num_alive_tasks() <= tasks)
        .await;
    eventually("no descriptor is left", async || descriptors() <= opened + OTHERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_64_mib_work_where_they_may_and_small_reads_beside_them_do_not_fail() {
    let _alone = alone().await;
    let server = Server::start().await;
    let store = patient_at(&server.url(), "s").max_value_bytes(64 << 20).connect();
    let store = store.await.expect("a server");
    store.put("key", Bytes::from_static(b"small"), MINUTE).await.expect("set");
    let go_on = Arc::new(AtomicBool::new(true));
    let mut small = JoinSet::new();
    for _ in 0..4 {
        let (store, go_on) = (store.clone(), Arc::clone(&go_on));
        small.spawn(async move {
            let mut reads = 0;
            while go_on.load(Ordering::SeqCst) {
                let value = store.value("key").await.expect("an answer");
                assert_eq!(value, Some(Bytes::from_static(b"small")));
                reads += 1;
            }
            reads
        });
    }
    let large = Bytes::from((0..64_u32 << 20).map(|i| (i >> 8) as u8).collect::<Vec<_>>());
    for _ in 0..3 {
        store.put("large", large.clone(), MINUTE).await.expect("it may be as large");
        let many = store.get_many(&["key", "large"]).await;
        let many: Vec<_> = many.into_iter().map(|entry| entry.expect("an answer")).collect();
        assert!(many[1].as_ref().and_then(|entry| entry.value()) == Some(&large));
    }
    go_on.store(false, Ordering::SeqCst);
    for reads in small.join_all().await {
        assert!(reads > 0);
    }

    let larger = Bytes::from(vec![0; (64 << 20) + 1]);
    let error = store.put("large", larger, MINUTE).await.expect_err("it is too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let message = error.to_string();
    assert!(message.contains("67108865") && message.contains("67108864"), "{message}");
    assert!(store.is_connected());
    assert!(store.value("large").await.expect("an answer") == Some(large), "what was there stays");
}
