mod freshness;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, ErrorKind, Observer, Result, SetOptions, Silent};

pub(crate) use freshness::FreshnessOptions;

const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a reading strategy treats what it reads. All strategies take the same options.
///
/// The lifetime has no default: how long an answer may be old is for you to say. Invalid options are
/// refused when the strategy is made.
///
/// | option | default | |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | none | how long a value is fresh |
/// | [`jitter`](Self::jitter) | 0 | by what share a lifetime may be shorter, drawn at each write |
/// | [`ttl_of`](Self::ttl_of) | | the lifetime, from the value |
/// | [`negative_ttl`](Self::negative_ttl) | off | how long it is kept that the source has nothing |
/// | [`stale_for`](Self::stale_for) | 0 | how long a stale value is served while it is refreshed |
/// | [`stale_if_error`](Self::stale_if_error) | 0 | how long a stale value is served when the load fails |
/// | [`retry_after`](Self::retry_after) | 1 s | how long a refresh that failed is not tried again |
/// | [`early_refresh`](Self::early_refresh) | off | refreshes what is about to become stale |
/// | [`sliding`](Self::sliding) | off | drops what nobody reads for so long |
/// | [`most_refreshes`](Self::most_refreshes) | 64 | how many refreshes are under way at a time |
/// | [`soft_timeout`](Self::soft_timeout) | off | after which a stale value is returned, and the load goes on |
/// | [`load_timeout`](Self::load_timeout) | 10 s | after which a load is given up |
/// | [`wait_limit`](Self::wait_limit) | as `load_timeout` | how long to wait for somebody else's load |
/// | [`lease`](Self::lease) | as `load_timeout` | after which others may load the key of an owner that is gone |
/// | [`store_timeout`](Self::store_timeout) | 1 s | after which a store that does not answer has failed |
/// | [`fail_closed`](Self::fail_closed) | open | what a read does when the store fails |
/// | [`observer`](Self::observer) | [`Silent`] | who is told what happens |
///
/// ```
/// use cache_core::ReadOptions;
/// use std::time::Duration;
///
/// let options = ReadOptions::<String>::ttl(Duration::from_secs(300))
///     .jitter(0.1)
///     .negative_ttl(Duration::from_secs(5))
///     .ttl_of(|text| text.is_empty().then_some(Duration::from_secs(1)));
/// assert!(options.check().is_ok());
/// assert!(options.jitter(1.5).check().unwrap_err().to_string().contains("jitter"));
/// ```
pub struct ReadOptions<V, O = Silent> {
    ttl: Duration,
    jitter: f64,
    negative_ttl: Option<Duration>,
    ttl_of: Option<TtlOf<V>>,
    random: Random,
    pub(crate) freshness: FreshnessOptions,
    pub(crate) load_timeout: Duration,
    pub(crate) store_timeout: Duration,
    wait_limit: Option<Duration>,
    lease: Option<Duration>,
    pub(crate) fails_closed: bool,
    pub(crate) observer: O,
}

type TtlOf<V> = Arc<dyn Fn(&V) -> Option<Duration> + Send + Sync>;
type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

impl<V> ReadOptions<V> {
    /// Values are fresh for `ttl`; [`Duration::MAX`] is until they are invalidated or evicted.
    #[must_use]
    pub fn ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            jitter: 0.0,
            negative_ttl: None,
            ttl_of: None,
            random: Arc::new(fastrand::f64),
            freshness: FreshnessOptions::default(),
            load_timeout: DEFAULT_LOAD_TIMEOUT,
            store_timeout: DEFAULT_STORE_TIMEOUT,
            wait_limit: None,
            lease: None,
            fails_closed: false,
            observer: Silent,
        }
    }
}

