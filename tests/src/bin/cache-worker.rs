//! A process of a fleet, for tests: a cache on a shared server, which is told on standard input what to do, line by
//! line, and asks its parent for what it loads. `cache_tests::processes` is the other side.
//!
//! ```text
//! in    7 get 250 key      250 tasks read the key        out   7 42         what they got
//! in    8 invalidate key                                 out   8 done
//! in    9 invalidate-tag t  where entries have tags      out   9 done
//! in    9 put 42 key         the key is written            out   9 done
//! in    10 kept key          what the store has            out   10 42
//! in    = 3 42             the answer to load 3          out   ? 3 key      load 3 is of this key
//! in    = 4 0              write 4 has been made         out   ? 4 write 42 key
//! ```

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cache_core::{
    CacheStore, CacheStoreExt, Encoded, Loader, Marked, ReadOptions, ReadThrough, Result, Stats,
    Tagged, TaggedCodec, Write, WriteOptions, WriteThrough, Writer,
};
use cache_redis::{RedisMarks, RedisStore};
use cache_serde::Json;
use cache_tests::processes::{lines, say};
use cache_tests::redis::patient_at;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type Plain = Encoded<RedisStore, Json, u64>;
type WithTags = Tagged<Encoded<RedisStore, TaggedCodec<Json>, Marked<u64>>, RedisMarks, u64>;
type Cache<S> = WriteThrough<ReadThrough<S, Parent, Arc<Stats>>, Parent>;

/// A store with tags, or without.
trait Store: CacheStore<Value = u64> + Clone {
    fn invalidate_tag(cache: &Cache<Self>, tag: &str) -> impl Future<Output = Result<()>> + Send;
}

impl Store for Plain {
    async fn invalidate_tag(_: &Cache<Self>, tag: &str) -> Result<()> {
        panic!("no entry has the tag `{tag}`, or any");
    }
}

impl Store for WithTags {
    async fn invalidate_tag(cache: &Cache<Self>, tag: &str) -> Result<()> {
        cache.invalidate_tag(tag).await
    }
}

struct Worker<S: Store> {
    cache: Cache<S>,
    store: S,
    stats: Arc<Stats>,
    /// Reads that tasks have begun.
    begun: AtomicU64,
}

/// The source is in the process that started this one.
#[derive(Clone, Default)]
struct Parent(Arc<Mutex<Loads>>);

#[derive(Default)]
struct Loads {
    count: u64,
    waiting: HashMap<u64, oneshot::Sender<u64>>,
}

impl Loader<String> for Parent {
    type Value = u64;
    type Error = Infallible;

    async fn load(&self, key: String) -> Result<Option<u64>, Infallible> {
        Ok(self.ask(&key).await.ok())
    }
}

impl Writer<String, u64> for Parent {
    type Error = Infallible;

    async fn write(&self, write: Write<String, u64>) -> Result<(), Infallible> {
        let value = write.value.expect("no removals are asked for");
        let _ = self.ask(&format!("write {value} {}", write.key)).await;
        Ok(())
    }
}

impl Parent {
    fn ask(&self, what: &str) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            loads.count += 1;
            let number = loads.count;
            loads.waiting.insert(number, answer);
            number
        };
        say(&format!("? {number} {what}"));
        answered
    }

    fn answer(&self, number: u64, value: u64) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = loads.waiting.remove(&number) {
            // It may have been given up.
            let _ = waiting.send(value);
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, service, lease, freshness @ ..] = &arguments[..] else {
        panic!(
            "usage: cache-worker URL SERVICE LEASE-IN-MILLISECONDS \
             [tagged | TTL-IN-MILLISECONDS BETA]"
        );
    };
    let store = patient_at(url, service).connect().await.expect("a server");
    if let ["tagged"] = freshness.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let marks = RedisMarks::new(&store);
        let store = store.encoded(TaggedCodec::new(Json::new()));
        // Of whatever value, or of none.
        work(store.tagged(marks, |_: &str, _: Option<&u64>| ["t".to_owned()]), lease, &[]).await;
    } else {
        work::<Plain>(store.encoded(Json::new()), lease, freshness).await;
    }
    // The parent has gone.
    std::process::exit(0);
}

async fn work<S: Store>(store: S, lease: &str, freshness: &[String]) {
    let stats = Arc::new(Stats::default());
    let long = Duration::from_secs(600);
    let options = match freshness {
        [ttl, beta] => ReadOptions::ttl(Duration::from_millis(ttl.parse().expect("a number")))
            .stale_for(long)
            .early_refresh(beta.parse().expect("a number")),
        _ => ReadOptions::ttl(long),
    };
    let options = options
        .load_timeout(long)
        .wait_limit(long)
        .store_timeout(long)
        .lease(Duration::from_millis(lease.parse().expect("a number")))
        .observer(Arc::clone(&stats));
    let parent = Parent::default();
    let cache = ReadThrough::new(store.clone(), parent.clone(), options).expect("valid options");
    let writes = WriteOptions::default().write_timeout(long);
    let cache = WriteThrough::new(cache, parent.clone(), writes).expect("valid options");
    let worker = Arc::new(Worker { cache, store, stats, begun: AtomicU64::new(0) });

    let mut lines = lines();
    say("ready");
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["=", number, value] = words[..] {
            parent.answer(number.parse().expect("a number"), value.parse().expect("a number"));
            continue;
        }
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            let (number, question) = line.split_once(' ').expect("a number and a question");
            let answer = worker.answer(question).await;
            say(&format!("{number} {answer}"));
        });
    }
}

impl<S: Store> Worker<S> {
    async fn answer(self: &Arc<Self>, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        match words[..] {
            ["get", count, key] => self.get(count.parse().expect("a number"), key).await,
            ["begun"] => self.begun.load(Ordering::SeqCst).to_string(),
            ["invalidate", key] => {
                let done = self.cache.invalidate(key).await;
                done.map_or_else(|error| error.to_string(), |()| "done".to_owned())
            }
            ["invalidate-tag", tag] => {
                let done = S::invalidate_tag(&self.cache, tag).await;
                done.map_or_else(|error| error.to_string(), |()| "done".to_owned())
            }
            ["put", value, key] => {
                let done = self.cache.put(key, value.parse().expect("a number")).await;
                done.map_or_else(|error| error.to_string(), |()| "done".to_owned())
            }
            ["kept", key] => match self.store.value(key).await {
                Ok(Some(value)) => value.to_string(),
                other => format!("{other:?}"),
            },
            ["refused"] => self.stats.snapshot().refused_fills.to_string(),
            ["loading"] => self.cache.loading().to_string(),
            ["left", key] => match self.store.get(key).await {
                Ok(Some(entry)) => entry.usable_for().as_millis().to_string(),
                other => format!("{other:?}"),
            },
            ["fresh", key] => match self.store.get(key).await {
                Ok(Some(entry)) => entry.is_fresh().to_string(),
                other => format!("{other:?}"),
            },
            ["now"] => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.expect("later than 1970").as_secs().to_string()
            }
            _ => panic!("what is `{question}`?"),
        }
    }

    /// What so many tasks get, without repetitions.
    async fn get(self: &Arc<Self>, count: usize, key: &str) -> String {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (worker, key) = (Arc::clone(self), key.to_owned());
            tasks.spawn(async move {
                worker.begun.fetch_add(1, Ordering::SeqCst);
                match worker.cache.get(&key).await {
                    Ok(Some(value)) => value.to_string(),
                    other => format!("{other:?}"),
                }
            });
        }
        let got: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
        got.into_iter().collect::<Vec<_>>().join(" ")
    }
}
