//! What a Redis store costs, against the client below on the same server.

mod bars;
mod candidates;
mod server;
mod turns;

use std::sync::Arc;
use std::time::Duration;

pub use candidates::{Op, Remote, TTL, value};
pub use server::Server;

use crate::chart::{self, ChartBar};
use crate::hit::is_own;
use crate::measure::Effort;
use crate::report::{Section, Table, short, times};
use cache_redis::RedisBuilder;
use candidates::{Raw, Store};
use turns::{Figures, Present, Turns};

const CLIENT: &str = "redis-rs, multiplexed";
const STORE: &str = "RedisStore";
const KEYS: usize = 1000;
const MANY: usize = 100;

/// An entrant that takes longer than this to do what takes the others milliseconds hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// One that takes part: its name, and what it is, or why it is not there.
pub type Entrant = (&'static str, Result<Arc<dyn Remote>, String>);

/// The client below, which is the first, and the stores.
///
/// # Errors
///
/// What is wrong with the server.
pub async fn own(url: &str) -> Result<Vec<Entrant>, String> {
    let store = |build: fn(RedisBuilder) -> RedisBuilder| Store::connect(url, build);
    Ok(vec![
        (CLIENT, Ok(Arc::new(Raw::connect(url).await?))),
        (STORE, Ok(Arc::new(store(|builder| builder).await?))),
        ("RedisStore, one by one", Ok(Arc::new(store(|builder| builder.largest_batch(1)).await?))),
        ("RedisStore, 2 connections", Ok(Arc::new(store(|builder| builder.connections(2)).await?))),
    ])
}

/// Measures everything that `entrants` can do. The first of them is the one that the others are compared with.
///
/// # Errors
///
/// What is wrong with the first of them. Another that fails, or hangs, is left out from then on, and the section says why.
pub async fn measure(
    entrants: Vec<Entrant>,
    effort: Effort,
    title: &str,
) -> Result<Section, String> {
    let mut section = Section::new(title, about(effort));
    let keys: Arc<Vec<String>> = Arc::new((0..KEYS).map(|key| format!("user:{key}")).collect());
    let mut present: Vec<Present> = Vec::new();
    for (name, entrant) in entrants {
        let filled = match entrant {
            Ok(entrant) => fill(entrant.as_ref(), &keys).await.map(|()| entrant),
            Err(why) => Err(why),
        };
        match filled {
            Ok(entrant) => present.push((name, entrant)),
            Err(why) => section.absent.push((name.to_owned(), why)),
        }
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
            let turns = Turns { op, callers, turn: effort.turn, rounds };
            let (figures, failed) = turns.compare(&present, &keys).await;
            for (name, why) in failed {
                present.retain(|(of, _)| *of != name);
                section
                    .absent
                    .push((format!("{name}, {op:?}, {callers} callers, and after it"), why));
            }
            if present.first().is_none_or(|(name, _)| *name != CLIENT) {
                return Err(format!("{CLIENT}: {:?}", section.absent));
            }
            for figures in &figures {
                table.row([
                    figures.name.to_owned(),
                    callers.to_string(),
                    short(figures.rate),
                    times(figures.ratio),
                    short(figures.p50),
                    short(figures.p99),
                    short(figures.cpu),
                ]);
            }
            section.bars.extend(bars::bars(op, callers, &figures));
            if op == Op::Get && (callers == 64 || callers == 256) {
                section.charts.push(chart(title, callers, &figures));
            }
        }
        section.tables.push(table);
    }
    Ok(section)
}

fn about(effort: Effort) -> String {
    format!(
        "Values of 200 bytes, {KEYS} keys of about ten bytes, client and server on the same machine. So many callers ask one \
         after the other for {} ms, then it is the next candidate's turn. `get_or_load` is of keys that are not there, \
         with a loader that does not wait; the client does it by a `GET` and a `SET`, which guards against nothing, and \
         a strategy by a `GET`, a script that grants the lease, and a script that fills. CPU is the client's, in \
         microseconds for each operation.",
        effort.turn.as_millis()
    )
}

async fn fill(entrant: &dyn Remote, keys: &[String]) -> Result<(), String> {
    let fill = async {
        for key in keys {
            if entrant.run(Op::Set, std::slice::from_ref(key)).await != 1 {
                return Err(format!("does not set {key:?}"));
            }
        }
        Ok(())
    };
    let filled = tokio::time::timeout(PATIENCE, fill).await;
    filled.unwrap_or_else(|_| Err(format!("has not set {KEYS} keys in {PATIENCE:?}")))
}

fn chart(title: &str, callers: usize, figures: &[Figures]) -> (String, String, String) {
    let mut rows: Vec<ChartBar> = figures
        .iter()
        .map(|figures| ChartBar {
            name: figures.name.to_owned(),
            figure: figures.rate,
            label: format!("{}/s", short(figures.rate)),
            own: is_own(figures.name),
        })
        .collect();
    rows.sort_by(|a, b| b.figure.total_cmp(&a.figure));
    let alt = format!("Reads per second from Redis, {callers} callers");
    let file = format!("{}-{callers}.svg", crate::report::file_name(title));
    (file, alt.clone(), chart::bars(&format!("{alt} (more is better)"), &rows))
}
