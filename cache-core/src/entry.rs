use std::fmt;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{duration, nanos};
use crate::unique::unique;
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
#[derive(Clone)]
pub struct Entry<V> {
    value: Option<V>,
    // When it is seen, and its ends, in nanoseconds on any one scale. What is left, or over, is computed when
    // somebody asks: a hit does not.
    now: u64,
    fresh_until: u64,
    usable_until: u64,
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
            now: 0,
            fresh_until: nanos(fresh_for),
            usable_until: nanos(usable_for),
            load_time: LoadTime::UNKNOWN,
            version: Version::UNKNOWN,
        }
    }

    /// The entry with these ends, as it is seen `now`; `None` once it is not usable any more.
    #[must_use]
    #[inline(always)]
    pub fn seen(
        value: Option<V>,
        fresh_until: Moment,
        usable_until: Moment,
        now: Moment,
    ) -> Option<Self> {
        if now >= usable_until {
            return None;
        }
        Some(Self {
            value,
            now: now.nanos(),
            fresh_until: fresh_until.nanos(),
            usable_until: usable_until.nanos(),
            load_time: LoadTime::UNKNOWN,
            version: Version::UNKNOWN,
        })
    }

    /// The entry that was written with `options` and is now `age` old; `None` once it is not usable any more.
    #[must_use]
    pub fn aged(value: Option<V>, options: &SetOptions, age: Duration) -> Option<Self> {
        // An end that never comes stays where it is, however old the entry gets.
        let now = nanos(age).min(u64::MAX / 2);
        let usable_until = nanos(options.usable_for());
        (now < usable_until).then(|| Self {
            now,
            ..Self::new(value, options.fresh_for(), options.usable_for())
                .with_load_time(options.load_time)
        })
    }

    /// Says for how long the entry has been stale. Of one that is fresh nothing is changed.
    #[must_use]
    pub fn with_staleness(mut self, staleness: Duration) -> Self {
        if !self.is_fresh() {
            let left = self.nanos_usable();
            (self.fresh_until, self.now) = (0, nanos(staleness));
            self.usable_until = self.now.saturating_add(left);
        }
        self
    }

    /// Says how long the load of the value took.
    #[must_use]
    #[inline(always)]
    pub fn with_load_time(mut self, load_time: LoadTime) -> Self {
        self.load_time = load_time;
        self
    }

    /// Says which write of this key the entry comes from.
    #[must_use]
    #[inline(always)]
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

    /// The value, from where the entry lies.
    #[inline]
    pub(crate) fn take_value(&mut self) -> Option<V> {
        self.value.take()
    }

    /// Whether the entry is fresh, rather than stale but usable.
    #[must_use]
    #[inline]
    pub fn is_fresh(&self) -> bool {
        self.now < self.fresh_until
    }

    /// Whether the entry is fresh for more than so many nanoseconds, of which there are 2^63 at most. One that is fresh
    /// for ever always is.
    #[inline]
    pub(crate) fn is_fresh_beyond(&self, nanos: u64) -> bool {
        // It only overflows after a very long staleness, and then the end is zero, below any sum.
        self.now.wrapping_add(nanos) < self.fresh_until
    }

    /// How long the entry is still fresh, in nanoseconds.
    #[inline]
    pub(crate) fn nanos_fresh(&self) -> u64 {
        self.fresh_until.saturating_sub(self.now)
    }

    /// How long the entry is still usable, in nanoseconds.
    #[inline]
    pub(crate) fn nanos_usable(&self) -> u64 {
        self.usable_until.saturating_sub(self.now)
    }

    /// How long the entry is still fresh; [`Duration::MAX`] is for ever.
    #[must_use]
    #[inline]
    pub fn fresh_for(&self) -> Duration {
        duration(self.nanos_fresh())
    }

    /// How long the entry is still usable, fresh or stale; [`Duration::MAX`] is for ever.
    #[must_use]
    #[inline]
    pub fn usable_for(&self) -> Duration {
        duration(self.nanos_usable())
    }

    /// For how long the entry has been stale; zero if it is fresh, or if its store does not tell.
    #[must_use]
    #[inline]
    pub fn staleness(&self) -> Duration {
        duration(self.now.saturating_sub(self.fresh_until))
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
            now: self.now,
            fresh_until: self.fresh_until,
            usable_until: self.usable_until,
            load_time: self.load_time,
            version: self.version,
        }
    }

    /// The value as it is: for [`get_now_as`](crate::CacheStore::get_now_as).
    #[inline]
    pub fn as_it_is(value: Option<V>) -> Poll<Option<Option<V>>> {
        Poll::Ready(Some(value))
    }

    /// That it can't be told now whether there is an entry: by a call, as an answer is where there is one, so that both are written
    /// to the same place.
    #[cold]
    #[inline(never)]
    pub(crate) fn not_now() -> Poll<Option<Self>> {
        Poll::Pending
    }

    /// A store's answer with what `look` makes of the value of an entry.
    #[inline(always)]
    pub(crate) fn look_at<U>(
        answer: Poll<Option<Self>>,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<U>>>,
    ) -> Poll<Option<Entry<U>>> {
        let entry = match answer {
            Poll::Ready(Some(entry)) => entry,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        look(entry.value).map(|value| {
            value.map(|value| Entry {
                value,
                now: entry.now,
                fresh_until: entry.fresh_until,
                usable_until: entry.usable_until,
                load_time: entry.load_time,
                version: entry.version,
            })
        })
    }

    /// The same entry with another value, or none.
    #[inline(always)]
    pub(crate) fn and_then<U>(self, f: impl FnOnce(V) -> Option<U>) -> Entry<U> {
        Entry {
            value: self.value.and_then(f),
            now: self.now,
            fresh_until: self.fresh_until,
            usable_until: self.usable_until,
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
            now: self.now,
            fresh_until: self.fresh_until,
            usable_until: self.usable_until,
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
            at_most: match self.usable_for() {
                // The end of a copy that is held for a shorter time than it is fresh.
                usable_for if usable_for < self.fresh_for() => usable_for,
                _ => Duration::MAX,
            },
            load_time: self.load_time(),
            version: None,
        }
    }
}

