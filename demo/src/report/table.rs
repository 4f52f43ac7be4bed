//! The table on the terminal.

use super::{count, micros, percent};
use crate::measure::Outcome;

const COLUMNS: usize = 12;

/// One row per scenario under a header of two lines.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<[String; COLUMNS]> = [
        [
            "",
            "hit",
            "past",
            "source",
            "client",
            "source",
            "stale",
            "get",
            "get",
            "most loads",
            "requests",
            "",
        ],
        [
            "scenario",
            "rate",
            "ttl",
            "reads",
            "writes",
            "writes",
            "reads",
            "p50",
            "p99",
            "of one key",
            "per second",
            "requests",
        ],
    ]
    .map(|row| row.map(str::to_owned))
    .into();
    rows.extend(outcomes.iter().map(row));

    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        line.trim_end().to_owned() + "\n"
    };
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (COLUMNS - 1)) + "\n";
    let (header, body) = rows.split_at(2);
    header.iter().map(line).chain([rule]).chain(body.iter().map(line)).collect()
}

fn row(outcome: &Outcome) -> [String; COLUMNS] {
    [
        outcome.name(),
        percent(outcome.hit_rate),
        outcome.cache.map_or_else(|| "-".to_owned(), |cache| count(cache.past_lifetime)),
        count(outcome.source_reads),
        count(outcome.write.count),
        count(outcome.source_writes),
        count(outcome.stale_reads),
        micros(outcome.get.p50_us),
        micros(outcome.get.p99_us),
        count(outcome.most_concurrent_loads_of_a_key),
        count(outcome.requests_per_second as u64),
        count(outcome.requests),
    ]
}
