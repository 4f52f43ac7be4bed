//! Whether the near tier may answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Clock, Moment};

/// Open while it is known that no change has been missed.
///
/// Reading it costs a hit two loads and a comparison, so it goes by the coarse clock.
#[derive(Debug)]
pub(crate) struct Gate {
    clock: Clock,
    open_until: AtomicU64,
}

impl Gate {
    /// Open for ever, until somebody keeps the tier coherent.
    pub(crate) fn open(clock: Clock) -> Self {
        Self { clock, open_until: AtomicU64::new(Moment::NEVER.nanos()) }
    }

    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.clock.coarse().nanos() < self.open_until.load(Ordering::Acquire)
    }

    pub(crate) fn open_until(&self, until: Moment) {
        self.open_until.store(until.nanos(), Ordering::Release);
    }

    pub(crate) fn close(&self) {
        self.open_until.store(0, Ordering::Release);
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn since(&self, began: Moment) -> Duration {
        self.now().since(began)
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
        gate.open_until(gate.now().plus(second));
        hands.advance(second - Duration::from_millis(10));
        assert!(gate.is_open());
        hands.advance(Duration::from_millis(10));
        assert!(!gate.is_open());
    }
}
