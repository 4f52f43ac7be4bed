//! Turns of all entrants, with so many callers each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{KEYS, MANY, Op, PATIENCE, Remote};
use crate::measure::{cpu_time, median};

/// One that is there.
pub(super) type Present = (&'static str, Arc<dyn Remote>);

/// One that is not any more, and why.
type Failed = (&'static str, String);

/// What was measured of one entrant.
pub(super) struct Figures {
    pub(super) name: &'static str,
    pub(super) rate: f64,
    /// To the first entrant.
    pub(super) ratio: f64,
    /// The rates of the rounds, to be compared with another's.
    pub(super) rates: Vec<f64>,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) cpu: f64,
}

/// What is done in a turn, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Turns {
    pub(super) op: Op,
    pub(super) callers: usize,
    pub(super) turn: Duration,
    pub(super) rounds: usize,
}

#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    nanos: Vec<u32>,
    cpu: Duration,
    failed: Option<String>,
}

impl Turns {
    /// Measures those of them that do this, and says who failed.
    pub(super) async fn compare(
        self,
        entrants: &[Present],
        keys: &Arc<Vec<String>>,
    ) -> (Vec<Figures>, Vec<Failed>) {
        let entrants: Vec<&Present> =
            entrants.iter().filter(|(_, entrant)| entrant.does(self.op)).collect();
        let mut seen: Vec<Seen> = entrants.iter().map(|_| Seen::default()).collect();
        for _ in 0..self.rounds {
            for ((_, entrant), seen) in entrants.iter().zip(&mut seen) {
                if seen.failed.is_some() {
                    continue;
                }
                let (began, cpu) = (Instant::now(), cpu_time());
                match self.round(entrant, keys, began + self.turn).await {
                    Ok(nanos) => {
                        seen.rates.push(nanos.len() as f64 / began.elapsed().as_secs_f64());
                        seen.cpu += cpu_time().saturating_sub(cpu);
                        seen.nanos.extend(nanos);
                    }
                    Err(why) => seen.failed = Some(why),
                }
            }
        }
        let client = seen.first().map(|seen| seen.rates.clone()).unwrap_or_default();
        let (mut figures, mut failed) = (Vec::new(), Vec::new());
        for ((name, _), seen) in entrants.into_iter().zip(seen) {
            match &seen.failed {
                Some(why) => failed.push((*name, why.clone())),
                None => figures.push(seen.figures(name, &client)),
            }
        }
        (figures, failed)
    }

    /// How long each operation took, in nanoseconds.
    async fn round(
        self,
        entrant: &Arc<dyn Remote>,
        keys: &Arc<Vec<String>>,
        end: Instant,
    ) -> Result<Vec<u32>, String> {
        // Those that hang are ended when this is dropped.
        let mut callers = JoinSet::new();
        for caller in 0..self.callers {
            callers.spawn(self.caller(Arc::clone(entrant), Arc::clone(keys), caller, end));
        }
        let all = async {
            let mut nanos = Vec::new();
            while let Some(ended) = callers.join_next().await {
                nanos.extend(ended.map_err(|e| e.to_string())??);
            }
            Ok(nanos)
        };
        let done = tokio::time::timeout(self.turn + PATIENCE, all).await;
        done.unwrap_or_else(|_| Err(format!("has no answer after {PATIENCE:?}")))
    }

    async fn caller(
        self,
        entrant: Arc<dyn Remote>,
        keys: Arc<Vec<String>>,
        caller: usize,
        end: Instant,
    ) -> Result<Vec<u32>, String> {
        static COLD: AtomicU64 = AtomicU64::new(0);
        let (mut nanos, mut began) = (Vec::new(), Instant::now());
        while began < end {
            let at = (caller * 37 + nanos.len()) % KEYS;
            let done = match self.op {
                Op::Get | Op::Set => entrant.run(self.op, &keys[at..=at]).await == 1,
                Op::GetMany => {
                    let at = at % (KEYS - MANY);
                    entrant.run(self.op, &keys[at..at + MANY]).await == MANY
                }
                Op::GetOrLoad => {
                    let key = format!("cold:{}", COLD.fetch_add(1, Ordering::Relaxed));
                    entrant.run(self.op, &[key]).await == 1
                }
            };
            if !done {
                return Err("an operation failed, or found nothing".to_owned());
            }
            let now = Instant::now();
            nanos.push(u32::try_from((now - began).as_nanos()).unwrap_or(u32::MAX));
            began = now;
        }
        Ok(nanos)
    }
}

impl Seen {
    fn figures(mut self, name: &'static str, client: &[f64]) -> Figures {
        self.nanos.sort_unstable();
        let quantile = |q: f64| {
            let place = (self.nanos.len() as f64 * q) as usize;
            self.nanos.get(place).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1000.0)
        };
        Figures {
            name,
            rate: median(self.rates.clone()),
            ratio: ratio(&self.rates, client),
            p50: quantile(0.5),
            p99: quantile(0.99),
            cpu: self.cpu.as_secs_f64() * 1e6 / self.nanos.len() as f64,
            rates: self.rates,
        }
    }
}

/// The median of the rounds' ratios.
pub(super) fn ratio(rates: &[f64], to: &[f64]) -> f64 {
    median(rates.iter().zip(to).map(|(own, other)| own / other).collect())
}
