//! What a Redis store costs, against the client below on the same server.

mod candidates;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use candidates::{Op, Remote, TTL, value};
pub use server::Server;

use crate::chart::{self, ChartBar};
use crate::hit::is_own;
use crate::measure::{Effort, cpu_time, median};
use crate::report::{Bar, Section, Table, short, times};
use cache_redis::RedisBuilder;
use candidates::{Raw, Store};

const KEYS: usize = 1000;
const MANY: usize = 100;

/// An entrant that takes longer than this to do what takes the others milliseconds hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// One that takes part: its name, and what it is.
pub type Entrant = (&'static str, Arc<dyn Remote>);

/// The client below, which is the first, and the stores.
///
/// # Errors
///
/// What is wrong with the server.
pub async fn own(url: &str) -> Result<Vec<Entrant>, String> {
    let store = |build: fn(RedisBuilder) -> RedisBuilder| Store::connect(url, build);
    Ok(vec![
        ("redis-rs, multiplexed", Arc::new(Raw::connect(url).await?)),
        ("RedisStore", Arc::new(store(|builder| builder).await?)),
        ("RedisStore, one by one", Arc::new(store(|builder| builder.largest_batch(1)).await?)),
        ("RedisStore, 2 connections", Arc::new(store(|builder| builder.connections(2)).await?)),
    ])
}

/// What was measured of one entrant, with so many callers.
struct Figures {
    rate: f64,
    ratio: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

/// Measures everything that `entrants` can do. The first of them is the one that the others are compared with.
pub async fn measure(entrants: &[Entrant], effort: Effort, title: &str) -> Section {
    let mut section = Section::new(
        title,
        format!(
            "Values of 200 bytes, {KEYS} keys of about ten bytes, client and server on the same machine. So many callers ask one \
             after the other for {} ms, then it is the next candidate's turn. `get_or_load` is of keys that are not there, \
             with a loader that does not wait; the client does it by a `GET` and a `SET`, which guards against nothing, and \
             a strategy by a `GET`, a script that grants the lease, and a script that fills. CPU is the client's, in \
             microseconds for each operation.",
            effort.turn.as_millis()
        ),
    );
    let keys: Arc<Vec<String>> = Arc::new((0..KEYS).map(|key| format!("user:{key}")).collect());
    for (name, entrant) in entrants {
        let fill = async {
            for key in keys.iter() {
                let set = entrant.run(Op::Set, std::slice::from_ref(key)).await;
                assert_eq!(set, 1, "{name} sets {key:?}");
            }
        };
        let filled = tokio::time::timeout(PATIENCE, fill).await;
        assert!(filled.is_ok(), "{name} has not set {KEYS} keys in {PATIENCE:?}");
    }
    let rounds = |most: usize| effort.rounds.min(most);
    let plan: [(Op, &str, &[usize], usize); 4] = [
        (Op::Get, "get", &[1, 8, 16, 64, 256], rounds(31)),
        (Op::Set, "set", &[1, 16, 64, 256], rounds(9)),
        (Op::GetOrLoad, "get_or_load, cold", &[1, 16, 64, 256], rounds(9)),
        (Op::GetMany, "get_many of 100", &[1, 16], rounds(21)),
    ];
    for (op, name, callers, rounds) in plan {
        let mut table = Table::new([
            name,
            "callers",
            "per second",
            "to the client",
            "p50 us",
            "p99 us",
            "CPU us",
        ]);
        for callers in callers.iter().copied() {
            let figures = compare(entrants, op, &keys, callers, effort.turn, rounds).await;
            for ((name, _), figures) in entrants.iter().zip(&figures) {
                let Some(figures) = figures else { continue };
                table.row([
                    (*name).to_owned(),
                    callers.to_string(),
                    short(figures.rate),
                    times(figures.ratio),
                    short(figures.p50),
                    short(figures.p99),
                    short(figures.cpu),
                ]);
            }
            section.bars.extend(bars(op, callers, entrants, &figures));
            if op == Op::Get && (callers == 64 || callers == 256) {
                section.charts.push(chart(title, callers, entrants, &figures));
            }
        }
        section.tables.push(table);
    }
    section
}

async fn compare(
    entrants: &[Entrant],
    op: Op,
    keys: &Arc<Vec<String>>,
    callers: usize,
    turn: Duration,
    rounds: usize,
) -> Vec<Option<Figures>> {
    let mut rates = vec![Vec::new(); entrants.len()];
    let mut ratios = vec![Vec::new(); entrants.len()];
    let mut latencies = vec![Vec::new(); entrants.len()];
    let mut used = vec![(Duration::ZERO, 0_usize); entrants.len()];
    for _ in 0..rounds {
        let mut of_client = f64::NAN;
        for (at, (name, entrant)) in entrants.iter().enumerate() {
            if !entrant.does(op) {
                continue;
            }
            let (began, cpu) = (Instant::now(), cpu_time());
            let round = round(name, entrant, op, keys, callers, began + turn);
            let took = tokio::time::timeout(turn + PATIENCE, round).await;
            let took = took.unwrap_or_else(|_| panic!("{name}: {op:?} has no answer"));
            let rate = took.len() as f64 / began.elapsed().as_secs_f64();
            if at == 0 {
                of_client = rate;
            }
            rates[at].push(rate);
            ratios[at].push(rate / of_client);
            used[at] = (used[at].0 + (cpu_time() - cpu), used[at].1 + took.len());
            latencies[at].extend(took);
        }
    }
    (0..entrants.len())
        .map(|at| {
            latencies[at].sort_unstable();
            let quantile = |q: f64| {
                let place = (latencies[at].len() as f64 * q) as usize;
                latencies[at].get(place).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1000.0)
            };
            (!rates[at].is_empty()).then(|| Figures {
                rate: median(rates[at].clone()),
                ratio: median(ratios[at].clone()),
                p50: quantile(0.5),
                p99: quantile(0.99),
                cpu: used[at].0.as_secs_f64() * 1e6 / used[at].1 as f64,
            })
        })
        .collect()
}

/// How long each operation took, in nanoseconds.
async fn round(
    name: &'static str,
    entrant: &Arc<dyn Remote>,
    op: Op,
    keys: &Arc<Vec<String>>,
    callers: usize,
    end: Instant,
) -> Vec<u32> {
    static COLD: AtomicU64 = AtomicU64::new(0);
    let caller = |caller: usize| {
        let (entrant, keys) = (Arc::clone(entrant), Arc::clone(keys));
        async move {
            let (mut took, mut began) = (Vec::new(), Instant::now());
            while began < end {
                let at = (caller * 37 + took.len()) % KEYS;
                let done = match op {
                    Op::Get | Op::Set => entrant.run(op, &keys[at..=at]).await == 1,
                    Op::GetMany => {
                        let at = at % (KEYS - MANY);
                        entrant.run(op, &keys[at..at + MANY]).await == MANY
                    }
                    Op::GetOrLoad => {
                        let key = format!("cold:{}", COLD.fetch_add(1, Ordering::Relaxed));
                        entrant.run(op, &[key]).await == 1
                    }
                };
                assert!(done, "{name}: {op:?}");
                let now = Instant::now();
                took.push(u32::try_from((now - began).as_nanos()).unwrap_or(u32::MAX));
                began = now;
            }
            took
        }
    };
    let callers: Vec<_> = (0..callers).map(|number| tokio::spawn(caller(number))).collect();
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await.expect("a caller does not panic"));
    }
    took
}

