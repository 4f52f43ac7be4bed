//! Hits by the clock, by instructions and allocations, and by several threads at once.

use std::thread;

use super::{Ask, Candidate, KEYS};
use crate::callgrind::{self, Counts};
use crate::chart::{self, ChartBar};
use crate::keys::Order;
use crate::measure::{Effort, in_turns, nanos};
use crate::report::{Section, Table, file_name, short, times};

const HITS: usize = 100_000;

/// What a hit of each candidate costs: instructions and allocations, if callgrind is there, and time. The ratios are
/// those to the candidate's base.
///
/// # Errors
///
/// What is missing, to be shown.
pub fn measure(
    candidates: &[Candidate],
    effort: Effort,
    title: &str,
) -> Result<(Section, Vec<Counts>), String> {
    let mut section = Section::new(title, about());
    let counts = candidates
        .iter()
        .map(|candidate| callgrind::count(&["hits", candidate.name], HITS, 2 * HITS))
        .collect::<Result<Vec<_>, _>>()?;
    let (zipf, uniform) = (Order::zipf(KEYS, HITS), Order::uniform(KEYS, HITS));
    let asks: Vec<Ask> = candidates.iter().map(|candidate| (candidate.make)(KEYS)).collect();
    let bases = bases(candidates);
    let time = |order: &Order| {
        in_turns(effort.rounds, &bases, |at| {
            nanos(|| assert_eq!(asks[at](order), HITS, "every request is a hit")) / HITS as f64
        })
    };
    let (hot, even) = (time(&zipf), time(&uniform));

    let mut table = Table::new([
        "a hit",
        "instructions",
        "to its engine",
        "allocations",
        "ns",
        "to its engine",
        "ns, uniform",
        "to its engine",
    ]);
    for (at, candidate) in candidates.iter().enumerate() {
        let base = &counts[bases[at]];
        table.row([
            candidate.name.to_owned(),
            short(counts[at].instructions),
            times(counts[at].instructions / base.instructions),
            short(counts[at].allocations),
            short(hot[at].median),
            times(hot[at].ratio),
            short(even[at].median),
            times(even[at].ratio),
        ]);
    }
    section.tables.push(table);
    let mut rows: Vec<ChartBar> = candidates
        .iter()
        .zip(&counts)
        .map(|(candidate, count)| ChartBar {
            name: candidate.name.to_owned(),
            figure: count.instructions,
            label: short(count.instructions),
            own: is_own(candidate.name),
        })
        .collect();
    rows.sort_by(|a, b| a.figure.total_cmp(&b.figure));
    let file = format!("{}.svg", file_name(title));
    let svg = chart::bars("Instructions of a hit in memory (less is better)", &rows);
    section.charts.push((file, "Instructions of a hit in memory".to_owned(), svg));
    Ok((section, counts))
}

fn about() -> String {
    format!(
        "{KEYS} keys of 21 bytes (or 64-bit integers), asked for by Zipf's law with exponent 0.99, or uniformly; values of \
         200 bytes in an `Arc`. Each candidate has the types that its users would give it: the engines have `String` keys, \
         asked for by `&str`, and their own default hashers. Instructions and allocations are counted by callgrind; times \
         are medians of rounds in which all candidates take their turns, and ratios medians of the rounds' ratios."
    )
}

/// Whether a candidate is the library's.
#[must_use]
pub fn is_own(name: &str) -> bool {
    ["MemoryStore", "MokaStore", "ReadThrough", "CacheAside", "RedisStore", "Tiered"]
        .iter()
        .any(|own| name.contains(own))
}

fn bases(candidates: &[Candidate]) -> Vec<usize> {
    let position = |name| candidates.iter().position(|candidate| candidate.name == name);
    candidates.iter().enumerate().map(|(at, c)| position(c.to).unwrap_or(at)).collect()
}

/// What callgrind runs: so many hits of one candidate.
///
/// # Errors
///
/// The name of a candidate that there is not, or a request that was no hit.
pub fn counted(candidates: &[Candidate], name: &str, hits: usize) -> Result<(), String> {
    let candidate = candidates.iter().find(|candidate| candidate.name == name);
    let candidate = candidate.ok_or_else(|| format!("no candidate {name:?}"))?;
    let (order, ask) = (Order::zipf(KEYS, HITS), (candidate.make)(KEYS));
    let found: usize = (0..hits / HITS).map(|_| ask(&order)).sum();
    if found == hits { Ok(()) } else { Err(format!("{found} hits of {hits}")) }
}

/// How much more two threads get done than one.
///
/// # Panics
///
/// If a request is no hit.
pub fn workers(candidates: &[Candidate], names: &[&str], effort: Effort) -> Section {
    let mut section = Section::new(
        "Two workers against one",
        "Hits per microsecond by one thread and by two on the same cache. On a hot Zipf set nothing that hands out `Arc`s \
         scales well, since the counter of the most popular value goes back and forth between the processors; compare \
         with the engine below.",
    );
    let candidates: Vec<Candidate> =
        candidates.iter().copied().filter(|candidate| names.contains(&candidate.name)).collect();
    let asks: Vec<Ask> = candidates.iter().map(|candidate| (candidate.make)(KEYS)).collect();
    let mut table = Table::new(["", "Zipf, 1", "2", "2 to 1", "uniform, 1", "2", "2 to 1"]);
    let mut rows: Vec<Vec<String>> =
        candidates.iter().map(|candidate| vec![candidate.name.to_owned()]).collect();
    for order in [Order::zipf(KEYS, HITS), Order::uniform(KEYS, HITS)] {
        // Even places are one worker, odd ones two; each is compared with one worker of the same candidate.
        let bases: Vec<usize> = (0..asks.len() * 2).map(|at| at & !1).collect();
        let turns = in_turns(effort.rounds, &bases, |at| {
            let (ask, threads) = (&asks[at / 2], at % 2 + 1);
            let took = nanos(|| {
                thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| assert_eq!(ask(&order), HITS, "every request is a hit"));
                    }
                });
            });
            (threads * HITS) as f64 * 1000.0 / took
        });
        for (row, pair) in rows.iter_mut().zip(turns.chunks(2)) {
            row.extend([short(pair[0].median), short(pair[1].median), times(pair[1].ratio)]);
        }
    }
    rows.into_iter().for_each(|row| table.row(row));
    section.tables.push(table);
    section
}
