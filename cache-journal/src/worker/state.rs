//! What is in the file, as far as the thread has to know, and what is to be different with the next commit.

use std::collections::{HashMap, HashSet};
use std::mem::take;

use cache_core::{Error, ErrorKind, Result};
use smol_str::SmolStr;

use super::weight;
use crate::log::{Changes, Contents, row};

/// The rows and letters that there are once the next commit has succeeded, and how to get back if it fails.
#[derive(Default)]
pub(super) struct State {
    rows: HashMap<SmolStr, Row>,
    bytes: usize,
    /// The letters' numbers, with their keys.
    dead: HashMap<u64, SmolStr>,
    last: u64,
    changes: Changes,
    rows_before: HashMap<SmolStr, Option<Row>>,
    dead_before: HashMap<u64, Option<SmolStr>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    seq: u64,
    bytes: usize,
}

impl State {
    pub(super) fn of(contents: &Contents) -> Self {
        let mut state = Self { last: contents.last, ..Self::default() };
        for (key, seq, body) in &contents.pending {
            let row = Row { seq: *seq, bytes: weight(key, body) };
            state.put(key.clone(), Some(row));
            state.last = state.last.max(*seq);
        }
        for (seq, letter) in &contents.dead {
            let key = row::read_letter(letter).map_or_else(SmolStr::default, |l| l.key.into());
            state.dead.insert(*seq, key);
            state.last = state.last.max(*seq);
        }
        state.rows_before.clear();
        state
    }

    pub(super) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// Whether there is room for a write.
    pub(super) fn admit(&self, key: &str, bytes: usize, writes: usize, most: usize) -> Result<()> {
        let old = self.rows.get(key);
        let more = bytes.saturating_sub(old.map_or(0, |row| row.bytes));
        // One write is always admitted, however large.
        let heavy = more > 0 && self.bytes > 0 && self.bytes.saturating_add(more) > most;
        if heavy || (old.is_none() && self.rows.len() >= writes) {
            return Err(Error::new(ErrorKind::Full));
        }
        Ok(())
    }

    /// Numbers a write.
    pub(super) fn append(&mut self, key: SmolStr, bytes: usize, body: &[u8]) -> u64 {
        self.last += 1;
        let seq = self.last;
        self.put(key.clone(), Some(Row { seq, bytes }));
        self.changes.pending.insert(key, Some(row::row(seq, body)));
        seq
    }

    /// The source has this write: that stays true if the commit fails.
    pub(super) fn done(&mut self, key: &SmolStr, seq: u64) {
        if let Some(before) = self.rows_before.get_mut(key) {
            before.take_if(|row| row.seq <= seq);
        }
        if self.rows.get(key).is_some_and(|row| row.seq <= seq) {
            let known = self.rows_before.contains_key(key);
            self.put(key.clone(), None);
            if !known {
                self.rows_before.remove(key);
            }
            self.changes.pending.insert(key.clone(), None);
        }
    }

    pub(super) fn park(&mut self, key: &SmolStr, seq: u64, letter: Vec<u8>) {
        if self.rows.get(key).is_some_and(|row| row.seq <= seq) {
            self.put(key.clone(), None);
            self.changes.pending.insert(key.clone(), None);
        }
        let before = self.dead.insert(seq, key.clone());
        self.dead_before.entry(seq).or_insert(before);
        self.changes.dead.push((seq, Some(letter)));
    }

    pub(super) fn discard(&mut self, key: &SmolStr, seq: u64) -> bool {
        if self.dead.get(&seq) != Some(key) {
            return false;
        }
        let before = self.dead.remove(&seq);
        self.dead_before.entry(seq).or_insert(before);
        self.changes.dead.push((seq, None));
        true
    }

    /// What the next commit has to do, if anything.
    pub(super) fn changes(&mut self) -> Option<&Changes> {
        self.changes.last = self.last;
        let any = !self.changes.pending.is_empty() || !self.changes.dead.is_empty();
        any.then_some(&self.changes)
    }

    /// The commit has succeeded.
    pub(super) fn keep(&mut self) {
        self.changes = Changes::default();
        self.rows_before.clear();
        self.dead_before.clear();
    }

    /// The commit has failed: nothing of it counts, but for what the source has.
    pub(super) fn undo(&mut self) {
        for (key, row) in take(&mut self.rows_before) {
            self.put(key, row);
        }
        for (seq, key) in take(&mut self.dead_before) {
            match key {
                Some(key) => self.dead.insert(seq, key),
                None => self.dead.remove(&seq),
            };
        }
        self.keep();
    }

    /// Adds to the changes what the file needs to get back to what was acknowledged. `body` makes the body of a write
    /// again, from the number and from a body of the same key.
    pub(super) fn restore(
        &mut self,
        contents: &Contents,
        body: impl Fn(&str, u64, &[u8]) -> Option<Vec<u8>>,
    ) -> Result<()> {
        let found: HashMap<_, _> = contents
            .pending
            .iter()
            .map(|(key, seq, body)| (key, (*seq, body.as_slice())))
            .collect();
        let letters: HashMap<_, _> = contents.dead.iter().map(|(seq, l)| (*seq, l)).collect();
        let acknowledged = self.rows.keys().chain(self.rows_before.keys());
        let keys: Vec<_> = acknowledged.chain(found.keys().copied()).cloned().collect();
        for key in keys {
            let row = match self.rows_before.get(&key) {
                Some(row) => row.map(|row| row.seq),
                None => self.rows.get(&key).map(|row| row.seq),
            };
            let there = found.get(&key);
            if row == there.map(|(seq, _)| *seq) || self.changes.pending.contains_key(&key) {
                continue;
            }
            let again = row.map(|seq| {
                let parked = letters.get(&seq).and_then(|letter| row::read_letter(letter));
                let old = parked.map(|letter| letter.body.to_vec());
                let body = old.or_else(|| body(&key, seq, there?.1));
                let lost = || format!("the write of {key:?} is not in the file any more");
                let lost = || Error::with_cause(ErrorKind::Journal, lost());
                Ok(row::row(seq, &body.ok_or_else(lost)?))
            });
            self.changes.pending.insert(key, again.transpose()?);
        }
        let there: HashSet<u64> = letters.keys().copied().collect();
        let planned: HashSet<u64> = self.changes.dead.iter().map(|(seq, _)| *seq).collect();
        let stray = |seq: &u64| !planned.contains(seq) && !self.dead.contains_key(seq);
        let strays: Vec<_> = letters.into_keys().filter(stray).map(|seq| (seq, None)).collect();
        self.changes.dead.extend(strays);
        // A letter whose discarding failed may be gone even so.
        self.dead.retain(|seq, _| there.contains(seq) || planned.contains(seq));
        Ok(())
    }

    fn put(&mut self, key: SmolStr, row: Option<Row>) {
        let before = match row {
            Some(row) => {
                self.bytes += row.bytes;
                self.rows.insert(key.clone(), row)
            }
            None => self.rows.remove(&key),
        };
        self.bytes -= before.map_or(0, |row| row.bytes);
        self.rows_before.entry(key).or_insert(before);
    }
}
