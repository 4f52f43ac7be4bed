//! Checks what readers have seen while others wrote.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The writes of each key, in their order, and what sessions have read.
#[derive(Debug, Default)]
pub struct History {
    /// For each key the writes by their numbers, which grow.
    writes: HashMap<usize, Vec<Write>>,
    reads: Vec<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    value: u64,
    began: Instant,
    ended: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    session: usize,
    key: usize,
    value: u64,
    began: Instant,
    ended: Instant,
}

/// What is wrong with a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrongs {
    /// Reads of a value that had been replaced for longer than the bound when they began.
    pub stale: usize,
    /// Reads of a value whose write began after they had ended.
    pub future: usize,
    /// Reads of a value older than one that the same session had seen before.
    pub inversions: usize,
    /// The longest time for which a value that was read had been replaced.
    pub oldest: Duration,
}

impl History {
    /// Adds a write, which began and ended then. The writes of a key must not overlap, and their values grow.
    pub fn wrote(
        &mut self,
        session: usize,
        key: usize,
        value: u64,
        began: Instant,
        ended: Instant,
    ) {
        self.writes.entry(key).or_default().push(Write { value, began, ended });
        // Who has written a value has seen it.
        self.reads.push(Read { session, key, value, began, ended });
    }

    /// Adds a read, which began and ended then. Those of a session are added in their order.
    pub fn read(&mut self, session: usize, key: usize, value: u64, began: Instant, ended: Instant) {
        self.reads.push(Read { session, key, value, began, ended });
    }

    /// Adds another part of the history, of other sessions.
    pub fn and(&mut self, other: Self) {
        for (key, writes) in other.writes {
            self.writes.entry(key).or_default().extend(writes);
        }
        self.reads.extend(other.reads);
    }

    /// How many reads and writes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// What is wrong, if values may be read for `bound` after they have been replaced.
    #[must_use]
    pub fn check(mut self, bound: Duration) -> Wrongs {
        self.writes.values_mut().for_each(|writes| writes.sort_by_key(|write| write.value));
        let mut wrongs = Wrongs::default();
        let mut seen: HashMap<(usize, usize), u64> = HashMap::new();
        for read in &self.reads {
            let writes = self.writes.get(&read.key).map_or(&[][..], Vec::as_slice);
            let at = writes.partition_point(|write| write.value < read.value);
            match writes.get(at) {
                Some(write) if write.value == read.value && write.began <= read.ended => {}
                _ => wrongs.future += 1,
            }
            let next = writes.get(at..).unwrap_or_default().iter();
            if let Some(next) = next.filter(|write| write.value > read.value).map(|w| w.ended).min()
            {
                let age = read.began.saturating_duration_since(next);
                wrongs.oldest = wrongs.oldest.max(age);
                wrongs.stale += usize::from(age > bound);
            }
            let last = seen.entry((read.session, read.key)).or_default();
            wrongs.inversions += usize::from(read.value < *last);
            *last = read.value.max(*last);
        }
        wrongs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Two writes, 10 ms apart, and one read that begins at `at` milliseconds and brings `value`.
    fn wrongs(reads: &[(u32, u64)]) -> Wrongs {
        let start = Instant::now();
        let mut history = History::default();
        history.wrote(0, 7, 1, start, start + MS);
        history.wrote(0, 7, 2, start + 10 * MS, start + 11 * MS);
        for (at, value) in reads {
            history.read(1, 7, *value, start + *at * MS, start + (*at + 1) * MS);
        }
        history.check(5 * MS)
    }

    #[test]
    fn what_is_read_in_time_is_right() {
        let fine = wrongs(&[(2, 1), (10, 1), (12, 2), (100, 2)]);
        assert_eq!(fine, Wrongs::default());
        assert_eq!(wrongs(&[(15, 1)]), Wrongs { oldest: 4 * MS, ..Wrongs::default() });
    }

    #[test]
    fn each_wrong_is_found() {
        assert_eq!(wrongs(&[(20, 1)]).stale, 1);
        assert_eq!(wrongs(&[(2, 2)]).future, 1);
        assert_eq!(wrongs(&[(2, 9)]).future, 1, "a value that nobody wrote");
        assert_eq!(wrongs(&[(12, 2), (13, 1)]).inversions, 1);
    }
}
