//! What hits are held against.

use super::figures::Counted;
use crate::callgrind::Counts;
use crate::report::Bar;

const OWN: &str = "ReadThrough<MemoryStore>";

/// The strategies against the engines below.
#[must_use]
pub fn bars(counted: &[Counted]) -> Vec<Bar> {
    let ratio = |own: &str, engine: &str| {
        let counts = |name| counts(counted, name).instructions;
        (format!("`{own}` to {engine}, instructions"), counts(own) / counts(engine))
    };
    let at_most = |(what, is): (String, f64), bar| Bar::at_most(what, is, bar);
    let allocations = counts(counted, OWN).allocations;
    vec![
        at_most(ratio(OWN, "raw quick_cache"), 1.25),
        at_most(ratio(OWN, "raw moka"), 0.35),
        Bar::at_most(format!("`{OWN}`, allocations of a hit"), allocations, 0.0),
        at_most(ratio("ReadThrough<MokaStore>", "raw moka"), 1.1),
        at_most(ratio("Tiered<MemoryStore, _>, get_now", "MemoryStore, get_now"), 1.15),
        at_most(ratio("Tagged<Tiered, NearMarks>, get_now", "MemoryStore, get_now"), 1.15),
        at_most(ratio("ReadThrough<Tagged<Tiered, NearMarks>>", OWN), 1.15).because(
            "the answer of the near store is looked at by the tiers before it is handed on, and is moved for that; what \
             the compiler makes of it depends on the program around it",
        ),
        at_most(
            ratio("ReadThrough<MemoryStore>, 10 kB values", "raw quick_cache, 10 kB values"),
            1.25,
        ),
        at_most(
            ratio("ReadThrough<MemoryStore>, 1 MB values", "raw quick_cache, 1 MB values"),
            1.25,
        ),
        at_most(
            ratio("ReadThrough<MemoryStore>, integer keys", "raw quick_cache, integer keys"),
            1.25,
        )
        .because(
            "keys of a store are strings, so that one type of store serves all keys and has prefixes: an integer is \
             spelled, without an allocation, and the engine compares two registers",
        ),
    ]
}

/// `ReadThrough` against each of the others that is not an engine below.
#[must_use]
pub fn bars_of_peers(counted: &[Counted]) -> Vec<Bar> {
    let own = counts(counted, OWN).instructions;
    let peers = counted
        .iter()
        .filter(|(peer, _)| !super::is_own(peer.name) && !peer.name.starts_with("raw"));
    peers
        .map(|(peer, _)| {
            let what = format!("`{OWN}` to {}, instructions", peer.name);
            Bar::at_most(what, own / counts(counted, peer.name).instructions, 1.0)
        })
        .collect()
}

fn counts(counted: &[Counted], name: &str) -> Counts {
    let found = counted.iter().find(|(candidate, _)| candidate.name == name);
    let nothing = Counts { instructions: f64::NAN, allocations: f64::NAN };
    found.and_then(|(_, counts)| *counts).unwrap_or(nothing)
}
