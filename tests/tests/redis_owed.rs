//! What is made up for, since it failed or nobody waited for its answer.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::fresh_name;
use cache_core::{
    CacheAside, CacheStore, CacheStoreExt, Claim, ClaimOptions, Error, ErrorKind, Fill, Marks,
    ReadOptions, SetOptions,
};
use cache_redis::{RedisBuilder, RedisMarks, RedisStore};
use cache_tests::redis::{Fault, Proxy, Server, eventually, foreign, patient_at};
use futures_util::future::{Either, join_all, select};
use futures_util::poll;
use redis::AsyncTypedCommands;

const MINUTE: Duration = Duration::from_secs(60);

fn old() -> Bytes {
    Bytes::from_static(b"old")
}

async fn value(store: &RedisStore, key: &str) -> Option<Bytes> {
    store.value(key).await.expect("an answer")
}

/// Patient, but soon there again.
fn builder(url: &str, service: &str) -> RedisBuilder {
    patient_at(url, service).reconnect_pauses(Duration::from_millis(10), Duration::from_millis(50))
}

/// A store behind a proxy, and one that sees the server as it is.
async fn behind_a_proxy(server: &Server, bare: bool) -> (Proxy, RedisStore, RedisStore) {
    let (proxy, service) = (Proxy::to(server.port()).await, fresh_name());
    let store = async |url: &str| {
        let builder = builder(url, &service);
        let builder = if bare { builder.bare() } else { builder };
        builder.connect().await.expect("a server")
    };
    let (store, neighbour) = (store(&proxy.url()).await, store(&server.url()).await);
    (proxy, store, neighbour)
}

async fn cut_off(proxy: &Proxy, store: &RedisStore) {
    proxy.fault(Fault::Refuse);
    proxy.reset();
    eventually("the end is noticed", async || !store.is_connected()).await;
}

async fn back(proxy: &Proxy, store: &RedisStore) {
    proxy.fault(Fault::None);
    proxy.reset();
    eventually("it is there again", async || store.is_connected() && store.pending() == 0).await;
}

