use std::fmt;
use std::time::Duration;

use crate::clock::{duration, nanos};
use crate::{Error, ErrorKind, Moment, Result};

/// The shortest lifetime there is; anything shorter but zero is rounded up to it.
const SHORTEST: Duration = Duration::from_millis(1);

/// A value as a store holds it, with what is left of its lifetime.
///
/// The value is an `Option`: `None` is a **negative entry**, which says that the source has nothing
/// under this key. (That nothing is known about a key is no entry at all.)
///
/// An entry travels with durations, not dates: how long it is still fresh, and how long it is still
/// usable. The store that owns it computes them with its own clock, so hosts whose clocks disagree
/// behave the same.
///
/// ```
/// use cache_core::{Entry, SetOptions};
/// use std::time::Duration;
///
/// let options = SetOptions::ttl(Duration::from_secs(60)).stale_for(Duration::from_secs(30));
/// let entry = Entry::aged(Some("blue"), &options, Duration::from_secs(70)).expect("still usable");
/// assert!(!entry.is_fresh());
/// assert_eq!(entry.usable_for(), Duration::from_secs(20));
/// assert!(Entry::aged(Some("blue"), &options, Duration::from_secs(90)).is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<V> {
    value: Option<V>,
    // In nanoseconds: turning them into a `Duration` costs a division each, which a hit does not need.
    fresh_for: u64,
    usable_for: u64,
    load_time: LoadTime,
    version: Version,
}

impl<V> Entry<V> {
    /// An entry that is fresh, and usable, for as long as is said; [`Duration::MAX`] is for ever.
    #[must_use]
    #[inline]
    pub fn new(value: Option<V>, fresh_for: Duration, usable_for: Duration) -> Self {
        Self {
            value,
            fresh_for: nanos(fresh_for),
            usable_for: nanos(usable_for),
            load_time: LoadTime::UNKNOWN,
            version: Version::UNKNOWN,
        }
    }

    /// The entry with these ends, as it is seen `now`; `None` once it is not usable any more.
    #[must_use]
    #[inline]
    pub fn seen(
        value: Option<V>,
        fresh_until: Moment,
        usable_until: Moment,
        now: Moment,
    ) -> Option<Self> {
        (now < usable_until).then(|| Self {
            value,
            fresh_for: fresh_until.nanos_since(now),
            usable_for: usable_until.nanos_since(now),
            load_time: LoadTime::UNKNOWN,
            version: Version::UNKNOWN,
        })
    }

    /// The entry that was written with `options` and is now `age` old; `None` once it is not usable any more.
    #[must_use]
    pub fn aged(value: Option<V>, options: &SetOptions, age: Duration) -> Option<Self> {
        let left = |of: Duration| match of {
            Duration::MAX => Duration::MAX,
            _ => of.saturating_sub(age),
        };
        let usable_for = left(options.usable_for());
        (!usable_for.is_zero()).then(|| {
            Self::new(value, left(options.fresh_for()), usable_for)
                .with_load_time(options.load_time)
        })
    }

    /// Says how long the load of the value took.
    #[must_use]
    #[inline]
    pub fn with_load_time(mut self, load_time: LoadTime) -> Self {
        self.load_time = load_time;
        self
    }

    /// Says which write of this key the entry comes from.
    #[must_use]
    #[inline]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The value; `None` if the source has none.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value; `None` if the source has none.
    #[must_use]
    #[inline]
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// Whether the entry says that the source has no value.
    #[must_use]
    #[inline]
    pub fn is_negative(&self) -> bool {
        self.value.is_none()
    }

    /// Whether the entry is fresh, rather than stale but usable.
    #[must_use]
    #[inline]
    pub fn is_fresh(&self) -> bool {
        self.fresh_for != 0
    }

    /// How long the entry is still fresh; [`Duration::MAX`] is for ever.
    #[must_use]
    #[inline]
    pub fn fresh_for(&self) -> Duration {
        duration(self.fresh_for)
    }

    /// How long the entry is still usable, fresh or stale; [`Duration::MAX`] is for ever.
    #[must_use]
    #[inline]
    pub fn usable_for(&self) -> Duration {
        duration(self.usable_for)
    }

    /// How long the load of the value took.
    #[must_use]
    #[inline]
    pub fn load_time(&self) -> LoadTime {
        self.load_time
    }

    /// Which write of this key the entry comes from.
    #[must_use]
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The same entry with another value: the decoded one, say.
    pub fn map<U>(self, f: impl FnOnce(V) -> U) -> Entry<U> {
        Entry {
            value: self.value.map(f),
            fresh_for: self.fresh_for,
            usable_for: self.usable_for,
            load_time: self.load_time,
            version: self.version,
        }
    }

    /// The same entry with another value, or the error that came up in making it.
    ///
    /// # Errors
    ///
    /// The one that `f` returns.
    pub fn try_map<U, E>(self, f: impl FnOnce(V) -> Result<U, E>) -> Result<Entry<U>, E> {
        Ok(Entry {
            value: self.value.map(f).transpose()?,
            fresh_for: self.fresh_for,
            usable_for: self.usable_for,
            load_time: self.load_time,
            version: self.version,
        })
    }

    /// The options with which a copy of this entry ends when this one does.
    #[must_use]
    pub fn options(&self) -> SetOptions {
        SetOptions {
            ttl: self.fresh_for(),
            stale_for: match self.usable_for() {
                Duration::MAX => Duration::MAX,
                usable_for => usable_for.saturating_sub(self.fresh_for()),
            },
            load_time: self.load_time(),
        }
    }
}

