//! A process of a fleet, for tests: memory in front of a shared server, kept coherent by a bus, or by tracking, or no
//! memory at all. It is told on standard input what to do, as `cache-worker` is, and `cache_tests::processes` is the
//! other side.
//!
//! ```text
//! begin PATH                    writes the first value of all keys of a history
//! history SECONDS NUMBER PATH   sessions that read and write, as worker so-and-so; writes down what they saw
//! put COUNT VALUE               into so many keys
//! warm COUNT                    has so many keys near
//! remove COUNT PATH             removes them, one after the other; writes down when each removal began
//! told FROM COUNT PATH          waits until others have told it of so many more than FROM; writes down when it was told of each
//! near COUNT                    how many of so many keys are near
//! heard                         of how many keys others have told it, how many messages were missing, and how often all was dropped
//! hits                          how many reads of histories its memory answered, how many copies it made, and keys asked of the server
//! stalls                        for how many nanoseconds it had to wait for its turn, at most
//! ```

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Encoded, Namespaced, SetOptions, SharedStore, Tiered,
};
use cache_memory::MemoryStore;
use cache_redis::{RedisBus, RedisStore, Tracking};
use cache_serde::Json;
use cache_tests::Stalls;
use cache_tests::processes::{lines, say};
use cache_tests::redis::{foreign, patient_at};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3600);
/// Half of the operations are on the first keys, where everything meets. The others are written so seldom that an old
/// copy stays until somebody is told.
const HOT: usize = 20;
const KEYS: usize = 1000;
const SESSIONS: usize = 3;

type Far = Encoded<Namespaced<RedisStore>, Json, u64>;
type Tiers = Tiered<MemoryStore<u64>, Far>;

#[derive(Clone)]
struct Worker {
    service: String,
    cache: SharedStore<u64>,
    tiers: Option<Tiers>,
    turns: MultiplexedConnection,
    /// Reads that were answered at once.
    hits: Arc<AtomicU64>,
    stalls: Stalls,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, service, by] = &arguments[..] else {
        panic!("usage: cache-tier URL SERVICE bus|patient-bus|tracking|tracking-by-key|none");
    };
    let stalls = Stalls::watch();
    let store = patient_at(url, service);
    let store = if by == "tracking-by-key" { store.tracked() } else { store };
    let store = store.connect().await.expect("a server");
    let tracking = || Tracking::of(&store).namespace("n");
    let far: Far = store.clone().namespaced("n").encoded(Json::new());
    let builder = Tiered::builder(MemoryStore::new(10_000), far.clone()).near_ttl(HOUR);
    let bus = || Broadcast::over(RedisBus::new(&store, "n"));
    let builder = match by.as_str() {
        "bus" => Some(builder.coherent_by(bus())),
        // It takes nobody for silent who has to wait for its turn.
        "patient-bus" => {
            let patient = bus().heartbeat(Duration::from_secs(5)).trust(Duration::from_secs(60));
            Some(builder.coherent_by(patient))
        }
        "tracking" => Some(builder.coherent_by(tracking())),
        "tracking-by-key" => Some(builder.coherent_by(tracking().by_key())),
        _ => None,
    };
    let tiers = builder.map(|builder| builder.build().expect("valid options"));
    let cache = tiers.clone().map_or_else(|| far.shared(), CacheStoreExt::shared);
    if let Some(tiers) = &tiers {
        tiers.trusted().await;
    }
    let (service, turns, hits) = (service.clone(), foreign(url).await, Arc::default());
    let worker = Worker { service, cache, tiers, turns, hits, stalls };

    let mut lines = lines();
    say("ready");
    while let Some(line) = lines.recv().await {
        let worker = worker.clone();
        tokio::spawn(async move {
            let (number, question) = line.split_once(' ').expect("a number and a question");
            let answer = worker.answer(question).await;
            say(&format!("{number} {answer}"));
        });
    }
    // The parent has gone.
    std::process::exit(0);
}

impl Worker {
    async fn answer(self, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().expect("a number");
        let (path, report) = match words[..] {
            ["begin", path] => {
                let mut seen = String::new();
                for key in 0..KEYS {
                    self.write(usize::MAX, key, &mut seen).await;
                }
                (path, seen)
            }
            ["history", seconds, worker, path] => {
                (path, self.history(number(seconds) as u64, number(worker)).await)
            }
            ["remove", count, path] => (path, self.remove(number(count)).await),
            ["told", from, count, path] => (path, self.told(number(from), number(count)).await),
            ["put", count, value] => {
                let value: u64 = value.parse().expect("a number");
                for key in 0..number(count) {
                    self.cache.put(&key.to_string(), value, HOUR).await.expect("no failure");
                }
                return "done".to_owned();
            }
            ["warm", count] => {
                self.warm(number(count)).await;
                return "done".to_owned();
            }
            ["heard"] => {
                let seen = self.tiers().snapshot();
                let emptied: u64 = seen.resyncs.iter().sum();
                return format!("{} {} {emptied}", seen.dropped_by_others, seen.missing);
            }
            ["near", count] => {
                let near = (0..number(count)).filter(|key| self.is_near(&key.to_string()));
                return near.count().to_string();
            }
            ["hits"] => {
                let (hits, seen) = (self.hits.load(SeqCst), self.tiers().snapshot());
                return format!("{hits} {} {}", seen.copies, seen.far_reads);
            }
            ["stalls"] => return self.stalls.longest().as_nanos().to_string(),
            _ => panic!("what is `{question}`?"),
        };
        std::fs::write(path, report).expect("a file");
        "done".to_owned()
    }