/// What is written later may have been loaded before: only who has the right to write knows, and that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_failed_removes_what_others_have_written_since() {
    let server = Server::start().await;
    for bare in [false, true] {
        let (proxy, store, neighbour) = behind_a_proxy(&server, bare).await;
        let keys = ["same", "replaced", "p:same", "p:replaced"];
        for key in keys {
            neighbour.put(key, old(), MINUTE).await.expect("set");
        }
        let claim = neighbour.claim("loaded", ClaimOptions::new(MINUTE)).await.expect("an answer");
        cut_off(&proxy, &store).await;
        store.remove_many(&["same", "replaced", "loaded"]).await.expect_err("no server");
        store.remove_prefix("p:").await.expect_err("no server");
        let Claim::Granted(lease) = claim else { panic!("nobody else wants it") };
        let options = SetOptions::ttl(MINUTE);
        let filled = neighbour.fill(lease, Some(old()), options).await.expect("an answer");
        assert_eq!(filled, Fill::Stored);
        for key in ["replaced", "p:replaced"] {
            neighbour.put(key, Bytes::from_static(b"who knows"), MINUTE).await.expect("set");
        }
        back(&proxy, &store).await;
        for key in keys.into_iter().chain(["loaded"]) {
            assert_eq!(value(&neighbour, key).await, None, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_its_strategy_gives_up_is_made_up_for() {
    let server = Server::start().await;
    let (proxy, store, neighbour) = behind_a_proxy(&server, false).await;
    let keys: Vec<String> = (0..3000).map(|number| format!("key:{number}")).collect();
    let set = async || {
        let entries = keys.iter().map(|key| (&**key, Some(old()), SetOptions::ttl(MINUTE)));
        for set in neighbour.set_many(entries.collect()).await {
            set.expect("set");
        }
    };
    let gone = async || {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        neighbour.get_many(&keys).await.into_iter().all(|entry| matches!(entry, Ok(None)))
    };
    let options = ReadOptions::ttl(MINUTE).store_timeout(Duration::from_millis(50));
    let cache = CacheAside::new(store.clone(), options).expect("valid options");
    set().await;
    proxy.fault(Fault::Hang);
    let invalidated = cache.invalidate_many(&keys).await;
    assert_eq!(invalidated.expect_err("it hangs").kind(), ErrorKind::Unavailable);
    assert_eq!(store.pending(), keys.len());
    // What has been sent is lost.
    cut_off(&proxy, &store).await;
    back(&proxy, &store).await;
    assert!(gone().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_dropped_leaves_no_lease_behind() {
    let server = Server::start().await;
    let (proxy, store, neighbour) = behind_a_proxy(&server, false).await;
    let mut other = foreign(&server.url()).await;
    let full = |key: &str| format!("{}:{key}", service_of(&store));
    let claim = ClaimOptions::new(60 * MINUTE);

    proxy.fault(Fault::DropAnswers);
    {
        let asked = pin!(store.claim("key", claim));
        let granted = pin!(eventually("it is granted", async || {
            other.exists(full("key")).await.expect("an answer")
        }));
        let Either::Right(_) = select(asked, granted).await else { panic!("it has no answer") };
    }
    back(&proxy, &store).await;
    let claimed = neighbour.claim("key", claim).await.expect("an answer");
    assert!(matches!(claimed, Claim::Granted(_)), "{claimed:?}");
}

fn service_of(store: &RedisStore) -> String {
    let told = format!("{store:?}");
    let prefix = told.split("prefix: \"").nth(1).expect("its prefix");
    prefix.split(":\"").next().expect("its end").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_holds_up_nothing_behind_it() {
    let server = Server::start().await;
    let (proxy, store, neighbour) = behind_a_proxy(&server, false).await;
    let mut other = foreign(&server.url()).await;
    let tags = RedisMarks::new(&store);
    let theirs = RedisMarks::new(&neighbour);
    neighbour.put("hit", old(), MINUTE).await.expect("set");
    neighbour.put("key", old(), MINUTE).await.expect("set");
    let stamps = theirs.stamp(&["t"], None, MINUTE).await.expect("an answer").expect("a stamp");
    // A lease on an entry, which needs memory to be given back.
    let entry = neighbour.get("hit").await.expect("an answer").expect("an entry");
    let refresh = ClaimOptions::new(MINUTE).refreshing(entry.version());
    let claimed = store.claim("hit", refresh).await.expect("an answer");
    let Claim::Granted(lease) = claimed else { panic!("{claimed:?}") };

    cut_off(&proxy, &store).await;
    store.release(lease).await.expect_err("no server");
    tags.invalidate(&["t"]).await.expect_err("no server");
    store.remove("key").await.expect_err("no server");
    assert_eq!(store.pending(), 3);
    let mut config = async |name: &str, value: &str| {
        let set = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).to_owned();
        let _: () = set.query_async(&mut other).await.expect("set");
    };
    config("maxmemory", "1").await;
    back(&proxy, &store).await;
    assert_eq!(value(&store, "hit").await, Some(old()), "reads go on");
    assert_eq!(value(&store, "key").await, None);
    let generations = tags.generations(&["t"]).await.expect("an answer");
    let generation = stamps[0].generation();
    assert!(!generations.contains(&Some(generation)), "the tag is invalid");
    config("maxmemory", "0").await;
    let again = tags.stamp(&["t"], None, MINUTE).await.expect("an answer").expect("a stamp");
    assert_ne!(again[0].generation(), generation, "and does not come back as it was");
}

/// Any of the callers may start what sends the reads of all.
#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_the_runtime_of_one_caller_stops() {
    let server = Server::start().await;
    let (proxy, store, _) = behind_a_proxy(&server, false).await;
    store.put("key", old(), MINUTE).await.expect("set");
    proxy.fault(Fault::Hang);
    let (asked, all_asked) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let elsewhere = store.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut reads = Box::pin(join_all((0..40).map(|_| elsewhere.value("key"))));
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            assert!(poll!(reads.as_mut()).is_pending());
        });
        asked.send(()).expect("it is waited for");
        // The runtime is there, and nobody drives it.
        let _ = ended.recv();
    });
    all_asked.await.expect("they are asked for");
    proxy.fault(Fault::None);
    let reads = join_all((0..40).map(|_| store.value("key")));
    let reads = tokio::time::timeout(MINUTE, reads).await.expect("in time");
    for read in reads {
        assert_eq!(read.expect("an answer"), Some(old()));
    }
    drop(end);
    thread.join().expect("no panic");
}

/// Without a runtime there is an error, and no panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_runtime_is_told_so() {
    let server = Server::start().await;
    let store = builder(&server.url(), &fresh_name()).connect().await.expect("a server");
    store.put("hit", old(), MINUTE).await.expect("set");
    let cache = CacheAside::new(store, ReadOptions::ttl(MINUTE)).expect("valid options");
    let thread = std::thread::spawn(move || {
        let load = || async { Ok::<_, Error>(Some(old())) };
        let get = |key: &'static str| block_on(cache.get_or_load(key, load));
        (get("hit"), get("miss"))
    });
    let joined = tokio::task::spawn_blocking(|| thread.join()).await.expect("no panic");
    let (hit, miss) = joined.expect("no panic");
    assert_eq!(hit.expect("no failure"), Some(old()));
    assert_eq!(miss.expect_err("nothing loads").kind(), ErrorKind::NoRuntime);
}

/// Drives a future, and nothing else.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