const SHARED: &str = "client and server share the processors here, so what else runs moves the point from which gathering pays";

fn bars(op: Op, callers: usize, entrants: &[Entrant], figures: &[Option<Figures>]) -> Vec<Bar> {
    let ratio = |name: &str| {
        let at = entrants.iter().position(|(own, _)| *own == name)?;
        figures.get(at)?.as_ref().map(|figures| figures.ratio)
    };
    let bar = match (op, callers) {
        (Op::Get, 1 | 8) => 0.95,
        (Op::Get, 16) => 0.9,
        (Op::Get, 64) => 1.5,
        (Op::Get, 256) => 1.9,
        (Op::GetMany, 1) => 0.95,
        _ => return Vec::new(),
    };
    let Some(ratio) = ratio("RedisStore") else { return Vec::new() };
    let what = format!("`RedisStore` to redis-rs, {op:?}, {callers} callers");
    vec![Bar::at_least(what, ratio, bar).because(SHARED)]
}

fn chart(
    title: &str,
    callers: usize,
    entrants: &[Entrant],
    figures: &[Option<Figures>],
) -> (String, String, String) {
    let mut rows: Vec<ChartBar> = entrants
        .iter()
        .zip(figures)
        .filter_map(|((name, _), figures)| {
            let figures = figures.as_ref()?;
            Some(ChartBar {
                name: (*name).to_owned(),
                figure: figures.rate,
                label: format!("{}/s", short(figures.rate)),
                own: is_own(name),
            })
        })
        .collect();
    rows.sort_by(|a, b| b.figure.total_cmp(&a.figure));
    let alt = format!("Reads per second from Redis, {callers} callers");
    let file = format!("{}-{callers}.svg", crate::report::file_name(title));
    (file, alt.clone(), chart::bars(&format!("{alt} (more is better)"), &rows))
}
