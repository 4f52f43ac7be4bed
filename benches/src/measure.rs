//! How things are measured: candidates take turns, and what is told are medians of ratios.

use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often all candidates take their turn.
    pub rounds: usize,
    /// How long a turn takes, where it is measured by the clock.
    pub turn: Duration,
    /// How many hits are counted by instructions.
    pub counted: usize,
    /// Whether there is little time for all of it.
    pub quick: bool,
}

impl Effort {
    /// Everything, in minutes.
    #[must_use]
    pub fn full() -> Self {
        Self { rounds: 31, turn: Duration::from_millis(100), counted: 100_000, quick: false }
    }

    /// Whether everything works, in seconds. The figures are rough.
    #[must_use]
    pub fn quick() -> Self {
        Self { rounds: 5, turn: Duration::from_millis(30), counted: 20_000, quick: true }
    }
}

/// The middle one.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What one of the candidates took: in each round, and compared with its base in the same round.
#[derive(Clone, Debug)]
pub struct Turns {
    /// The median of the rounds.
    pub median: f64,
    /// The median of the rounds' ratios to the base.
    pub ratio: f64,
}

/// Measures all candidates in turn, so many rounds. `bases[i]` is the candidate that `i` is compared with.
pub fn in_turns(
    rounds: usize,
    bases: &[usize],
    mut measure: impl FnMut(usize) -> f64,
) -> Vec<Turns> {
    let mut figures = vec![Vec::with_capacity(rounds); bases.len()];
    for round in 0..rounds {
        // Every other round goes the other way, so that nobody always follows the same neighbour.
        for turn in 0..bases.len() {
            let at = if round % 2 == 0 { turn } else { bases.len() - 1 - turn };
            figures[at].push(measure(at));
        }
    }
    let against = |at: usize| {
        let ratios = figures[at].iter().zip(&figures[bases[at]]).map(|(own, base)| own / base);
        Turns { median: median(figures[at].clone()), ratio: median(ratios.collect()) }
    };
    (0..bases.len()).map(against).collect()
}

/// How long something takes, in nanoseconds.
pub fn nanos(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64
}

/// The processor time of this process; zero where the system does not tell.
#[must_use]
pub fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The memory that is this process's own, in bytes; zero where the system does not tell.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
