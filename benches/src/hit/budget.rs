//! The budget of a hit, which a test holds it to without looking at a clock.

use super::{Candidate, OWN, figures};
use crate::callgrind::{self, Counts};
use crate::report::{Table, short, times};

/// What a hit may cost at most, as a multiple of its engine's instructions in the same run. Multiples, because the
/// compiler and the C library decide about the rest. Each has room for the few percent by which the seeds of the hashes, moka's
/// maintenance, and what the compiler inlines after a change elsewhere, differ: from 1.19 to 1.23 for the first two strategies.
const BUDGET: &[(&str, f64)] = &[
    ("MemoryStore, get_now", 1.15),
    ("CacheAside<MemoryStore>", 1.30),
    ("ReadThrough<MemoryStore>", 1.30),
    ("ReadThrough<MemoryStore>, Stats", 1.70),
    ("ReadThrough<SharedStore>", 1.40),
    // A near hit, with tiers that are kept coherent and tags, to that of the bare store; and through a strategy, which copies the entry
    // once more than from a store without tiers.
    ("Tiered<MemoryStore, _>, get_now", 1.15),
    ("Tagged<Tiered, NearMarks>, get_now", 1.15),
    ("ReadThrough<Tagged<Tiered, NearMarks>>", 1.25),
    ("MokaStore, get_now", 1.1),
    ("ReadThrough<MokaStore>", 1.1),
];

const HITS: usize = 100_000;

/// Counts what hits cost, prints it, and says what is over the budget.
///
/// # Errors
///
/// What is over it, or what is missing to count.
pub fn check() -> Result<(), String> {
    let find = |name: &str| OWN.iter().find(|candidate| candidate.name == name);
    let count = |candidate: &Candidate| figures::counts(candidate, HITS);
    if !callgrind::is_installed() {
        return Err(callgrind::MISSING.to_owned());
    }
    let mut table = Table::new(["a hit", "instructions", "to its engine", "budget", "allocations"]);
    let (mut engines, mut over) = (Vec::<(&str, Counts)>::new(), Vec::new());
    for (name, budget) in BUDGET {
        let candidate = find(name).ok_or_else(|| format!("no candidate {name:?}"))?;
        let engine = match engines.iter().find(|(name, _)| *name == candidate.to) {
            Some((_, counts)) => *counts,
            None => {
                let engine = find(candidate.to).ok_or_else(|| format!("no {:?}", candidate.to))?;
                let counts = count(engine)?;
                engines.push((candidate.to, counts));
                counts
            }
        };
        let own = count(candidate)?;
        let ratio = own.instructions / engine.instructions;
        let cells = [short(own.instructions), times(ratio), times(*budget), short(own.allocations)];
        table.row([(*name).to_owned()].into_iter().chain(cells));
        if ratio > *budget {
            over.push(format!(
                "{name}: {:.0} instructions, {ratio:.2}x of {} ({:.0}); the budget is {budget:.2}x",
                own.instructions, candidate.to, engine.instructions
            ));
        }
        // moka allocates now and then, in its own maintenance.
        if own.allocations > engine.allocations + 0.001 {
            over.push(format!("{name}: {:.3} allocations", own.allocations));
        }
    }
    println!("{table}");
    debug_assert!(BUDGET.iter().all(|(name, _)| figures::is_own(name)));
    if over.is_empty() { Ok(()) } else { Err(over.join("\n")) }
}
