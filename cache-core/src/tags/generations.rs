use std::task::Poll;

use smol_str::SmolStr;

use super::Stamp;

/// The generations of tags, sorted by tag.
#[derive(Default)]
pub(super) struct Generations(pub(super) Vec<(SmolStr, Option<u64>)>);

impl Generations {
    fn of(&self, tag: &str) -> Option<u64> {
        let place = self.0.binary_search_by(|(other, _)| other.as_str().cmp(tag)).ok()?;
        self.0[place].1
    }

    /// Whether these stamps are those of their tags. Nobody can tell if an entry is newer than what is known here.
    pub(super) fn hold(&self, stamps: &[Stamp]) -> Poll<bool> {
        let mut told = Poll::Ready(true);
        for stamp in stamps {
            match self.of(stamp.tag()) {
                Some(now) if now > stamp.generation() => return Poll::Ready(false),
                Some(now) if now == stamp.generation() => {}
                _ => told = Poll::Pending,
            }
        }
        told
    }

    pub(super) fn hold_all(&self, stamps: &[Stamp]) -> bool {
        stamps.iter().all(|stamp| self.of(stamp.tag()) == Some(stamp.generation()))
    }
}
