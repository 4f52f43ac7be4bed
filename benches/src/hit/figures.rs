//! Hits by the clock, and by instructions and allocations.

use std::env;
use std::process::Command;
use std::time::Duration;

use super::{Ask, Candidate, KEYS};
use crate::apart;
use crate::callgrind::{self, Counts};
use crate::chart::{self, ChartBar};
use crate::keys::Order;
use crate::measure::{Effort, Turns, in_turns, nanos};
use crate::report::{Section, Table, file_name, short, times};

const HITS: usize = 100_000;

/// A candidate that takes longer than this for hits that take the others milliseconds hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One candidate that works, and what was counted of it, if callgrind is there.
pub type Counted = (Candidate, Option<Counts>);

/// What a hit of each candidate costs: instructions and allocations, if callgrind is there, and time. The ratios are
/// those to the candidate's base.
///
/// # Errors
///
/// What is wrong with all of them.
pub fn measure(
    candidates: &[Candidate],
    effort: Effort,
    title: &str,
) -> Result<(Section, Vec<Counted>), String> {
    let mut section = Section::new(title, about());
    let counting = callgrind::is_installed();
    if !counting {
        section.notes.push(callgrind::MISSING.to_owned());
    }
    let mut counted: Vec<Counted> = Vec::new();
    for candidate in candidates {
        match count(candidate, effort.counted, counting) {
            Ok(counts) => counted.push((*candidate, counts)),
            Err(why) => section.absent.push((candidate.name.to_owned(), why)),
        }
    }
    let asks: Vec<Ask> = counted.iter().map(|(candidate, _)| (candidate.make)(KEYS)).collect();
    if asks.is_empty() {
        return Err(format!("no candidate works: {:?}", section.absent));
    }
    let bases = bases(&counted);
    let time = |order: &Order| {
        in_turns(effort.rounds, &bases, |at| {
            nanos(|| assert_eq!(asks[at](order), HITS, "every request is a hit")) / HITS as f64
        })
    };
    let (hot, even) = (time(&Order::zipf(KEYS, HITS)), time(&Order::uniform(KEYS, HITS)));
    section.tables.push(table(&counted, &bases, &hot, &even));
    if counting {
        section.charts.push(chart(title, &counted));
    }
    Ok((section, counted))
}

/// What callgrind counts of so many hits.
///
/// # Errors
///
/// What went wrong.
pub(super) fn counts(candidate: &Candidate, hits: usize) -> Result<Counts, String> {
    callgrind::count(&["hits", candidate.name], hits, "hit::figures::measured_pass")
}

/// Tries the candidate in a process of its own, where it may hang, and then counts.
fn count(candidate: &Candidate, hits: usize, counting: bool) -> Result<Option<Counts>, String> {
    let own = env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
    let mut trial = Command::new(own);
    trial.args(["hits", candidate.name, &hits.to_string()]);
    apart::tool(trial, PATIENCE).good()?;
    if !counting {
        return Ok(None);
    }
    counts(candidate, hits).map(Some)
}

fn table(counted: &[Counted], bases: &[usize], hot: &[Turns], even: &[Turns]) -> Table {
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
    let nothing = Counts { instructions: f64::NAN, allocations: f64::NAN };
    for (at, (candidate, counts)) in counted.iter().enumerate() {
        let (counts, base) = (counts.unwrap_or(nothing), counted[bases[at]].1.unwrap_or(nothing));
        table.row([
            candidate.name.to_owned(),
            short(counts.instructions),
            times(counts.instructions / base.instructions),
            short(counts.allocations),
            short(hot[at].median),
            times(hot[at].ratio),
            short(even[at].median),
            times(even[at].ratio),
        ]);
    }
    table
}

fn chart(title: &str, counted: &[Counted]) -> (String, String, String) {
    let bar = |(candidate, counts): &Counted| {
        counts.map(|counts| ChartBar {
            name: candidate.name.to_owned(),
            figure: counts.instructions,
            label: short(counts.instructions),
            own: is_own(candidate.name),
        })
    };
    let mut rows: Vec<ChartBar> = counted.iter().filter_map(bar).collect();
    rows.sort_by(|a, b| a.figure.total_cmp(&b.figure));
    let svg = chart::bars("Instructions of a hit in memory (less is better)", &rows);
    (format!("{}.svg", file_name(title)), "Instructions of a hit in memory".to_owned(), svg)
}

fn about() -> String {
    format!(
        "{KEYS} keys of 21 bytes (or 64-bit integers), asked for by Zipf's law with exponent 0.99, or uniformly; values of \
         200 bytes in an `Arc`, unless something else is said. Each candidate has the types that its users would give it: \
         the engines have `String` keys, asked for by `&str`, and their own default hashers. Instructions and allocations \
         are counted by callgrind; times are medians of rounds in which all candidates take their turns, and ratios \
         medians of the rounds' ratios."
    )
}

/// Whether a candidate is the library's.
#[must_use]
pub fn is_own(name: &str) -> bool {
    ["MemoryStore", "MokaStore", "ReadThrough", "CacheAside", "RedisStore", "Tiered"]
        .iter()
        .any(|own| name.contains(own))
}

/// The place of what each is compared with; its own, if that is not there.
fn bases(counted: &[Counted]) -> Vec<usize> {
    let position = |name| counted.iter().position(|(candidate, _)| candidate.name == name);
    counted.iter().enumerate().map(|(at, (c, _))| position(c.to).unwrap_or(at)).collect()
}

/// What callgrind runs: so many hits of one candidate, and before that as many which it does not count.
///
/// # Errors
///
/// The name of a candidate that there is not, or a request that was no hit.
pub fn counted(candidates: &[Candidate], name: &str, hits: usize) -> Result<(), String> {
    let candidate = candidates.iter().find(|candidate| candidate.name == name);
    let candidate = candidate.ok_or_else(|| format!("no candidate {name:?}"))?;
    let (order, ask) = (Order::zipf(KEYS, hits), (candidate.make)(KEYS));
    let found = (ask(&order), measured_pass(&ask, &order));
    if found == (hits, hits) { Ok(()) } else { Err(format!("{found:?} hits of {hits} each")) }
}

/// Callgrind finds it by its name.
#[inline(never)]
fn measured_pass(ask: &Ask, order: &Order) -> usize {
    // Something after the call keeps it from being a jump, which would end the function.
    std::hint::black_box(ask(order))
}
