//! Whether the near tier may answer.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Clock, Moment};

/// Open while it is known that no change has been missed.
///
/// Its state is in one byte, so that a hit has one to compare: the clock closes it when its time is over, a tick
/// late at most, as the coarse time itself is.
#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// The state when it is open.
    open: u8,
    /// Changed, and the state with it, while this is locked.
    limits: Mutex<Limits>,
    clock: Clock,
}

#[derive(Debug)]
struct Limits {
    until: Moment,
    /// How many of those that are asked behind it are closed themselves.
    closed_below: usize,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;

/// Open, and it is watched who goes through.
const WATCHED: u8 = 2;

impl Gate {
    /// Open for ever, until somebody keeps the tier coherent.
    pub(crate) fn open(clock: Clock) -> Self {
        let limits = Mutex::new(Limits { until: Moment::NEVER, closed_below: 0 });
        Self { state: AtomicU8::new(OPEN), open: OPEN, limits, clock }
    }

    /// It is not [wide](Self::is_wide_open) open.
    pub(crate) fn watched(mut self) -> Self {
        self.open = WATCHED;
        self.state = AtomicU8::new(WATCHED);
        self
    }

    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) != CLOSED
    }

    /// Open, and nobody watches who goes through.
    #[inline(always)]
    pub(crate) fn is_wide_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Says whether it is open now.
    pub(crate) fn open_until(&self, until: Moment) -> bool {
        let mut limits = self.lock();
        limits.until = until;
        self.settle(&limits)
    }

    pub(crate) fn close(&self) {
        let mut limits = self.lock();
        // So that it stays closed when one below is opened.
        limits.until = self.clock.coarse();
        self.settle(&limits);
    }

    /// One of those below is open again, or closed. Says whether this one is open now.
    pub(crate) fn below(&self, opens: bool) -> bool {
        let mut limits = self.lock();
        limits.closed_below = match opens {
            true => limits.closed_below.saturating_sub(1),
            false => limits.closed_below + 1,
        };
        self.settle(&limits)
    }

    /// To be called at every tick of the clock; says whether it is closed.
    pub(crate) fn tick(&self, now: Moment) -> bool {
        let limits = self.lock();
        if now >= limits.until {
            self.state.store(CLOSED, Ordering::Release);
        }
        !self.is_open()
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn since(&self, began: Moment) -> Duration {
        self.now().since(began)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn settle(&self, limits: &Limits) -> bool {
        let opens = limits.closed_below == 0 && self.clock.coarse() < limits.until;
        self.state.store(if opens { self.open } else { CLOSED }, Ordering::Release);
        opens
    }

    // Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_until_its_limit() {
        let second = Duration::from_secs(1);
        let (clock, hands) = Clock::manual();
        let gate = Gate::open(clock);
        assert!(gate.is_open(), "nobody has closed it");
        gate.close();
        assert!(!gate.is_open());
        assert!(gate.open_until(gate.now().plus(second)));
        hands.advance(second - Duration::from_millis(10));
        assert!(!gate.tick(gate.now()));
        assert!(gate.is_open() && gate.is_wide_open());
        hands.advance(Duration::from_millis(10));
        assert!(gate.tick(gate.now()));
        assert!(!gate.is_open());
        assert!(!gate.open_until(gate.now()), "that is over already");
        assert!(!gate.is_open());
    }

    #[test]
    fn it_is_open_only_while_all_below_are() {
        let gate = Gate::open(Clock::manual().0);
        assert!(!gate.below(false) && !gate.below(false));
        assert!(!gate.open_until(Moment::NEVER), "two are closed");
        assert!(!gate.below(true) && !gate.is_open(), "one still is");
        assert!(gate.below(true) && gate.is_open());
        gate.close();
        assert!(!gate.below(false) && !gate.below(true), "it is closed itself");
    }

    #[test]
    fn who_is_watched_goes_through_a_gate_that_is_not_wide_open() {
        let gate = Gate::open(Clock::manual().0).watched();
        assert!(gate.is_open() && !gate.is_wide_open());
        gate.close();
        assert!(gate.open_until(Moment::NEVER));
        assert!(gate.is_open() && !gate.is_wide_open());
    }
}
