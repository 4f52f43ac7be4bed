//! Where lifetimes get the time from.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the coarse time moves on.
const TICK: Duration = Duration::from_millis(4);

/// A monotonic clock for lifetimes, with a cheap coarse reading.
///
/// Reading the time costs about half of a look-up in memory, the coarse reading next to nothing. So
/// stores take the exact time when they write and the coarse time when they
/// [answer at once](crate::CacheStore::get_now): an entry may be served for up to one tick after its
/// end (4 ms, longer when the machine is too busy to run the ticking thread), but never ends early.
///
/// The clock is monotonic: setting the wall clock changes nothing.
///
/// One thread per process ticks; it starts with the first clock and ends with the last.
///
/// ```
/// use cache_core::Clock;
/// use std::time::Duration;
///
/// let (clock, hands) = Clock::manual();
/// let before = clock.now();
/// hands.advance(Duration::from_secs(3600));
/// assert_eq!(clock.coarse().since(before), Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct Clock {
    time: Arc<Time>,
    manual: bool,
}

/// What ticks.
struct Time {
    coarse: AtomicU64,
    alarms: Mutex<Vec<Weak<dyn Alarm>>>,
}

/// Does at a time what would otherwise have to look at the time whenever it is used.
pub(crate) trait Alarm: Send + Sync {
    /// The coarse time has moved on. It must not wait.
    fn tick(&self, now: Moment);
}

impl Time {
    fn at(nanos: u64) -> Arc<Self> {
        Arc::new(Self { coarse: AtomicU64::new(nanos), alarms: Mutex::default() })
    }

    fn tick(&self) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.is_empty() {
            return;
        }
        alarms.retain(|alarm| alarm.strong_count() > 0);
        let ringing: Vec<_> = alarms.iter().filter_map(Weak::upgrade).collect();
        // Nothing is locked while they ring: one of these may be the last handle to what it belongs to.
        drop(alarms);
        let now = Moment(self.coarse.load(Ordering::Relaxed));
        for alarm in ringing {
            // Values that it drops are the user's, and may panic. That is to stop neither the others nor the time.
            let _ = catch_unwind(AssertUnwindSafe(|| alarm.tick(now)));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(alarm)));
        }
    }
}

impl Clock {
    /// The clock of this process.
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first clock of a process.
    #[must_use]
    pub fn system() -> Self {
        static TICKING: Mutex<Weak<Time>> = Mutex::new(Weak::new());

        let mut ticking = TICKING.lock().unwrap_or_else(PoisonError::into_inner);
        let time = ticking.upgrade().unwrap_or_else(|| {
            let time = Time::at(elapsed());
            *ticking = Arc::downgrade(&time);
            tick(Arc::downgrade(&time));
            time
        });
        Self { time, manual: false }
    }

    /// A clock that stands still until a test moves it.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        // Not zero, so that a test can also look back.
        let time = Time::at(Duration::from_secs(1 << 20).as_nanos() as u64);
        (Self { time: Arc::clone(&time), manual: true }, ManualClock { time })
    }

    /// The exact time.
    #[must_use]
    pub fn now(&self) -> Moment {
        if self.manual { self.coarse() } else { Moment(elapsed()) }
    }

    /// The time of the last tick.
    #[inline]
    #[must_use]
    pub fn coarse(&self) -> Moment {
        Moment(self.time.coarse.load(Ordering::Relaxed))
    }

    /// Has the alarm told of every tick, for as long as it lives.
    pub(crate) fn wake(&self, alarm: Weak<dyn Alarm>) {
        self.time.alarms.lock().unwrap_or_else(PoisonError::into_inner).push(alarm);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("manual", &self.manual).field("now", &self.now()).finish()
    }
}

fn elapsed() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // 2^64 ns are 584 years.
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn tick(time: Weak<Time>) {
    thread::Builder::new()
        .name("cache-clock".to_owned())
        .spawn(move || {
            while let Some(time) = time.upgrade() {
                time.coarse.store(elapsed(), Ordering::Relaxed);
                time.tick();
                drop(time);
                thread::sleep(TICK);
            }
        })
        .expect("a thread for the clock");
}

/// The hands of a [`Clock::manual`] clock.
///
/// ```
/// use cache_core::Clock;
/// use std::time::Duration;
///
/// let (clock, hands) = Clock::manual();
/// let before = clock.now();
/// assert_eq!(clock.now(), before); // it stands still
/// hands.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct ManualClock {
    time: Arc<Time>,
}

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        // The closure always returns a value, so the update always succeeds.
        let _ = self
            .time
            .coarse
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_add(by)));
        self.time.tick();
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = Moment(self.time.coarse.load(Ordering::Relaxed));
        f.debug_struct("ManualClock").field("now", &now).finish()
    }
}

