//! What happens when many callers miss one key at once.

mod crowds;
mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use crowds::{By, OWN};
pub use processes::{child, measure as processes};

use crowds::BORROWED;

use crate::keys::{Value, value};
use crate::report::{Bar, Section, Table, short};

/// What the loads say when they fail.
#[derive(Clone, Debug)]
pub struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the source is down")
    }
}

impl std::error::Error for Down {}

/// Where values are loaded from.
#[derive(Clone, Debug)]
pub struct Source(Arc<State>);

#[derive(Debug)]
struct State {
    loads: AtomicUsize,
    takes: Duration,
    fails: bool,
}

impl Source {
    fn new(takes: Duration, fails: bool) -> Self {
        Self(Arc::new(State { loads: AtomicUsize::new(0), takes, fails }))
    }

    /// Loads a value.
    ///
    /// # Errors
    ///
    /// If this source is to fail.
    pub async fn load(&self) -> Result<Arc<Value>, Down> {
        self.0.loads.fetch_add(1, Ordering::Relaxed);
        sleep(self.0.takes).await;
        if self.0.fails { Err(Down) } else { Ok(value()) }
    }

    fn loads(&self) -> usize {
        self.0.loads.load(Ordering::Relaxed)
    }
}

/// A cache that callers come to.
pub trait Crowd: Send + Sync {
    /// Gets the one key, loading it if need be. The error is what its user would see.
    fn get(&self) -> BoxFuture<'static, Result<(), String>>;
}

/// What takes part: its name, and how it is made on a source.
#[derive(Clone, Copy, Debug)]
pub struct Entrant {
    /// Its name.
    pub name: &'static str,
    /// Makes it.
    pub make: fn(Source) -> BoxFuture<'static, Arc<dyn Crowd>>,
}

/// What is seen of one entrant in one scenario.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    loads: usize,
    /// Errors that are not the source's.
    strange: usize,
    failed: usize,
    hung: usize,
    wall: Duration,
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Why a load that borrows is made once more when its caller goes away.
const IN_PLACE: &str = "inherent to a load that may borrow from its caller: it ends with that caller, and one of those who wait \
    makes its own. `get_or_load_owned` and `ReadThrough` load in a task, which goes on; peers with one load here want an owned \
    load, too";

/// Runs the scenarios with each of them.
pub async fn measure(entrants: &[Entrant], title: &str) -> Section {
    let mut section = Section::new(
        title,
        "1000 callers of a cold key with a load of 10 ms; 100 callers of a load that fails after 10 ms; 100 callers that wait for \
         the load of one who goes away (loads of 50 ms). How often the source is asked, how long it takes until all have \
         their answer, and who gets no answer within 5 s or an error that is not the source's.",
    );
    let mut table = Table::new([
        "",
        "cold: loads",
        "ms",
        "failing: loads",
        "ms",
        "leader gone: loads",
        "ms",
        "errors, hung",
    ]);
    let mut most = Vec::new();
    for entrant in entrants {
        if timeout(PATIENCE, (entrant.make)(Source::new(Duration::ZERO, false))).await.is_err() {
            section.absent.push((entrant.name.to_owned(), format!("is not made in {PATIENCE:?}")));
            continue;
        }
        let cold = crowd(entrant, 1000, Source::new(Duration::from_millis(10), false)).await;
        let failing = crowd(entrant, 100, Source::new(Duration::from_millis(10), true)).await;
        let gone = leader_gone(entrant).await;
        let wrong = [
            (cold.failed + gone.failed + failing.strange, "wrong errors"),
            (cold.hung + failing.hung + gone.hung, "hung"),
        ];
        let wrong: Vec<String> =
            wrong.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let ms = |seen: &Seen| short(seen.wall.as_secs_f64() * 1000.0);
        table.row([
            entrant.name.to_owned(),
            cold.loads.to_string(),
            ms(&cold),
            failing.loads.to_string(),
            ms(&failing),
            gone.loads.to_string(),
            ms(&gone),
            if wrong.is_empty() { "none".to_owned() } else { wrong.join(", ") },
        ]);
        most.push((entrant.name, [cold.loads, failing.loads, gone.loads]));
    }
    section.tables.push(table);
    let (own, others): (Vec<_>, Vec<_>) =
        most.into_iter().partition(|(name, _)| crate::hit::is_own(name));
    for (at, scenario) in ["cold key", "failing load", "leader gone"].iter().enumerate() {
        let fewest = others.iter().map(|(_, loads)| loads[at]).min().unwrap_or(1);
        for (name, loads) in &own {
            let what = format!("`{name}`, {scenario}: loads, against the fewest of the others");
            let bar = Bar::at_most(what, loads[at] as f64, fewest as f64);
            section.bars.push(if *name == BORROWED { bar.because(IN_PLACE) } else { bar });
        }
    }
    section
}

async fn crowd(entrant: &Entrant, callers: usize, source: Source) -> Seen {
    let cache = (entrant.make)(source.clone()).await;
    let began = Instant::now();
    let callers: Vec<_> = (0..callers).map(|_| tokio::spawn(cache.get())).collect();
    seen(callers, began, &source).await
}

async fn leader_gone(entrant: &Entrant) -> Seen {
    let source = Source::new(Duration::from_millis(50), false);
    let cache = (entrant.make)(source.clone()).await;
    let began = Instant::now();
    let leader = tokio::spawn(cache.get());
    while source.loads() == 0 && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(1)).await;
    }
    let callers: Vec<_> = (0..100).map(|_| tokio::spawn(cache.get())).collect();
    sleep(Duration::from_millis(10)).await;
    leader.abort();
    let _ = leader.await;
    seen(callers, began, &source).await
}

async fn seen(
    callers: Vec<JoinHandle<Result<(), String>>>,
    began: Instant,
    source: &Source,
) -> Seen {
    let mut seen = Seen::default();
    let end = tokio::time::Instant::from_std(began + PATIENCE);
    for mut caller in callers {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        match timeout(left, &mut caller).await {
            Ok(answer) => {
                // A caller that panics has an error that is not the source's.
                if let Err(error) = answer.unwrap_or_else(|panic| Err(panic.to_string())) {
                    seen.failed += 1;
                    seen.strange += usize::from(!error.contains("the source is down"));
                }
            }
            Err(_) => {
                caller.abort();
                seen.hung += 1;
            }
        }
    }
    seen.wall = began.elapsed();
    seen.loads = source.loads();
    seen
}