impl<V, O> ReadOptions<V, O> {
    /// Shortens each lifetime by a random share of up to `jitter` (from 0 to below 1), so that what was loaded
    /// together does not expire together. It is drawn when a value is written, and never lengthens.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Keeps for `ttl` that the source has nothing under a key. Apart from the values' lifetime,
    /// because what is missing now may be made in a moment: keep it short.
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// Takes the lifetime from the value; `None` is the general one, zero is not to keep it.
    ///
    /// Where the type of the values is not known yet, the closure's argument wants its type written.
    ///
    /// ```
    /// use cache_core::ReadOptions;
    /// use std::time::Duration;
    ///
    /// struct Token {
    ///     expires_in: Duration,
    /// }
    ///
    /// let options = ReadOptions::ttl(Duration::from_secs(300)).ttl_of(|v: &Token| Some(v.expires_in));
    /// assert!(options.check().is_ok());
    /// ```
    #[must_use]
    pub fn ttl_of(
        mut self,
        ttl_of: impl Fn(&V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.ttl_of = Some(Arc::new(ttl_of));
        self
    }

    /// Gives up a load after this long: its callers get [`ErrorKind::LoadTimeout`], its future is
    /// dropped, the key is free.
    #[must_use]
    pub fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// Waits no longer than this for a load that somebody else leads. For one in this process the
    /// caller then gets [`ErrorKind::WaitTimeout`]; for one in another process it loads for itself, and does not
    /// keep the value.
    #[must_use]
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = Some(limit);
        self
    }

    /// The life of the lease on a key that is being loaded. Shorter than a load, and its value is not kept;
    /// longer, and others wait longer after this process has died.
    #[must_use]
    pub fn lease(mut self, life: Duration) -> Self {
        self.lease = Some(life);
        self
    }

    /// Treats a store that has not answered one operation after this long as one that failed. A store behind a
    /// network has a shorter limit of its own; this is for those that have none.
    ///
    /// It holds for every operation but the removal of a prefix and `clear`, which may take their time, and
    /// within a tokio runtime only, for want of a timer. An invalidation waits as long for a fill of its key, where
    /// the store does not [fence](crate::Capabilities::fenced).
    #[must_use]
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit;
        self
    }

    /// Returns the store's error to the reader when the store fails. By default reads go on as if
    /// nothing were stored, with at most one load per key at a time in each process.
    #[must_use]
    pub fn fail_closed(mut self) -> Self {
        self.fails_closed = true;
        self
    }

    /// Where jitter and early refreshes come from: numbers from 0 (included) to 1 (excluded). For tests.
    #[must_use]
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Tells `observer` what happens; see [`Stats`](crate::Stats).
    #[must_use]
    pub fn observer<P: Observer>(self, observer: P) -> ReadOptions<V, P> {
        ReadOptions {
            ttl: self.ttl,
            jitter: self.jitter,
            negative_ttl: self.negative_ttl,
            ttl_of: self.ttl_of,
            random: self.random,
            freshness: self.freshness,
            load_timeout: self.load_timeout,
            store_timeout: self.store_timeout,
            wait_limit: self.wait_limit,
            lease: self.lease,
            fails_closed: self.fails_closed,
            observer,
        }
    }

    /// Refuses what makes no sense. Every strategy calls it when it is made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option.
    pub fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::with_cause(ErrorKind::InvalidOption, what));
        if !(0.0..1.0).contains(&self.jitter) {
            return invalid("jitter: must be at least 0 and below 1");
        }
        for (name, duration) in [
            ("ttl", Some(self.ttl)),
            ("negative_ttl", self.negative_ttl),
            ("load_timeout", Some(self.load_timeout)),
            ("wait_limit", self.wait_limit),
            ("lease", self.lease),
            ("store_timeout", Some(self.store_timeout)),
        ] {
            if duration == Some(Duration::ZERO) {
                return invalid(&format!("{name}: must not be zero"));
            }
        }
        self.freshness.check(self.ttl)
    }

    /// How long a value is fresh, unless it says otherwise.
    pub(crate) fn general_ttl(&self) -> Duration {
        self.ttl
    }

    /// A number from 0 (included) to 1 (excluded).
    pub(crate) fn draw(&self) -> f64 {
        (self.random)()
    }

    pub(crate) fn waits_for(&self) -> Duration {
        self.wait_limit.unwrap_or(self.load_timeout)
    }

    pub(crate) fn lease_life(&self) -> Duration {
        self.lease.unwrap_or(self.load_timeout)
    }

    /// How a value is to be stored; `None` if it is not.
    pub(crate) fn lifetime(&self, value: Option<&V>) -> Option<SetOptions> {
        let Some(value) = value else {
            // What is missing now may be made in a moment, so it is never served stale.
            return Some(SetOptions::ttl(self.jittered(self.negative_ttl?)));
        };
        let ttl = self.ttl_of.as_ref().and_then(|of| of(value)).unwrap_or(self.ttl);
        if ttl.is_zero() {
            return None;
        }
        let ttl = self.jittered(ttl);
        Some(match self.freshness.sliding {
            Some(idle) => slid(idle, ttl),
            None => SetOptions::ttl(ttl).stale_for(self.freshness.stale_window()),
        })
    }

    fn jittered(&self, ttl: Duration) -> Duration {
        if self.jitter == 0.0 || ttl == Duration::MAX {
            return ttl;
        }
        let shorter = ttl.as_secs_f64() * self.jitter * (self.random)().clamp(0.0, 1.0);
        ttl.saturating_sub(Duration::try_from_secs_f64(shorter).unwrap_or_default())
            .max(Duration::from_millis(1))
    }
}