    fn tiers(&self) -> &Tiers {
        self.tiers.as_ref().expect("a near tier")
    }

    async fn warm(&self, count: usize) {
        let keys: Vec<String> = (0..count).map(|key| key.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        // The parent's patience ends this, if nothing else does.
        while !keys.iter().all(|key| self.is_near(key)) {
            self.tiers().trusted().await;
            self.tiers().get_many(&keys).await;
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn is_near(&self, key: &str) -> bool {
        matches!(self.tiers().near().get_now(key), Poll::Ready(Some(_)))
    }

    async fn remove(&self, count: usize) -> String {
        let mut times = String::new();
        for key in 0..count {
            let _ = writeln!(times, "{key} {}", now());
            self.cache.remove(&key.to_string()).await.expect("no failure");
            sleep(Duration::from_millis(1)).await;
        }
        times
    }

    /// Messages of one publisher come in the order in which it has sent them, so counting them tells of which keys they are.
    async fn told(&self, from: usize, count: usize) -> String {
        let (mut times, mut seen) = (String::new(), 0);
        let told = || self.tiers().snapshot().dropped_by_others as usize;
        while seen < count {
            // Of what comes between two looks, all is as late as the last.
            let (all, now) = (told() - from, now());
            for key in seen..all {
                let _ = writeln!(times, "{key} {now}");
            }
            seen = all;
            sleep(Duration::from_millis(1)).await;
        }
        times
    }

    /// Reads, and one write in ten operations, in sessions beside each other.
    async fn history(&self, seconds: u64, worker: usize) -> String {
        let (start, wall) = both_clocks();
        let mut sessions = JoinSet::new();
        for session in 0..SESSIONS {
            let (this, session) = (self.clone(), worker * SESSIONS + session);
            sessions.spawn(async move {
                let mut seen = String::new();
                while start.elapsed() < Duration::from_secs(seconds) {
                    // So that there are not more than can be kept.
                    sleep(Duration::from_millis(1)).await;
                    for _ in 0..8 {
                        let key = fastrand::usize(..if fastrand::bool() { HOT } else { KEYS });
                        if fastrand::u32(..10) > 0 {
                            this.read(session, key, &mut seen).await;
                        } else {
                            this.write(session, key, &mut seen).await;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                seen
            });
        }
        let seen = sessions.join_all().await.concat();
        let (end, end_wall) = both_clocks();
        let (steady, wall) = (end.duration_since(start), Duration::from_nanos(end_wall - wall));
        let allowed = Duration::from_millis(1) + steady / 1000;
        assert!(steady.abs_diff(wall) < allowed, "the machine's clock has been set; try again");
        seen
    }

    async fn read(&self, session: usize, key: usize, seen: &mut String) {
        let began = now();
        let value = match self.cache.get_now(&key.to_string()) {
            Poll::Ready(Some(entry)) => {
                self.hits.fetch_add(1, SeqCst);
                entry.into_value()
            }
            _ => self.cache.value(&key.to_string()).await.expect("an answer"),
        };
        let value = value.expect("a value");
        let _ = writeln!(seen, "r {session} {key} {value} {began} {}", now());
    }

    /// Any process writes any key, but no two at a time, and each the next number.
    async fn write(&self, session: usize, key: usize, seen: &mut String) {
        let mut turns = self.turns.clone();
        let (turn, number) =
            (format!("{}-turn:{key}", self.service), format!("{}-number:{key}", self.service));
        let mut take = redis::cmd("SET");
        take.arg(&turn).arg(session).arg("NX");
        while !take.query_async::<bool>(&mut turns).await.expect("an answer") {
            sleep(Duration::from_millis(1)).await;
        }
        let mut next = redis::cmd("INCR");
        let value: u64 = next.arg(number).query_async(&mut turns).await.expect("an answer");
        let began = now();
        let options = SetOptions::ttl(HOUR);
        self.cache.set(&key.to_string(), Some(value), options).await.expect("no failure");
        let _ = writeln!(seen, "w {session} {key} {value} {began} {}", now());
        redis::cmd("DEL").arg(turn).exec_async(&mut turns).await.expect("an answer");
    }
}

/// The same moment by both clocks, as exactly as a machine tells it that lets this process wait now and then.
fn both_clocks() -> (Instant, u64) {
    loop {
        let (steady, wall) = (Instant::now(), now());
        if steady.elapsed() < Duration::from_millis(1) {
            return (steady, wall);
        }
    }
}

/// In nanoseconds. All processes of a machine read one clock of the wall, and no two agree on what an `Instant` is; who
/// relies on it looks whether the clock has been set meanwhile.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.expect("later than 1970").as_nanos()).expect("before 2554")
}