/// Which write of a key an entry comes from, as its store counts.
///
/// Two entries of one key with the same version are the same write. Versions are compared for
/// equality only.
///
/// ```
/// use cache_core::{CacheStore, SetOptions, Version};
/// use cache_memory::MemoryStore;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = MemoryStore::new(100);
/// store.set("answer", Some(41), SetOptions::forever()).await?;
/// let first = store.get("answer").await?.unwrap().version();
/// store.set("answer", Some(42), SetOptions::forever()).await?;
/// assert_ne!(store.get("answer").await?.unwrap().version(), first);
/// assert_ne!(first, Version::UNKNOWN);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of a store that does not tell writes apart.
    pub const UNKNOWN: Self = Self(0);

    /// The version with this number; zero is [`UNKNOWN`](Self::UNKNOWN).
    #[must_use]
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNKNOWN { f.write_str("unknown") } else { write!(f, "v{:x}", self.0) }
    }
}

/// How long a load took, to the microsecond, in few bytes; more than 71 minutes is 71 minutes.
///
/// ```
/// use cache_core::LoadTime;
/// use std::time::Duration;
///
/// assert_eq!(LoadTime::from(Duration::from_millis(3)).duration(), Some(Duration::from_millis(3)));
/// assert_eq!(LoadTime::UNKNOWN.duration(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadTime(u32);

impl LoadTime {
    /// Nobody measured it.
    pub const UNKNOWN: Self = Self(0);

    /// The time, rounded up to microseconds.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self != Self::UNKNOWN).then(|| Duration::from_micros(self.0.into()))
    }
}

impl From<Duration> for LoadTime {
    fn from(duration: Duration) -> Self {
        let micros = duration.as_nanos().div_ceil(1000).max(1);
        Self(u32::try_from(micros).unwrap_or(u32::MAX))
    }
}

/// How a value is to be stored: for how long it is fresh, and what travels with it.
///
/// Lifetimes below a millisecond but zero are rounded up to one. [`Duration::MAX`] is for ever.
///
/// ```
/// use cache_core::SetOptions;
/// use std::time::Duration;
///
/// let options = SetOptions::ttl(Duration::from_secs(60)).stale_for(Duration::from_secs(30));
/// assert_eq!(options.fresh_for(), Duration::from_secs(60));
/// assert_eq!(options.usable_for(), Duration::from_secs(90));
/// assert!(SetOptions::ttl(Duration::ZERO).check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetOptions {
    ttl: Duration,
    stale_for: Duration,
    load_time: LoadTime,
}

impl SetOptions {
    /// Fresh for `ttl`, then gone.
    #[must_use]
    pub fn ttl(ttl: Duration) -> Self {
        Self { ttl: rounded_up(ttl), stale_for: Duration::ZERO, load_time: LoadTime::UNKNOWN }
    }

    /// Fresh until it is removed or evicted.
    #[must_use]
    pub fn forever() -> Self {
        Self::ttl(Duration::MAX)
    }

    /// After it has been fresh, the value stays usable for this long as a stale one.
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.stale_for = rounded_up(stale_for);
        self
    }

    /// How long the load of the value took.
    #[must_use]
    pub fn with_load_time(mut self, load_time: LoadTime) -> Self {
        self.load_time = load_time;
        self
    }

    /// How long the value is fresh.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        self.ttl
    }

    /// How long the value is usable, fresh or stale.
    #[must_use]
    pub fn usable_for(&self) -> Duration {
        self.ttl.saturating_add(self.stale_for)
    }

    /// How long the load of the value took.
    #[must_use]
    pub fn load_time(&self) -> LoadTime {
        self.load_time
    }

    /// Refuses a lifetime of zero. Every store calls it first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming `ttl`.
    pub fn check(&self) -> Result<()> {
        if self.usable_for().is_zero() {
            return Err(Error::with_cause(ErrorKind::InvalidOption, "ttl: must not be zero"));
        }
        Ok(())
    }
}

fn rounded_up(lifetime: Duration) -> Duration {
    if lifetime.is_zero() { lifetime } else { lifetime.max(SHORTEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_below_a_millisecond_is_rounded_up() {
        assert_eq!(SetOptions::ttl(Duration::from_nanos(1)).fresh_for(), SHORTEST);
    }

    #[test]
    fn for_ever_does_not_age() {
        let entry = Entry::aged(Some(1), &SetOptions::forever(), Duration::from_secs(u64::MAX / 2));
        assert_eq!(entry.expect("usable").usable_for(), Duration::MAX);
    }

    #[test]
    fn a_load_time_never_becomes_unknown_and_saturates() {
        assert_ne!(LoadTime::from(Duration::ZERO), LoadTime::UNKNOWN);
        assert_eq!(LoadTime::from(Duration::MAX), LoadTime(u32::MAX));
    }

    #[test]
    fn huge_lifetimes_saturate() {
        let options = SetOptions::ttl(Duration::MAX).stale_for(Duration::MAX);
        assert_eq!(options.usable_for(), Duration::MAX);
    }

    #[test]
    fn a_copy_ends_when_the_entry_does() {
        let options = SetOptions::ttl(Duration::from_secs(60)).stale_for(Duration::from_secs(30));
        for age in [0, 30, 60, 75] {
            let entry = Entry::aged(Some(()), &options, Duration::from_secs(age)).expect("usable");
            let copy = entry.options();
            assert_eq!(copy.fresh_for(), entry.fresh_for());
            assert_eq!(copy.usable_for(), entry.usable_for());
        }
    }
}
