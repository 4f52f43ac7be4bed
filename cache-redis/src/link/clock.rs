use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// The server's clock, as this connection knows it: the local monotonic clock and an offset.
///
/// The local wall clock is never read, so it may be hours off or jump.
///
/// The offset is an upper bound: it takes the answer to `TIME` for the time at which the question
/// was *sent*. So an entry may seem older than it is by up to one round trip, but never younger, and
/// none is served after its end.
pub(crate) struct ServerClock {
    origin: Instant,
    offset: AtomicI64,
    last: AtomicI64,
}

impl ServerClock {
    /// A clock that has not been set.
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, offset: AtomicI64::new(i64::MAX), last: AtomicI64::new(i64::MAX) }
    }

    /// Sets the clock by the answer to a question that was sent at `asked`.
    ///
    /// Of two answers in a row the one that came faster counts, since its bound is closer.
    pub(crate) fn observed(&self, asked: Instant, server: u64) {
        let offset = i64::try_from(server).unwrap_or(i64::MAX).saturating_sub(self.local(asked));
        let last = self.last.swap(offset, Ordering::Relaxed);
        self.offset.store(offset.min(last), Ordering::Relaxed);
    }

    /// The server's time in microseconds.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The server's time at an instant since the clock was made.
    fn at(&self, instant: Instant) -> u64 {
        let now = self.local(instant).saturating_add(self.offset.load(Ordering::Relaxed));
        u64::try_from(now).unwrap_or(0)
    }

    fn local(&self, instant: Instant) -> i64 {
        let since = instant.saturating_duration_since(self.origin);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn hosts_with_different_clocks_agree_on_the_servers_time() {
        let here = Instant::now();
        let hosts = [0, 3600, 30 * 24 * 3600].map(|ahead| {
            let clock = ServerClock::new(here);
            let asked = here + Duration::from_secs(ahead);
            clock.observed(asked, 1_000 * SECOND);
            clock.at(asked + Duration::from_secs(5))
        });
        assert_eq!(hosts, [1_005 * SECOND; 3]);
    }

    #[test]
    fn an_entry_never_seems_younger_than_it_is() {
        let asked = Instant::now();
        let clock = ServerClock::new(asked);
        // The server looked at its clock anywhere between the question and the answer.
        clock.observed(asked, 1_000 * SECOND);
        let answered = asked + Duration::from_millis(80);
        assert_eq!(clock.at(answered), 1_000 * SECOND + 80_000);
    }

    #[test]
    fn of_two_measurements_the_closer_one_counts() {
        let origin = Instant::now();
        let clock = ServerClock::new(origin);
        clock.observed(origin, 1_000 * SECOND);
        clock.observed(origin + Duration::from_secs(1), 1_001 * SECOND + 50_000);
        assert_eq!(clock.at(origin + Duration::from_secs(1)), 1_001 * SECOND);
    }

    #[test]
    fn a_server_whose_clock_is_set_is_followed() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let clock = ServerClock::new(origin);
        clock.observed(at(0), 10_000 * SECOND);
        clock.observed(at(1), 5_001 * SECOND);
        assert_eq!(clock.at(at(1)), 5_001 * SECOND, "set back");
        clock.observed(at(2), 20_002 * SECOND);
        clock.observed(at(3), 20_003 * SECOND);
        assert_eq!(clock.at(at(3)), 20_003 * SECOND, "set forward");
    }
}
