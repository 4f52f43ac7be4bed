//! The options about values that are about to be stale, or are stale already.

use std::time::Duration;

use super::ReadOptions;
use crate::{Error, ErrorKind, Result};

const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
const DEFAULT_MOST_REFRESHES: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct FreshnessOptions {
    pub(crate) stale_for: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) early_refresh: f64,
    pub(crate) sliding: Option<Duration>,
    pub(crate) retry_after: Duration,
    pub(crate) most_refreshes: usize,
}

impl Default for FreshnessOptions {
    fn default() -> Self {
        Self {
            stale_for: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            soft_timeout: None,
            early_refresh: 0.0,
            sliding: None,
            retry_after: DEFAULT_RETRY_AFTER,
            most_refreshes: DEFAULT_MOST_REFRESHES,
        }
    }
}

impl FreshnessOptions {
    /// For how long a store has to keep what is no longer fresh.
    pub(crate) fn stale_window(&self) -> Duration {
        self.stale_for.max(self.stale_if_error)
    }

    /// Whether anything is ever refreshed that is still there.
    pub(crate) fn refreshes(&self) -> bool {
        !self.stale_window().is_zero() || self.early_refresh > 0.0
    }

    pub(crate) fn check(&self, ttl: Duration) -> Result<()> {
        let invalid = |what: &str| Err(Error::with_cause(ErrorKind::InvalidOption, what));
        if !(self.early_refresh >= 0.0 && self.early_refresh.is_finite()) {
            return invalid("early_refresh: must be a finite number, and not negative");
        }
        if self.soft_timeout == Some(Duration::ZERO) {
            return invalid("soft_timeout: must not be zero");
        }
        if self.soft_timeout.is_some() && self.stale_if_error.is_zero() {
            return invalid("soft_timeout: has nothing to return without stale_if_error");
        }
        if self.retry_after.is_zero() {
            return invalid("retry_after: must not be zero");
        }
        if self.most_refreshes == 0 {
            return invalid("most_refreshes: must not be zero");
        }
        let Some(idle) = self.sliding else {
            return Ok(());
        };
        if idle.is_zero() || idle >= ttl {
            return invalid("sliding: must not be zero, and shorter than ttl");
        }
        if ttl == Duration::MAX {
            return invalid("sliding: needs a ttl that ends, which is its cap");
        }
        if !self.stale_window().is_zero() {
            return invalid("sliding: does not go together with stale_for and stale_if_error");
        }
        Ok(())
    }
}

impl<V, O> ReadOptions<V, O> {
    /// Serves a value for this long after it has ceased to be fresh, at once, while **one** caller in all processes that
    /// share the store refreshes it in the background. After that nobody sees it.
    ///
    /// This is `stale-while-revalidate` of [RFC 5861](https://www.rfc-editor.org/rfc/rfc5861). It takes a store
    /// with [versions](crate::Capabilities::versioned) for the *one*; on others it is one caller of this cache. What is known
    /// not to exist is never served stale. If the source has nothing any more, the value goes.
    ///
    /// In [`CacheAside::get_or_load`](crate::CacheAside::get_or_load), whose closure may borrow, there is no background: one caller refreshes in
    /// place and waits for it, the others are served at once.
    #[must_use]
    pub fn stale_for(mut self, window: Duration) -> Self {
        self.freshness.stale_for = window;
        self
    }

    /// Returns the stale value if the load fails, for this long after it has ceased to be fresh. The load is
    /// tried again at most once per [`retry_after`](Self::retry_after).
    ///
    /// This is `stale-if-error` of [RFC 5861](https://www.rfc-editor.org/rfc/rfc5861). Both windows begin where freshness ends.
    /// Errors, panics and time-outs of the load count; a load that [needs its own
    /// result](ErrorKind::RecursiveLoad) does not. The stale value is read once the load has failed, so what
    /// has been invalidated is not served, whoever invalidated it.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.freshness.stale_if_error = window;
        self
    }

    /// Returns the stale value, if [`stale_if_error`](Self::stale_if_error) allows for one, when the load takes longer
    /// than this. The load goes on, and its value is kept. [`load_timeout`](Self::load_timeout) is the hard limit.
    ///
    /// Not in [`CacheAside::get_or_load`](crate::CacheAside::get_or_load), whose load can't go on without its caller.
    #[must_use]
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.freshness.soft_timeout = Some(limit);
        self
    }

    /// Refreshes a value in the background shortly before it ceases to be fresh, by chance, so that nobody has to wait for
    /// it and the callers of many processes do not all load at once. `beta` is 1 as a rule; more is earlier, 0 is off.
    ///
    /// A read refreshes when `load_time * beta * -ln(u)` is no less than the time left, with `u` drawn evenly from (0, 1]: `XFetch`,
    /// of [Vattani, Chierichetti and Lowenstein: *Optimal Probabilistic Cache Stampede
    /// Prevention*, PVLDB 8(8), 2015](https://doi.org/10.14778/2757807.2757813). The lead of a read is `load_time * beta` on average;
    /// the time of the load is measured, and kept with the entry. One that is unknown, or below a millisecond, counts as a
    /// millisecond, and `load_time * beta` as a tenth of `ttl` at most.
    ///
    /// In [`CacheAside::get_or_load`](crate::CacheAside::get_or_load) the caller that draws it loads in place, and waits for it.
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.freshness.early_refresh = beta;
        self
    }

    /// Drops a value that nobody has read for `idle`; `ttl` (or what [`ttl_of`](Self::ttl_of) says) is then how long one
    /// may be fresh at all, from its load on, however often it is read.
    ///
    /// A read that finds more than an eighth of `idle` gone gives the entry its time again, in the background, under a lease: what has been
    /// invalidated does not come back by that. So an entry is written at most once per eighth of `idle`, and may be taken for idle
    /// an eighth early. An idle entry keeps its room in the store until its `ttl` is over, or it is evicted.
    ///
    /// It does not go together with `stale_for` and `stale_if_error`. Negative entries do not slide.
    #[must_use]
    pub fn sliding(mut self, idle: Duration) -> Self {
        self.freshness.sliding = Some(idle);
        self
    }

    /// After a refresh has failed, the key is not tried again for this long, by this cache, as long as there is a value
    /// to be served.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.freshness.retry_after = pause;
        self
    }

    /// So many refreshes are under way at a time in this cache. Over it, values are served without being refreshed.
    #[must_use]
    pub fn most_refreshes(mut self, most: usize) -> Self {
        self.freshness.most_refreshes = most;
        self
    }
}
