//! Hits by several threads at once.

use std::thread;

use super::{Ask, Candidate, KEYS, OWN};
use crate::keys::Order;
use crate::measure::{Effort, Turns, in_turns, nanos};
use crate::report::{Bar, Section, Table, short, times};

const HITS: usize = 100_000;

/// Each of ours, and the engine below.
const PAIRS: [(&str, &str); 4] = [
    ("ReadThrough<MemoryStore>", "raw quick_cache"),
    ("ReadThrough<MemoryStore>, integer keys", "raw quick_cache, integer keys"),
    ("ReadThrough<MemoryStore>, 10 kB values", "raw quick_cache, 10 kB values"),
    ("ReadThrough<MokaStore>", "raw moka"),
];

/// How much of the engine's growth from one worker to two is to be left: as much, but for the noise of two short runs.
const SHARE: f64 = 0.95;

const HOT: &str = "both workers write the counter of the most popular value, as the engine's do; the rest of a hit is different";
const EVEN: &str = "not explained. The second worker has what the rest of the machine leaves of a processor: look at the \
    load at the top, and at the engine's own line, first";

/// How much more two threads get done than one.
///
/// # Panics
///
/// If a request is no hit.
#[must_use]
pub fn workers(effort: Effort) -> Section {
    let mut section = Section::new(
        "Two workers against one",
        "Hits per microsecond by one thread and by two on the same cache. On a hot Zipf set nothing that hands out `Arc`s \
         scales well, since the counter of the most popular value goes back and forth between the processors; compare \
         with the engine below, which is the line above.",
    );
    let names = PAIRS.iter().flat_map(|(own, engine)| [engine, own]);
    let find = |name: &&str| OWN.iter().find(|candidate| candidate.name == *name);
    let candidates: Vec<&Candidate> = names.filter_map(find).collect();
    let asks: Vec<Ask> = candidates.iter().map(|candidate| (candidate.make)(KEYS)).collect();
    let hot = turns(&asks, &Order::zipf(KEYS, HITS), effort);
    let even = turns(&asks, &Order::uniform(KEYS, HITS), effort);
    let mut table = Table::new(["", "Zipf, 1", "2", "2 to 1", "uniform, 1", "2", "2 to 1"]);
    for (at, candidate) in candidates.iter().enumerate() {
        let cells = [&hot, &even].into_iter().flat_map(|turns| {
            let [one, two] = [&turns[2 * at], &turns[2 * at + 1]];
            [short(one.median), short(two.median), times(two.ratio)]
        });
        table.row([candidate.name.to_owned()].into_iter().chain(cells));
    }
    section.tables.push(table);
    for (at, (own, _)) in PAIRS.iter().enumerate() {
        for (set, turns) in [("Zipf", &hot), ("uniform", &even)] {
            let share = turns[4 * at + 3].ratio / turns[4 * at + 1].ratio;
            let what = format!("`{own}`, {set}: its growth by a second worker, to the engine's");
            let why = if set == "Zipf" { HOT } else { EVEN };
            section.bars.push(Bar::at_least(what, share, SHARE).because(why));
        }
    }
    section
}

/// Even places are one worker, odd ones two; each is compared with one worker of the same candidate.
fn turns(asks: &[Ask], order: &Order, effort: Effort) -> Vec<Turns> {
    let bases: Vec<usize> = (0..asks.len() * 2).map(|at| at & !1).collect();
    in_turns(effort.rounds, &bases, |at| {
        let (ask, threads) = (&asks[at / 2], at % 2 + 1);
        let took = nanos(|| {
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| assert_eq!(ask(order), HITS, "every request is a hit"));
                }
            });
        });
        (threads * HITS) as f64 * 1000.0 / took
    })
}