impl<V: PartialEq> PartialEq for Entry<V> {
    fn eq(&self, other: &Self) -> bool {
        let lives = |entry: &Self| (entry.fresh_for(), entry.usable_for(), entry.staleness());
        self.value == other.value
            && lives(self) == lives(other)
            && (self.load_time, self.version) == (other.load_time, other.version)
    }
}

impl<V: Eq> Eq for Entry<V> {}

impl<V: fmt::Debug> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("value", &self.value)
            .field("fresh_for", &self.fresh_for())
            .field("usable_for", &self.usable_for())
            .field("staleness", &self.staleness())
            .field("load_time", &self.load_time)
            .field("version", &self.version)
            .finish()
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

    /// A version that no other write of a key is likely to have, in whatever process.
    pub(crate) fn random() -> Self {
        Self((unique() >> 32).max(1))
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

    /// The time in microseconds; 0 if nobody measured it.
    pub(crate) fn micros(self) -> u32 {
        self.0
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
    at_most: Duration,
    load_time: LoadTime,
    version: Option<Version>,
}

impl SetOptions {
    /// Fresh for `ttl`, then gone.
    #[must_use]
    pub fn ttl(ttl: Duration) -> Self {
        Self {
            ttl: rounded_up(ttl),
            stale_for: Duration::ZERO,
            at_most: Duration::MAX,
            load_time: LoadTime::UNKNOWN,
            version: None,
        }
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

    /// The value is gone after this long in any case, and still says for how long it would be fresh: for a
    /// copy that is to be had for a shorter time than the original.
    #[must_use]
    pub fn at_most(mut self, usable_for: Duration) -> Self {
        self.at_most = rounded_up(usable_for);
        self
    }

    /// How long the load of the value took.
    #[must_use]
    pub fn with_load_time(mut self, load_time: LoadTime) -> Self {
        self.load_time = load_time;
        self
    }

    /// The write has this version, instead of one that the store makes up: for a copy, which is the same
    /// write as its original, and for a write that goes to several stores.
    ///
    /// A store may keep the lower 32 bits only, and then has no others in the versions that it makes up.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
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
        self.ttl.saturating_add(self.stale_for).min(self.at_most)
    }

    /// How long the load of the value took.
    #[must_use]
    pub fn load_time(&self) -> LoadTime {
        self.load_time
    }

    /// The version that the write is to have; `None` if the store makes one up.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
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
    fn a_copy_that_is_held_for_a_shorter_time_says_how_long_it_would_be_fresh() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let options = SetOptions::ttl(minute).at_most(2 * second);
        let entry = Entry::aged(Some(()), &options, second).expect("usable");
        assert_eq!((entry.fresh_for(), entry.usable_for()), (minute - second, second));
        let copy = Entry::aged(Some(()), &entry.options(), second);
        assert!(copy.is_none(), "a copy of the copy ends with it");
    }

    #[test]
    fn an_entry_tells_for_how_long_it_has_been_stale() {
        let options = SetOptions::ttl(Duration::from_secs(60)).stale_for(Duration::from_secs(30));
        let aged = |age| Entry::aged(Some(()), &options, Duration::from_secs(age)).expect("usable");
        assert_eq!(aged(59).staleness(), Duration::ZERO);
        assert_eq!(aged(75).staleness(), Duration::from_secs(15));
        let told = Entry::new(Some(()), Duration::ZERO, Duration::from_secs(15));
        let told = told.with_staleness(Duration::from_secs(15));
        assert_eq!(told.staleness(), Duration::from_secs(15));
        assert_eq!(told.usable_for(), Duration::from_secs(15));
        assert!(!told.is_fresh());
        let fresh = Entry::new(Some(()), Duration::MAX, Duration::MAX);
        assert!(fresh.clone().with_staleness(Duration::from_secs(1)) == fresh);
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
