//! What the terminal is shown.

use super::{Outcome, Way};
use crate::report::{count, micros};

/// One row for each way.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!(
        "{:<24}{:>9}{:>16}{:>10}{:>10}{:>10}{:>8}{:>14}{:>14}\n",
        "", "reads", "readers who", "get p50", "get p99", "slowest", "loads", "most loads", "stale"
    );
    table += &format!("{:<24}{:>25}{:>52}{:>14}\n", "", "waited", "at once", "reads");
    for Outcome { way, get, waited, stale, loads, most_loads_at_once, .. } in outcomes {
        table += &format!(
            "{:<24}{:>9}{:>16}{:>10}{:>10}{:>10}{:>8}{:>14}{:>14}\n",
            way.name(),
            count(get.count),
            count(*waited),
            micros(get.p50_us),
            micros(get.p99_us),
            micros(get.max_us),
            count(*loads),
            count(*most_loads_at_once),
            count(*stale)
        );
    }
    table
}

/// The point, in words.
pub(super) fn summary(outcomes: &[Outcome]) -> String {
    let lines = outcomes.iter().map(|Outcome { way, waited, stale, most_loads_at_once, .. }| {
        let (waited, stale) = (count(*waited), count(*stale));
        match way {
            Way::ReadThrough => format!(
                "read-through: {waited} readers came after an end and waited, for {most_loads_at_once} loads at once."
            ),
            Way::EarlyRefresh => format!(
                "early-refresh: {waited} waited. Values were loaded shortly before their end, {most_loads_at_once} at once at most."
            ),
            Way::StaleWhileRevalidate => format!(
                "stale-while-revalidate: {waited} waited. {stale} were given what was past its lifetime, until it was loaded."
            ),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
