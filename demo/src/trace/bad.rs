//! What is no request.

/// How many of the bad lines are reported by number.
pub(super) const SHOWN: usize = 5;

/// The lines (or records) that are no requests.
#[derive(Debug, Default)]
pub(super) struct Bad {
    pub(super) count: u64,
    /// The numbers of the first ones, counted from 1, and what is wrong with them.
    pub(super) first: Vec<(u64, &'static str)>,
}

impl Bad {
    pub(super) fn add(&mut self, number: u64, why: &'static str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push((number, why));
        }
    }

    /// How many, and which.
    pub(super) fn describe(&self) -> String {
        let first: Vec<String> = self
            .first
            .iter()
            .map(|(number, why)| format!("{number}: {why}"))
            .collect();
        let more = if self.count > SHOWN as u64 {
            ", ..."
        } else {
            ""
        };
        let lines = if self.count == 1 { "line" } else { "lines" };
        format!("{} bad {lines} ({}{more})", self.count, first.join(", "))
    }
}
