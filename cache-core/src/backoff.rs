use std::time::Duration;

/// Exponential backoff with full jitter: before try `n` any time from zero to `first * 2^n`, at most `last`.
/// See M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last }
    }

    /// How long to wait after so many failures before this one.
    pub(crate) fn after(self, failures: u32) -> Duration {
        self.longest(failures).mul_f64(fastrand::f64())
    }

    /// The longest that [`after`](Self::after) may be.
    pub(crate) fn longest(self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

    #[test]
    fn it_doubles_up_to_its_cap() {
        let longest = |failures| BACKOFF.longest(failures).as_millis();
        assert_eq!([0, 1, 2, 8, 9, 40].map(longest), [100, 200, 400, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn it_is_spread_over_the_whole_time() {
        let mean = (0..10_000).map(|_| BACKOFF.after(3).as_secs_f64()).sum::<f64>() / 10_000.0;
        // Five standard deviations of the mean of a uniform distribution.
        assert!((mean - 0.4).abs() < 5.0 * 0.8 / 12_f64.sqrt() / 100.0, "{mean}");
    }
}
