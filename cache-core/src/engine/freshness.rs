//! What an entry is good for: served, refreshed while it is served, kept in reserve, or nothing.

use super::Engine;
use crate::clock::nanos;
use crate::flight::Landing;
use crate::{
    CacheStore, Entry, Freshness, LoadTime, Observer, Outcome, ReadHints, ReadOptions, StaleReason,
};

/// What counts as the time of a load that was quicker, or that nobody measured, in microseconds.
const QUICKEST: u32 = 1_000;
/// The lead of an early refresh is this share of the lifetime at most. Otherwise loads that take about as long as their
/// values live would never end.
const LONGEST_LEAD: f64 = 0.1;
/// `-ln` of the least number above zero that is drawn.
const LONGEST_DRAW: f64 = 37.0;
/// A sliding entry is given its time again when this share of it has gone.
const TOUCH: u64 = 8;

/// All that ends needs a further look.
const ALWAYS: u64 = 1 << 63;

/// What a fresh entry needs, beside being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Its time again, because it slides.
    Touch,
    /// A new value, before it is too late.
    Refresh,
}

/// What a stale entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// To be served at once, while it is refreshed.
    Serve,
    /// To be served if the load fails, or takes long.
    Reserve,
    Nothing,
}

/// What is known of the options before any entry is seen. All times are in nanoseconds.
pub(super) struct Watch {
    /// Entries that are fresh for more than this need no further look. Without options about that it is 0, so
    /// that a hit costs nothing for them.
    pub(super) untroubled_beyond: u64,
    longest_lead: f64,
    sliding: Option<Sliding>,
}

#[derive(Clone, Copy)]
struct Sliding {
    idle: u64,
    touch: u64,
}

impl Watch {
    pub(super) fn new<V, O>(options: &ReadOptions<V, O>) -> Self {
        let sliding = options.freshness.sliding.map(nanos);
        let sliding = sliding.map(|idle| Sliding { idle, touch: idle / TOUCH });
        Self {
            untroubled_beyond: match sliding {
                _ if options.freshness.early_refresh > 0.0 => ALWAYS,
                Some(Sliding { idle, touch }) => (idle - touch).min(ALWAYS),
                None => 0,
            },
            longest_lead: nanos(options.general_ttl()) as f64 * LONGEST_LEAD,
            sliding,
        }
    }
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What a fresh entry needs. Draws.
    pub(super) fn due(&self, entry: &Entry<S::Value>) -> Due {
        let sliding = self.watch.sliding.filter(|_| !entry.is_negative());
        // A sliding entry is over for good when it is not usable any more.
        // (A copy that ends before it is fresh no longer does not tell when that is.)
        let fresh = entry.nanos_fresh();
        let left = match sliding {
            Some(_) if entry.nanos_usable() < fresh => u64::MAX,
            Some(_) => entry.nanos_usable(),
            None => fresh,
        };
        let beta = self.options.freshness.early_refresh;
        if beta > 0.0 {
            let lead = mean_lead(entry.load_time(), beta, self.watch.longest_lead);
            if is_early(left, lead, || self.options.draw()) {
                return Due::Refresh;
            }
        }
        match sliding {
            Some(Sliding { idle, touch }) if idle.min(left).saturating_sub(fresh) >= touch => {
                Due::Touch
            }
            _ => Due::Nothing,
        }
    }

    /// What a stale entry is good for, to a reader with these hints.
    pub(super) fn usable(&self, entry: &Entry<S::Value>, hints: ReadHints) -> Use {
        let freshness = &self.options.freshness;
        let staleness = entry.staleness();
        if entry.is_negative() || freshness.sliding.is_some() || !hints.allow(staleness) {
            Use::Nothing
        } else if staleness < freshness.stale_for {
            Use::Serve
        } else if staleness < freshness.stale_if_error {
            Use::Reserve
        } else {
            Use::Nothing
        }
    }
}

/// The answer that a stale entry is.
pub(super) fn stale<V>(entry: Entry<V>, reason: StaleReason) -> Landing<V> {
    let freshness = Freshness::Stale { age: entry.staleness(), reason };
    Landing { result: Ok(entry.into_value()), outcome: Outcome::Stale, freshness }
}

