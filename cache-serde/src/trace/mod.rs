//! What a type's `Deserialize` asks for, found by answering it.
//!
//! A pass answers every question once. Where there are several answers (the variants of an enum,
//! values that may be refused) the next pass gives another one, until none is left. What is asked
//! is kept as a set of hashes of (where, what), so it does not matter in which pass, or how often,
//! a question came.

mod access;
mod deserializer;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed};

use deserializer::Trace;

/// A path nests no deeper than this; only unnamed recursion gets here.
const MAX_DEPTH: usize = 64;
/// How often a struct or newtype may be within itself, and an enum, which grows faster.
const MAX_STRUCTS: usize = 4;
const MAX_ENUMS: usize = 2;
/// Questions, over all passes.
const MAX_QUESTIONS: usize = 1 << 16;
/// How many values are tried before a type counts as one that accepts none.
const VALUES: usize = deserializer::STRINGS.len();

/// FNV-1a with 64 bits, continued from `hash`.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// What has been asked so far, and what was answered.
#[derive(Default)]
pub(crate) struct Recorder {
    asked: BTreeSet<u64>,
    answers: HashMap<u64, Answer>,
    /// Whether another pass would see more.
    pending: bool,
    /// Which values the leaves answer with.
    value: usize,
    /// The named types around the current question.
    around: Vec<u64>,
    depth: usize,
    questions: usize,
    incomplete: bool,
}

#[derive(Clone, Copy, Default)]
struct Answer {
    /// The next one to be tried.
    next: usize,
    accepted: Option<usize>,
}

/// What a choice of answers is about.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    /// Values of leaves: one that is accepted is enough.
    Value,
    /// Lengths, and options: the first that is accepted is enough.
    First,
    /// Variants: all are looked at.
    All,
}

impl Recorder {
    pub(crate) fn trace<V: DeserializeOwned>(&mut self) {
        loop {
            self.pending = false;
            // A refusal has been recorded where it came up.
            let _ = self.value(FNV_START, std::marker::PhantomData::<V>);
            if self.questions >= MAX_QUESTIONS {
                self.incomplete = true;
                return;
            }
            if !self.pending {
                return;
            }
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.asked
            .iter()
            .fold(FNV_START, |hash, asked| fnv(hash, &asked.to_le_bytes()))
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// A value at `path`: the whole one, a field, an element.
    fn value<'de, S: DeserializeSeed<'de>>(
        &mut self,
        path: u64,
        seed: S,
    ) -> Result<S::Value, Stop> {
        self.choose(path, Choice::Value, VALUES, |recorder, value| {
            recorder.value += value;
            let result = seed.deserialize(Trace { recorder, path });
            recorder.value -= value;
            result
        })
    }

    fn choose<T>(
        &mut self,
        path: u64,
        choice: Choice,
        count: usize,
        answer: impl FnOnce(&mut Self, usize) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        if self.depth == MAX_DEPTH {
            return Err(Stop::Recursion);
        }
        let key = fnv(path, &[choice as u8]);
        let before = self.answers.get(&key).copied().unwrap_or_default();
        let chosen = if before.next < count {
            before.next
        } else {
            before.accepted.unwrap_or(0)
        };

        let pending = std::mem::take(&mut self.pending);
        self.depth += 1;
        let result = answer(self, chosen);
        self.depth -= 1;

        let after = self.answers.entry(key).or_default();
        if result.is_ok() {
            after.accepted = Some(chosen);
        }
        let go_on = choice == Choice::All || result.is_err();
        // Choices further in are followed to their end first.
        if go_on && !self.pending && after.next < count {
            let in_vain = choice == Choice::Value && matches!(result, Err(Stop::Recursion));
            after.next = if in_vain { count } else { after.next + 1 };
            self.incomplete |= choice == Choice::Value && !in_vain && after.next == count;
        }
        self.pending |= pending || (go_on && after.next < count);
        result
    }

    /// Records that `what` was asked at `path`.
    fn ask(&mut self, path: u64, what: &str) -> Result<(), Stop> {
        self.questions += 1;
        if self.questions > MAX_QUESTIONS {
            return Err(Stop::Recursion);
        }
        self.asked.insert(fnv(path, what.as_bytes()));
        Ok(())
    }

    /// Records the names of fields or variants, in their order.
    fn ask_names(&mut self, path: u64, names: &[&str]) -> Result<(), Stop> {
        // The mark keeps a name from being taken for a kind: of `u32: u64` and `u64: u32`.
        let mut names = names.iter().enumerate();
        names.try_for_each(|(index, name)| self.ask(fnv(step(path, index), b"."), name))
    }

    /// Records a struct or an enum, and goes into it unless it is too often around.
    fn enter(&mut self, path: u64, kind: &str, name: &str, names: &[&str]) -> Result<(), Stop> {
        self.ask(path, kind)?;
        self.ask_names(path, names)?;
        let id = names
            .iter()
            .fold(fnv(FNV_START, name.as_bytes()), |id, name| {
                fnv(fnv(id, b"\xff"), name.as_bytes())
            });
        let most = if kind == "enum" {
            MAX_ENUMS
        } else {
            MAX_STRUCTS
        };
        self.go_into(id, most)
    }

    fn enter_newtype(&mut self, name: &str) -> Result<(), Stop> {
        self.go_into(fnv(FNV_START, name.as_bytes()), MAX_STRUCTS)
    }

    fn go_into(&mut self, id: u64, most: usize) -> Result<(), Stop> {
        if self.around.iter().filter(|around| **around == id).count() >= most {
            return Err(Stop::Recursion);
        }
        self.around.push(id);
        Ok(())
    }

    fn leave(&mut self) {
        self.around.pop();
    }
}

/// The path of the part with this index.
fn step(path: u64, index: usize) -> u64 {
    fnv(fnv(path, b"/"), &(index as u64).to_le_bytes())
}

/// Why a pass ends early.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The type does not accept the value.
    Rejected,
    /// The type is within itself; other values would not help.
    Recursion,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of a trace")
    }
}

impl std::error::Error for Stop {}

impl serde::de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Rejected
    }
}
