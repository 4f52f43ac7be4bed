//! What a hit and an entry cost as a cache grows.

use std::env;
use std::process::Command;

use crate::hit::{Ask, Candidate, OWN};
use crate::keys::Order;
use crate::measure::{Effort, in_turns, nanos, resident};
use crate::report::{Bar, Section, Table, short, times};

const HITS: usize = 100_000;
const NAMES: [&str; 4] =
    ["raw quick_cache", "ReadThrough<MemoryStore>", "raw moka", "ReadThrough<MokaStore>"];
/// The key, the value, and the counters of its `Arc`.
const PAYLOAD: u64 = 21 + 200 + 16;

/// Hits on more and more entries, and the memory of an entry.
///
/// # Errors
///
/// What did not work, to be shown.
pub fn measure(effort: Effort) -> Result<Section, String> {
    let mut section = Section::new(
        "Scale",
        "Nanoseconds of a hit on so many entries, all of them equally popular, which is what the processor's caches like least: \
         entries with keys of 21 bytes and values of 200, each in an `Arc` of its own. And the memory that an entry takes \
         beside these 237 bytes: what the process has grown by, divided by the entries.",
    );
    let sizes: &[usize] = match effort.quick {
        true => &[1_000, 10_000, 100_000],
        false => &[1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    };
    let candidates: Vec<&Candidate> =
        NAMES.iter().filter_map(|name| OWN.iter().find(|c| c.name == *name)).collect();
    let mut table =
        Table::new(["entries", NAMES[0], NAMES[1], "to it", NAMES[2], NAMES[3], "to it"]);
    let mut growth: Vec<(usize, Vec<f64>)> = Vec::new();
    for size in sizes.iter().copied() {
        let order = Order::uniform(size, HITS);
        let rounds = if size > 1_000_000 { effort.rounds.min(9) } else { effort.rounds };
        // The largest ones are there two at a time, for they take gigabytes.
        let turns: Vec<_> = candidates
            .chunks(2)
            .flat_map(|pair| {
                let asks: Vec<Ask> = pair.iter().map(|c| (c.make)(size)).collect();
                in_turns(rounds, &[0, 0], |at| {
                    let mut found = 0;
                    let took = nanos(|| found = asks[at](&order));
                    // An engine may have evicted a few of so many.
                    assert!(found * 100 >= HITS * 99, "{found} of {HITS} are hits");
                    took / HITS as f64
                })
            })
            .collect();
        table.row([
            short(size as f64),
            short(turns[0].median),
            short(turns[1].median),
            times(turns[1].ratio),
            short(turns[2].median),
            short(turns[3].median),
            times(turns[3].ratio),
        ]);
        growth.push((size, turns.iter().map(|turn| turn.median).collect()));
    }
    section.tables.push(table);
    if let (Some((_, first)), Some((size, last))) = (growth.first(), growth.last()) {
        let mut grown = Table::new([
            "",
            &format!("cost of a hit on {}, to that on 1,000", short(*size as f64)),
        ]);
        for (at, name) in NAMES.iter().enumerate() {
            grown.row([(*name).to_owned(), times(last[at] / first[at])]);
        }
        section.tables.push(grown);
        let what = format!(
            "`ReadThrough<MemoryStore>`, cost of a hit on {} entries to that on 1,000",
            short(*size as f64)
        );
        section.bars.push(Bar::at_most(what, last[1] / first[1], 2.0).because(
            "the processor's caches: an entry of so many is not in them. The engine below grows as much, as the next line has it",
        ));
        let what = format!(
            "`ReadThrough<MemoryStore>`, how much its hits on {} entries cost more than on 1,000, to how much the engine's do",
            short(*size as f64)
        );
        let ratio = (last[1] / first[1]) / (last[0] / first[0]);
        section.bars.push(Bar::at_most(what, ratio, 1.1).because(
            "a slot has more in it than the engine's: the value, its end and its version, so it is on one line of memory more",
        ));
    }

    let entries = if effort.quick { 100_000 } else { 1_000_000 };
    let mut memory = Table::new(["bytes beside the payload", "of each entry"]);
    for name in NAMES {
        let own = env::current_exe().map_err(|e| e.to_string())?;
        let output = Command::new(own).args(["fill", name, &entries.to_string()]).output();
        let output = output.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let grown: f64 = text.parse().map_err(|_| format!("fill {name}: {text:?}"))?;
        memory.row([name.to_owned(), short(grown / f64::from(entries) - PAYLOAD as f64)]);
    }
    section.tables.push(memory);
    Ok(section)
}

/// By how many bytes the process grows when a candidate is filled.
///
/// # Errors
///
/// The name of a candidate that there is not.
pub fn fill(name: &str, entries: usize) -> Result<u64, String> {
    let candidate = OWN.iter().find(|candidate| candidate.name == name);
    let candidate = candidate.ok_or_else(|| format!("no candidate {name:?}"))?;
    let before = resident();
    let filled = (candidate.make)(entries);
    let grown = resident().saturating_sub(before);
    drop(filled);
    Ok(grown)
}
