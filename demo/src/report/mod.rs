//! The results as a table, as JSON, and as a page.

mod chart;
mod figures;
mod html;
mod table;

use serde::Serialize;

pub(crate) use html::page;
pub(crate) use table::table;

use crate::measure::Outcome;

/// Everything that a report tells.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What the clients asked for, in sentences.
    pub(crate) workload: String,
    /// Names and values.
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) scenarios: Vec<Outcome>,
}

impl Report {
    /// What went wrong, if anything did.
    pub(crate) fn failures(&self) -> Option<String> {
        let stale: u64 = self.scenarios.iter().map(|outcome| outcome.stale_reads).sum();
        let errors: u64 = self.scenarios.iter().map(|outcome| outcome.errors).sum();
        let first = self.scenarios.iter().find_map(|outcome| outcome.first_error.as_deref());
        match (stale, first) {
            (0, None) => None,
            (0, Some(first)) => Some(format!("{errors} requests failed, the first with: {first}")),
            (stale, None) => Some(format!("{stale} reads were stale")),
            (stale, Some(first)) => Some(format!(
                "{stale} reads were stale; {errors} requests failed, the first with: {first}"
            )),
        }
    }
}

/// A count with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// A duration in the unit that suits it.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        us if us < 1.0 => format!("{:.0} ns", us * 1_000.0),
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        us => format!("{:.1} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests;