/// A point in time of a [`Clock`], meaningful in this process only.
///
/// ```
/// use cache_core::{Clock, Moment};
/// use std::time::Duration;
///
/// let now = Clock::manual().0.now();
/// let end = now.plus(Duration::from_secs(60));
/// assert!(now < end && end < Moment::NEVER);
/// assert_eq!(end.since(now), Duration::from_secs(60));
/// assert_eq!(now.since(end), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than every moment a clock shows; more than 292 years away is as far.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `by` later; [`NEVER`](Self::NEVER) if that is too far away to count.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// How much later this moment is than `earlier`; zero if it is not.
    /// [`NEVER`](Self::NEVER) is [`Duration::MAX`] away.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        duration(self.0.saturating_sub(earlier.0))
    }

    /// The moment in nanoseconds on the scale of its clock.
    #[inline]
    pub(crate) fn nanos(self) -> u64 {
        self.0
    }
}

/// A duration in nanoseconds; what does not fit into 584 years is `u64::MAX`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The reverse of [`nanos`]. What is left of `u64::MAX` after some years is still for ever, so that a
/// hit need not tell the two apart.
pub(crate) fn duration(nanos: u64) -> Duration {
    if nanos > u64::MAX / 2 { Duration::MAX } else { Duration::from_nanos(nanos) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_coarse_time_follows_the_exact_time() {
        let clock = Clock::system();
        let start = clock.now();
        while clock.coarse() <= start {
            thread::yield_now();
        }
        assert!(clock.coarse() <= clock.now());
    }

    #[test]
    fn an_alarm_is_told_of_every_tick_for_as_long_as_it_lives() {
        #[derive(Default)]
        struct Told(Mutex<Vec<Moment>>);

        impl Alarm for Told {
            fn tick(&self, now: Moment) {
                self.0.lock().expect("nobody panics").push(now);
            }
        }

        let told = |alarm: &Told| alarm.0.lock().expect("nobody panics").clone();
        let (clock, hands) = Clock::manual();
        let alarms = [Arc::new(Told::default()), Arc::new(Told::default())];
        for alarm in &alarms {
            let alarm: Arc<dyn Alarm> = Arc::clone(alarm) as _;
            clock.wake(Arc::downgrade(&alarm));
        }
        hands.advance(Duration::from_secs(1));
        let first = clock.now();
        let [stays, goes] = alarms;
        assert_eq!((told(&stays), told(&goes)), (vec![first], vec![first]));
        drop(goes);
        hands.advance(Duration::from_secs(1));
        assert_eq!(told(&stays), [first, clock.now()]);
        assert_eq!(clock.time.alarms.lock().expect("nobody panics").len(), 1);

        let (clock, ticking) = (Clock::system(), Arc::new(Told::default()));
        let alarm: Arc<dyn Alarm> = Arc::clone(&ticking) as _;
        clock.wake(Arc::downgrade(&alarm));
        let start = clock.now();
        while told(&ticking).last().is_none_or(|last| *last <= start) {
            thread::yield_now();
        }
    }

    #[test]
    fn an_alarm_that_panics_stops_neither_the_time_nor_the_others() {
        /// Panics when it is told, or when it is dropped, for which it may wait until it is told.
        struct Panics {
            told: bool,
            last: Mutex<Option<mpsc::Receiver<()>>>,
        }

        impl Alarm for Panics {
            fn tick(&self, _now: Moment) {
                assert!(!self.told, "as the test wants it");
                if let Some(last) = self.last.lock().expect("nobody panics here").take() {
                    // Whoever else had a handle has none when this goes on.
                    let _ = last.recv();
                }
            }
        }

        impl Drop for Panics {
            fn drop(&mut self) {
                assert!(self.told, "as the test wants it");
            }
        }

        #[derive(Default)]
        struct Counts(AtomicU64);

        impl Alarm for Counts {
            fn tick(&self, _now: Moment) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let clock = Clock::system();
        let wake = |alarm: &Arc<dyn Alarm>| clock.wake(Arc::downgrade(alarm));
        let tells: Arc<dyn Alarm> = Arc::new(Panics { told: true, last: Mutex::new(None) });
        wake(&tells);
        let (gone, last) = mpsc::channel();
        let drops: Arc<dyn Alarm> = Arc::new(Panics { told: false, last: Mutex::new(Some(last)) });
        wake(&drops);
        let counts = Arc::new(Counts::default());
        wake(&(Arc::clone(&counts) as _));
        let weak = Arc::downgrade(&drops);
        let until = |condition: &dyn Fn() -> bool| {
            let late = Instant::now() + Duration::from_secs(30);
            while !condition() {
                assert!(Instant::now() < late, "the time stands still");
                thread::yield_now();
            }
        };
        // The thread of the clock has the other one, which is the last then.
        until(&|| weak.strong_count() == 2);
        drop(drops);
        drop(gone);
        until(&|| weak.strong_count() == 0);
        let (start, told) = (clock.now(), counts.0.load(Ordering::Relaxed));
        until(&|| clock.coarse() > start && counts.0.load(Ordering::Relaxed) > told);
    }

    #[test]
    fn a_moment_too_far_away_is_never() {
        let (clock, _) = Clock::manual();
        assert_eq!(clock.now().plus(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::NEVER.since(clock.now()), Duration::MAX);
    }

    #[test]
    fn the_past_is_zero_away() {
        let (clock, hands) = Clock::manual();
        let before = clock.now();
        hands.advance(Duration::from_secs(1));
        assert_eq!(before.since(clock.now()), Duration::ZERO);
    }
}