/// How long before the end of an entry its refresh is due on average.
fn mean_lead(load_time: LoadTime, beta: f64, longest: f64) -> f64 {
    (f64::from(load_time.micros().max(QUICKEST)) * 1e3 * beta).min(longest)
}

/// `XFetch`: whether this read is to refresh an entry that has so long to live. `draw` is from 0 (included) to 1 (excluded), so
/// the logarithm is of a number above zero.
fn is_early(left: u64, mean_lead: f64, draw: impl FnOnce() -> f64) -> bool {
    let ends = left <= u64::MAX / 2;
    let left = left as f64;
    ends && left <= mean_lead * LONGEST_DRAW && mean_lead * -(1.0 - draw()).ln() >= left
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DRAWS: u32 = 100_000;

    const SECOND: u64 = 1_000_000_000;

    fn share_of_early(left: f64, mean_lead: f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(7);
        let early = (0..DRAWS).filter(|_| is_early(left as u64, mean_lead, || random.f64()));
        early.count() as f64 / f64::from(DRAWS)
    }

    /// Four standard deviations each; see the paper's section 5 for the distribution.
    #[test]
    fn the_decision_of_an_early_refresh_is_exponential_in_the_time_left() {
        for lead in [5e7, 3e9] {
            for (left, share, off) in [
                (0.0, 1.0, 0.0),
                (0.5, 0.60653, 0.0062),
                (1.0, 0.36788, 0.0061),
                (2.0, 0.13534, 0.0043),
                (3.0, 0.04979, 0.0028),
                (5.0, 0.00674, 0.0010),
            ] {
                let got = share_of_early(left * lead, lead);
                assert!((got - share).abs() <= off, "{left} leads of {lead} ns left: {got}");
            }
        }
    }

    /// The lead that a draw stands for is found by halving: the greatest time left at which it still fires.
    #[test]
    fn the_mean_lead_is_the_time_of_the_load_times_beta() {
        let mut random = fastrand::Rng::with_seed(11);
        let lead = mean_lead(Duration::from_millis(200).into(), 1.5, 1e10);
        let mut sum = 0.0;
        for _ in 0..DRAWS {
            let draw = random.f64();
            let (mut low, mut high) = (0, (lead * LONGEST_DRAW) as u64);
            for _ in 0..40 {
                let middle = u64::midpoint(low, high);
                match is_early(middle, lead, || draw) {
                    true => low = middle,
                    false => high = middle,
                }
            }
            sum += low as f64;
        }
        let mean = sum / f64::from(DRAWS);
        assert!((mean / 3e8 - 1.0).abs() <= 0.013, "{mean}");
    }

    #[test]
    fn the_edges_of_an_early_refresh_are_numbers() {
        for draw in [0.0, f64::EPSILON, 1.0 - f64::EPSILON] {
            assert!(!is_early(u64::MAX, 1e18, || draw), "what lives for ever");
            assert!(!is_early(SECOND, 0.0, || draw), "no lead");
            assert!(is_early(0, 1e9, || draw), "what is over");
        }
        assert!(!is_early(SECOND, 1e9, || 0.0));
        assert!(is_early(36 * SECOND, 1e9, || 1.0 - f64::EPSILON / 2.0));
    }

    #[test]
    fn the_time_of_the_load_has_a_floor_and_the_lead_a_cap() {
        assert_eq!(mean_lead(LoadTime::UNKNOWN, 1.0, 6e9), 1e6);
        assert_eq!(mean_lead(Duration::from_micros(3).into(), 2.0, 6e9), 2e6);
        assert_eq!(mean_lead(Duration::from_secs(3).into(), 1.0, 6e9), 3e9);
        assert_eq!(mean_lead(Duration::from_secs(600).into(), 1.0, 6e9), 6e9);
        assert_eq!(mean_lead(Duration::from_secs(1).into(), f64::MAX, 6e9), 6e9);
    }
}
