//! Counts how many loads of one key go on at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

/// The loads of one key that are going on: how many (20 bits), how many writes are (20 bits), and a
/// number that every write changes twice (24 bits).
///
/// A load that a write has overtaken is not counted: its value may be an old one, so another load has to
/// begin before it ends. Nor is one that begins during a write.
#[derive(Default)]
pub(crate) struct Loads(AtomicU64);

const LOAD: u64 = 1;
const WRITE: u64 = 1 << 20;
const ROUND: u64 = 1 << 40;

impl Loads {
    /// A load that begins, and how many are going on then; 0 during a write.
    pub(crate) fn begin(&self) -> (Load<'_>, u64) {
        let more = |now: u64| (now % ROUND < WRITE).then(|| now + LOAD);
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        {
            Ok(before) => (
                Load {
                    of: Some((self, before / ROUND)),
                },
                before % WRITE + 1,
            ),
            Err(_) => (Load { of: None }, 0),
        }
    }

    fn overtake(&self, writes: impl Fn(u64) -> u64) {
        let next = |now: u64| {
            let round = (now / ROUND * ROUND).wrapping_add(ROUND);
            Some(round + writes(now % ROUND / WRITE) * WRITE)
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// One load that is going on; it also ends when it is given up.
pub(crate) struct Load<'a> {
    of: Option<(&'a Loads, u64)>,
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if let Some((loads, round)) = self.of {
            let less = |now: u64| (now / ROUND == round).then(|| now - LOAD);
            let _ = loads
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

/// One write that is going on, from before it reaches the source until after the cache has been told.
pub(crate) struct Overtaking<'a>(Option<&'a Loads>);

impl<'a> Overtaking<'a> {
    pub(crate) fn begin(loads: Option<&'a Loads>) -> Self {
        if let Some(loads) = loads {
            loads.overtake(|writes| writes + 1);
        }
        Self(loads)
    }
}

impl Drop for Overtaking<'_> {
    fn drop(&mut self) {
        if let Some(loads) = self.0 {
            loads.overtake(|writes| writes.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_of_a_key_are_counted_while_they_go_on() {
        let loads = Loads::default();
        let (first, one) = loads.begin();
        let (second, two) = loads.begin();
        assert_eq!((one, two), (1, 2));
        drop((first, second));
        assert_eq!(loads.begin().1, 1);
    }

    #[test]
    fn loads_that_a_write_has_overtaken_are_not_counted() {
        let loads = Loads::default();
        let before = loads.begin().0;
        let write = Overtaking::begin(Some(&loads));
        let (during, none) = loads.begin();
        assert_eq!(none, 0);
        drop(write);
        let (after, one) = loads.begin();
        assert_eq!(one, 1);
        drop((before, during));
        assert_eq!(loads.begin().1, 2);
        drop(after);
        assert_eq!(loads.begin().1, 1);
    }
}