/// Fresh for `idle`, and known to the store for as long as it may be made fresh again.
pub(crate) fn slid(idle: Duration, left: Duration) -> SetOptions {
    let fresh_for = idle.min(left);
    SetOptions::ttl(fresh_for).stale_for(left - fresh_for)
}

impl<V, O: Clone> Clone for ReadOptions<V, O> {
    fn clone(&self) -> Self {
        Self {
            ttl_of: self.ttl_of.clone(),
            random: Arc::clone(&self.random),
            freshness: self.freshness.clone(),
            observer: self.observer.clone(),
            ..*self
        }
    }
}

impl<V, O> fmt::Debug for ReadOptions<V, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOptions")
            .field("ttl", &self.ttl)
            .field("jitter", &self.jitter)
            .field("negative_ttl", &self.negative_ttl)
            .field("freshness", &self.freshness)
            .field("load_timeout", &self.load_timeout)
            .field("store_timeout", &self.store_timeout)
            .field("wait_limit", &self.waits_for())
            .field("lease", &self.lease_life())
            .field("fails_closed", &self.fails_closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lifetimes(jitter: f64) -> impl Iterator<Item = Duration> {
        let options = ReadOptions::<u8>::ttl(MINUTE).jitter(jitter);
        (0..100_000).map(move |_| options.lifetime(Some(&1)).expect("kept").fresh_for())
    }

    #[test]
    fn jitter_only_shortens_and_stays_within_its_share() {
        assert!(lifetimes(0.2).all(|ttl| ttl <= MINUTE && ttl >= MINUTE.mul_f64(0.8)));
    }

    #[test]
    fn jitter_is_spread_evenly() {
        let in_lower_half = lifetimes(0.2).filter(|ttl| *ttl < MINUTE.mul_f64(0.9)).count();
        // Five standard deviations of 100,000 fair coins.
        assert!(in_lower_half.abs_diff(50_000) < 800, "{in_lower_half}");
    }

    #[test]
    fn jitter_does_not_end_what_lives_for_ever() {
        let options = ReadOptions::<u8>::ttl(Duration::MAX).jitter(0.5);
        assert_eq!(options.lifetime(Some(&1)).expect("kept").fresh_for(), Duration::MAX);
    }

    #[test]
    fn not_found_is_kept_only_when_asked_for() {
        let options = ReadOptions::<u8>::ttl(MINUTE);
        assert!(options.lifetime(None).is_none());
        let options = options.negative_ttl(Duration::from_secs(1));
        assert_eq!(options.lifetime(None).expect("kept").fresh_for(), Duration::from_secs(1));
    }

    #[test]
    fn an_invalid_option_is_named() {
        let options = || ReadOptions::<u8>::ttl(MINUTE);
        let zero = Duration::ZERO;
        for (options, name) in [
            (ReadOptions::ttl(zero), "ttl"),
            (options().jitter(-0.1), "jitter"),
            (options().jitter(1.0), "jitter"),
            (options().jitter(f64::NAN), "jitter"),
            (options().negative_ttl(zero), "negative_ttl"),
            (options().load_timeout(zero), "load_timeout"),
            (options().wait_limit(zero), "wait_limit"),
            (options().lease(zero), "lease"),
            (options().store_timeout(zero), "store_timeout"),
        ] {
            let error = options.check().expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(error.to_string().contains(&format!(": {name}:")), "{error}");
        }
    }
}
