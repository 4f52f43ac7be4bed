use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Sample;
use crate::{CacheStore, ManualClock, SetOptions};

/// A store under test, with what the kit needs to test it: values, and a way to let time pass.
///
/// ```
/// use cache_core::testing::{ModelStore, Subject};
/// use cache_core::{CacheStoreExt, Clock, SharedStore};
/// use std::time::Duration;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Price(u32);
///
/// let (clock, hands) = Clock::manual();
/// let injected = Subject::with_samples(ModelStore::new(clock), Price).manual_clock(hands);
///
/// let store: SharedStore<u64> = ModelStore::new(Clock::system()).shared();
/// let waiting = Subject::new(store).real_time(Duration::from_millis(200));
/// ```
pub struct Subject<S: CacheStore> {
    store: Arc<S>,
    samples: Arc<dyn Fn(u32) -> S::Value + Send + Sync>,
    tags: Option<Box<Tags<S::Value>>>,
    time: Time,
}

type Tags<V> = dyn Fn(&str, Option<&V>) -> Vec<String> + Send + Sync;

enum Time {
    Manual { advance: Box<dyn Fn(Duration) + Send + Sync>, passed: Mutex<Duration> },
    Real { unit: Duration, start: Instant },
}

impl<S: Comparable> Subject<S> {
    /// A store whose values have samples, in real time with a unit of 100 ms.
    pub fn new(store: S) -> Self
    where
        S::Value: Sample,
    {
        Self::with_samples(store, S::Value::sample)
    }

    /// A store whose values are made by `samples`: different ones for different numbers.
    pub fn with_samples(
        store: S,
        samples: impl Fn(u32) -> S::Value + Send + Sync + 'static,
    ) -> Self {
        let time = Time::Real { unit: Duration::from_millis(100), start: Instant::now() };
        Self { store: Arc::new(store), samples: Arc::new(samples), tags: None, time }
    }

    /// The entries of the store have the tags that `tags` tells of a key, as this store is asked for it,
    /// and a value: the function that a [`Tagged`](crate::Tagged) store has been given, say.
    ///
    /// Without it the kit knows no entry that has a tag, and finds out only that
    /// [`remove_tagged`](CacheStore::remove_tagged) leaves the others alone. Entries have to differ in their tags: if all
    /// samples have the same ones, nothing shows that the others stay, and the kit says so.
    ///
    /// ```
    /// use cache_core::testing::{ModelStore, Subject};
    /// use cache_core::{CacheStoreExt, Clock, MemoryMarks};
    ///
    /// let (clock, hands) = Clock::manual();
    /// let tags = |key: &str, value: Option<&u64>| [format!("key:{key:.100}"), format!("{value:?}")];
    /// let store = ModelStore::new(clock).tagged(MemoryMarks::new(), tags);
    /// let subject = Subject::new(store).manual_clock(hands).tagged_by(tags);
    /// ```
    #[must_use]
    pub fn tagged_by<T>(
        mut self,
        tags: impl Fn(&str, Option<&S::Value>) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.tags = Some(Box::new(move |key, value| {
            tags(key, value).into_iter().map(|tag| tag.as_ref().to_owned()).collect()
        }));
        self
    }

    /// Time passes when the kit moves the hands of the store's clock.
    #[must_use]
    pub fn manual_clock(self, hands: ManualClock) -> Self {
        self.advance_with(move |by| hands.advance(by))
    }

    /// Time passes when the kit calls `advance`: for a store with a clock of another kind.
    #[must_use]
    pub fn advance_with(mut self, advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.time = Time::Manual { advance: Box::new(advance), passed: Mutex::default() };
        self
    }

    /// Time passes by itself: for servers, and for stores without a clock to inject.
    ///
    /// Lifetimes are a few `unit`s long, and an entry may end up to one unit too early or too late.
    /// 100 ms are enough for a server on this machine. A busy machine makes the tests longer and
    /// less strict, but does not make them fail.
    #[must_use]
    pub fn real_time(mut self, unit: Duration) -> Self {
        self.time = Time::Real { unit: unit.max(Duration::from_millis(1)), start: Instant::now() };
        self
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for another task.
    pub(super) fn handle(&self) -> Arc<S> {
        Arc::clone(&self.store)
    }

    /// A value; different ones for different numbers.
    pub(super) fn sample(&self, number: u32) -> S::Value {
        (self.samples)(number)
    }

    /// The tags of an entry; `None` if the subject does not tell.
    pub(super) fn tags_of(&self, key: &str, value: Option<&S::Value>) -> Option<Vec<String>> {
        self.tags.as_ref().map(|tags| tags(key, value))
    }

    /// So many units of time.
    pub(super) fn units(&self, count: u32) -> Duration {
        count * self.unit()
    }

    /// A lifetime that does not end within a test.
    pub(super) fn long(&self) -> Duration {
        self.units(1000).max(Duration::from_secs(60))
    }

    /// Options with a lifetime that does not end within a test.
    pub(super) fn lasting(&self) -> SetOptions {
        SetOptions::ttl(self.long())
    }

    /// By how much the end of a lifetime may be off.
    pub(super) fn tolerance(&self) -> Duration {
        match self.time {
            Time::Manual { .. } => Duration::ZERO,
            Time::Real { unit, .. } => unit,
        }
    }

    /// Whether time can be moved at will.
    pub(super) fn is_manual(&self) -> bool {
        matches!(self.time, Time::Manual { .. })
    }

    /// The time that has passed in this test.
    pub(super) fn now(&self) -> Duration {
        match &self.time {
            Time::Manual { passed, .. } => *passed.lock().unwrap_or_else(PoisonError::into_inner),
            Time::Real { start, .. } => start.elapsed(),
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, by: Duration) {
        match &self.time {
            Time::Manual { advance, passed } => {
                *passed.lock().unwrap_or_else(PoisonError::into_inner) += by;
                advance(by);
            }
            Time::Real { .. } => tokio::time::sleep(by).await,
        }
    }

    /// Lets what was sent to a server, and not waited for, arrive there.
    pub(super) async fn settle(&self) {
        if !self.is_manual() {
            self.pass(self.unit()).await;
        }
    }

    fn unit(&self) -> Duration {
        match self.time {
            Time::Manual { .. } => Duration::from_secs(60),
            Time::Real { unit, .. } => unit,
        }
    }
}

impl<S: CacheStore + fmt::Debug> fmt::Debug for Subject<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A store whose values can be compared and printed. Every such store is one.
///
/// ```
/// use cache_core::testing::{Comparable, ModelStore, promises};
///
/// fn count<S: Comparable>(_: &S) -> usize {
///     promises::<S>().len()
/// }
///
/// assert!(count(&ModelStore::<u64>::new(cache_core::Clock::system())) > 0);
/// ```
pub trait Comparable: CacheStore<Value: PartialEq + fmt::Debug> {}

impl<S: CacheStore<Value: PartialEq + fmt::Debug>> Comparable for S {}

/// A name that no other test has, in this process or another: for a namespace of its own on a
/// server that tests share.
///
/// ```
/// use cache_core::testing::fresh_name;
///
/// assert_ne!(fresh_name(), fresh_name());
/// ```
#[must_use]
pub fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("test-{:x}-{:016x}-{count}", std::process::id(), fastrand::u64(..))
}
