//! Measures what the cache costs, against the engines below, in one run.
//!
//! `cargo run --release -p cache-benches`: everything. `… -- time`: nanoseconds per hit, the
//! candidates taking turns, medians. `… -- instructions`: instructions per hit, counted by
//! callgrind, which has to be installed (package `valgrind`).

mod hit;

use std::env;
use std::process::{Command, ExitCode};
use std::time::Instant;

use hit::{CANDIDATES, Candidate};

const ROUNDS: usize = 31;
const HITS_PER_ROUND: usize = 100_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["all"] => {
            time();
            instructions()
        }
        ["time"] => {
            time();
            ExitCode::SUCCESS
        }
        ["instructions"] => instructions(),
        // What callgrind runs.
        ["hits", name, hits] => run(name, hits.parse().unwrap_or(0)),
        _ => {
            eprintln!("usage: cache-benches [all | time | instructions]");
            ExitCode::from(2)
        }
    }
}

/// The order in which keys are asked for, the same for everybody: skewed towards the first.
fn order() -> Vec<&'static str> {
    let (keys, mut random) = (hit::keys(), fastrand::Rng::with_seed(7));
    let one = |_| keys[(random.f64().powi(4) * keys.len() as f64) as usize];
    (0..HITS_PER_ROUND).map(one).collect()
}

fn time() {
    let order = order();
    let mut asks: Vec<_> = CANDIDATES.iter().map(|candidate| (candidate.make)()).collect();
    let mut nanos = vec![Vec::with_capacity(ROUNDS); CANDIDATES.len()];
    for _ in 0..ROUNDS {
        for (ask, nanos) in asks.iter_mut().zip(&mut nanos) {
            let began = Instant::now();
            let found = ask(&order);
            nanos.push(began.elapsed().as_nanos() as f64 / HITS_PER_ROUND as f64);
            assert_eq!(found, HITS_PER_ROUND, "every request is a hit");
        }
    }
    println!("| hit | ns, median | to its engine, median of {ROUNDS} rounds |\n|---|---:|---:|");
    for (at, candidate) in CANDIDATES.iter().enumerate() {
        let base = &nanos[position(candidate.to)];
        let ratios = nanos[at].iter().zip(base).map(|(own, base)| own / base).collect();
        let (median_ns, ratio) = (median(nanos[at].clone()), median(ratios));
        println!("| {} | {median_ns:.1} | {ratio:.2} |", candidate.name);
    }
}

fn instructions() -> ExitCode {
    let Ok(own) = env::current_exe() else {
        eprintln!("can't tell the path of this program");
        return ExitCode::FAILURE;
    };
    let count = |name: &str, hits: usize| -> Option<u64> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&own);
        let output = command.args(["hits", name, &hits.to_string()]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    // The difference of two runs is free of what setting up costs.
    let (few, many) = (HITS_PER_ROUND, 2 * HITS_PER_ROUND);
    let per_hit = |candidate: &Candidate| {
        let more = count(candidate.name, many)?.checked_sub(count(candidate.name, few)?)?;
        Some(more as f64 / (many - few) as f64)
    };
    let Some(counts) = CANDIDATES.iter().map(per_hit).collect::<Option<Vec<_>>>() else {
        eprintln!("counting instructions needs valgrind (Debian: apt-get install valgrind)");
        return ExitCode::FAILURE;
    };
    println!("\n| hit | instructions | to its engine |\n|---|---:|---:|");
    for (candidate, count) in CANDIDATES.iter().zip(&counts) {
        println!(
            "| {} | {count:.0} | {:.2} |",
            candidate.name,
            count / counts[position(candidate.to)]
        );
    }
    ExitCode::SUCCESS
}

fn run(name: &str, hits: usize) -> ExitCode {
    let Some(candidate) = CANDIDATES.iter().find(|candidate| candidate.name == name) else {
        eprintln!("no candidate {name:?}");
        return ExitCode::from(2);
    };
    let (order, mut ask) = (order(), (candidate.make)());
    let found: usize = (0..hits / HITS_PER_ROUND).map(|_| ask(&order)).sum();
    if found == hits { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn position(name: &str) -> usize {
    CANDIDATES.iter().position(|candidate| candidate.name == name).expect("a candidate")
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
